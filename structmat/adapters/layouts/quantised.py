"""Quantised linear layers: the inputs are rotated, and PEFT's backends hold the weight.

A merged weight is quantised again, which rounds it: only then do merged and unmerged outputs
differ by more than rounding.
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

    `weight` is the effective weight in floating point, computed when it is asked for.
    """

    scales_outputs = True
    # How torchao's tensors are made, for it does not say so itself; `adapt` finds it in a model
    # that transformers quantised.
    requantise: Callable[[], Any] | None = None

    def __init__(self, base: Layer, network: Network, **options: Any) -> None:
        super().__init__(base, network, **options)
        if self.trains_bias and not isinstance(base.bias, nn.Parameter):  # HQQ has a plain tensor
            base.bias = nn.Parameter(base.bias.detach())

    @classmethod
    def accepts(cls, layer: Layer) -> bool:
        """Return whether a linear layer holds its weight in few bits."""
        linear = hasattr(layer, "in_features") and hasattr(layer, "out_features")
        return linear and quantiser(layer) is not None

    @classmethod
    def check_weight(cls, base: Layer, *, products: bool) -> None:  # noqa: ARG003
        """Refuse layers of libraries that are not known to give their weight back."""
        name = quantiser(base)
        if name not in TAKEN:
            raise StructmatError(
                f"a {type(base).__name__} of {name}: quantised layers of {', '.join(TAKEN)} can"
                " be adapted, for they give their weight back; exclude this one"
            )
        backend(base)

    @classmethod
    def number_type(cls, base: Layer) -> tuple[torch.dtype, torch.device]:
        """Return float32 and the device: what is stored are no numbers of that dtype."""
        held = base.W_q if quantiser(base) == "hqq" else base.weight
        return torch.float32, device_of(base, held)

    @classmethod
    def weight_shape(cls, base: Layer) -> tuple[int, ...]:
        """Return the shape of the weight that is meant."""
        return int(base.out_features), int(base.in_features)

    @property
    def own_weight(self) -> Tensor:
        """The weight that the layer means."""
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
        # The layer has added its bias, which is neither rotated nor scaled.
        products = outputs if self.bias is None else outputs - self.bias
        if not inputs:
            products = self.rotation(products)
        if self.scale is not None:
            products = products * self.scale
        return (products if self.bias is None else products + self.bias).to(outputs.dtype)

    def set_weight(self, merged: Tensor) -> None:
        """Quantise the merged weight, in a copy of the layer; `restore_weight` has the layer.

        Raises
        ------
        StructmatError
            For torchao, where the model does not tell how it was quantised.
        """
        plain = self.base
        self.base = requantised(plain, merged, self.requantise)
        object.__setattr__(self, "_plain", plain)

    def _put_plain(self, state: dict[str, Any], prefix: str) -> None:
        mine = f"{prefix}base."
        for key in [key for key in state if key.startswith(mine)]:
            del state[key]
        self._plain.state_dict(destination=state, prefix=mine)  # HQQ adds a prefix only so

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        nn.Module._apply(self, fn, recurse)
        if self.merged:
            self._plain._apply(fn)
        return self


def in_floating_point(base: Layer) -> Tensor:
    """Return the weight that a quantised layer means, (out, in)."""
    held = _unpacked(base)
    if held is not None:
        unpacked: Tensor = require("bitsandbytes.functional", "peft").dequantize_4bit(*held)
        return unpacked
    weight: Tensor = backend(base).get_base_weight(base)
    return weight


def requantised(base: Layer, weight: Tensor, settings: Callable[[], Any] | None) -> Layer:
    """Return a layer like a quantised one, of another weight, and of the same bias.

    Raises
    ------
    StructmatError
        For torchao without settings.
    """
    if quantiser(base) == "torchao" and settings is None:
        raise StructmatError(
            "the model does not tell how torchao quantised it, as one from transformers does, so a"
            " merged weight cannot be quantised alike; set `requantise` of the adapters to a"
            " function that returns the torchao config"
        )
    made_anew = quantiser(base) == "hqq"  # by PEFT, without the bias
    holder = SimpleNamespace(base_layer=base if made_anew else copy.deepcopy(base))
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
    """Return 4 bits of bitsandbytes as they were, where it laid them out anew.

    It does so to infer on some CPUs, which PEFT does not know.
    """
    state = getattr(getattr(base, "weight", None), "quant_state", None)
    if not getattr(state, "packing_format_for_cpu", False):
        return None
    functional = require("bitsandbytes.functional", "peft")
    state = copy.copy(state)  # it is changed
    data, state = functional._convert_weight_packed_for_cpu_inverse(base.weight.data, state)
    return data, state


def settings_of(model: nn.Module) -> Callable[[], Any] | None:
    """Return what makes torchao's settings, where transformers quantised the model with it."""
    config = getattr(getattr(model, "hf_quantizer", None), "quantization_config", None)
    return getattr(config, "get_apply_tensor_subclass", None)


def backend(base: Layer, requantise: Callable[[], Any] | None = None) -> Any:
    """Return what PEFT reads and writes the weight of a quantised layer with, or None."""
    module = require("peft.utils.quantization_utils", "peft")
    known: Callable[[], Any] = requantise or (lambda: None)
    return module.resolve_quantization_backend(base, get_apply_tensor_subclass=known)
