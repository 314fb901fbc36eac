"""The layouts of layers: how the weight of each kind of layer is rotated. They have no state.

If neurons (the rows of a layer's weight W) are rotated, W becomes W·Rᵀ, which preserves the norms
of neurons and the angles between them. The outputs of a linear layer are computed as W (Rᵀ x), so
no weight is rotated. If outputs are rotated, W becomes R·W, which mixes the neurons and preserves
the norms of columns and the angles between them.
"""

from structmat.adapters.layouts.base import Adapter, Layout
from structmat.adapters.layouts.convolution import ChannelsLayout, ConvolutionLayout
from structmat.adapters.layouts.dispatch import (
    LAYOUTS,
    checked_field,
    layout_for,
    layout_named,
    named_layers,
)
from structmat.adapters.layouts.embedding import EmbeddingLayout
from structmat.adapters.layouts.experts import Stack, StackLayout
from structmat.adapters.layouts.linear import Conv1DLayout, LinearLayout
from structmat.adapters.layouts.quantised import QuantisedLinearLayout
from structmat.adapters.layouts.requirements import (
    ROTATED,
    SIDES,
    Layer,
    checked_side,
    is_rotated,
    own_behaviour,
    sees_weight,
)

__all__ = [
    "LAYOUTS",
    "ROTATED",
    "SIDES",
    "Adapter",
    "Conv1DLayout",
    "ChannelsLayout",
    "ConvolutionLayout",
    "EmbeddingLayout",
    "Layer",
    "Layout",
    "LinearLayout",
    "QuantisedLinearLayout",
    "Stack",
    "StackLayout",
    "checked_field",
    "checked_side",
    "is_rotated",
    "layout_for",
    "layout_named",
    "named_layers",
    "own_behaviour",
    "sees_weight",
]
