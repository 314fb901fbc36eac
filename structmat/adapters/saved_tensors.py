"""The tensors of a saved adapter, and the check that they fit a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from structmat.adapters.distributed import plain_name, unwrapped
from structmat.adapters.layouts import Adapter, Layer, is_rotated, kind_for, named_layers
from structmat.adapters.model import Recipe, adapters, trained_whole
from structmat.adapters.shared_weights import names_of_layers
from structmat.errors import StructmatError, require
from structmat.nn.offloading import is_empty, is_offloaded, loaded
from structmat.nn.orthogonal_layer import generator_shapes

BASE = "base.weight"  # a layer's own weight, if the file contains it
_NOWHERE = (
    "has its parameters on the meta device, where loaded values would be lost; load the adapter"
    " before offloading, or give the model its weights first"
)


@dataclass(frozen=True)
class Saved:
    """The contents of `adapter.json`: how each layer is adapted, and the shape of its weight."""

    recipes: dict[str, Recipe]
    weights: dict[str, tuple[str, tuple[int, ...]]]
    trained: list[str]
    statistics: list[str]
    names: dict[str, list[str]] = field(default_factory=dict)  # all names of layers with several


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors to be saved, by their names in the adapted model without wrappers."""
    found = {}
    for full, adapter in adapters(unwrapped(model)).items():
        name = plain_name(full)
        for part, value in _adapter_tensors(adapter).items():
            found[f"{name}.{part}" if name else part] = value
    for name, module in trained_whole(model).items():
        found |= _state(name, module)
    for name, module in with_statistics(model).items():
        found |= _statistics(name, module)
    return found


def _state(name: str, module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module, by their names in the model."""
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


def check_uncut(found: Mapping[str, Adapter]) -> None:
    """Raise an error for adapters whose parameters are sharded outside of the modules.

    Raises
    ------
    StructmatError
        If generators do not have their full shape.
    """
    for name, adapter in found.items():
        rotation = adapter.rotation
        shapes = generator_shapes(rotation.network, reduced=rotation.reduced)
        for values, shape in zip(rotation.generators, shapes, strict=True):
            if tuple(values.shape) != shape:
                raise StructmatError(
                    f"{name}: generators of shape {tuple(values.shape)} instead of {shape}:"
                    " the parameters are sharded (FSDP1, DeepSpeed ZeRO-3); save within"
                    " FullyShardedDataParallel.summon_full_params(model) or"
                    " deepspeed.zero.GatheredParameters(list(model.parameters())), entered by every"
                    " process"
                )


def diverged(value: Tensor) -> bool:
    """Return whether a parameter is not finite; buffers may contain −∞, such as masks."""
    return isinstance(value, nn.Parameter) and not bool(torch.isfinite(value).all())


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return tensors as the bytes of a safetensors file."""
    safetensors = require("safetensors.torch", "adapters")
    whole = {  # copies, because safetensors rejects tensors that share memory
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    data: bytes = safetensors.save(whole, metadata={"format": "pt", **(metadata or {})})
    return data


def _adapter_tensors(adapter: Adapter) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {
        f"rotation.generators.{k}": g for k, g in enumerate(adapter.rotation.generators())
    }
    with loaded(adapter), loaded(adapter.base):
        if adapter.scale is not None:
            found["scale"] = adapter.scale
        if adapter.trains_bias and adapter.bias is not None:
            found["bias"] = adapter.bias
        if adapter.saves_base:
            found[BASE] = adapter.base.weight if adapter._plain is None else adapter._plain
    return found


def mismatches(model: nn.Module, saved: Saved, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return a message for each mismatch between a saved adapter and a model."""
    layers: dict[str, Layer] = dict(named_layers(model, remove_duplicate=False))
    wrong = _other_sharing(model, saved)
    shapes: dict[str, tuple[int, ...]] = {}
    misfits = []
    for name, recipe in saved.recipes.items():
        layer = layers.get(name)
        kind = None if layer is None else kind_for(layer, recipe.field)
        if layer is None:
            wrong.append(f"layer {name} is not in the model")
        elif kind is None:
            wrong.append(f"layer {name} is a {type(layer).__name__}, which cannot be adapted")
        elif (kind.__name__, kind.weight_shape(layer)) != saved.weights[name]:
            theirs, shape = saved.weights[name]
            wrong.append(
                f"layer {name} has a weight of shape {kind.weight_shape(layer)} for"
                f" {kind.__name__}, the saved one {shape} for {theirs}"
                + (f"; call model.resize_token_embeddings({shape[0]})" if recipe.base else "")
            )
        elif (width := kind.turned_width(layer, recipe.side)) != recipe.network.width:
            has = "reads" if recipe.side == "inputs" else "has"
            wrong.append(
                f"layer {name} {has} {width} {recipe.side}, the saved one {recipe.network.width}"
            )
        elif is_empty(layer) and (recipe.bias or not is_offloaded(layer)):
            wrong.append(f"layer {name} {_NOWHERE}")
        else:
            prefix = f"{name}." if name else ""
            shapes |= {prefix + k: v for k, v in _expected_shapes(kind, layer, recipe).items()}
            continue
        misfits.append(f"{name}.")
    finite = set(shapes)
    whole = [(name, _state) for name in saved.trained]
    whole += [(name, _statistics) for name in saved.statistics]
    for name, tensors_of in whole:
        module = layers.get(name)
        if module is None:
            wrong.append(f"{name} is not in the model")
            misfits.append(f"{name}.")
        elif tensors_of is _state and any(
            layers[n] in module.modules() for n in saved.recipes if n in layers
        ):
            wrong.append(f"{name} is trained whole in the file, but contains an adapted layer")
        elif any(map(is_empty, module.modules())):
            wrong.append(f"{name} {_NOWHERE}")
            misfits.append(f"{name}.")
        else:
            found = tensors_of(name, module)
            shapes |= {key: tuple(value.shape) for key, value in found.items()}
            finite |= {key for key, value in found.items() if isinstance(value, nn.Parameter)}
    for name, shape in shapes.items():
        if name not in tensors:
            wrong.append(f"{name} is not in the file")
        elif tuple(tensors[name].shape) != shape:
            wrong.append(
                f"{name} has shape {tuple(tensors[name].shape)} in the file, {shape} in the model"
            )
        elif name in finite and not is_rotated(tensors[name].dtype):
            wrong.append(
                f"{name} has dtype {tensors[name].dtype} in the file; parameters must be real"
                " floating point of at least 16 bits"
            )
        elif name in finite and not torch.isfinite(tensors[name]).all():
            wrong.append(f"{name} contains NaN or infinity")
    wrong += [
        f"{name} is in the file, but not in the model"
        for name in tensors
        if name not in shapes and not name.startswith(tuple(misfits))
    ]
    return wrong


def _other_sharing(model: nn.Module, saved: Saved) -> list[str]:
    """Return messages about layers that are shared differently in the model and in the file."""
    wrong = []
    layers = [list(map(plain_name, names)) for names in names_of_layers(unwrapped(model))]
    here = {name: names for names in layers for name in names}
    seen: dict[str, str] = {}
    for name in saved.recipes:
        there, names = saved.names.get(name, [name]), here.get(name, [name])
        if missing := [other for other in there if other not in names]:
            wrong.append(
                f"{name} is one layer with {', '.join(missing)} in the file, but not in the model"
            )
        if (other := seen.setdefault(names[0], name)) != name:
            wrong.append(f"{other} and {name} are one layer in the model, but two in the file")
    return wrong


def _expected_shapes(
    kind: type[Adapter], layer: Layer, recipe: Recipe
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"rotation.generators.{k}": shape
        for k, shape in enumerate(generator_shapes(recipe.network, reduced=recipe.reduced))
    }
    if recipe.scale:
        shapes["scale"] = (kind.output_width(layer),)
    bias = getattr(layer, "bias", None)
    if recipe.bias and bias is not None:
        shapes["bias"] = tuple(bias.shape)
    if recipe.base:
        shapes[BASE] = kind.weight_shape(layer)
    return shapes
