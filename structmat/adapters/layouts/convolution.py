"""Convolutions, whose receptive fields, or only channels, are rotated.

The layer's own convolution is called, so stride, padding, dilation and kernel size apply as usual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from structmat.adapters.layouts.base import Adapter, Layout
from structmat.adapters.layouts.requirements import Layer
from structmat.nn.torch_internals import sizes


class ConvolutionLayout(Layout):
    """The layout of convolutions whose receptive fields, of in/groups·k inputs, are rotated.

    Each group has its own rotation, because its neurons read different channels: the network
    consists of `groups` copies side by side.
    """

    layer_classes = tuple(f"torch.nn.modules.conv.Conv{axes}d" for axes in (1, 2, 3))

    @classmethod
    def bypasses(cls, *, products: bool) -> bool:  # noqa: ARG003
        """Return True, since `_conv_forward` is called with another weight."""
        return True

    @classmethod
    def copies(cls, base: Layer) -> int:
        """Return the number of groups."""
        return int(base.groups)

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return the size of one receptive field times the number of groups."""
        return cls.field_size(base) * int(base.groups)

    @classmethod
    def field_size(cls, base: Layer) -> int:
        """Return the size of the receptive field of one neuron."""
        return math.prod(base.weight.shape[1:])

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return out_channels."""
        return int(base.out_channels)

    @classmethod
    def features(cls, base: Layer) -> tuple[int, int]:
        """Return in_channels and out_channels."""
        return int(base.in_channels), int(base.out_channels)

    @classmethod
    def neurons(cls, base: Layer, weight: Tensor) -> Tensor:
        """Return the neurons as flattened receptive fields."""
        return weight.reshape(-1, cls.field_size(base))

    @classmethod
    def from_neurons(cls, base: Layer, neurons: Tensor) -> Tensor:
        """Return the weight in its original shape."""
        return neurons.reshape(base.weight.shape)

    @classmethod
    def rows(cls, base: Layer, neurons: Tensor) -> Tensor:
        """Return rows that each concatenate one neuron per group: (out/groups, groups·field)."""
        groups, field = int(base.groups), cls.field_size(base)
        return neurons.reshape(groups, -1, field).transpose(0, 1).reshape(-1, groups * field)

    @classmethod
    def from_rows(cls, base: Layer, rows: Tensor) -> Tensor:
        """Return the neurons, ordered by group."""
        groups, field = int(base.groups), cls.field_size(base)
        return rows.reshape(-1, groups, field).transpose(0, 1).reshape(-1, field)

    @classmethod
    def run(cls, base: Layer, x: Tensor, weight: Tensor) -> Tensor:
        """Return the outputs of the convolution with another weight."""
        outputs: Tensor = base._conv_forward(x, weight, base.bias)
        return outputs

    @classmethod
    def forward(
        cls, base: Layer, x: Tensor, adapters: Sequence[Adapter], *_: Any, stock: bool, **__: Any
    ) -> Tensor:
        """Return the outputs of the convolution for rotated channels, or with a rotated weight."""
        if not cls.rotates_channels(base, x, adapters):
            return super().forward(base, x, adapters, stock=stock)
        # Padding copies pixels or adds zeros, so it commutes with a rotation of channels.
        axis = -base.weight.ndim + 1
        x = x.movedim(axis, -1)
        for adapter in reversed(adapters):
            x = x if adapter.inputs is None else adapter.inputs.adjoint(x)
        scales = [Adapter(scale=adapter.scale) for adapter in adapters]
        return cls.run(base, x.movedim(-1, axis), cls.effective(base, base.weight, scales))

    @classmethod
    def rotates_channels(cls, base: Layer, x: Tensor, adapters: Sequence[Adapter]) -> bool:
        """Return whether only channels are rotated, and x is at most as large as the weight."""
        return math.prod(sizes(x)) <= math.prod(sizes(base.weight)) and all(
            adapter.outputs is None
            and (adapter.inputs is None or adapter.inputs.width == base.in_channels)
            for adapter in adapters
        )


class ChannelsLayout(ConvolutionLayout):
    """The layout of convolutions whose channels are rotated alike at each kernel position."""

    field = "channels"

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return in_channels."""
        return int(base.in_channels)

    @classmethod
    def rows(cls, base: Layer, neurons: Tensor) -> Tensor:
        """Return the channels by kernel position: (out/groups, k, in_channels)."""
        groups, channels = int(base.groups), int(base.in_channels)
        split = neurons.reshape(groups, -1, channels // groups, math.prod(base.kernel_size))
        return split.permute(1, 3, 0, 2).reshape(-1, split.shape[-1], channels)

    @classmethod
    def from_rows(cls, base: Layer, rows: Tensor) -> Tensor:
        """Return the neurons (out, in/groups·k), the inverse of `rows`."""
        groups, (_, places, channels) = int(base.groups), rows.shape
        split = rows.reshape(-1, places, groups, channels // groups)
        return split.permute(2, 0, 3, 1).reshape(-1, channels // groups * places)
