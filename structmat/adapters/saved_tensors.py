"""The tensors of a saved adapter, and the check that they fit a model."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from structmat.adapters.adapted_layer import ONLY, PREFIX, SCALE, AdaptedLayer
from structmat.adapters.base_fingerprint import Fingerprint
from structmat.adapters.distributed import plain_name, unwrapped
from structmat.adapters.layouts import COMPLEX, Layer, is_rotated, layout_for, named_layers
from structmat.adapters.model import adapted, adapters, trained_whole
from structmat.adapters.recipes import Recipe
from structmat.adapters.shared_weights import names_of_layers
from structmat.errors import StructmatError, require
from structmat.nn.offloading import is_empty, is_offloaded, loaded
from structmat.nn.orthogonal_layer import shapes_of

BIAS = "bias"
BASE = "base_layer.weight"  # a layer's own weight, if the file contains it
BROKEN = "contains NaN or infinity"
_PARTS = ".real_imag"  # ends the names of complex tensors, which not all dtypes of a file include
_ON_META = (
    "has its parameters on the meta device, where loaded values would be lost; load the adapter"
    " before offloading, or load the model's weights first"
)


@dataclass(frozen=True)
class Saved:
    """The contents of `adapter.json`, such as the recipe and the weight's shape for each layer."""

    recipes: dict[str, Recipe]
    weights: dict[str, tuple[str, tuple[int, ...]]]
    trained: list[str]
    statistics: list[str]
    names: dict[str, list[str]] = field(default_factory=dict)  # of layers with several names
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)  # of the layers' own weights


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors to be saved, by their names in the adapted model without wrappers."""
    found = {}
    for full, layer in adapters(unwrapped(model)).items():
        name = plain_name(full)
        for part, value in _adapter_tensors(layer).items():
            found[f"{name}.{part}" if name else part] = value
    for name, module in trained_whole(model).items():
        found |= _state(name, module)
    for name, module in with_statistics(model).items():
        found |= _statistics(name, module)
    return found


def _state(name: str, module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and persistent buffers of a module, by their names in the model."""
    state = module.state_dict(keep_vars=True)
    return {f"{name}.{plain_name(key)}": v for key, v in state.items() if isinstance(v, Tensor)}


def with_statistics(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that keep running statistics, as batch normalisation does."""
    every = unwrapped(model).named_modules()
    return {
        plain_name(name): m for name, m in every if getattr(m, "running_mean", None) is not None
    }


def _statistics(name: str, module: nn.Module) -> dict[str, Tensor]:
    prefix = f"{name}." if name else ""
    return {prefix + key: value for key, value in module.named_buffers(recurse=False)}


def check_unsharded(found: Mapping[str, AdaptedLayer]) -> None:
    """Raise an error if adapter parameters have been flattened or partitioned.

    Raises
    ------
    StructmatError
        If generators do not have their full shape, because of FSDP1 or ZeRO-3.
    """
    for name, layer in found.items():
        for rotation in layer.rotations():
            for values, shape in zip(rotation.generators, shapes_of(rotation), strict=True):
                if tuple(values.shape) != shape:
                    raise StructmatError(
                        f"{name}: the generators have shape {tuple(values.shape)} instead of"
                        f" {shape}, since the parameters are sharded (FSDP1, DeepSpeed ZeRO-3);"
                        " save within"
                        " FullyShardedDataParallel.summon_full_params(model) or"
                        " deepspeed.zero.GatheredParameters(list(model.parameters())), entered by"
                        " every process"
                    )


def diverged(value: Tensor) -> bool:
    """Return whether a parameter contains NaN or infinity, or a buffer contains NaN.

    Buffers may contain infinities, as attention masks do.
    """
    finite = torch.isfinite(value) if isinstance(value, nn.Parameter) else ~torch.isnan(value)
    return not bool(finite.all())


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return tensors as the bytes of a safetensors file; `from_bytes` restores complex ones."""
    safetensors = require("safetensors.torch", "adapters")
    whole = {  # copies, because safetensors rejects tensors that share memory
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    for name in [name for name, value in whole.items() if value.is_complex()]:
        whole[name + _PARTS] = torch.view_as_real(whole.pop(name).resolve_conj())
    data: bytes = safetensors.save(whole, metadata={"format": "pt", **(metadata or {})})
    return data


def from_bytes(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file that `to_bytes` made.

    Raises
    ------
    ValueError, RuntimeError, safetensors.SafetensorError
        If the bytes are not such a file.
    """
    safetensors = require("safetensors.torch", "adapters")
    tensors: dict[str, Tensor] = safetensors.load(data)
    for name in [name for name in tensors if name.endswith(_PARTS)]:
        tensors[name.removesuffix(_PARTS)] = torch.view_as_complex(tensors.pop(name))
    return tensors


def recipe_of(layer: AdaptedLayer) -> Recipe:
    """Return the recipe of a layer adapted by `adapt`.

    Its networks contain only the stages that remain (see `keep_stages`).
    """
    rotations = layer.by_side()
    first = next(iter(rotations.values()))
    return Recipe(
        {side.removeprefix(PREFIX): rotation.network for side, rotation in rotations.items()},
        first.parametrization,
        layer.scale is not None,
        layer.trains_bias,
        first.dropout,
        first.reduced,
        layer.layout.field,
        layer.saves_base,
        layer.untied,
        {side.removeprefix(PREFIX): r.generator_scale for side, r in rotations.items()},
    )


def _adapter_tensors(layer: AdaptedLayer) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {
        f"{side}.generators.{k}": values
        for side, rotation in layer.by_side().items()
        for k, values in enumerate(rotation.generators())
    }
    if layer.scale is not None:
        found[SCALE] = layer.structmat_scale()[ONLY]
    with loaded(layer.base_layer):
        if layer.trains_bias:
            found[BIAS] = layer.bias
        if layer.saves_base:
            found[BASE] = layer.own
    return found


def fitted(
    model: nn.Module, saved: Saved, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, AdaptedLayer], list[str]]:
    """Return the layers by name, adapted as in a file, and a message for each mismatch."""
    layers: dict[str, Layer] = dict(named_layers(model, remove_duplicate=False))
    wrong = _sharing_mismatches(model, saved)
    made: dict[str, AdaptedLayer] = {}
    expected: dict[str, Tensor] = {}
    for name, recipe in saved.recipes.items():
        layer = layers.get(name)
        layout = None if layer is None else layout_for(layer, recipe.field)
        theirs, shape = saved.weights[name]
        if layer is None:
            wrong.append(f"layer {name} is not in the model")
        elif layout is None:
            wrong.append(f"layer {name} has type {type(layer).__name__}, which cannot be adapted")
        elif (layout.__name__, layout.weight_shape(layer)) != (theirs, shape):
            wrong.append(
                f"layer {name} has a weight of shape {layout.weight_shape(layer)} for"
                f" {layout.__name__}; the saved weight has shape {shape} for {theirs}"
                + (f"; call model.resize_token_embeddings({shape[0]})" if recipe.base else "")
            )
        elif is_empty(layer) and (recipe.bias or not is_offloaded(layer)):
            wrong.append(f"layer {name} {_ON_META}")
        else:
            try:
                made[name] = adapted(name, layer, recipe)
            except StructmatError as error:
                wrong.append(f"layer {error}")
                continue
            prefix = f"{name}." if name else ""
            expected |= {prefix + k: v for k, v in _adapter_tensors(made[name]).items()}
    unfit = [f"{name}." for name in saved.recipes if name not in made]
    whole = [(name, _state) for name in saved.trained]
    whole += [(name, _statistics) for name in saved.statistics]
    for name, tensors_of in whole:
        module = layers.get(name)
        if module is None:
            wrong.append(f"{name} is not in the model")
            unfit.append(f"{name}.")
        elif tensors_of is _state and any(
            layers[n] in module.modules() for n in saved.recipes if n in layers
        ):
            wrong.append(f"{name} is trained in full in the file, but contains an adapted layer")
        elif any(map(is_empty, module.modules())):
            wrong.append(f"{name} {_ON_META}")
            unfit.append(f"{name}.")
        else:
            expected |= tensors_of(name, module)
    others = mismatches(tensors, expected, parameters_of(expected))
    return made, wrong + [
        said
        for name, said in others.items()
        if name in expected or not name.startswith(tuple(unfit))
    ]


def parameters_of(tensors: Mapping[str, Tensor]) -> set[str]:
    """Return the names of the tensors that are parameters."""
    return {name for name, value in tensors.items() if isinstance(value, nn.Parameter)}


def mismatches(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], trained: Container[str]
) -> dict[str, str]:
    """Return a message for each tensor of a file that does not fit the model, by tensor name.

    Parameters
    ----------
    tensors : mapping from a name to a tensor in the file
    expected : mapping from a name to a tensor in the model
    trained : container of names
        The names of parameters, which must be finite and have a trainable dtype.
    """
    wrong = {}
    for name, own in expected.items():
        value, shape = tensors.get(name), tuple(own.shape)
        if value is None:
            wrong[name] = f"{name} is not in the file"
        elif tuple(value.shape) != shape:
            wrong[name] = f"{name} has shape {tuple(value.shape)} in the file, {shape} in the model"
        elif own.dtype.is_complex != value.dtype.is_complex:
            wrong[name] = f"{name} has dtype {value.dtype} in the file, {own.dtype} in the model"
        elif name in trained and not (is_rotated(value.dtype) or value.dtype in COMPLEX):
            wrong[name] = (
                f"{name} has dtype {value.dtype} in the file; a parameter must have a"
                " floating-point dtype of at least 16 bits"
            )
        elif name not in trained and value.dtype.is_floating_point != own.dtype.is_floating_point:
            wrong[name] = f"{name} has dtype {value.dtype} in the file, {own.dtype} in the model"
        elif not (torch.isfinite(value) if name in trained else ~torch.isnan(value)).all():
            wrong[name] = f"{name} {BROKEN}"
    more = (name for name in tensors if name not in expected)
    return wrong | {name: f"{name} is in the file, but not in the model" for name in more}


def _sharing_mismatches(model: nn.Module, saved: Saved) -> list[str]:
    """Return a message for each layer that is shared differently in the model and in the file."""
    wrong = []
    layers = [list(map(plain_name, names)) for names in names_of_layers(unwrapped(model))]
    here = {name: names for names in layers for name in names}
    seen: dict[str, str] = {}
    for name in saved.recipes:
        there, names = saved.names.get(name, [name]), here.get(name, [name])
        if missing := [other for other in there if other not in names]:
            wrong.append(
                f"{name} is the same layer as {', '.join(missing)} in the file, but not in the"
                " model"
            )
        if (other := seen.setdefault(names[0], name)) != name:
            wrong.append(f"{other} and {name} are one layer in the model, but two in the file")
    return wrong
