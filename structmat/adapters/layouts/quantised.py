"""Quantised linear layers, whose weights are accessed through PEFT's backends.

A merged weight is quantised again, so merged and unmerged outputs differ by the quantisation error.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from structmat.adapters.layouts.linear import LinearLayout
from structmat.adapters.layouts.requirements import Layer, quantiser
from structmat.errors import StructmatError, require
from structmat.nn.offloading import device_of

DEQUANTISED = ("bitsandbytes", "torchao", "hqq")


class QuantisedLinearLayout(LinearLayout):
    """The layout of linear layers from bitsandbytes (8 and 4 bits), torchao and HQQ.

    The layer itself multiplies by its weight.
    """

    @classmethod
    def accepts(cls, layer: Layer) -> bool:
        """Return whether the layer is a quantised linear layer."""
        linear = hasattr(layer, "in_features") and hasattr(layer, "out_features")
        return linear and quantiser(layer) is not None

    @classmethod
    def bypasses(cls, *, products: bool) -> bool:  # noqa: ARG003
        """Return False, since the layer's own forward is always called."""
        return False

    @classmethod
    def check_weight(cls, base: Layer, *, scale: bool) -> None:  # noqa: ARG003
        """Raise an error for a layer whose library provides no dequantised weights.

        Raises
        ------
        StructmatError
            If this is such a layer.
        """
        name = quantiser(base)
        if name not in DEQUANTISED:
            raise StructmatError(
                f"{type(base).__name__} from {name}: only quantised layers from"
                f" {', '.join(DEQUANTISED)} can be adapted, because only their weights can be"
                " dequantised; exclude this layer"
            )
        backend(base)

    @classmethod
    def number_type(cls, base: Layer) -> tuple[torch.dtype, torch.device]:
        """Return float32 and the device, since the stored dtype is not the weight's own."""
        held = base.W_q if quantiser(base) == "hqq" else base.weight
        return torch.float32, device_of(base, held)

    @classmethod
    def weight_shape(cls, base: Layer) -> tuple[int, ...]:
        """Return the shape of the dequantised weight."""
        return int(base.out_features), int(base.in_features)

    @classmethod
    def calls_base(cls, base: Layer) -> bool:  # noqa: ARG003
        """Return True."""
        return True


def in_floating_point(base: Layer) -> Tensor:
    """Return the dequantised weight of a layer, (out, in)."""
    held = _unpacked(base)
    if held is not None:
        unpacked: Tensor = require("bitsandbytes.functional", "peft").dequantize_4bit(*held)
        return unpacked
    weight: Tensor = backend(base).get_base_weight(base)
    return weight


def requantised(base: Layer, weight: Tensor, settings: Callable[[], Any] | None) -> Layer:
    """Return a copy of a quantised layer with another weight and the same bias.

    Raises
    ------
    StructmatError
        For a torchao layer, if `settings` is None.
    """
    if quantiser(base) == "torchao" and settings is None:
        raise StructmatError(
            "unlike a model from transformers, this model does not record how torchao quantised"
            " it, so a merged weight cannot be quantised in the same way; set `requantise` on the"
            " adapted layers to a function that returns the torchao config"
        )
    replaced = quantiser(base) == "hqq"  # PEFT creates a new layer, without the bias
    holder = SimpleNamespace(base_layer=base if replaced else copy.deepcopy(base))
    held = _unpacked(holder.base_layer)
    if held is not None:
        holder.base_layer.weight.data, holder.base_layer.weight.quant_state = held
    holder.get_base_layer = lambda: holder.base_layer
    backend(base, settings).set_base_weight(holder, weight)
    new: Layer = holder.base_layer.train(base.training)
    new.requires_grad_(requires_grad=False)
    new.bias = base.bias
    return new


def _unpacked(base: Layer) -> tuple[Tensor, Any] | None:
    """Return a repacked 4-bit bitsandbytes weight in its original layout, or None if not repacked.

    bitsandbytes repacks weights for inference on some CPUs, which PEFT does not support.
    """
    state = getattr(getattr(base, "weight", None), "quant_state", None)
    if not getattr(state, "packing_format_for_cpu", False):
        return None
    functional = require("bitsandbytes.functional", "peft")
    state = copy.copy(state)  # modified below
    data, state = functional._convert_weight_packed_for_cpu_inverse(base.weight.data, state)
    return data, state


def settings_of(model: nn.Module) -> Callable[[], Any] | None:
    """Return the function that creates torchao's config, if transformers quantised the model."""
    config = getattr(getattr(model, "hf_quantizer", None), "quantization_config", None)
    return getattr(config, "get_apply_tensor_subclass", None)


def backend(base: Layer, requantise: Callable[[], Any] | None = None) -> Any:
    """Return PEFT's backend for reading and writing the weight of a quantised layer, or None."""
    module = require("peft.utils.quantization_utils", "peft")
    known: Callable[[], Any] = requantise or (lambda: None)
    return module.resolve_quantization_backend(base, get_apply_tensor_subclass=known)
