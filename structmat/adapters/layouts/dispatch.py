"""Selection of the kind of adapter for a layer, and iteration over the layers of a model."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from structmat.adapters.distributed import is_around, plain_name, unwrapped
from structmat.adapters.layouts.base import Adapter
from structmat.adapters.layouts.convolution import (
    Conv1dAdapter,
    Conv1dChannelsAdapter,
    Conv2dAdapter,
    Conv2dChannelsAdapter,
    Conv3dAdapter,
    Conv3dChannelsAdapter,
)
from structmat.adapters.layouts.embedding import EmbeddingAdapter
from structmat.adapters.layouts.experts import StackAdapter, Stacks
from structmat.adapters.layouts.linear import Conv1DAdapter, LinearAdapter
from structmat.adapters.layouts.quantised import QuantisedLinearAdapter
from structmat.adapters.layouts.requirements import Layer
from structmat.errors import StructmatError

KINDS: tuple[type[Adapter], ...] = (
    QuantisedLinearAdapter,  # before LinearAdapter, since some layers match both
    LinearAdapter,
    Conv1DAdapter,
    Conv1dAdapter,
    Conv2dAdapter,
    Conv3dAdapter,
    EmbeddingAdapter,
    StackAdapter,
)
CHANNELS: tuple[type[Adapter], ...] = (
    Conv1dChannelsAdapter,
    Conv2dChannelsAdapter,
    Conv3dChannelsAdapter,
)
FIELDS = ("receptive", "channels")


def kind_for(layer: Layer, field: str = "receptive") -> type[Adapter] | None:
    """Return the kind of adapter for this layer, or None.

    Parameters
    ----------
    layer : nn.Module or Stack
    field : {"receptive", "channels"}
        What is rotated in a convolution; ignored for other layers.

    Examples
    --------
    >>> kind_for(nn.Linear(2, 3)).__name__, kind_for(nn.ReLU())
    ('LinearAdapter', None)
    >>> kind_for(nn.Conv2d(2, 3, 3), "channels").__name__
    'Conv2dChannelsAdapter'
    """
    kinds = CHANNELS + KINDS if field == "channels" else KINDS
    return next((kind for kind in kinds if kind.accepts(layer)), None)


def kind_named(name: str) -> type[Adapter] | None:
    """Return the kind of adapter of this name, as used in files, or None.

    Examples
    --------
    >>> kind_named("Conv2dChannelsAdapter").field
    'channels'
    """
    return next((kind for kind in CHANNELS + KINDS if kind.__name__ == name), None)


def checked_field(field: str) -> str:
    """Return the field after checking it.

    Raises
    ------
    StructmatError
        If it is neither "receptive" nor "channels".
    """
    if field not in FIELDS:
        raise StructmatError(
            f"field={field!r}: it must be 'receptive', to rotate the receptive fields of"
            " convolutions, or 'channels', to rotate their channels only"
        )
    return field


def named_layers(model: nn.Module, *, remove_duplicate: bool = True) -> Iterator[tuple[str, Layer]]:
    """Yield the modules of a model by name, and after experts each of their stacked weights.

    Wrappers of torch.compile, data parallelism and checkpointing are skipped, and removed from the
    names.

    Examples
    --------
    >>> [name for name, _ in named_layers(nn.Sequential(nn.Linear(2, 2)))]
    ['', '0']
    """
    stacks = Stacks()
    inside = unwrapped(model)
    for full, module in inside.named_modules(remove_duplicate=remove_duplicate):
        if is_around(module):
            continue
        name = plain_name(full)
        yield name, module
        for part, stack in stacks.of(module).items():
            yield f"{name}.{part}" if name else part, stack
