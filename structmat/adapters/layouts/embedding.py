"""Adapters of embeddings, which rotate the rows of the table or, equivalently, the outputs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from structmat.adapters.layouts.base import Adapter
from structmat.adapters.layouts.requirements import Layer, plain_weight
from structmat.errors import StructmatError


class EmbeddingAdapter(Adapter):
    """An adapted `nn.Embedding`: its weight E (entries, dim) becomes E·Rᵀ, and each output R e.

    The rows are the outputs of the layer, so both sides mean the same rotation. The scale has a
    factor for each of the dim outputs. The row at `padding_idx` is rotated like the others, so
    zeros stay zeros.
    """

    scales_outputs = True
    takes = "torch.nn.modules.sparse.Embedding"

    @classmethod
    def check_weight(cls, base: Layer, *, products: bool) -> None:
        """Raise an error as for other kinds, and for a norm that a rotation does not preserve."""
        plain_weight(base)
        if base.max_norm is not None and base.norm_type != 2:
            raise StructmatError(
                f"an embedding with max_norm={base.max_norm} and norm_type={base.norm_type}: a"
                " rotation preserves the norm of type 2 only, so the merged rows would be scaled"
                " differently; exclude this layer"
            )
        if products and base.max_norm is not None:
            raise StructmatError(
                f"an embedding with max_norm={base.max_norm}, which depends on the norms that a"
                " scale changes; omit the scale, or exclude this layer"
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

        This is a plain `nn.functional.embedding`: options for the gradient of the layer's own table
        do not apply to the gradient of a rotation.
        """
        return functional.embedding(x, weight)

    def _output_axis(self, values: Tensor) -> Tensor:
        return values

    def _forward(self, x: Tensor) -> Tensor:
        base = self.base
        plain = base.max_norm is None and self._stock
        if plain and x.numel() > base.num_embeddings:  # such as the positions of a large batch
            return self.run(base, x, self.weight)
        outputs: Tensor = self.rotation(base(x))
        return outputs if self.scale is None else (outputs * self.scale).to(outputs.dtype)
