"""Memory for large results, in huge pages where Linux provides them.

The allocator returns large blocks to the system when they are freed, so writing to a new one causes
a page fault for every page. For a large result, these take longer than rotating the vectors. Huge
pages, of two megabytes, reduce the number of faults by a factor of 512.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

from torch import Tensor

_PAGE = 1 << 21  # bytes of a huge page
_SMALLEST = 1 << 22  # smallest result, in bytes, for which a system call is worthwhile
_MADV_HUGEPAGE = 14


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Allocate an uninitialised contiguous tensor with the dtype and device of another.

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
            advise(start, end - start, _MADV_HUGEPAGE)  # only a hint: errors are ignored
    return made


@cache
def _madvise() -> Any:
    """Return the C library's `madvise` on Linux, and None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None), "madvise", None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function
