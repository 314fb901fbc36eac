"""Adapters: a frozen layer beside a trained rotation of what it reads, or of what it puts out.

A layer with weight W (rows are neurons) becomes W·Rᵀ: the neurons turn, and their norms and the
angles between them stay. On activations that is W (Rᵀ x), so a d×d matrix is never formed.
Rotated outputs are R·W: the neurons mix, and the angles between columns stay.
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
