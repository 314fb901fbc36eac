"""Linear layers: inputs are rotated in one operation with the layer if possible, outputs after it.

Activations are rotated instead of the weight: (W·Rᵀ) x is W (Rᵀ x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from structmat.adapters.layouts.base import Adapter, Layout
from structmat.adapters.layouts.requirements import Layer, runs_together


class LinearLayout(Layout):
    """The layout of `nn.Linear`, with weight (out, in)."""

    layer_classes = ("torch.nn.modules.linear.Linear",)

    @classmethod
    def bypasses(cls, *, products: bool) -> bool:
        """Return `products`, since only changed products are computed as by a plain layer."""
        return products

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return in_features."""
        return int(base.in_features)

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return out_features."""
        return int(base.out_features)

    @classmethod
    def calls_base(cls, base: Layer) -> bool:
        """Return whether products are computed by calling the layer rather than from its weight.

        This is so if its forward method was replaced, for example by accelerate.
        """
        return "forward" in base.__dict__

    @classmethod
    def forward(
        cls,
        base: Layer,
        x: Tensor,
        adapters: Sequence[Adapter],
        *args: Any,
        stock: bool,
        **kwargs: Any,
    ) -> Tensor:
        """Rotate the inputs, apply the layer, rotate and scale the outputs, and return them."""
        rotations = [a.inputs for a in reversed(adapters) if a.inputs is not None]
        changes = [a for a in adapters if a.changes_outputs]
        called = cls.calls_base(base)
        together = bool(rotations) and not called and runs_together(base, x, stock=stock)
        for rotation in rotations[:-1] if together else rotations:
            x = rotation.adjoint(x)
        bias = base.bias
        if together:
            weight = cls.neurons(base, base.weight)
            y = rotations[-1].linear(x, weight, None if changes else bias)
        elif called or not changes:
            y = base(x, *args, **kwargs)
            y = y if bias is None or not changes else y - bias.to(y.dtype)
        else:
            y = functional.linear(x, cls.neurons(base, base.weight))
        if not changes:
            return y
        for adapter in changes:
            y = adapter.on_outputs(y)
        return y if bias is None else y + bias.to(y.dtype)


class Conv1DLayout(LinearLayout):
    """The layout of `transformers.Conv1D` (of GPT-2), a linear layer with weight (in, out)."""

    layer_classes = ("transformers.pytorch_utils.Conv1D",)

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
