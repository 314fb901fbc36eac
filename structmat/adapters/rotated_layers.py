"""Linear layers that rotate their inputs, with the inverse folded into their weights.

A layer y = W x + b computes the same as y = (W Rᵀ)(R x) + b. Both factors on the right are
quantised with smaller errors if R spreads outliers over all inputs (QuaRot, arXiv:2404.00456).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, finfo, float16, nn

from structmat.adapters.adapted_layer import Wrapper
from structmat.adapters.distributed import check_whole
from structmat.adapters.layouts import (
    Layer,
    LinearLayout,
    QuantisedLinearLayout,
    layout_for,
    named_layers,
    own_behaviour,
)
from structmat.adapters.model import check_plain, replaced
from structmat.adapters.recipes import checked_layout
from structmat.adapters.selection import ALL_LINEAR, Targets, select
from structmat.adapters.shared_weights import same_layers, untie
from structmat.errors import StructmatError, WidthError, abbreviated, suggest
from structmat.linalg.rotation import Rotation
from structmat.linalg.rotators import Rotator, rotator
from structmat.nn.fixed_rotation import FixedRotation

Fixed: TypeAlias = Rotation | str  # a rotation, or the description of a Rotator


class RotatedLinear(Wrapper):
    """A linear layer that is applied to rotated inputs: y = W' (R x) + b, with W' = W Rᵀ.

    Parameters
    ----------
    base_layer : nn.Linear
        The layer with the weight W'. Libraries that quantise models find and replace it.
    rotation : FixedRotation

    Notes
    -----
    `weight` is W = W' R, for modules that read a layer's weight instead of calling the layer. Other
    attributes are looked up in the layer.

    Examples
    --------
    >>> rotated = RotatedLinear(nn.Linear(4, 2), FixedRotation(rotator(4)))
    >>> rotated.weight.shape, rotated.in_features
    (torch.Size([2, 4]), 4)
    """

    def __init__(self, base_layer: Layer, rotation: FixedRotation) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.rotation = rotation

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Rotate the inputs x (..., in) and apply the layer: (..., out)."""
        return self.base_layer(self.rotation(x), *args, **kwargs)

    @property
    def weight(self) -> Tensor:
        """The weight W of the layer without the rotation."""
        return _reoriented(self.base_layer, self.rotation.adjoint)


def rotate_activations(
    model: nn.Module,
    rotation: Callable[[int], Fixed] | None = None,
    *,
    target_modules: Targets = ALL_LINEAR,
    exclude_modules: Targets | None = None,
    rotations: Mapping[str, Fixed] | None = None,
    fold: bool = True,
) -> nn.Module:
    """Rotate the inputs of linear layers and fold the inverse into their weights, in place.

    The model computes the same outputs up to rounding. Do this before quantising the weights.

    Parameters
    ----------
    model : nn.Module
    rotation : callable width → Rotation or description, optional
        The rotation for layers with this number of inputs, which all these layers share. The
        default is `structmat.rotator(width, block=16, rng=0)`.
    target_modules, exclude_modules : str or list of str
        The layers, as for `adapt`.
    rotations : dict of name → Rotation or description, optional
        The rotation of each layer, instead of the three options above; the function `rotations`
        returns such a dict.
    fold : bool
        Whether to fold the inverse rotations into the weights. Use False if the weights will be
        loaded from the state dict of a model whose activations were rotated in the same way.

    Returns
    -------
    nn.Module
        The model, or a `RotatedLinear` if the model itself is the only layer.

    Raises
    ------
    WidthError
        If a rotation does not have the width of its layer.
    StructmatError
        If no layer matches the names, a layer is not an ordinary linear layer, a rotation is not
        real, a rotated weight exceeds the range of float16, or the model is already rotated,
        adapted or sharded. The model is unchanged.

    Notes
    -----
    A layer that shared its weight with another, such as an output head, then has its own weight,
    and the configuration of a transformers model no longer declares the tie. An interruption leaves
    some layers rotated and others not; the model still computes the same outputs.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> x = torch.ones(12)
    >>> before = model(x)
    >>> model = rotate_activations(model)
    >>> torch.allclose(model(x), before, atol=1e-6)
    True
    >>> rotations(model)["2"]
    'rotator(8, block=16, seed=0, version=1)'

    Save the state dict and the rotations, and load both:

    >>> fresh = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> fresh = rotate_activations(fresh, rotations=rotations(model), fold=False)
    >>> fresh.load_state_dict(model.state_dict())
    <All keys matched successfully>
    >>> torch.equal(fresh(x), model(x))
    True
    """
    check_plain(model)
    if _rotated(model):
        raise StructmatError("the activations are already rotated: call unrotate(model) first")
    check_whole(model, "rotate the activations of")
    if rotations is None:
        layers = select(model, target_modules, exclude_modules)
        make = rotation or (lambda width: rotator(width, block=16, rng=0))
        if isinstance(make, Rotation) or not callable(make):
            raise StructmatError(
                f"rotation={abbreviated(rotation)}: it must be a function of the width, such as"
                " lambda width: structmat.rotator(width, rng=1)"
            )
        widths = {name: _width(name, layer) for name, layer in layers.items()}
        narrow = next((name for name, width in widths.items() if width < 2), None)
        if rotation is None and narrow is not None:
            raise WidthError(
                f"{narrow} has fewer than 2 inputs, so there is nothing to rotate; exclude it"
            )
        by_width = {width: _module(f"width {width}", make(width)) for width in widths.values()}
        made = {name: by_width[width] for name, width in widths.items()}
    else:
        if rotation is not None or target_modules != ALL_LINEAR or exclude_modules is not None:
            raise StructmatError(
                "rotations= specifies the layers and their rotations: omit rotation, target_modules"
                " and exclude_modules"
            )
        layers = _named(model, rotations)
        widths = {name: _width(name, layer) for name, layer in layers.items()}
        kept: dict[Any, FixedRotation] = {}  # layers with the same rotation share its module
        made = {}
        for name in layers:
            given = rotations[name]
            key = given if isinstance(given, str) else id(given)
            if key not in kept:
                kept[key] = _module(name, given)
            made[name] = kept[key]
    for name, module in made.items():
        if module.width != widths[name]:
            raise WidthError(
                f"{name} has {widths[name]} inputs, but its rotation has width {module.width}"
            )
    if fold:
        for name, layer in layers.items():
            _check_range(name, layer, made[name])
    first = same_layers(model)
    for name, layer in layers.items():
        if fold:
            _set(layer, _reoriented(layer, made[name]))
        new = RotatedLinear(layer, made[name]).train(layer.training)
        model = replaced(model, {key: new for key, same in first.items() if same is layer})
    untie(model)
    return model


def unrotate(model: nn.Module) -> nn.Module:
    """Remove the rotations of activations, and restore the weights up to rounding, in place.

    Raises
    ------
    StructmatError
        If no activations are rotated, the model has been adapted, or a weight has been quantised
        since. The model is unchanged.

    Examples
    --------
    >>> model = unrotate(rotate_activations(nn.Sequential(nn.Linear(4, 2))))
    >>> model
    Sequential(
      (0): Linear(in_features=4, out_features=2, bias=True)
    )
    """
    check_plain(model)
    found = _rotated(model)
    if not found:
        raise StructmatError("no activations are rotated: call rotate_activations(model) first")
    for name, layer in found.items():
        _width(name, layer.base_layer)
        _check_range(name, layer.base_layer, layer.rotation.adjoint)
    for layer in dict.fromkeys(found.values()):
        base = layer.base_layer
        _set(base, layer.weight)
        model = replaced(model, {id(layer): base})
    return model


def rotations(model: nn.Module) -> dict[str, Fixed]:
    """Return the rotation of each layer whose activations are rotated.

    Returns
    -------
    dict of name → str or Rotation
        The description of a `Rotator`, which JSON can store, and any other rotation itself.

    Examples
    --------
    >>> rotations(rotate_activations(nn.Sequential(nn.Linear(4, 2))))
    {'0': 'rotator(4, block=16, seed=0, version=1)'}
    """
    made = {name: layer.rotation.rotation for name, layer in _rotated(model).items()}
    return {name: r.description if isinstance(r, Rotator) else r for name, r in made.items()}


def _rotated(model: nn.Module) -> dict[str, RotatedLinear]:
    return {name: layer for name, layer in named_layers(model) if isinstance(layer, RotatedLinear)}


def _named(model: nn.Module, names: Mapping[str, Fixed]) -> dict[str, Layer]:
    """Return the layers with these names, each once."""
    if not isinstance(names, Mapping):
        raise StructmatError(
            f"rotations={abbreviated(names)}: it must be a dict from layer names to rotations"
        )
    first = same_layers(model)
    every = {n: first.get(id(m), m) for n, m in named_layers(model, remove_duplicate=False)}
    for name in names:
        if name not in every:
            raise StructmatError(
                f"rotations: the model has no layer {name!r}{suggest(str(name), every)}"
            )
    if not names:
        raise StructmatError("rotations={}: it must name at least one layer")
    found: dict[str, Layer] = {}
    for name, given in names.items():
        layer = every[name]
        other = next((n for n, known in found.items() if known is layer), None)
        if other is None:
            found[name] = layer
        elif given is not names[other] and given != names[other]:
            raise StructmatError(
                f"rotations: {other} and {name} are the same layer, which can have only one"
                " rotation; give both names the same one, or omit one of them"
            )
    return found


def _module(what: str, given: Any) -> FixedRotation:
    try:
        module = FixedRotation(given)
    except StructmatError as error:
        raise type(error)(f"the rotation of {what}: {error}") from None
    if np.dtype(module.rotation.dtype).kind == "c":
        raise StructmatError(
            f"the rotation of {what} is complex: inputs are rotated by a real one, such as"
            " structmat.rotator(width)"
        )
    return module


def _width(name: str, layer: Layer) -> int:
    """Return the number of inputs of a layer after checking that it can be rotated."""
    layout = layout_for(layer)
    if layout is None or not issubclass(layout, LinearLayout):
        reason = (
            "it looks up rows and has no inputs to rotate"
            if hasattr(layer, "num_embeddings")
            else "only linear layers can be"
        )
        raise StructmatError(
            f"{name} is a {type(layer).__name__}, whose activations cannot be rotated: {reason};"
            " exclude it"
        )
    if layout is QuantisedLinearLayout:
        raise StructmatError(
            f"{name} is a quantised {type(layer).__name__}: rotate the activations before the"
            " model is quantised, or exclude it"
        )
    if type(layer).__name__ == "NonDynamicallyQuantizableLinear":
        raise StructmatError(
            f"{name}: nn.MultiheadAttention reads the weight of this layer instead of calling it,"
            " so its activations cannot be rotated; exclude it"
        )
    if (method := own_behaviour(layer, layout.layer_classes)) is not None:
        raise StructmatError(
            f"{name}: {type(layer).__name__} has its own {method}, which may use the weight in"
            " other ways; exclude it"
        )
    checked_layout(name, layer, "receptive", outputs=False, scale=False)
    return layout.input_width(layer)


def _check_range(name: str, layer: Layer, rotate: Callable[[Tensor], Tensor]) -> None:
    """Raise an error for a float16 weight that would overflow when rotated."""
    layout, most = layout_for(layer), finfo(float16).max
    assert layout is not None
    if layer.weight.dtype != float16 or layer.weight.is_meta:
        return
    neurons = layout.neurons(layer, layer.weight.detach()).float()
    if (neurons.norm(dim=-1) <= most).all() or not neurons.isfinite().all():
        return  # no entry exceeds the norm
    if (rotate(neurons).abs() > most).any():
        raise StructmatError(
            f"{name}: a rotated weight exceeds {most:.0f}, the largest float16; convert the model"
            " to bfloat16 or float32"
        )


def _reoriented(layer: Layer, rotate: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the weight of a layer with rotated neurons."""
    layout = layout_for(layer)
    if layout is None or layout is QuantisedLinearLayout:
        raise StructmatError(f"a weight of {type(layer).__name__} was quantised and cannot be read")
    return layout.from_neurons(layer, rotate(layout.neurons(layer, layer.weight)))


def _set(layer: Layer, weight: Tensor) -> None:
    """Give a layer its own weight; a tensor that it shares with other layers is left unchanged."""
    trains = layer.weight.requires_grad
    layer.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=trains)
