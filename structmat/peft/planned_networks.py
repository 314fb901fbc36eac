"""The networks of targeted layers, determined before any layer is modified."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from torch import nn

from structmat.adapters.layouts import Layer, layout_for
from structmat.adapters.recipes import Recipe, builder, recipes_for
from structmat.adapters.shared_weights import biases, check_apart, check_norms, names_of_layers
from structmat.errors import FileError, SpecError, StructmatError
from structmat.networks.network import Network
from structmat.nn.orthogonal_layer import scale_of
from structmat.peft.config import StructmatConfig, topology_of


def planned(config: StructmatConfig, layers: Mapping[str, Layer]) -> dict[str, Recipe]:
    """Return the recipe of each layer, and record the fingerprints of the networks in the config.

    Parameters
    ----------
    config : StructmatConfig
    layers : mapping from a name to a layer without adapters

    Raises
    ------
    WidthError
        If a topology does not support the width of a layer.
    StructmatError
        If a layer cannot be adapted, a pattern matches no layer, or a topology yields a different
        network each time.
    FileError
        If a topology yields a different network from when the adapter was saved.
    """
    recipes = recipes_for(
        layers,
        config.topology,
        config.topology_pattern,
        side=config.side,
        build=lambda kept: lambda width: _built(config, kept, width),
        parametrization=config.parametrization,
        scale=config.scale,
        dropout=config.dropout,
        reduced=config.reduced,
        field=config.field,
        plan=config.plan,
    )
    return {name: _with_factors(config, layers[name], recipe) for name, recipe in recipes.items()}


def factor(config: StructmatConfig, net: Network, *, field: str = "real") -> float:
    """Return the factor of the generators of a network, and record it in the config.

    A factor that the config already contains is used, even if this version of structmat would
    compute another one.

    Examples
    --------
    >>> config = StructmatConfig(parametrization="exp", generator_scales={"eb98bf6ca3599dad": 0.5})
    >>> factor(config, Network.of(2, [[[0, 1]]]))
    0.5
    """
    made = scale_of(
        config.generator_scaling, net, config.parametrization, field=field, reduced=config.reduced
    )
    if config.generator_scaling not in ("step", "sgd"):  # the factor does not depend on the network
        return made
    mark = fingerprint(net) + ("" if field == "real" else f" {field}")
    return float(config.generator_scales.setdefault(mark, made))


def _with_factors(config: StructmatConfig, layer: Layer, recipe: Recipe) -> Recipe:
    layout = layout_for(layer, recipe.field)
    assert layout is not None  # checked by `recipes_for`
    field = "complex" if layout.number_type(layer)[0].is_complex else "real"
    factors = {side: factor(config, net, field=field) for side, net in recipe.networks.items()}
    return replace(recipe, generator_scaling=factors)


def check_shared(model: nn.Module, config: StructmatConfig, layers: Mapping[str, Layer]) -> None:
    """Raise an error if only some uses of a shared module or parameter would be trained.

    Raises
    ------
    StructmatError
        If a module in `modules_to_save` has several names, since PEFT trains a copy under only one
        of them; if trained biases are shared; or if an embedding writes to a weight that other
        layers read.
    """
    wanted = tuple(config.modules_to_save or ())
    for names in names_of_layers(model):
        found = [name for name in names if name.endswith(wanted)] if wanted else []
        modules = [model.get_submodule(name) for name in names]
        copies = len(found) < len(names) or len({id(module) for module in modules}) == 1
        if found and len(names) > 1 and copies:
            others = [name for name in names if name != found[0]]
            raise StructmatError(
                f"modules_to_save: {found[0]} is the same layer as {', '.join(others)}, and PEFT"
                " would train a copy of it in one place only; target it instead, or first give"
                " each place its own layer"
            )
    if config.bias == "structmat_only":
        check_apart(model, biases(model, layers, "bias='structmat_only'"))
    check_norms(model, layers)


@lru_cache(maxsize=256)  # a model has many layers of a few widths
def fingerprint(net: Network) -> str:
    """Return a short digest that identifies a network.

    Examples
    --------
    >>> fingerprint(Network.of(2, [[[0, 1]]])) == fingerprint(Network.of(2, [[[1, 0]]]))
    False
    """
    return hashlib.sha256(net.to_json().encode()).hexdigest()[:16]


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
            " with: another version of structmat, or another function of this name, built that"
            " one; load it there and give the network itself as the topology"
        )
    return net
