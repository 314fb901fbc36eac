"""Embeddings: the rows of the table are rotated or, equivalently, the outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from structmat.adapters.layouts.base import Adapter, Layout
from structmat.adapters.layouts.requirements import Layer, plain_weight
from structmat.errors import StructmatError
from structmat.nn.torch_internals import sizes


class EmbeddingLayout(Layout):
    """The layout of `nn.Embedding`: its weight E (entries, dim) becomes E·Rᵀ, each output R e.

    The rows are the outputs of the layer, so rotating either side is the same. The scale has a
    factor for each of the dim outputs. The row at `padding_idx` is rotated like the others; if it
    is zero, it stays zero.
    """

    layer_classes = ("torch.nn.modules.sparse.Embedding",)

    @classmethod
    def check_weight(cls, base: Layer, *, scale: bool) -> None:
        """Raise an error as for other layers, and for norm limits that merging would change.

        Raises
        ------
        StructmatError
            If there is such a limit, or the weight is not a plain floating-point parameter.
        """
        plain_weight(base)
        if base.max_norm is not None and base.norm_type != 2:
            raise StructmatError(
                f"an embedding with max_norm={base.max_norm} and norm_type={base.norm_type}: a"
                " rotation preserves only the 2-norm, so the merged rows would be scaled"
                " differently; exclude this layer"
            )
        if scale and base.max_norm is not None:
            raise StructmatError(
                f"max_norm={base.max_norm}: a scale would change the norms that the embedding"
                " limits; omit the scale, or exclude this layer"
            )

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return embedding_dim."""
        return int(base.embedding_dim)

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return embedding_dim."""
        return int(base.embedding_dim)

    @classmethod
    def features(cls, base: Layer) -> tuple[int, int]:
        """Return num_embeddings and embedding_dim."""
        return int(base.num_embeddings), int(base.embedding_dim)

    @classmethod
    def by_outputs(cls, base: Layer, neurons: Tensor) -> Tensor:  # noqa: ARG003
        """Return the rows unchanged, since they are the outputs."""
        return neurons

    @classmethod
    def from_outputs(cls, base: Layer, outputs: Tensor) -> Tensor:  # noqa: ARG003
        """Return the rows unchanged."""
        return outputs

    @classmethod
    def run(cls, base: Layer, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG003
        """Look up entries of another table.

        This is a plain `nn.functional.embedding`: the layer's options for the gradient of its own
        table do not apply to the gradient of a rotation.
        """
        return functional.embedding(x, weight)

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
        """Return the outputs, rotating either them or, if it has fewer rows, the table."""
        if stock and base.max_norm is None and math.prod(sizes(x)) > base.num_embeddings:
            return super().forward(base, x, adapters, stock=stock)
        y: Tensor = base(x, *args, **kwargs)
        for adapter in adapters:
            y = adapter.on_outputs(y if adapter.inputs is None else adapter.inputs(y))
        return y
