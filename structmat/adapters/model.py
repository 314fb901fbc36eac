"""Adaptation of whole models: inserting adapters, merging and unmerging them."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from structmat.adapters.distributed import check_whole, plain_name, renewed, unwrapped
from structmat.adapters.layouts import (
    Adapter,
    Experts,
    Layer,
    QuantisedLinearAdapter,
    Stack,
    StackAdapter,
    checked_field,
    checked_side,
    kind_for,
    named_layers,
)
from structmat.adapters.layouts.quantised import settings_of
from structmat.adapters.retying import guard_ties
from structmat.adapters.selection import ALL_LINEAR, Targets, compiled, matching, select
from structmat.adapters.shared_weights import (
    biases,
    check_apart,
    check_norms,
    same_layers,
    slots_in,
    untie,
)
from structmat.errors import StructmatError, WidthError
from structmat.families import Family
from structmat.families import topology as topologies
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage
from structmat.nn.offloading import is_offloaded
from structmat.nn.orthogonal_layer import checked_dropout

Topology: TypeAlias = str | Family | Network | Callable[[int], Network]

_TRAINED = "_structmat_trained"  # the attribute that marks a module as trained whole


@dataclass(frozen=True)
class Recipe:
    """The specification of the adapter of one layer."""

    network: Network
    parametrization: str = "cayley"
    scale: bool = False
    bias: bool = False
    dropout: tuple[float, float] = (0.0, 0.0)
    reduced: bool = False
    field: str = "receptive"
    side: str = "inputs"
    base: bool = False  # whether the layer's own weight is saved with the adapter
    plan: str = "auto"


def adapt(
    model: nn.Module,
    topology: Topology,
    *,
    target_modules: Targets = ALL_LINEAR,
    exclude_modules: Targets | None = None,
    topology_pattern: Mapping[str, Topology] | None = None,
    side: str = "inputs",
    parametrization: str = "cayley",
    scale: bool = False,
    bias: bool = False,
    dropout: tuple[float, float] = (0.0, 0.0),
    reduced: bool = False,
    field: str = "receptive",
    trainable: Targets = (),
    plan: str = "auto",
) -> nn.Module:
    """Freeze a model and add trainable rotations to its layers, in place.

    Parameters
    ----------
    model : nn.Module
    topology : str, Family, Network, or callable width → Network
        The network for each layer. A wired network is straightened, so that training starts from
        the pretrained model.
    target_modules, exclude_modules : str or list of str
        The layers to adapt or exclude: a regular expression that matches the whole name, a list of
        names that may omit leading parts, or "all-linear" for every linear layer except the output
        head, which is the result of `get_output_embeddings()`, or a module named `classifier`,
        `score` or `qa_outputs`.
    topology_pattern : dict of regular expression → topology, optional
        Other topologies for some layers. A pattern must match the name, or the name without
        some leading parts; the first match applies.
    side : {"inputs", "outputs"}
        Whether to rotate the inputs of each layer, as OFT and BOFT do, or its outputs, as LyCORIS
        does.
    parametrization : {"cayley", "exp", "givens", "householder", "cayley_neumann"}
        The parametrization of the blocks; see `Orthogonal`.
    scale, bias : bool
        Whether to train an output scale, and the layer's own bias, as the BOFT paper does.
    dropout : (float, float)
        Multiplicative dropout; see `Orthogonal`.
    reduced : bool
        Whether to omit redundant generators, which removes up to half of BOFT's parameters; see
        `Orthogonal`.
    field : {"receptive", "channels"}
        What to rotate in a convolution: the receptive field of each neuron, of in/groups·k inputs,
        or only its in/groups channels, in the same way at each kernel position.
    trainable : str or list of str
        Other modules to train whole, such as ["classifier"]; they are saved with the adapter.
        Parameters that they share with other modules must be trained whole in all of them.
    plan : {"auto", "measure", "reference"}
        The execution plan; see `Orthogonal`. It is not saved with an adapter: after loading, set
        `plan` of the rotations.

    Returns
    -------
    nn.Module
        The model, or an `Adapter` if the model itself is the only layer to adapt.

    Raises
    ------
    WidthError
        If a family does not support the width of a layer.
    StructmatError
        If no layer matches the names, or the model already has adapters or is sharded. The model
        is unchanged.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> model = adapt(model, "butterfly(block=4, depth=2)", topology_pattern={"2": "monarch"})
    >>> [str(a.rotation) for a in adapters(model).values()]
    ["Orthogonal(width=8, depth=2, parameters=24, parametrization='cayley')",
     "Orthogonal(width=16, depth=2, parameters=48, parametrization='cayley')"]
    """
    _check_model(model)
    chosen = select(model, target_modules, exclude_modules)
    choose = _chooser(
        topology, topology_pattern or {}, chosen, checked_field(field), checked_side(side)
    )
    dropout = checked_dropout(dropout)
    recipes = {
        name: Recipe(
            choose(name, layer),
            parametrization,
            scale=scale,
            bias=bias,
            dropout=dropout,
            reduced=reduced,
            field=field,
            side=side,
            plan=plan,
        )
        for name, layer in chosen.items()
    }
    layers = {c.owner if isinstance(c, Stack) else c for c in chosen.values()}
    return install(model, recipes, _trained(model, trainable, layers))


def install(model: nn.Module, recipes: Mapping[str, Recipe], trained: Iterable[str]) -> nn.Module:
    """Insert adapters at the given layers, and freeze everything else except the given modules.

    Raises
    ------
    StructmatError
        If the model already has adapters or is sharded, or a recipe does not fit its layer. The
        model is unchanged.
    """
    check_plain(model)
    check_whole(model, "adapt")
    layers = dict(named_layers(model, remove_duplicate=False))
    trained = list(trained)
    _check_shared(model, layers, recipes, trained)
    made: list[Adapter] = []
    for name, recipe in recipes.items():
        layer = layers[name]
        kind = kind_for(layer, recipe.field)
        assert kind is not None, name  # ensured by `select` and `mismatches`
        try:
            made.append(
                kind(
                    layer,
                    recipe.network,
                    side=recipe.side,
                    parametrization=recipe.parametrization,
                    scale=recipe.scale,
                    bias=recipe.bias,
                    dropout=recipe.dropout,
                    reduced=recipe.reduced,
                    plan=recipe.plan,
                )
            )
        except StructmatError as error:
            raise type(error)(f"{name}: {error}") from None
    new = _in_place_of(model, made)
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # noqa: FBT003 (torch's signature)
    for name in trained:
        setattr(layers[name], _TRAINED, True)
        for parameter in layers[name].parameters():
            parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    for adapter, recipe in zip(made, recipes.values(), strict=True):
        adapter.saves_base = recipe.base
        if adapter.trains_bias and adapter.bias is not None:
            adapter.bias.requires_grad_()
        if isinstance(adapter, QuantisedLinearAdapter):
            adapter.requantise = settings_of(model)
    model = _replace(model, new)
    guard_ties(model, Adapter)
    return model


def _check_shared(
    model: nn.Module, layers: Mapping[str, Layer], recipes: Mapping[str, Recipe], whole: list[str]
) -> None:
    """Raise an error if trained parameters, or embeddings that write, share a frozen tensor."""
    trained = {slot: f"trainable: {n}" for n in whole for slot in slots_in(layers[n])}
    biased = {name: layers[name] for name, recipe in recipes.items() if recipe.bias}
    trained |= biases(model, biased, "bias=True")
    check_apart(model, trained)
    check_norms(model, {name: layers[name] for name in recipes})


def _in_place_of(model: nn.Module, made: Iterable[Adapter]) -> dict[int, nn.Module]:
    """Return the replacement of each module by identity: adapters, and `Experts` for experts."""
    new: dict[int, nn.Module] = {}
    first = same_layers(model)
    experts: dict[int, tuple[nn.Module, dict[str, StackAdapter]]] = {}
    for adapter in made:
        if isinstance(adapter, StackAdapter):
            stack = adapter.base
            experts.setdefault(id(stack.owner), (stack.owner, {}))[1][stack.part] = adapter
        else:
            new |= {m: adapter for m, layer in first.items() if layer is adapter.base}
    return new | {key: Experts(owner, parts) for key, (owner, parts) in experts.items()}


def trained_whole(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that are trained whole in addition to the adapters, by name."""
    every = unwrapped(model).named_modules()
    return {plain_name(name): m for name, m in every if _TRAINED in m.__dict__}


def check_plain(model: nn.Module) -> None:
    """Raise an error for a model that has adapters.

    Raises
    ------
    StructmatError
        If it has adapters.
    """
    if adapters(model):
        raise StructmatError(
            "the model already has adapters: call merge(model, unload=True) first, or start from a"
            " fresh model"
        )


def adapters(model: nn.Module) -> dict[str, Adapter]:
    """Return the adapters of a model, by the name of the layer.

    Examples
    --------
    >>> list(adapters(adapt(nn.Sequential(nn.Linear(4, 4)), "butterfly")))
    ['0']
    """
    _check_model(model)
    return {name: m for name, m in model.named_modules() if isinstance(m, Adapter)}


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise StructmatError(
            f"model={model!r}: it must be a torch.nn.Module, such as the result of from_pretrained"
        )


def merge(model: nn.Module, *, unload: bool = False) -> nn.Module:
    """Merge every rotation into the weight of its layer, so that the model runs at no extra cost.

    Parameters
    ----------
    model : nn.Module
    unload : bool
        Whether to also remove the adapters permanently and return the plain model. Otherwise
        the original weights are kept, and `unmerge` restores them exactly. If another layer shared
        the weight, such as an output head, each then has its own weight, and the configuration of
        a transformers model no longer declares the tie.

    Raises
    ------
    StructmatError
        If the model has no adapters or is sharded, or a merged weight is not finite. The model
        is unchanged.

    Examples
    --------
    >>> model = adapt(nn.Sequential(nn.Linear(4, 4)), "butterfly")
    >>> merge(model, unload=True)
    Sequential(
      (0): Linear(in_features=4, out_features=4, bias=True)
    )
    """
    found = _some(model)
    check_whole(model, "merge")
    check_loaded(model)
    weights = []
    for name, adapter in found.items():
        try:
            weights.append(None if adapter.merged else adapter.merged_weight())
        except StructmatError as error:
            raise StructmatError(f"{name}: {error}") from None
    for adapter, weight in zip(found.values(), weights, strict=True):
        if weight is not None:
            adapter.set_weight(weight)
    if not unload:
        return model
    for module in trained_whole(model).values():
        delattr(module, _TRAINED)
    put: list[Layer] = [m for m in model.modules() if isinstance(m, Adapter | Experts)]
    model = _replace(model, {id(m): m.base for m in put if not isinstance(m, StackAdapter)})
    untie(model)
    guard_ties(model)
    return model


def check_loaded(model: nn.Module) -> None:
    """Raise an error if accelerate offloads adapted weights, as it would restore the old ones.

    Raises
    ------
    StructmatError
        If a layer with an adapter is offloaded.
    """
    for name, adapter in adapters(model).items():
        if is_offloaded(adapter.base):
            raise StructmatError(
                f"{name}: its weight is offloaded, and the old weight would replace a merged one;"
                " call merge(model, unload=True) before offloading, or first remove the hooks with"
                " accelerate.hooks.remove_hook_from_submodules(model)"
            )


def unmerge(model: nn.Module) -> nn.Module:
    """Restore the weights that `merge` replaced exactly, and apply the rotations to activations.

    Raises
    ------
    StructmatError
        If the model has no adapters.
    """
    for adapter in _some(model).values():
        adapter.restore_weight()
    return model


def _some(model: nn.Module) -> dict[str, Adapter]:
    found = adapters(model)
    if not found:
        raise StructmatError(
            "the model has no adapters: adapt it first (an unloaded one cannot be unmerged)"
        )
    return found


def _replace(model: nn.Module, new: Mapping[int, nn.Module]) -> nn.Module:
    """Replace modules, given by identity, wherever they occur in the model."""
    if id(model) in new:
        return new[id(model)]
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):  # named_children skips shared ones
            if id(child) in new:
                setattr(module, name, new[id(child)])
                renewed(module)
    return model


def _trained(model: nn.Module, trainable: Targets, layers: Container[nn.Module]) -> list[str]:
    """Return the names of the modules to train whole."""
    modules = {n: m for n, m in named_layers(model) if n and isinstance(m, nn.Module)}
    picked = matching(modules, trainable, "trainable")
    if isinstance(trainable, str) and not picked:
        raise StructmatError(f"trainable={trainable!r} matches no module of this model")
    adapted = [name for name, m in picked.items() if any(part in layers for part in m.modules())]
    if adapted:
        raise StructmatError(
            f"trainable: {adapted[0]} contains a layer that is adapted; a layer is either adapted"
            " or trained whole: exclude it from one of the two"
        )
    return list(picked)


def _chooser(
    topology: Topology,
    patterns: Mapping[str, Topology],
    layers: Mapping[str, Layer],
    field: str,
    side: str,
) -> Callable[[str, Layer], Network]:
    """Return the function (name, layer) → network, which shares networks between equal layers."""
    rules = {pattern: compiled(pattern, "topology_pattern") for pattern in patterns}
    for pattern, rule in rules.items():
        if not any(fits(rule, name) for name in layers):
            raise StructmatError(
                f"topology_pattern: {pattern!r} matches none of the adapted layers, such as"
                f" {next(iter(layers))}"
            )
    builders = {None: builder(topology)} | {p: builder(t) for p, t in patterns.items()}
    made: dict[tuple[str | None, int, int], Network] = {}
    verb = "reads" if side == "inputs" else "has"

    def choose(name: str, layer: Layer) -> Network:
        pattern = next((p for p, rule in rules.items() if fits(rule, name)), None)
        kind = kind_for(layer, field)
        assert kind is not None
        groups = kind.copies(layer)
        width = kind.turned_width(layer, side) // groups
        key = (pattern, width, groups)
        if key not in made:
            try:
                made[key] = side_by_side(builders[pattern](width), groups)
            except WidthError as error:
                raise WidthError(
                    f"{name} {verb} {width} {side}: {error}; select another network for it with"
                    " topology_pattern, or exclude it with exclude_modules"
                ) from None
        return made[key]

    return choose


def fits(rule: re.Pattern[str], name: str) -> bool:
    """Return whether a pattern matches the name, or the name without some leading parts."""
    parts = name.split(".")
    return any(rule.fullmatch(".".join(parts[k:])) for k in range(len(parts)))


def builder(topology: Topology) -> Callable[[int], Network]:
    """Return the function width → straight network of a topology."""
    rule = topologies.rule(topology)

    def build(width: int) -> Network:
        net: Any = rule(width)
        if not isinstance(net, Network):
            raise StructmatError(f"{topology!r} returned {net!r}: it must return a Network")
        if net.width != width:
            raise WidthError(f"the network has width {net.width}")
        return net.straightened().network

    return build


def side_by_side(net: Network, copies: int) -> Network:
    """Return copies of a straight network side by side, in as many banks as one copy.

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
