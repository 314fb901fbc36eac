"""Adapters of convolutions, which rotate receptive fields, or channels only.

They call the layer's own convolution, so stride, padding, dilation and kernel size apply as usual.
"""

from __future__ import annotations

import math

from torch import Tensor

from structmat.adapters.layouts.base import Adapter
from structmat.adapters.layouts.requirements import Layer


class ConvolutionAdapter(Adapter):
    """An adapted convolution that rotates receptive fields of in/groups·k inputs.

    With groups, each group has its own rotation, as its neurons read other channels: the network
    consists of `groups` copies side by side.
    """

    calls_base = False

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
        """Return rows that concatenate one neuron of each group: (out/groups, groups·field)."""
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

    def _output_axis(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * (self.base.weight.ndim - 1))

    def _forward(self, x: Tensor) -> Tensor:
        if not self._rotates_channels(x):
            return self.run(self.base, x, self.weight)
        # Padding copies pixels or adds zeros, so it commutes with a rotation of channels.
        axis = -self.base.weight.ndim + 1
        x = self.rotation.adjoint(x.movedim(axis, -1)).movedim(-1, axis)
        weight = self.base.weight
        if self.scale is not None:
            weight = (weight * self._output_axis(self.scale)).to(weight.dtype)
        return self.run(self.base, x, weight)

    def _rotates_channels(self, x: Tensor) -> bool:
        """Return whether the rotation acts on channels, and x is not larger than the weight."""
        weight: Tensor = self.base.weight
        on_channels = self.side == "inputs" and self.rotation.width == self.base.in_channels
        return on_channels and x.numel() <= weight.numel()


class ChannelsAdapter(ConvolutionAdapter):
    """An adapted convolution that rotates channels, in the same way at each kernel position."""

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


class Conv1dAdapter(ConvolutionAdapter):
    """An adapted `nn.Conv1d`."""

    takes = "torch.nn.modules.conv.Conv1d"


class Conv2dAdapter(ConvolutionAdapter):
    """An adapted `nn.Conv2d`."""

    takes = "torch.nn.modules.conv.Conv2d"


class Conv3dAdapter(ConvolutionAdapter):
    """An adapted `nn.Conv3d`."""

    takes = "torch.nn.modules.conv.Conv3d"


class Conv1dChannelsAdapter(ChannelsAdapter):
    """An adapted `nn.Conv1d` with rotated channels."""

    takes = Conv1dAdapter.takes


class Conv2dChannelsAdapter(ChannelsAdapter):
    """An adapted `nn.Conv2d` with rotated channels."""

    takes = Conv2dAdapter.takes


class Conv3dChannelsAdapter(ChannelsAdapter):
    """An adapted `nn.Conv3d` with rotated channels."""

    takes = Conv3dAdapter.takes
