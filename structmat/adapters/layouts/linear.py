"""Adapters of linear layers, which rotate inputs or outputs, fused with the layer if possible."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from structmat.adapters.layouts.base import Adapter
from structmat.adapters.layouts.requirements import Layer, runs_together


class LinearAdapter(Adapter):
    """An adapted `nn.Linear`, with weight (out, in)."""

    takes = "torch.nn.modules.linear.Linear"

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return in_features."""
        return int(base.in_features)

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return out_features."""
        return int(base.out_features)

    def _output_axis(self, values: Tensor) -> Tensor:
        return values[:, None]

    def _forward(self, x: Tensor) -> Tensor:
        inputs = self.side == "inputs"
        if inputs and self.scale is None and runs_together(self.base, x, stock=self._stock):
            weight = self.neurons(self.base, self.base.weight)
            return self.rotation.linear(x, weight, self.base.bias)
        if inputs:
            x = self.rotation.adjoint(x)
        if inputs and self.scale is None:
            outputs: Tensor = self.base(x)
            return outputs
        products = functional.linear(x, self.neurons(self.base, self.base.weight))
        if not inputs:
            products = self.rotation(products)
        if self.scale is not None:
            products = (products * self.scale).to(products.dtype)
        return products if self.bias is None else products + self.bias.to(products.dtype)


class Conv1DAdapter(LinearAdapter):
    """An adapted `transformers.Conv1D` (of GPT-2), a linear layer with weight (in, out)."""

    takes = "transformers.pytorch_utils.Conv1D"

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return the number of rows of the weight."""
        return int(base.weight.shape[0])

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return the number of columns of the weight."""
        return int(base.weight.shape[1])

    @classmethod
    def neurons(cls, base: Layer, weight: Tensor) -> Tensor:  # noqa: ARG003
        """Return the transposed weight."""
        return weight.T

    @classmethod
    def from_neurons(cls, base: Layer, neurons: Tensor) -> Tensor:  # noqa: ARG003
        """Return the transposed neurons."""
        return neurons.T

    def _output_axis(self, values: Tensor) -> Tensor:
        return values
