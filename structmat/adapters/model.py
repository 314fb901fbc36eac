"""Adaptation of whole models: inserting adapters, merging and unmerging them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from torch import nn

from structmat.adapters.adapted_experts import AdaptedExperts
from structmat.adapters.adapted_layer import ONLY, AdaptedLayer, all_or_none
from structmat.adapters.distributed import check_whole, plain_name, renewed, unwrapped
from structmat.adapters.layouts import Layer, Stack, named_layers
from structmat.adapters.layouts.quantised import settings_of
from structmat.adapters.recipes import Recipe, Topology, checked_layout, recipes_for
from structmat.adapters.retying import guard_ties
from structmat.adapters.selection import ALL_LINEAR, Targets, matching, select
from structmat.adapters.shared_weights import (
    biases,
    check_apart,
    check_norms,
    same_layers,
    slots_in,
    untie,
)
from structmat.errors import StructmatError, abbreviated
from structmat.nn.torch_internals import own_modules

_TRAINED = "_structmat_trained"  # the attribute that marks a module as trained in full


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
    generator_scaling: str | float = "step",
    plan: str = "auto",
) -> nn.Module:
    """Freeze a model and add trainable rotations to its layers, in place.

    Parameters
    ----------
    model : nn.Module
    topology : str, path, Family, Network, networkx graph, or callable width → Network
        The topology of each layer's network, as for `structmat.network`. A wired network is
        straightened, so that training starts from the pretrained model.
    target_modules, exclude_modules : str or list of str
        The layers to adapt or exclude: a regular expression that must match the whole name, or a
        list of names that may omit leading parts. `target_modules` may also be "all-linear", for
        every linear layer except the output head (the result of `get_output_embeddings()`, or a
        module named `classifier`, `score` or `qa_outputs`).
    topology_pattern : dict of regular expression → topology, optional
        Other topologies for some layers. A pattern must match the whole name, or the name without
        some leading parts; the first match applies.
    side : {"inputs", "outputs", "both"}
        Whether to rotate the inputs of each layer, as OFT and BOFT do, its outputs, as LyCORIS
        does, or both, each with its own network.
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
        What to rotate in a convolution: the receptive field of each neuron (in/groups·k inputs), or
        only its in/groups channels, alike at each kernel position.
    trainable : str or list of str
        Other modules to train in full, such as ["classifier"]; they are saved with the adapter. All
        modules that share a parameter with one of them must be trained in full as well.
    generator_scaling : {"step", "sgd", "none"} or float
        The factor by which the trained tensors are multiplied; see `Orthogonal`. With the default,
        "step", one learning rate suits every topology. Use "none" with a learning rate that was
        found for plain generators.
    plan : {"auto", "measure", "reference"}
        The execution plan; see `Orthogonal`. It is not saved with an adapter: after loading, set
        the attribute `plan` of the rotations.

    Returns
    -------
    nn.Module
        The model, or an `AdaptedLayer` if the model itself is the only layer to adapt.

    Raises
    ------
    WidthError
        If a topology does not support the width of a layer.
    StructmatError
        If an argument is invalid, no layer matches the names, a layer cannot be adapted, or the
        model already has adapters or is sharded. The model is unchanged.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> model = adapt(model, "butterfly(block=4, depth=2)", topology_pattern={"2": "monarch"})
    >>> [str(a.rotation) for a in adapters(model).values()]
    ["Orthogonal(width=8, depth=2, parameters=24, parametrization='cayley')",
     "Orthogonal(width=16, depth=2, parameters=48, parametrization='cayley')"]
    """
    _check_model(model)
    selected = select(model, target_modules, exclude_modules)
    recipes = recipes_for(
        selected,
        topology,
        topology_pattern or {},
        side=side,
        parametrization=parametrization,
        scale=scale,
        bias=bias,
        dropout=dropout,
        reduced=reduced,
        field=field,
        generator_scaling=generator_scaling,
        plan=plan,
    )
    layers = {m.owner if isinstance(m, Stack) else m for m in selected.values()}
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
    layers = dict(named_layers(model, remove_duplicate=False))
    made = {name: adapted(name, layers[name], recipe) for name, recipe in recipes.items()}
    return insert(model, made, trained)


def insert(model: nn.Module, made: Mapping[str, AdaptedLayer], trained: Iterable[str]) -> nn.Module:
    """Insert the given adapted layers, and freeze everything else except the given modules.

    Raises
    ------
    StructmatError
        If the model is sharded, or trained parameters are shared with frozen ones. The model is
        unchanged.
    """
    check_whole(model, "adapt")
    layers = dict(named_layers(model, remove_duplicate=False))
    trained = list(trained)
    _check_shared(model, layers, made, trained)
    new = _in_place_of(model, made.values())
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # noqa: FBT003 (torch's signature)
    for name in trained:
        setattr(layers[name], _TRAINED, True)
        for parameter in layers[name].parameters():
            parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    for layer in made.values():
        layer.requantise = settings_of(model)
        if layer.trains_bias:
            if not isinstance(layer.bias, nn.Parameter):  # a plain tensor in HQQ
                layer.base_layer.bias = nn.Parameter(layer.bias.detach())
            layer.bias.requires_grad_()
    model = replaced(model, new)
    guard_ties(model, AdaptedLayer)
    return model


def adapted(name: str, layer: Layer, recipe: Recipe) -> AdaptedLayer:
    """Return a layer with one adapter, without changing the layer.

    Raises
    ------
    StructmatError
        If the recipe does not fit the layer; the message names the layer.
    """
    layout = checked_layout(
        name, layer, recipe.field, outputs="outputs" in recipe.networks, scale=recipe.scale
    )
    made = AdaptedLayer(layer, layout)
    try:
        made.add(ONLY, recipe)
    except StructmatError as error:
        raise type(error)(f"{name}: {error}") from None
    return made


def _check_shared(
    model: nn.Module,
    layers: Mapping[str, Layer],
    made: Mapping[str, AdaptedLayer],
    whole: list[str],
) -> None:
    """Raise an error if trained or self-modifying weights share a tensor with frozen ones."""
    trained = {slot: f"trainable: {n}" for n in whole for slot in slots_in(layers[n])}
    biased = {name: layers[name] for name, layer in made.items() if layer.trains_bias}
    trained |= biases(model, biased, "bias=True")
    check_apart(model, trained)
    check_norms(model, {name: layers[name] for name in made})


def _in_place_of(model: nn.Module, made: Iterable[AdaptedLayer]) -> dict[int, nn.Module]:
    """Return the replacement (adapted layer or experts) of each module, by module identity."""
    new: dict[int, nn.Module] = {}
    first = same_layers(model)
    experts: dict[int, tuple[nn.Module, dict[str, AdaptedLayer]]] = {}
    for layer in made:
        base = layer.base_layer
        if isinstance(base, Stack):
            experts.setdefault(id(base.owner), (base.owner, {}))[1][base.part] = layer
        else:
            new |= {m: layer for m, same in first.items() if same is base}
    return new | {key: AdaptedExperts(owner, parts) for key, (owner, parts) in experts.items()}


def trained_whole(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that are trained in full in addition to the adapters, by name."""
    every = unwrapped(model).named_modules()
    return {plain_name(name): m for name, m in every if _TRAINED in m.__dict__}


def check_plain(model: nn.Module) -> None:
    """Raise an error if a model has adapters.

    Raises
    ------
    StructmatError
        If the model has adapters.
    """
    if adapters(model):
        raise StructmatError(
            "the model already has adapters: call merge(model, unload=True) first, or start from a"
            " fresh model"
        )


def adapters(model: nn.Module) -> dict[str, AdaptedLayer]:
    """Return the layers of a model that have adapters, by name.

    Raises
    ------
    StructmatError
        If the model is not a torch module.

    Examples
    --------
    >>> list(adapters(adapt(nn.Sequential(nn.Linear(4, 4)), "butterfly")))
    ['0']
    """
    _check_model(model)
    return {name: m for name, m in model.named_modules() if isinstance(m, AdaptedLayer)}


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise StructmatError(
            f"model={abbreviated(model)}: it must be a torch.nn.Module, such as the result"
            " of from_pretrained"
        )


def merge(model: nn.Module, *, unload: bool = False) -> nn.Module:
    """Merge every rotation into its layer's weight, so that the model runs at no extra cost.

    Parameters
    ----------
    model : nn.Module
    unload : bool
        Whether to remove the adapters permanently and return the plain model. A layer that shared
        its weight with another, such as an output head, then has its own weight, and the
        configuration of a transformers model no longer declares the tie. By default, the original
        weights are kept, and `unmerge` restores them exactly.

    Raises
    ------
    StructmatError
        If the model has no adapters, PEFT added them, the model is sharded, or a merged weight is
        not finite or cannot be quantised again. The model is unchanged.

    Examples
    --------
    >>> model = adapt(nn.Sequential(nn.Linear(4, 4)), "butterfly")
    >>> merge(model, unload=True)
    Sequential(
      (0): Linear(in_features=4, out_features=4, bias=True)
    )
    """
    found = own_adapters(model)
    check_whole(model, "merge")
    with all_or_none(found, None):
        for name, layer in found.items():
            try:
                if not layer.merged:
                    layer.merge_adapters()
            except StructmatError as error:
                raise StructmatError(f"{name}: {error}") from None
    if not unload:
        return model
    for module in trained_whole(model).values():
        delattr(module, _TRAINED)
    put: list[Layer] = [m for m in model.modules() if isinstance(m, AdaptedLayer | AdaptedExperts)]
    model = replaced(
        model, {id(m): m.base_layer for m in put if not isinstance(m.base_layer, Stack)}
    )
    untie(model)
    guard_ties(model)
    return model


def unmerge(model: nn.Module) -> nn.Module:
    """Restore exactly the weights that `merge` replaced, and rotate in each call again.

    Raises
    ------
    StructmatError
        If the model has no adapters, or PEFT added them.
    """
    for layer in own_adapters(model).values():
        layer.restore()
    return model


def own_adapters(model: nn.Module) -> dict[str, AdaptedLayer]:
    """Return the layers that `adapt` adapted, by name.

    Raises
    ------
    StructmatError
        If the model has no adapters, or PEFT added them.
    """
    found = adapters(model)
    if not found:
        raise StructmatError(
            "the model has no adapters: adapt it first (a model merged with unload=True cannot be"
            " unmerged)"
        )
    foreign = next((name for name, layer in found.items() if not layer.saves_networks), None)
    if foreign is not None:
        raise StructmatError(
            f"{foreign} was adapted by PEFT: use PEFT's merge_adapter, unmerge_adapter,"
            " merge_and_unload and save_pretrained"
        )
    return found


def replaced(model: nn.Module, new: Mapping[int, nn.Module]) -> nn.Module:
    """Replace modules, given by identity, wherever they occur except inside their replacements."""
    if id(model) in new:
        return new[id(model)]
    for module in list(model.modules()):
        for name, child in list(own_modules(module).items()):
            if id(child) in new and module is not new[id(child)]:
                own_modules(module)[name] = new[id(child)]
                renewed(module)
    return model


def _trained(model: nn.Module, trainable: Targets, layers: Container[nn.Module]) -> list[str]:
    """Return the names of the modules to train in full."""
    modules = {n: m for n, m in named_layers(model) if n and isinstance(m, nn.Module)}
    picked = matching(modules, trainable, "trainable")
    if isinstance(trainable, str) and not picked:
        raise StructmatError(f"trainable={trainable!r} matches no module of this model")
    adapted = [name for name, m in picked.items() if any(part in layers for part in m.modules())]
    if adapted:
        raise StructmatError(
            f"trainable: {adapted[0]} contains an adapted layer, but a layer is either adapted or"
            " trained in full; exclude it from one of the two"
        )
    return list(picked)
