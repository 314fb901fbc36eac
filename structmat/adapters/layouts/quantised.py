"""Adapters of quantised linear layers, whose weights are accessed through PEFT's backends.

A merged weight is quantised again, so merged and unmerged outputs differ by the quantisation error.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor, nn

from structmat.adapters.layouts.linear import LinearAdapter
from structmat.adapters.layouts.requirements import Layer, quantiser
from structmat.errors import StructmatError, require
from structmat.networks.network import Network
from structmat.nn.offloading import device_of

TAKEN = ("bitsandbytes", "torchao", "hqq")


class QuantisedLinearAdapter(LinearAdapter):
    """An adapted linear layer of bitsandbytes (8 and 4 bits), torchao or HQQ.

    `weight` is the effective weight in floating point, computed on access.
    """

    scales_outputs = True
    # A function that returns the config for quantising with torchao, whose tensors do not record
    # it; `adapt` finds it in a model that transformers quantised.
    requantise: Callable[[], Any] | None = None

    def __init__(self, base: Layer, network: Network, **options: Any) -> None:
        super().__init__(base, network, **options)
        if self.trains_bias and not isinstance(base.bias, nn.Parameter):  # HQQ has a plain tensor
            base.bias = nn.Parameter(base.bias.detach())

    @classmethod
    def accepts(cls, layer: Layer) -> bool:
        """Return whether the layer is a quantised linear layer."""
        linear = hasattr(layer, "in_features") and hasattr(layer, "out_features")
        return linear and quantiser(layer) is not None

    @classmethod
    def check_weight(cls, base: Layer, *, products: bool) -> None:  # noqa: ARG003
        """Raise an error for layers of libraries whose weights cannot be dequantised."""
        name = quantiser(base)
        if name not in TAKEN:
            raise StructmatError(
                f"a {type(base).__name__} of {name}: only quantised layers of {', '.join(TAKEN)}"
                " can be adapted, as their weights can be dequantised; exclude this layer"
            )
        backend(base)

    @classmethod
    def number_type(cls, base: Layer) -> tuple[torch.dtype, torch.device]:
        """Return float32 and the device, since the stored dtype is not that of the weight."""
        held = base.W_q if quantiser(base) == "hqq" else base.weight
        return torch.float32, device_of(base, held)

    @classmethod
    def weight_shape(cls, base: Layer) -> tuple[int, ...]:
        """Return the shape of the dequantised weight."""
        return int(base.out_features), int(base.in_features)

    @property
    def own_weight(self) -> Tensor:
        """The dequantised weight."""
        return in_floating_point(self.base)

    def _held(self) -> Any:
        return self.base

    def _hold(self, base: Any) -> None:
        self.base = base

    def _forward(self, x: Tensor) -> Tensor:
        inputs = self.side == "inputs"
        outputs: Tensor = self.base(self.rotation.adjoint(x) if inputs else x)
        if inputs and self.scale is None:
            return outputs
        # Subtract the bias added by the layer, as it is neither rotated nor scaled.
        products = outputs if self.bias is None else outputs - self.bias
        if not inputs:
            products = self.rotation(products)
        if self.scale is not None:
            products = products * self.scale
        return (products if self.bias is None else products + self.bias).to(outputs.dtype)

    def set_weight(self, merged: Tensor) -> None:
        """Quantise the merged weight in a copy of the layer; `restore_weight` undoes it.

        Raises
        ------
        StructmatError
            For torchao, if the model does not record how it was quantised.
        """
        plain = self.base
        self.base = requantised(plain, merged, self.requantise)
        object.__setattr__(self, "_plain", plain)

    def _put_plain(self, state: dict[str, Any], prefix: str) -> None:
        mine = f"{prefix}base."
        for key in [key for key in state if key.startswith(mine)]:
            del state[key]
        self._plain.state_dict(destination=state, prefix=mine)  # HQQ needs the prefix as a keyword

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        nn.Module._apply(self, fn, recurse)
        if self.merged:
            self._plain._apply(fn)
        return self


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
        For torchao without settings.
    """
    if quantiser(base) == "torchao" and settings is None:
        raise StructmatError(
            "the model does not record how torchao quantised it, as one from transformers does, so"
            " a merged weight cannot be quantised in the same way; set `requantise` of the adapters"
            " to a function that returns the torchao config"
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
    """Return a 4-bit weight of bitsandbytes in its original layout, if it was repacked, else None.

    bitsandbytes repacks weights for inference on some CPUs, which PEFT does not support.
    """
    state = getattr(getattr(base, "weight", None), "quant_state", None)
    if not getattr(state, "packing_format_for_cpu", False):
        return None
    functional = require("bitsandbytes.functional", "peft")
    state = copy.copy(state)  # it is modified below
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
