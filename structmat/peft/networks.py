"""The networks of targeted layers, determined before any layer is modified."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from structmat.adapters.layouts import KINDS, Adapter, Layer, StackAdapter, check_layer, kind_for
from structmat.adapters.model import builder, fits, side_by_side
from structmat.adapters.selection import compiled
from structmat.adapters.shared_weights import biases, check_apart, check_norms, names_of_layers
from structmat.errors import FileError, SpecError, StructmatError, WidthError
from structmat.networks.network import Network
from structmat.peft.config import StructmatConfig, topology_of


@dataclass(frozen=True)
class LayerPlan:
    """The kind of adapter of one layer, and the networks of its inputs and outputs."""

    kind: type[Adapter]
    inputs: Network | None
    outputs: Network | None


def planned(config: StructmatConfig, layers: Mapping[str, Layer]) -> dict[str, LayerPlan]:
    """Return the plan of each layer, and record the fingerprints of the networks in the config.

    Parameters
    ----------
    config : StructmatConfig
    layers : mapping from a name to a layer without adapters

    Raises
    ------
    WidthError
        If a topology does not support the width of a layer.
    StructmatError
        For a layer that cannot be adapted, a pattern that matches no layer, and a topology that
        yields a different network each time.
    FileError
        If a topology yields another network than when the adapter was saved.
    """
    choose = _chooser(config, layers)
    plans = {}
    for name, layer in layers.items():
        kind = kind_for(layer, config.field)
        if kind is None:
            modules = [kind for kind in KINDS if kind is not StackAdapter]
            raise StructmatError(
                f"{name} is a {type(layer).__name__}, which cannot be adapted; supported layers are"
                f" {', '.join(dict.fromkeys(kind.takes.rsplit('.', 1)[-1] for kind in modules))}."
                " List only such layers in target_modules, or exclude this one"
            )
        try:
            check_layer(layer, kind, products=config.scale or config.side != "inputs")
        except StructmatError as error:
            raise type(error)(f"{name}: {error}") from None
        plans[name] = LayerPlan(
            kind,
            choose(name, "reads", "inputs", kind.input_width(layer), kind.copies(layer))
            if config.side != "outputs"
            else None,
            choose(name, "has", "outputs", kind.output_width(layer), kind.copies(layer))
            if config.side != "inputs"
            else None,
        )
    return plans


def check_shared(model: nn.Module, config: StructmatConfig, layers: Mapping[str, Layer]) -> None:
    """Raise an error if only some uses of a shared module or parameter would be trained.

    Raises
    ------
    StructmatError
        For a module of `modules_to_save` with several names, since PEFT trains a copy under one of
        them; for shared biases; and for embeddings that write to a weight which others read.
    """
    wanted = tuple(config.modules_to_save or ())
    for names in names_of_layers(model):
        found = [name for name in names if name.endswith(wanted)] if wanted else []
        modules = [model.get_submodule(name) for name in names]
        copies = len(found) < len(names) or len({id(module) for module in modules}) == 1
        if found and len(names) > 1 and copies:
            others = [name for name in names if name != found[0]]
            raise StructmatError(
                f"modules_to_save: {found[0]} is one layer with {', '.join(others)}, and PEFT would"
                " train a copy of it in one place only; target it instead, or first give each place"
                " its own layer"
            )
    if config.bias == "structmat_only":
        check_apart(model, biases(model, layers, "bias='structmat_only'"))
    check_norms(model, layers)


def fingerprint(net: Network) -> str:
    """Return a short digest that identifies a network.

    Examples
    --------
    >>> fingerprint(Network.of(2, [[[0, 1]]])) == fingerprint(Network.of(2, [[[1, 0]]]))
    False
    """
    return hashlib.sha256(net.to_json().encode()).hexdigest()[:16]


def _chooser(
    config: StructmatConfig, layers: Mapping[str, Layer]
) -> Callable[[str, str, str, int, int], Network]:
    rules = {p: compiled(p, "topology_pattern") for p in config.topology_pattern}
    for pattern, rule in rules.items():
        if layers and not any(fits(rule, name) for name in layers):
            raise StructmatError(
                f"topology_pattern: {pattern!r} matches none of the adapted layers, such as"
                f" {next(iter(layers))}"
            )
    kept = {None: config.topology} | dict(config.topology_pattern)
    made: dict[tuple[str | None, int, int], Network] = {}

    def choose(name: str, verb: str, side: str, width: int, groups: int) -> Network:
        pattern = next((p for p, rule in rules.items() if fits(rule, name)), None)
        key = (pattern, width, groups)
        if key not in made:
            try:
                net = _built(config, kept[pattern], width // groups)
            except WidthError as error:
                raise WidthError(
                    f"{name} {verb} {width // groups} {side}: {error}; select another network for"
                    " it with topology_pattern, or exclude it with exclude_modules"
                ) from None
            made[key] = side_by_side(net, groups)
        return made[key]

    return choose


def _built(config: StructmatConfig, kept: str | dict[str, object], width: int) -> Network:
    """Return the straight network of a topology, after checking that it is reproducible."""
    build = builder(topology_of(kept))
    net = build(width)
    if not isinstance(kept, str):
        return net
    if build(width) != net:
        raise SpecError(
            f"topology={kept!r} yields a different network each time, so the adapter could not be"
            " loaded; give it a seed, such as rng=0"
        )
    mark = config.networks.setdefault(f"{kept} at {width}", fingerprint(net))
    if mark != fingerprint(net):
        raise FileError(
            f"topology={kept!r} at width {width} is not the network that the adapter was trained"
            " with, which came from another version of structmat or another function of this name;"
            " load it there and give the network itself as the topology"
        )
    return net
