"""The finetuning methods that are compared: how each prepares a model and merges the result."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import networkx as nx

from structmat.errors import (
    SpecError,
    StructmatError,
    abbreviated,
    checked_integer,
    require,
    suggest,
)
from structmat.families import Composition, ruler
from structmat.families.resolution import Fixed, rule
from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.models import Classifier, quiet
from structmat.graph import from_graph
from structmat.networks.network import Network

Topology = str | Callable[[int], Network]


@dataclass(frozen=True)
class Method:
    """A finetuning method.

    Parameters
    ----------
    name : str
        A short name, for commands and file names.
    label : str
        The label in tables.
    kind : "head", "lora", "dora", "hra", "oft" or "rotation"
        "head" trains no adapter, "rotation" is structmat's method, and the others are PEFT's.
    rate : float
        The learning rate. The rates of those `METHODS` that are not rotations were found by the
        search of `structmat.finetune.learning_rates`; all rotations have the same rate.
    topology : str or callable, optional
        For rotations: a spec, or a function width → Network.
    generator_scaling : "step" or "none"
        For rotations: the option of `structmat.nn.Orthogonal`.
    """

    name: str
    label: str
    kind: str
    rate: float
    topology: Topology | None = None
    generator_scaling: str = "step"

    def prepare(self, classifier: Classifier) -> Any:
        """Return the model, frozen except for the head and the parameters of the method."""
        with quiet():
            return _PREPARE[self.kind](self, classifier)

    def merged(self, model: Any) -> Any:
        """Return a copy of the trained model as a plain model, with the adapter merged."""
        model = copy.deepcopy(model)
        if self.kind == "rotation":
            return _adapters().merge(model, unload=True)
        return model if self.kind == "head" else model.merge_and_unload()

    def orthogonality_error(self, model: Any) -> float | None:
        """Return max |RᵀR − I| over all adapted layers, or None if the method has no rotations."""
        if self.kind == "rotation":
            return max(
                float(adapter.rotation.orthogonality_error())
                for adapter in _adapters().adapters(model).values()
            )
        if self.kind in _TRAINED:
            return max(
                _orthogonality_error(module.get_delta_weight("default"))
                for module in model.modules()
                if hasattr(module, _TRAINED[self.kind]) and hasattr(module, "get_delta_weight")
            )
        return None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a comparison.

    Parameters
    ----------
    methods : tuple of Method
    seeds : int
        The number of training runs for each method, which differ in the initial head, the order of
        texts and dropout.
    hyperparameters : Hyperparameters
    rounds : int
        The number of timing rounds.
    tune : bool
        Whether to search for learning rates first, instead of using the methods' own.
    rate : float, optional
        A learning rate for all methods, instead of their own.

    Raises
    ------
    StructmatError
        If a number is not a positive integer, the rate is not a positive number or is given
        together with `tune`, there is no method, or a method occurs twice.
    """

    methods: tuple[Method, ...]
    seeds: int = 1
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    rounds: int = 10
    tune: bool = False
    rate: float | None = None

    @property
    def rate_source(self) -> str:
        """How the learning rates are found: "search", "given", or "default", each method's own."""
        return "search" if self.tune else "default" if self.rate is None else "given"

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.rate is not None:
            if not 0 < self.rate < math.inf:
                raise StructmatError(f"rate {self.rate}: a learning rate must be a positive number")
            if self.tune:
                raise StructmatError(
                    f"rate {self.rate} and tune: give a learning rate, or search for one, not both"
                )
        checked_integer(self.seeds, "seeds", 1)
        checked_integer(self.rounds, "rounds", 1)
        names = [method.name for method in self.methods]
        if not names or len(set(names)) < len(names):
            raise StructmatError(f"methods {names}: give at least one, and each only once")


def torus(width: int, *, repeat: int = 4) -> Network:
    """Return the network of a torus: wires on a periodic grid that is as square as possible.

    Each colour of an edge colouring is a stage, in which each wire is rotated with at most one of
    its neighbours. This is an example of a network that is built from a graph; any undirected graph
    can be used.

    Examples
    --------
    >>> torus(384)          # the torus of 16 × 24, repeated four times
    Network(width=384, depth=16, parameters=3072)
    """
    rows = max(side for side in range(1, int(width**0.5) + 1) if width % side == 0)
    grid = nx.grid_graph((rows, width // rows), periodic=True)
    return from_graph(nx.convert_node_labels_to_integers(grid, ordering="sorted"), repeat=repeat)


def ruler_prefix(width: int, *, stages: int = 15) -> Network:
    """Return the first stages of side-by-side copies of the ruler.

    The width of each copy is the largest power of two that divides the width. Fifteen stages of 2×2
    switches represent every rotation of sixteen adjacent wires, as OFT with blocks of 16 does.

    Raises
    ------
    WidthError
        If the width is odd.

    Examples
    --------
    >>> ruler_prefix(384)   # three copies of width 128
    Network(width=384, depth=15, parameters=2880)
    """
    power = width & -width
    return reduce(Network.direct_sum, [ruler(power)[:stages]] * (width // power))


# All rotations have the rate of LoRA, because the factors of their generators compensate for the
# topology (docs/learning-rates.md).
ROTATION_RATE = LORA_RATE = 1e-2

METHODS: tuple[Method, ...] = (
    Method("head", "head only", "head", 3e-2),
    Method("lora", "LoRA r=4 (PEFT)", "lora", LORA_RATE),
    Method("peft-oft", "OFT b=16 (PEFT)", "oft", 3e-3),
    Method("oft", "OFT b=16", "rotation", ROTATION_RATE, "block_diagonal(block=16)"),
    Method("boft", "BOFT(2, 8)", "rotation", ROTATION_RATE, "butterfly(block=8, depth=2)"),
    Method("dense-boft", "dense BOFT", "rotation", ROTATION_RATE, "butterfly(block=6)"),
    Method("shuffle", "shuffle", "rotation", ROTATION_RATE, "shuffle(block=4)"),
    Method("mixed-radix", "mixed radix", "rotation", ROTATION_RATE, "mixed_radix(largest=4)"),
    Method("random", "random", "rotation", ROTATION_RATE, "random(block=8, depth=2, rng=0)"),
    Method("torus", "torus, drawn by hand", "rotation", ROTATION_RATE, torus),
)

# Methods outside the search and the table of `--full`; PEFT's have rates from the docstring study.
MORE: tuple[Method, ...] = (
    Method("dora", "DoRA r=3, 4 (PEFT)", "dora", 1e-2),
    Method("hra", "HRA r=8 (PEFT)", "hra", 1e-2),
    Method("ruler", "ruler, first 15 stages", "rotation", ROTATION_RATE, ruler_prefix),
)

BY_NAME: Mapping[str, Method] = {method.name: method for method in METHODS + MORE}

STORY = ("head", "lora", "oft", "boft", "shuffle", "torus")  # the default table
FEW = ("head", "lora", "boft")  # --quick


def named(name: str) -> Method:
    """Return the method of this name.

    Raises
    ------
    SpecError
        If there is no such method.

    Examples
    --------
    >>> named("boft").topology
    'butterfly(block=8, depth=2)'
    """
    try:
        return BY_NAME[name]
    except KeyError:
        raise SpecError(f"no method {abbreviated(name)}{suggest(name, BY_NAME)}") from None


def rotation(spec: str) -> Method:
    """Return the method that rotates by the network given by a spec or a file.

    Examples
    --------
    >>> rotation("monarch").label
    'monarch'
    """
    found = rule(spec)
    if isinstance(found, Fixed):
        return Method(_slug(found.source), found.source, "rotation", ROTATION_RATE, found)
    spec = str(found)
    for method in METHODS:
        if method.topology == spec:
            return method
    name = _slug(spec)
    if isinstance(found, Composition):  # a slug omits the operators
        name += f"-{hashlib.sha256(spec.encode()).hexdigest()[:6]}"
    return Method(name, spec, "rotation", ROTATION_RATE, spec)


def with_rates(methods: tuple[Method, ...], rates: Mapping[str, float]) -> tuple[Method, ...]:
    """Return the methods, with learning rates replaced by those given by name."""
    return tuple(replace(method, rate=rates.get(method.name, method.rate)) for method in methods)


def trainable(model: Any) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _head_only(_: Method, classifier: Classifier) -> Any:
    for name, parameter in classifier.model.named_parameters():
        parameter.requires_grad = name.startswith(tuple(f"{part}." for part in classifier.head))
    return classifier.model


def _rotation(method: Method, classifier: Classifier) -> Any:
    return _adapters().adapt(
        classifier.model,
        method.topology,
        target_modules=list(classifier.targets),
        trainable=list(classifier.head),
        generator_scaling=method.generator_scaling,
    )


def _lora(_: Method, classifier: Classifier) -> Any:
    peft = require("peft", "finetune")
    config = peft.LoraConfig(r=4, lora_alpha=4, **_peft_options(classifier))
    return peft.get_peft_model(classifier.model, config)


def _dora(_: Method, classifier: Classifier) -> Any:
    # DoRA trains magnitudes in addition to the matrices. Each layer gets the rank, 4 or 3, whose
    # number of parameters is closest to that of rank-4 LoRA, or the smaller rank in a tie.
    peft = require("peft", "finetune")
    options = _peft_options(classifier)
    ranks = {name: _dora_rank(classifier.model.get_submodule(name)) for name in classifier.targets}
    config = peft.LoraConfig(
        r=4,
        lora_alpha=4,
        use_dora=True,
        rank_pattern=ranks,
        alpha_pattern=ranks,
        **options,
    )
    return peft.get_peft_model(classifier.model, config)


def _dora_rank(layer: Any) -> int:
    linear = require("torch", "finetune").nn.Linear
    shape = layer.weight.shape
    outputs = shape[0 if isinstance(layer, linear) else 1]
    return math.ceil(4 - outputs / sum(shape) - 0.5)


def _hra(_: Method, classifier: Classifier) -> Any:
    # For square layers, rank 8 has the same number of parameters as rank-4 LoRA.
    peft = require("peft", "finetune")
    config = peft.HRAConfig(r=8, **_peft_options(classifier))
    return peft.get_peft_model(classifier.model, config)


def _oft(_: Method, classifier: Classifier) -> Any:
    # The exact Cayley transform, as in structmat; PEFT's default is a truncated Neumann series.
    peft = require("peft", "finetune")
    config = peft.OFTConfig(
        oft_block_size=16, use_cayley_neumann=False, **_peft_options(classifier)
    )
    return peft.get_peft_model(classifier.model, config)


def _peft_options(classifier: Classifier) -> dict[str, Any]:
    return {
        "target_modules": list(classifier.targets),
        "modules_to_save": list(classifier.head),
        "task_type": "SEQ_CLS",
    }


_PREPARE: Mapping[str, Callable[[Method, Classifier], Any]] = {
    "head": _head_only,
    "lora": _lora,
    "dora": _dora,
    "hra": _hra,
    "oft": _oft,
    "rotation": _rotation,
}

# The attributes with the parameters of PEFT's rotations.
_TRAINED: Mapping[str, str] = {"oft": "oft_R", "hra": "hra_u"}


def _orthogonality_error(matrix: Any) -> float:
    exact = matrix.detach().double()
    gram = exact.T @ exact
    gram.diagonal().sub_(1.0)
    return float(gram.abs().max())


def _slug(spec: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in spec).split())


def _adapters() -> Any:
    return require("structmat.adapters", "adapters")
