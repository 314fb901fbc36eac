"""Adapted layers of a model in memory, as the audit measures them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from structmat.adapters.adapted_layer import PREFIX, AdaptedLayer
from structmat.adapters.layouts import (
    ConvolutionLayout,
    EmbeddingLayout,
    Layer,
    Layout,
    StackLayout,
)
from structmat.audit.measures import of_rotation, of_weights, rounding_lost, rounding_warning
from structmat.audit.tables import Row
from structmat.convert.common_form import LayerRotation, rotate
from structmat.errors import BlockError
from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.precision import without_autocast

_PEFT = "base_model.model."  # the prefix of layer names in a PEFT model


def adapted_layers(model: nn.Module) -> list[Audited]:
    """Return the layers of a model that have adapters.

    For PEFT layers, only active adapters are included, in the order in which they act.
    """
    found = [
        Audited(name.removeprefix(_PEFT), module)
        for name, module in model.named_modules()
        if isinstance(module, AdaptedLayer)
    ]
    return [layer for layer in found if layer.count]


class Audited:
    """A layer whose rotations are measured."""

    def __init__(self, name: str, layer: AdaptedLayer) -> None:
        self.name = name
        self.layer = layer
        self.parts = [
            (adapter, side)
            for adapter in layer.acting()
            for side in ("inputs", "outputs")
            if adapter in getattr(layer, PREFIX + side)
        ]

    @property
    def count(self) -> int:
        """The number of rotations in the layer."""
        return len(self.parts)

    def rows(self, most: int) -> Iterator[tuple[str, Row]]:
        """Yield the name and the measurements of each rotation."""
        layer = self.layer
        with _unmerged(layer):
            base, weight = layer.base_layer, layer.own_weight.detach()
            for k, (adapter, side) in enumerate(self.parts):
                rotation: Orthogonal = getattr(layer, PREFIX + side)[adapter]
                last = self.parts[k + 1 : k + 2] != [(adapter, "outputs")]
                scale = layer.factors(adapter) if last else None  # applied after both sides
                layer_rotation = _rotation(rotation, side, scale, layer.layout, base)
                row = _row(layer_rotation, rotation, scale)
                if math.isfinite(row["orthogonality_error"]):
                    after = self._after(layer_rotation, weight)
                    _compare(row, layer_rotation, weight, after, most)
                    weight = after
                    if k == len(self.parts) - 1 and self._is_comparable:
                        x = _some_inputs(layer.layout, base, weight)
                        row["merge_difference"] = _difference(layer, x)
                yield self._called(adapter, side), row

    def _after(self, rotation: LayerRotation, weight: Tensor) -> Tensor:
        """Return the weight after a rotation: the merged weight, if there is no other rotation."""
        if self.count == 1:
            return self.layer.merged_weight()
        return rotate(rotation, weight.cpu()).to(weight)

    @property
    def _is_comparable(self) -> bool:
        """Whether unmerged and merged outputs of this layer can be compared.

        Experts always run with the effective weight, and lookups modify a table with max_norm.
        """
        layer = self.layer
        fixed = issubclass(layer.layout, StackLayout) or getattr(layer.base_layer, "max_norm", None)
        return not (fixed or layer._disable_adapters)

    def _called(self, adapter: str, side: str) -> str:
        if len(self.parts) == 1:
            return self.name
        several = len({name for name, _ in self.parts}) > 1
        return f"{self.name} ({adapter}, {side})" if several else f"{self.name} ({side})"


def _rotation(
    rotation: Orthogonal, side: str, scale: Tensor | None, layout: type[Layout], layer: Layer
) -> LayerRotation:
    try:
        blocks = [block.detach().cpu().double() for block in rotation.blocks()]
    except BlockError:  # the generators are too large for an exponential
        blocks = [
            torch.full((b.count, b.radix, b.radix), torch.nan) for b in rotation.network.banks
        ]
    return LayerRotation(
        rotation.network,
        lambda: blocks,
        side,
        None if scale is None else scale.detach().cpu(),
        kind=layout.__name__,
        parametrization=rotation.parametrization,
        layer=layer,
    )


def _row(layer_rotation: LayerRotation, rotation: Orthogonal, scale: Tensor | None) -> Row:
    row = of_rotation(layer_rotation)
    row["parametrization"] = rotation.parametrization
    row["warnings"] += _dtype_warning([*rotation.generators, *([] if scale is None else [scale])])
    return row


def _compare(
    row: Row, layer_rotation: LayerRotation, plain: Tensor, merged: Tensor, most: int
) -> None:
    """Compare the weights before and after a rotation, and add the results to a row."""
    row |= of_weights(layer_rotation, plain, merged, most)
    row["rounding_lost"] = rounding_lost(rotate(layer_rotation, plain.cpu()), plain, merged)
    row["warnings"] += rounding_warning(row["rounding_lost"], plain.dtype)


def _dtype_warning(trained: Sequence[Tensor]) -> list[str]:
    """Return a warning if the dtype of parameters rounds small training steps away."""
    short = next((p.dtype for p in trained if torch.finfo(p.dtype).bits < 32), None)
    if short is None:
        return []
    return [
        f"parameters in {str(short).removeprefix('torch.')}: small training steps are rounded away;"
        " keep adapters in float32 when the model is cast"
    ]


@contextmanager
def _unmerged(layer: AdaptedLayer) -> Iterator[None]:
    """Restore the original weight and disable dropout within a `with` block."""
    training = {part: part.training for part in layer.modules()}
    merged = list(layer.merged_adapters)
    layer.restore()
    layer.eval()
    try:
        yield
    finally:
        layer.merge_adapters(merged)
        for part, mode in training.items():
            part.training = mode


def _difference(layer: AdaptedLayer, x: Tensor) -> float:
    """Return the largest difference between merged and unmerged outputs, as a relative error."""
    with without_autocast(x.device.type):
        unmerged = layer(x).double()
        layer.merge_adapters()
        try:
            merged = layer(x).double()
        finally:
            layer.restore()
    size = float(merged.abs().max())
    return float((merged - unmerged).abs().max()) / size if size else 0.0


def _some_inputs(layout: type[Layout], layer: Layer, weight: Tensor) -> Tensor:
    source = torch.Generator().manual_seed(0)
    if issubclass(layout, EmbeddingLayout):
        return torch.randint(layer.num_embeddings, (8,), generator=source).to(weight.device)
    shape: Sequence[int] = (8, layout.input_width(layer))
    if issubclass(layout, ConvolutionLayout):
        padding = layer.padding if isinstance(layer.padding, tuple) else layer.kernel_size
        sizes = zip(layer.kernel_size, layer.dilation, layer.stride, padding, strict=True)
        shape = (2, layer.in_channels, *((k - 1) * d + 1 + 3 * s + p for k, d, s, p in sizes))
    return torch.randn(shape, generator=source).to(weight)
