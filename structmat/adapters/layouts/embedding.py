"""Embeddings: the rows of the table turn, which is to rotate what is looked up."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from structmat.adapters.layouts.base import Adapter
from structmat.adapters.layouts.requirements import Layer, plain_weight
from structmat.errors import StructmatError


class EmbeddingAdapter(Adapter):
    """An adapted `nn.Embedding`: weight (entries, dim) becomes E·Rᵀ, and each output R e.

    The entries are what the layer puts out, so both sides mean the same rotation. The scale has a
    factor for each of the dim outputs. The row at `padding_idx` turns with the others, so zeros
    stay zeros.
    """

    scales_outputs = True
    takes = "torch.nn.modules.sparse.Embedding"

    @classmethod
    def check_weight(cls, base: Layer, *, products: bool) -> None:
        """Refuse weights as other kinds do, and row norms that a rotation does not preserve."""
        plain_weight(base)
        if base.max_norm is not None and base.norm_type != 2:
            raise StructmatError(
                f"an embedding with max_norm={base.max_norm} and norm_type={base.norm_type}: a"
                " rotation preserves the norm of type 2 only, so the merged rows would be scaled"
                " differently; exclude this layer"
            )
        if products and base.max_norm is not None:
            raise StructmatError(
                f"an embedding with max_norm={base.max_norm}, which looks at the norms that a"
                " scale changes; leave out the scale, or exclude this layer"
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
        """Return the rows as they are: they are outputs."""
        return neurons

    @classmethod
    def from_outputs(cls, base: Layer, outputs: Tensor) -> Tensor:  # noqa: ARG003
        """Return the rows as they are."""
        return outputs

    @classmethod
    def run(cls, base: Layer, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG003
        """Return entries of another table.

        As plain `nn.functional.embedding` does: options that shape the gradient of the layer's
        own table have no place in that of a rotation.
        """
        return functional.embedding(x, weight)

    def _output_axis(self, values: Tensor) -> Tensor:
        return values

    def _forward(self, x: Tensor) -> Tensor:
        base = self.base
        plain = base.max_norm is None and self._stock
        if plain and x.numel() > base.num_embeddings:  # such as positions of a large batch
            return self.run(base, x, self.weight)
        outputs: Tensor = self.rotation(base(x))
        return outputs if self.scale is None else (outputs * self.scale).to(outputs.dtype)
