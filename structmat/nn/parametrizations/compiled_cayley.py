"""The Cayley transform of many small real blocks, and its gradient, compiled for CPUs.

Both require llvmlite, which the extra `cpu` installs. Up to rounding, the results equal those of
`structmat.nn.parametrizations.cayley_transform`.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import addressof, c_int64
from functools import cache

import torch
from torch import Tensor

from structmat.nn import torch_internals
from structmat.nn.ops.backends import compiled
from structmat.nn.ops.backends.compiled import workers
from structmat.nn.parametrizations.generators import known_below

_WIDEST = 16  # largest radix: matrices of this size, one per lane, must fit on the stack
_LARGEST = 1e5  # largest generator for which reflections are accurate to float32 rounding
_LARGEST_SLOPE = 1e3  # the same for the gradient, which depends on R + I
_ALONE = 1 << 14  # number of entries that one thread computes before another could start


def supports(generators: Tensor, radix: int, *, gradient: bool = False) -> bool:
    """Return whether the compiled code supports these generators, or the gradient for them."""
    return (
        torch_internals.eager(generators)
        and generators.dtype == torch.float32
        and 1 < radix <= _WIDEST
        and generators.shape[-1] == radix * (radix - 1) // 2
        and len(generators) > 0
        and compiled.available(generators.device)
        and known_below(generators, _LARGEST_SLOPE if gradient else _LARGEST)
    )


def blocks(generators: Tensor, radix: int) -> Tensor:
    """Compute the blocks (n, r, r) from generators (n, r(r−1)/2).

    Examples
    --------
    >>> blocks(torch.tensor([[1.0, 0.0, 0.0]]), 3).tolist()
    [[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]
    """
    made = generators.new_empty(len(generators), radix, radix)
    _run("blocks", radix, generators, made)
    return made


def gradient(generators: Tensor, slopes: Tensor) -> Tensor:
    """Compute the gradient for generators from the gradient for blocks (n, r, r).

    Examples
    --------
    >>> gradient(torch.zeros(1, 3), torch.ones(3, 3).triu()[None]).tolist()
    [[2.0, 2.0, 2.0]]
    """
    made = torch.empty_like(generators, memory_format=torch.contiguous_format)
    _run("gradient", slopes.shape[-1], generators, slopes.to(generators.dtype), made)
    return made


def _run(name: str, radix: int, *arrays: Tensor) -> None:
    function = _function(name, radix, len(arrays) + 2)
    arrays = tuple(array.resolve_neg().contiguous() for array in arrays)
    counter = c_int64(0)
    count = len(arrays[0])
    given = *(array.data_ptr() for array in arrays), count, addressof(counter)
    alone = count * radix**2 < _ALONE

    # The job keeps its tensors alive: a worker continues if the calling thread is interrupted.
    def job(_kept: object = (arrays, counter)) -> None:
        function(*given)

    workers.run(job, 1 if alone else torch.get_num_threads())


@cache
def _function(name: str, radix: int, arguments: int) -> Callable[..., None]:
    with workers.LLVM:
        from structmat.nn.ops.backends.compiled import compiler  # loads llvmlite
        from structmat.nn.parametrizations import cayley_code

        return compiler.function(getattr(cayley_code, name), radix, arguments=arguments)
