"""Work in the precision that was asked for, whatever autocast would make of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from structmat.nn import modes

_HAVE_IT = ("cpu", "cuda")  # before torch 2.12 its compiler cannot ask about these


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Return a context in which autocast changes no dtype.

    Examples
    --------
    >>> a = torch.ones(2, 2)
    >>> with torch.autocast("cpu", torch.bfloat16), without_autocast("cpu"):
    ...     (a @ a).dtype
    torch.float32
    """
    if modes.exporting() and not torch.is_autocast_enabled(device_type):
        return nullcontext()  # nothing to be recorded
    if device_type in _HAVE_IT or torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()  # the meta device has none
