"""Selection of the layout of a layer, and iteration over the layers of a model."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from structmat.adapters.distributed import is_torch_wrapper, plain_name, unwrapped
from structmat.adapters.layouts.base import Layout
from structmat.adapters.layouts.convolution import ChannelsLayout, ConvolutionLayout
from structmat.adapters.layouts.embedding import EmbeddingLayout
from structmat.adapters.layouts.experts import Stack, StackLayout, stacks_of
from structmat.adapters.layouts.linear import Conv1DLayout, LinearLayout
from structmat.adapters.layouts.quantised import QuantisedLinearLayout
from structmat.adapters.layouts.requirements import Layer
from structmat.errors import StructmatError, abbreviated

LAYOUTS: tuple[type[Layout], ...] = (
    QuantisedLinearLayout,  # before LinearLayout, since some layers match both
    LinearLayout,
    Conv1DLayout,
    ConvolutionLayout,
    EmbeddingLayout,
    StackLayout,
    ChannelsLayout,  # only for the field "channels"
)
FIELDS = ("receptive", "channels")


def layout_for(layer: Layer, field: str = "receptive") -> type[Layout] | None:
    """Return the layout of this layer, or None.

    Parameters
    ----------
    layer : nn.Module or Stack
    field : {"receptive", "channels"}
        What is rotated in a convolution; ignored for other layers.

    Examples
    --------
    >>> layout_for(nn.Linear(2, 3)).__name__, layout_for(nn.ReLU())
    ('LinearLayout', None)
    >>> layout_for(nn.Conv2d(2, 3, 3), "channels").__name__
    'ChannelsLayout'
    """
    found = next((layout for layout in LAYOUTS if layout.accepts(layer)), None)
    return ChannelsLayout if found is ConvolutionLayout and field == "channels" else found


def layout_named(name: str) -> type[Layout] | None:
    """Return the layout of this name, as used in files, or None.

    Examples
    --------
    >>> layout_named("ChannelsLayout").field
    'channels'
    """
    return next((layout for layout in LAYOUTS if layout.__name__ == name), None)


def checked_field(field: str) -> str:
    """Return the field after checking it.

    Raises
    ------
    StructmatError
        If it is neither "receptive" nor "channels".
    """
    if field not in FIELDS:
        raise StructmatError(
            f"field={abbreviated(field)}: it must be 'receptive', to rotate the receptive fields of"
            " convolutions, or 'channels', to rotate their channels only"
        )
    return field


def named_layers(model: nn.Module, *, remove_duplicate: bool = True) -> Iterator[tuple[str, Layer]]:
    """Yield each module of a model with its name, and after an experts module its stacked weights.

    Wrappers by torch.compile, data parallelism and checkpointing are skipped and do not occur in
    the names.

    Examples
    --------
    >>> [name for name, _ in named_layers(nn.Sequential(nn.Linear(2, 2)))]
    ['', '0']
    """
    stacks: dict[int, dict[str, Stack]] = {}  # the same views under all names of a module
    inside = unwrapped(model)
    for full, module in inside.named_modules(remove_duplicate=remove_duplicate):
        if is_torch_wrapper(module):
            continue
        name = plain_name(full)
        yield name, module
        if id(module) not in stacks:
            stacks[id(module)] = stacks_of(module)
        for part, stack in stacks[id(module)].items():
            yield f"{name}.{part}" if name else part, stack
