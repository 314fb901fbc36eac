"""Measurement of layers with adapters in memory, both those of `adapt` and those of PEFT."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from structmat.adapters.interpolation import is_tuned
from structmat.adapters.layouts import Adapter, EmbeddingAdapter, Layer, StackAdapter
from structmat.adapters.layouts.convolution import ConvolutionAdapter
from structmat.adapters.layouts.quantised import in_floating_point
from structmat.audit.measures import of_rotation, of_weights, rounding_lost, rounding_warning
from structmat.audit.tables import Row
from structmat.convert.adaptation import LayerRotation, rotate
from structmat.errors import BlockError
from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.precision import without_autocast

_PEFT = "base_model.model."  # the prefix of the names of layers in a PEFT model


class Audited(Protocol):
    """A layer whose rotations are measured."""

    @property
    def count(self) -> int:
        """The number of rotations of the layer."""
        ...

    def rows(self, most: int) -> Iterator[tuple[str, Row]]:
        """Yield the measurements of each rotation, by name."""
        ...


def adapted_layers(model: nn.Module) -> list[Audited]:
    """Return the layers of a model that have adapters.

    For layers of PEFT, only active adapters are included; several act one after the other.
    """
    found: list[Audited] = []
    for name, module in model.named_modules():
        if isinstance(module, Adapter):
            found.append(_Adapted(name, module))
        elif is_tuned(module):
            tuned = _Tuned(name.removeprefix(_PEFT), module)
            if tuned.count:
                found.append(tuned)
    return found


@dataclass(frozen=True)
class _Adapted:
    """A layer adapted by `adapt`."""

    name: str
    adapter: Adapter
    count: int = 1

    def rows(self, most: int) -> Iterator[tuple[str, Row]]:
        adapter = self.adapter
        with _evaluating(adapter), adapter.unmerged():
            plain = adapter.own_weight.detach()
            layer_rotation = _rotation(
                adapter.rotation, adapter.side, adapter.scale, type(adapter), adapter.base
            )
            row = _row(layer_rotation, adapter.rotation, adapter.scale)
            if math.isfinite(row["orthogonality_error"]):
                merged = adapter.merged_weight()
                _compare(row, layer_rotation, plain, merged, most)
                if _is_comparable(type(adapter), adapter.base):
                    x = _some_inputs(type(adapter), adapter.base, merged)
                    row["merge_difference"] = _difference(
                        adapter, x, lambda: adapter.set_weight(merged), adapter.restore_weight
                    )
        yield self.name, row


class _Tuned:
    """A layer of `structmat.peft`."""

    def __init__(self, name: str, layer: Layer) -> None:
        self.name = name
        self.layer = layer
        sides = ("inputs", "outputs")
        self.parts = [
            (adapter, side)
            for adapter in layer.acting(layer.active_adapters)
            for side in sides
            if adapter in getattr(layer, f"structmat_{side}")
        ]

    @property
    def count(self) -> int:
        return len(self.parts)

    def rows(self, most: int) -> Iterator[tuple[str, Row]]:
        layer = self.layer
        held = layer.own if layer.quantised else layer.base_layer
        weight = (in_floating_point(held) if layer.quantised else layer.own).detach()
        with _evaluating(layer):
            for k, (adapter, side) in enumerate(self.parts):
                rotation: Orthogonal = getattr(layer, f"structmat_{side}")[adapter]
                last = self.parts[k + 1 : k + 2] != [(adapter, "outputs")]
                scale = layer.factors(adapter) if last else None  # applied after both sides
                layer_rotation = _rotation(rotation, side, scale, layer.kind, held)
                row = _row(layer_rotation, rotation, scale)
                if math.isfinite(row["orthogonality_error"]):
                    after = rotate(layer_rotation, weight.cpu()).to(weight)
                    _compare(row, layer_rotation, weight, after, most)
                    weight = after
                    if k == len(self.parts) - 1 and self._is_free:
                        x = _some_inputs(layer.kind, held, weight)
                        row["merge_difference"] = _difference(layer, x, layer.merge, layer.unmerge)
                yield self._called(adapter, side), row

    @property
    def _is_free(self) -> bool:
        layer = self.layer
        free = not (layer.merged or layer.disable_adapters)
        return free and _is_comparable(layer.kind, layer.base_layer)

    def _called(self, adapter: str, side: str) -> str:
        if len(self.parts) == 1:
            return self.name
        several = len({name for name, _ in self.parts}) > 1
        return f"{self.name} ({adapter}, {side})" if several else f"{self.name} ({side})"


def _rotation(
    rotation: Orthogonal, side: str, scale: Tensor | None, kind: type[Adapter], layer: Layer
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
        kind=kind.__name__,
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
    """Add the comparison of the weights before and after to a row."""
    row |= of_weights(layer_rotation, plain, merged, most)
    row["rounding_lost"] = rounding_lost(rotate(layer_rotation, plain.cpu()), plain, merged)
    row["warnings"] += rounding_warning(row["rounding_lost"], plain.dtype)


def _dtype_warning(trained: Sequence[Tensor]) -> list[str]:
    """Return a warning if parameters have a dtype in which small steps are rounded away."""
    short = next((p.dtype for p in trained if torch.finfo(p.dtype).bits < 32), None)
    if short is None:
        return []
    return [
        f"parameters in {str(short).removeprefix('torch.')}: small steps of training are rounded"
        " away; keep adapters in float32 when the model is cast"
    ]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Disable dropout within a `with` statement."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


def _is_comparable(kind: type[Adapter], layer: Layer) -> bool:
    """Return whether unmerged and merged outputs of the layer can be compared.

    Experts always run with the effective weight; lookups modify a table with max_norm.
    """
    return not (issubclass(kind, StackAdapter) or getattr(layer, "max_norm", None))


def _difference(
    layer: nn.Module, x: Tensor, merge: Callable[[], Any], unmerge: Callable[[], Any]
) -> float:
    """Return the largest difference of merged and unmerged outputs relative to the largest."""
    with without_autocast(x.device.type):
        unmerged = layer(x).double()
        merge()
        try:
            merged = layer(x).double()
        finally:
            unmerge()
    size = float(merged.abs().max())
    return float((merged - unmerged).abs().max()) / size if size else 0.0


def _some_inputs(kind: type[Adapter], layer: Layer, weight: Tensor) -> Tensor:
    source = torch.Generator().manual_seed(0)
    if issubclass(kind, EmbeddingAdapter):
        return torch.randint(layer.num_embeddings, (8,), generator=source).to(weight.device)
    shape: Sequence[int] = (8, kind.input_width(layer))
    if issubclass(kind, ConvolutionAdapter):
        padding = layer.padding if isinstance(layer.padding, tuple) else layer.kernel_size
        sizes = zip(layer.kernel_size, layer.dilation, layer.stride, padding, strict=True)
        shape = (2, layer.in_channels, *((k - 1) * d + 1 + 3 * s + p for k, d, s, p in sizes))
    return torch.randn(shape, generator=source).to(weight)
