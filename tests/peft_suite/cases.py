"""Translate PEFT's test cases for OFT and LoRA into cases for another method."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import peft
from peft.tuners.lora import LoraLayer
from peft.tuners.oft import OFTLayer

from structmat.peft import StructmatConfig, StructmatLayer, StructmatModel

# Options with the same meaning in all three methods.
COMMON = {
    "base_model_name_or_path",
    "exclude_modules",
    "inference_mode",
    "init_weights",
    "layers_pattern",
    "layers_to_transform",
    "modules_to_save",
    "revision",
    "target_modules",
    "task_type",
}
# How large an adapter is, and how OFT computes its rotations: another method chooses that itself.
SIZES = {
    "r",
    "lora_alpha",
    "fan_in_fan_out",
    "oft_block_size",
    "coft",
    "eps",
    "block_share",
    "use_cayley_neumann",
    "num_cayley_neumann_terms",
}
# Fields of a configuration that are not set by the user.
FILLED_IN = {"auto_mapping", "peft_type", "peft_version", "runtime_config"}

# Where a test names no target modules: about those that PEFT's methods have by default. Without
# them all linear layers are targeted, also those that no loss reaches.
ATTENTION = ["q_proj", "v_proj", "query_proj", "value_proj", "query", "value", "q", "v"]
ATTENTION += ["in_proj", "c_attn", "query_key_value"]

# Topologies that take every width from 2 on: PEFT's own models have layers of 2, 10, 20 and 45.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "cayley": {"topology": "deal(block=2)"},
    "exp_both": {
        "topology": "mixed_radix",
        "parametrization": "exp",
        "side": "both",
        "scale": True,
        "target_modules": ATTENTION,
    },
    "givens": {"topology": "brickwall", "parametrization": "givens"},
    "householder": {"topology": "mixed_radix", "parametrization": "householder", "side": "outputs"},
    "neumann": {"topology": "mixed_radix", "parametrization": "cayley_neumann", "scale": True},
    "reduced": {"topology": "deal(block=2)", "reduced": True},
    "dropout": {"topology": "deal(block=2)", "dropout": (0.1, 0.1)},
    "gossip": {"topology": "gossip", "side": "both"},
    "channels": {"topology": "mixed_radix", "field": "channels"},
    "pattern": {"topology": "deal(block=2)", "topology_pattern": {".*": "brickwall"}},
}
# In these models of PEFT's tests the layer conv1d has one output, which cannot be rotated, and in
# Conv1d one input channel: there only the receptive field is wide enough.
NARROW = {"Conv1d", "EmbConv1D"}
RECEPTIVE = {"side": "inputs", "field": "receptive"}
NAMES = {peft.OFTConfig: "oft", peft.LoraConfig: "lora"}
MAIN = ("cayley", "exp_both")


@dataclasses.dataclass
class Small(StructmatConfig):
    """Our configuration with a topology for any width."""

    topology: Any = "deal(block=2)"


class OwnOptionError(Exception):
    """An option without a counterpart in another method."""


@dataclasses.dataclass(frozen=True)
class Method:
    """The classes that replace those of another method in a test."""

    name: str
    config: type[Any]
    layer: type[Any]
    model: type[Any]
    dropout: Callable[[float], dict[str, Any]]


LORA = Method("lora", peft.LoraConfig, LoraLayer, peft.LoraModel, lambda p: {"lora_dropout": p})
OFT = Method("oft", peft.OFTConfig, OFTLayer, peft.OFTModel, lambda p: {"module_dropout": p})
OURS = Method(
    "structmat", Small, StructmatLayer, StructmatModel, lambda p: {"dropout": (float(p), float(p))}
)
METHODS = {method.name: method for method in (OFT, OURS)}


def options(given: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """Return the options of OFT or LoRA as options of another method.

    Raises
    ------
    OwnOptionError
        When one of them has no counterpart.
    """
    made: dict[str, Any] = {}
    for key, value in given.items():
        if value is None:  # the default of each
            continue
        if key in COMMON:
            made[key] = value
        elif key == "init_lora_weights" and isinstance(value, bool):
            made["init_weights"] = value
        elif key == "bias":
            own = value in ("lora_only", "oft_only")
            made[key] = f"{method.name}_only" if own else value
        elif key in ("lora_dropout", "module_dropout"):
            made |= method.dropout(value)
        elif key not in SIZES and value:
            raise OwnOptionError(key)
    return made


def set_option(config: StructmatConfig, name: str, value: Any) -> None:
    """Set an option of our configuration; accept a single number for dropout.

    Examples
    --------
    >>> set_option(config := Small(), "dropout", 0.5)
    >>> config.dropout
    (0.5, 0.5)
    """
    if name == "dropout" and isinstance(value, float):
        value = OURS.dropout(value)[name]
    object.__setattr__(config, name, value)


def given(config: Any) -> dict[str, Any]:
    """Return the options that were given to an instance of a configuration."""
    made = {}
    for field in dataclasses.fields(config):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        value = getattr(config, field.name)
        if field.init and field.name not in FILLED_IN and value != default:
            made[field.name] = value
    return made


def kinds(value: Any) -> Iterator[str]:
    """Yield the method of each configuration in a parameter of a test."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from kinds(part)
        return
    config = value if isinstance(value, type) else type(value)
    if issubclass(config, peft.PeftConfig):
        yield NAMES.get(config, "other")


def translated(row: tuple[Any, ...], source: type[Any], extra: Mapping[str, Any]) -> tuple[Any]:
    """Return a row of parameters with our configuration in the place of another.

    A class is followed by the options it is called with, in one or more dictionaries; without
    them the test itself calls it. The name of the method is replaced, too.

    Raises
    ------
    OwnOptionError
        When an option has no counterpart.
    """
    called = any(isinstance(part, dict) for part in row)
    narrow = any(isinstance(part, str) and part in NARROW for part in row)

    def optional(value: Mapping[str, Any]) -> dict[str, Any]:
        made = {**extra, **options(value, OURS)}
        if narrow and "conv1d" in (made.get("target_modules") or ()):
            made |= RECEPTIVE
        return made

    def change(value: Any) -> Any:
        if value == NAMES[source]:
            return OURS.name
        if value is source:
            return StructmatConfig if called else Small
        if type(value) is source:
            return StructmatConfig(**optional(given(value)))
        if isinstance(value, list | tuple):
            return type(value)(map(change, value))
        if isinstance(value, dict):
            if value and all(isinstance(part, dict) for part in value.values()):
                return {key: change(part) for key, part in value.items()}
            return optional(value) if called and source in row else value
        return value

    return tuple(map(change, row))


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of parameters, and the name that it has in the name of the test."""

    label: str
    row: tuple[Any, ...]
    place: int  # in the rows of PEFT's test


def rows(
    given_rows: list[tuple[Any, ...]], labels: list[str], method: Method, *, every_layer: bool
) -> list[Case] | None:
    """Return the cases of a method for the rows of a test, or None where none has a method.

    Parameters
    ----------
    given_rows : list of tuple
        The rows of PEFT's test.
    labels : list of str
        Their names.
    method : Method
        OFT takes its rows as they are. For our method, each gives one or more cases, whose label
        is that of the row, "~" and the name of the configuration.
    every_layer : bool
        Whether rows for LoRA count, too, beside those for OFT: they have layers that OFT has not.

    Returns
    -------
    list of Case or None
        Rows of no OFT and no LoRA are left out, and those with options that only they have.
    """
    found = [set(kinds(row)) for row in given_rows]
    if not any(found):
        return None
    of_oft = any("oft" in kind for kind in found)
    chosen = []
    for place, (row, kind) in enumerate(zip(given_rows, found, strict=True)):
        if "oft" in kind:
            chosen.append((place, row, peft.OFTConfig))
        elif kind == {"lora"} and (every_layer or not of_oft):
            chosen.append((place, row, peft.LoraConfig))
    made = []
    for number, (place, row, source) in enumerate(chosen):
        try:
            ours = [
                Case(
                    f"{labels[place]}~{name}", translated(row, source, CONFIGURATIONS[name]), place
                )
                for name in _configurations(number, len(chosen))
            ]
        except OwnOptionError:
            continue
        made += ours if method is OURS else [Case(labels[place], row, place)]
    return made


def _configurations(number: int, count: int) -> list[str]:
    """Return which of our configurations stand for a row: all for the first of many."""
    names = list(CONFIGURATIONS)
    if count <= len(MAIN):
        return list(MAIN)
    return names if number == 0 else [names[number % len(names)]]


def label(row: tuple[Any, ...], place: int) -> str:
    """Return a name for a row, by its texts and the names of its classes.

    Examples
    --------
    >>> label(("MLP 1", peft.OFTConfig, {"r": 2}), 3)
    '3-MLP 1-OFTConfig'
    """
    parts = [str(place)]
    for value in row:
        if isinstance(value, str):
            parts.append(value)
        elif isinstance(value, type):
            parts.append(value.__name__)
    return "-".join(parts)


def stand_in(source: Method, method: Method, used: list[str]) -> type:
    """Return a class to call in the place of a configuration's, which translates its options.

    Parameters
    ----------
    source : Method
        The one for which the test was written.
    method : Method
        The one whose configuration is made.
    used : list of str
        Gets an entry for each configuration made.
    """

    class Meta(type):
        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, method.config)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, method.config)

        def __getattr__(cls, name: str) -> Any:
            return getattr(method.config, name)

    class StandIn(metaclass=Meta):
        def __new__(cls, **kwargs: Any) -> Any:
            made = method.config(**options(kwargs, method))
            used.append(method.name)
            return made

    StandIn.__name__ = source.config.__name__
    return StandIn
