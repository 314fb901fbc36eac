"""How each layer is adapted: its networks, resolved from topologies, and all other options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from structmat._util.text_table import counted
from structmat.adapters.layouts import (
    LAYOUTS,
    SIDES,
    Layer,
    Layout,
    StackLayout,
    checked_field,
    checked_side,
    layout_for,
)
from structmat.adapters.selection import compiled
from structmat.errors import StructmatError, WidthError, abbreviated
from structmat.families import Family, resolution
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage
from structmat.nn.orthogonal_layer import checked_dropout, checked_scaling
from structmat.nn.parametrizations import checked_parametrization

Topology: TypeAlias = str | Family | Network | Callable[[int], Network]
Build: TypeAlias = Callable[[Any], Callable[[int], Network]]  # topology → (width → network)


@dataclass(frozen=True)
class Recipe:
    """The specification of one adapter for one layer.

    Attributes
    ----------
    networks : dict
        The network for each rotated side, "inputs" or "outputs".
    parametrization, scale, bias, dropout, reduced, field, plan
        As for `adapt`.
    generator_scaling : str, float, or mapping from a side to a str or float
        As for `adapt`, for both sides or for each.
    base : bool
        Whether the layer's own weight is saved with the adapter.
    untied : bool
        Whether that weight differs from the weights of layers with the same pretrained weight.

    Raises
    ------
    StructmatError
        If a side or any option but `plan` is invalid.
    """

    networks: Mapping[str, Network]
    parametrization: str = "cayley"
    scale: bool = False
    bias: bool = False
    dropout: tuple[float, float] = (0.0, 0.0)
    reduced: bool = False
    field: str = "receptive"
    base: bool = False
    untied: bool = False
    generator_scaling: str | float | Mapping[str, str | float] = "step"
    plan: str = "auto"

    def __post_init__(self) -> None:
        for side in self.networks:
            if side not in SIDES["both"]:
                raise StructmatError(f'side={side!r}: it must be "inputs" or "outputs"')
        checked_parametrization(self.parametrization)
        for option in ("scale", "bias", "reduced", "base", "untied"):
            value = getattr(self, option)
            if not isinstance(value, bool):
                raise StructmatError(
                    f"{option}={abbreviated(value)}: {option} must be True or False"
                )
        checked_dropout(self.dropout)
        checked_field(self.field)
        scaling = self.generator_scaling
        if not (self.networks and isinstance(scaling, Mapping)):
            checked_scaling(scaling)
        elif scaling.keys() != self.networks.keys():
            raise StructmatError(
                f"generator_scaling={abbreviated(dict(scaling))}: it must contain a factor for each"
                f" rotated side, {' and '.join(self.networks)}, and for no other"
            )
        else:
            for one in scaling.values():
                checked_scaling(one)

    def scaling_of(self, side: str) -> str | float:
        """Return the scaling of the generators for one side."""
        scaling = self.generator_scaling
        return scaling[side] if isinstance(scaling, Mapping) else scaling


def recipes_for(
    layers: Mapping[str, Layer],
    topology: Any,
    patterns: Mapping[str, Any],
    *,
    side: str,
    build: Build | None = None,
    **options: Any,
) -> dict[str, Recipe]:
    """Return the recipe of each layer; layers of equal width and topology share their networks.

    Parameters
    ----------
    layers : mapping from a name to a layer without adapters
    topology, patterns, side
        As for `adapt`.
    build : callable, optional
        A function topology → (width → straight network); by default `builder`.
    **options
        The other fields of `Recipe`.

    Raises
    ------
    WidthError
        If a topology does not support the width of a layer.
    StructmatError
        If a layer cannot be adapted, a pattern matches no layer, or another argument is invalid.
    """
    build = builder if build is None else build
    plain = Recipe({}, **options)
    parts = SIDES[checked_side(side)]
    rules = {pattern: compiled(pattern, "topology_pattern") for pattern in patterns}
    for pattern, rule in rules.items():
        if layers and not any(fits(rule, name) for name in layers):
            raise StructmatError(
                f"topology_pattern: {pattern!r} matches none of the layers to be adapted (for"
                f" example, {next(iter(layers))})"
            )
    builders = {None: build(topology)} | {p: build(t) for p, t in patterns.items()}
    made: dict[tuple[str | None, int, int], Network] = {}
    found = {}
    for name, layer in layers.items():
        layout = checked_layout(
            name, layer, plain.field, outputs="outputs" in parts, scale=plain.scale
        )
        matched = next((p for p, rule in rules.items() if fits(rule, name)), None)
        copies = layout.copies(layer)
        networks = {}
        for part in parts:
            width = layout.rotated_width(layer, part) // copies
            key = (matched, width, copies)
            if key not in made:
                try:
                    made[key] = side_by_side(builders[matched](width), copies)
                except WidthError as error:
                    each = " in each group" if copies > 1 else ""
                    size = counted(width, part.removesuffix("s"))
                    raise WidthError(
                        f"{name} has {size}{each}: {error}; select another network for it with"
                        " topology_pattern, or exclude it with exclude_modules"
                    ) from None
            networks[part] = made[key]
        found[name] = replace(plain, networks=networks)
    return found


def checked_layout(
    name: str, layer: Layer, field: str, *, outputs: bool, scale: bool
) -> type[Layout]:
    """Return the layout of a layer after checking that it can be adapted; see `Layout.check`.

    Raises
    ------
    StructmatError
        If the layer's class is not supported, its weight cannot be rotated, or its custom behaviour
        would be lost.
    """
    layout = layout_for(layer, field)
    if layout is None:
        others = (other for other in LAYOUTS if other is not StackLayout)
        supported = [known for other in others for known in other.layer_classes]
        raise StructmatError(
            f"{name} has type {type(layer).__name__}, which cannot be adapted; supported layers are"
            f" {', '.join(dict.fromkeys(k.rsplit('.', 1)[-1] for k in supported))}."
            " List only such layers in target_modules, or exclude this one"
        )
    try:
        layout.check(layer, outputs=outputs, scale=scale)
    except StructmatError as error:
        raise type(error)(f"{name}: {error}") from None
    return layout


def fits(rule: re.Pattern[str], name: str) -> bool:
    """Return whether a pattern matches the name, or the name without some leading parts."""
    parts = name.split(".")
    return any(rule.fullmatch(".".join(parts[k:])) for k in range(len(parts)))


def builder(topology: Topology) -> Callable[[int], Network]:
    """Return the function width → straight network for a topology.

    Raises
    ------
    StructmatError
        If the topology is invalid or, when the function is called, does not yield a Network.
    WidthError
        If the function is called for a width that the topology does not support.
    """
    rule = resolution.rule(topology)

    def build(width: int) -> Network:
        net: Any = rule(width)
        if not isinstance(net, Network):
            raise StructmatError(f"{topology!r} returned {net!r}: it must return a Network")
        if net.width != width:
            raise WidthError(f"the network has width {net.width}")
        return net.straightened().network

    return build


def side_by_side(net: Network, copies: int) -> Network:
    """Return the direct sum of copies of a straight network, with as many banks as one copy.

    Examples
    --------
    >>> side_by_side(Network.of(2, [[[0, 1]]]), 3).banks
    (Bank(3 switches of radix 2),)
    """
    if copies == 1:
        return net
    shift = np.arange(copies)[:, None, None] * net.width
    width = net.width * copies
    return Network(
        width,
        [
            Stage(width, [Bank((b.reads + shift).reshape(-1, b.radix)) for b in stage.banks])
            for stage in net.stages
        ],
    )
