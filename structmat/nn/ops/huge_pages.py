"""Memory for large results, of which Linux can map two megabytes at a time.

The allocator returns large blocks to the system when they are freed, so every large result causes
a page fault for each of its pages when it is first written, which takes longer than rotating the
vectors. Huge pages reduce the number of faults by a factor of 512.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

from torch import Tensor

_PAGE = 1 << 21  # bytes of a huge page
_SMALLEST = 1 << 22  # bytes of a result that is worth a system call
_MADV_HUGEPAGE = 14


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return an uninitialised contiguous tensor of the dtype and device of another.

    Examples
    --------
    >>> import torch
    >>> empty((2, 3), torch.ones(1)).shape
    torch.Size([2, 3])
    """
    made = like.new_empty(shape)
    size = made.numel() * made.itemsize
    if size >= _SMALLEST and made.device.type == "cpu":
        advise = _madvise()
        if advise is not None:
            start = -(-made.data_ptr() // _PAGE) * _PAGE
            end = (made.data_ptr() + size) // _PAGE * _PAGE
            advise(start, end - start, _MADV_HUGEPAGE)  # advice: it may be refused
    return made


@cache
def _madvise() -> Any:
    """Return the C library's function, or None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None), "madvise", None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function
