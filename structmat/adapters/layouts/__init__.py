"""Adapters of layers: a frozen layer with a trained rotation of its inputs or of its outputs.

The weight W of a layer (whose rows are neurons) becomes W·Rᵀ: the neurons are rotated, which
preserves their norms and the angles between them. On activations this is W (Rᵀ x), so no d×d
matrix is formed. With rotated outputs, the weight becomes R·W: the neurons are mixed, which
preserves the angles between columns.
"""

from structmat.adapters.layouts.base import Adapter, check_layer
from structmat.adapters.layouts.convolution import Conv1dAdapter, Conv2dAdapter, Conv3dAdapter
from structmat.adapters.layouts.dispatch import (
    CHANNELS,
    KINDS,
    checked_field,
    kind_for,
    kind_named,
    named_layers,
)
from structmat.adapters.layouts.embedding import EmbeddingAdapter
from structmat.adapters.layouts.experts import Experts, Stack, StackAdapter
from structmat.adapters.layouts.linear import Conv1DAdapter, LinearAdapter
from structmat.adapters.layouts.quantised import QuantisedLinearAdapter
from structmat.adapters.layouts.requirements import (
    ROTATED,
    Layer,
    checked_side,
    is_rotated,
    own_behaviour,
    runs_together,
    sees_weight,
)

__all__ = [
    "CHANNELS",
    "KINDS",
    "ROTATED",
    "Adapter",
    "Conv1DAdapter",
    "Conv1dAdapter",
    "Conv2dAdapter",
    "Conv3dAdapter",
    "EmbeddingAdapter",
    "Experts",
    "Layer",
    "LinearAdapter",
    "QuantisedLinearAdapter",
    "Stack",
    "StackAdapter",
    "check_layer",
    "checked_field",
    "checked_side",
    "is_rotated",
    "kind_for",
    "kind_named",
    "named_layers",
    "own_behaviour",
    "runs_together",
    "sees_weight",
]
