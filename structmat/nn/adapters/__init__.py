"""Adapters: a frozen layer beside a trained rotation of what it reads, or of what it puts out.

A layer with weight W (rows are neurons) becomes W·Rᵀ: the neurons turn, and their norms and the
angles between them stay. On activations that is W (Rᵀ x), so a d×d matrix is never formed.
Rotated outputs are R·W: the neurons mix, and the angles between columns stay.
"""

from structmat.nn.adapters.base import Adapter
from structmat.nn.adapters.checks import (
    Layer,
    check_layer,
    checked_side,
    own_behaviour,
    runs_together,
    sees_weight,
)
from structmat.nn.adapters.convolutions import Conv1dAdapter, Conv2dAdapter, Conv3dAdapter
from structmat.nn.adapters.embeddings import EmbeddingAdapter
from structmat.nn.adapters.experts import Experts, Stack, StackAdapter
from structmat.nn.adapters.kinds import (
    CHANNELS,
    KINDS,
    checked_field,
    kind_for,
    kind_named,
    named_layers,
)
from structmat.nn.adapters.linears import Conv1DAdapter, LinearAdapter
from structmat.nn.adapters.quantised import QuantisedLinearAdapter

__all__ = [
    "CHANNELS",
    "KINDS",
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
    "kind_for",
    "kind_named",
    "named_layers",
    "own_behaviour",
    "runs_together",
    "sees_weight",
]
