"""The layout of a layer's weight: what is rotated, and how the layer runs with rotated weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from structmat.adapters.layouts.requirements import (
    Layer,
    class_name,
    own_behaviour,
    plain_weight,
)
from structmat.errors import StructmatError
from structmat.nn.offloading import device_of
from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.parametrizations import at_least_float32
from structmat.nn.torch_internals import has_hooks


class Adapter(NamedTuple):
    """One adapter of a layer: W' = s ⊙ (P·W·Rᵀ), where R, P and s may be missing.

    Attributes
    ----------
    inputs : Orthogonal, optional
        R, which rotates the inputs that each neuron reads.
    outputs : Orthogonal, optional
        P, which rotates the outputs of all neurons.
    scale : (outputs,) tensor, optional
        s, the factor of each output.
    """

    inputs: Orthogonal | None = None
    outputs: Orthogonal | None = None
    scale: Tensor | None = None

    @property
    def changes_outputs(self) -> bool:
        """Whether outputs are rotated or scaled."""
        return self.outputs is not None or self.scale is not None

    def on_outputs(self, y: Tensor) -> Tensor:
        """Return values (..., outputs) after rotating and scaling them, in their dtype."""
        if self.outputs is not None:
            y = self.outputs(y)
        return y if self.scale is None else (y * self.scale).to(y.dtype)


class Layout:
    """The layout of the weight of one kind of layer; it has no state, only class methods.

    A rotation of inputs acts on the last axis of `rows`, one of outputs on that of `by_outputs`.
    """

    # Class names rather than classes, since transformers may not be installed.
    layer_classes: ClassVar[tuple[str, ...]]
    field: ClassVar[str] = "receptive"  # what a rotation acts on, where there is a choice

    # What is adapted ------------------------------------------------------------------------

    @classmethod
    def accepts(cls, layer: Layer) -> bool:
        """Return whether this is the layout of the layer."""
        return not set(cls.layer_classes).isdisjoint(map(class_name, type(layer).__mro__))

    @classmethod
    def bypasses(cls, *, products: bool) -> bool:  # noqa: ARG003 (for some kinds)
        """Return whether an adapted layer may run without calling its own forward.

        `products` states whether adapters change the products with the weight before the bias is
        added.
        """
        return False

    @classmethod
    def check(cls, base: Layer, *, outputs: bool, scale: bool) -> None:
        """Raise an error if a layer cannot be rotated or would lose its custom behaviour.

        Parameters
        ----------
        base : nn.Module
        outputs, scale : bool
            Whether outputs are rotated, and whether they are scaled.

        Raises
        ------
        StructmatError
            If the weight cannot be rotated, or the layer has forward hooks or a custom method that
            the adapter would bypass.
        """
        cls.check_weight(base, scale=scale)
        bypassed = cls.bypasses(products=outputs or scale)
        own = own_behaviour(base, cls.layer_classes) if bypassed else None
        if own is not None:
            raise StructmatError(
                f"{type(base).__name__} overrides {own}, which the adapter would bypass; exclude"
                " this layer"
            )
        if has_hooks(base, backward=False):
            raise StructmatError(
                f"{type(base).__name__} has forward hooks, which would see different activations"
                " before and after merging; remove them, or exclude this layer"
            )

    @classmethod
    def check_weight(cls, base: Layer, *, scale: bool) -> None:  # noqa: ARG003 (for some kinds)
        """Raise an error for a weight that cannot be rotated or scaled.

        Raises
        ------
        StructmatError
            If the weight cannot be rotated or scaled.
        """
        plain_weight(base)

    # Sizes ----------------------------------------------------------------------------------

    @classmethod
    def number_type(cls, base: Layer) -> tuple[torch.dtype, torch.device]:
        """Return the dtype and the device in which the layer computes."""
        return base.weight.dtype, device_of(base, base.weight)

    @classmethod
    def weight_shape(cls, base: Layer) -> tuple[int, ...]:
        """Return the shape of the weight."""
        return tuple(base.weight.shape)

    @classmethod
    def copies(cls, base: Layer) -> int:  # noqa: ARG003
        """Return the number of equal parts of the layer, each of which has its own rotation."""
        return 1

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return the number of inputs that are rotated together."""
        raise NotImplementedError

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return the number of outputs (channels) of the layer."""
        raise NotImplementedError

    @classmethod
    def features(cls, base: Layer) -> tuple[int, int]:
        """Return the numbers of input and output features in PEFT's sense."""
        return cls.input_width(base), cls.output_width(base)

    @classmethod
    def rotated_width(cls, base: Layer, side: str) -> int:
        """Return the width of a network that rotates the "inputs" or "outputs" of the layer."""
        return cls.input_width(base) if side == "inputs" else cls.output_width(base)

    # The weight -----------------------------------------------------------------------------

    @classmethod
    def neurons(cls, base: Layer, weight: Tensor) -> Tensor:  # noqa: ARG003 (for some kinds)
        """Return the weight as one row for each output: (out, field)."""
        return weight

    @classmethod
    def from_neurons(cls, base: Layer, neurons: Tensor) -> Tensor:  # noqa: ARG003
        """Return neurons (out, field) in the layout of the weight."""
        return neurons

    @classmethod
    def rows(cls, base: Layer, neurons: Tensor) -> Tensor:  # noqa: ARG003
        """Return the rows (…, inputs) on which the rotation of the inputs acts."""
        return neurons

    @classmethod
    def from_rows(cls, base: Layer, rows: Tensor) -> Tensor:  # noqa: ARG003
        """Return the neurons (out, field) for given rows, the inverse of `rows`."""
        return rows

    @classmethod
    def by_outputs(cls, base: Layer, neurons: Tensor) -> Tensor:  # noqa: ARG003
        """Return the neurons with the outputs as the last axis."""
        return neurons.mT

    @classmethod
    def from_outputs(cls, base: Layer, outputs: Tensor) -> Tensor:  # noqa: ARG003
        """Return the neurons for given outputs, the inverse of `by_outputs`."""
        return outputs.mT

    @classmethod
    def effective(cls, base: Layer, weight: Tensor, adapters: Sequence[Adapter]) -> Tensor:
        """Return the weight after applying adapters one after the other, in its layout and dtype.

        The result is rounded only once.
        """
        neurons = cls.neurons(base, weight)
        if sum(part is not None for adapter in adapters for part in adapter) > 1:
            neurons = neurons.to(at_least_float32(weight.dtype))
        for adapter in adapters:
            if adapter.inputs is not None:
                neurons = cls.from_rows(base, adapter.inputs(cls.rows(base, neurons)))
            if adapter.changes_outputs:
                outputs = adapter.on_outputs(cls.by_outputs(base, neurons))
                neurons = cls.from_outputs(base, outputs)
        return cls.from_neurons(base, neurons).to(weight.dtype)

    # The forward pass -----------------------------------------------------------------------

    @classmethod
    def run(cls, base: Layer, x: Tensor, weight: Tensor) -> Tensor:
        """Return the outputs of the layer with another weight."""
        raise NotImplementedError

    @classmethod
    def forward(
        cls,
        base: Layer,
        x: Tensor,
        adapters: Sequence[Adapter],
        *args: Any,  # noqa: ARG003 (for kinds that call the layer's own forward)
        stock: bool,  # noqa: ARG003
        **kwargs: Any,  # noqa: ARG003
    ) -> Tensor:
        """Return the outputs of the layer with at least one adapter.

        Parameters
        ----------
        base : nn.Module
        x : tensor
            The inputs of the layer.
        adapters : sequence of Adapter
            They act on the weight one after the other.
        stock : bool
            Whether the layer's class has no custom behaviour.
        *args, **kwargs
            Other arguments of the layer's own forward.
        """
        return cls.run(base, x, cls.effective(base, base.weight, adapters))
