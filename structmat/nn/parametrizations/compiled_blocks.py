"""Many small real blocks and their gradients, computed by functions compiled for CPUs.

The functions require llvmlite, which the extra `cpu` installs. For each parametrization, a
reference implementation in torch computes the same results up to rounding. It is used for all other
tensors, for generators so large that the compiled functions would be less accurate, and for second
derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from ctypes import addressof, c_int64
from functools import cache, wraps
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from structmat.nn import torch_internals
from structmat.nn.ops.backends import compiled
from structmat.nn.ops.backends.compiled import workers
from structmat.nn.parametrizations.generators import is_unitary, known_below

_WIDEST = 16  # largest radix: matrices of this size, one per lane, must fit on the stack
_ALONE = 1 << 14  # number of entries that one thread computes before another could start


def computed(
    code: str,
    generators: Tensor,
    radix: int,
    reference: Callable[[Tensor, int], Tensor],
    *,
    largest: float,
    largest_for_gradient: float | None = None,
) -> Tensor:
    """Return the blocks of generators, by compiled functions where possible.

    Parameters
    ----------
    code : str
        The name, without `_code`, of the module whose functions `blocks` and `gradient` emit code.
    generators : (..., g)
    radix : int
    reference : callable
        Computes blocks (n, r, r) from generators (n, g) and the radix, by torch's operations.
    largest, largest_for_gradient : float
        The largest generators for which the compiled functions compute the blocks, and their
        gradient, accurately; both are the same if the latter is omitted.

    Returns
    -------
    (..., r, r)

    Raises
    ------
    BlockError
        If the number of generators fits neither real nor unitary blocks.

    Examples
    --------
    >>> from structmat.nn.parametrizations.cayley_transform import solved
    >>> computed("cayley", torch.tensor([1.0]), 2, solved, largest=1e5).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    is_unitary(generators, radix)
    flat = generators.reshape(math.prod(generators.shape[:-1]), generators.shape[-1])
    if supports(flat, radix, largest):
        made = _Blocks.apply(flat, radix, code, reference, largest_for_gradient)
    else:
        made = reference(flat, radix)
    blocks: Tensor = made.view(*generators.shape[:-1], radix, radix)
    return blocks


class _Blocks(torch.autograd.Function):
    """The compiled blocks of supported generators, and their gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        generators: Tensor,
        radix: int,
        code: str,
        reference: Callable[[Tensor, int], Tensor],
        largest: float | None,
    ) -> Tensor:
        ctx.save_for_backward(generators)
        ctx.radix, ctx.code, ctx.reference = radix, code, reference
        ctx.accurate = largest is None or known_below(generators, largest)
        return blocks(code, generators, radix)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None, None, None, None]:
        (generators,) = ctx.saved_tensors
        differentiable = torch.is_grad_enabled()
        plain = torch_internals.eager(slopes) and not torch_internals.is_batched(slopes)
        if plain and ctx.accurate and not differentiable:
            return gradient(ctx.code, generators, slopes), None, None, None, None
        with torch.enable_grad():
            leaf = generators if differentiable else generators.detach().requires_grad_()
            made = ctx.reference(leaf, ctx.radix)
        (found,) = torch.autograd.grad(made, leaf, slopes, create_graph=differentiable)
        return found, None, None, None, None


def supports(generators: Tensor, radix: int, largest: float) -> bool:
    """Return whether there are compiled functions for these generators.

    Examples
    --------
    >>> supports(torch.zeros(1, 1, dtype=torch.float64), 2, 1.0)
    False
    """
    return (
        torch_internals.eager(generators)
        and generators.dtype == torch.float32
        and 1 < radix <= _WIDEST
        and generators.shape[-1] == radix * (radix - 1) // 2
        and len(generators) > 0
        and compiled.available(generators.device)
        and known_below(generators, largest)
    )


def blocks(code: str, generators: Tensor, radix: int) -> Tensor:
    """Compute the blocks (n, r, r) from generators (n, r(r−1)/2) by the compiled function.

    Examples
    --------
    >>> blocks("cayley", torch.tensor([[1.0, 0.0, 0.0]]), 3).tolist()
    [[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]
    """
    made = generators.new_empty(len(generators), radix, radix)
    _run(code, "blocks", radix, generators, made)
    return made


def gradient(code: str, generators: Tensor, slopes: Tensor) -> Tensor:
    """Compute the gradient for generators from the gradient for blocks (n, r, r).

    Examples
    --------
    >>> gradient("cayley", torch.zeros(1, 3), torch.ones(3, 3).triu()[None]).tolist()
    [[2.0, 2.0, 2.0]]
    """
    made = torch.empty_like(generators, memory_format=torch.contiguous_format)
    _run(code, "gradient", slopes.shape[-1], generators, slopes.to(generators.dtype), made)
    return made


def _run(code: str, name: str, radix: int, *arrays: Tensor) -> None:
    function = _function(code, name, radix, len(arrays) + 2)
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
def _function(code: str, name: str, radix: int, arguments: int) -> Callable[..., None]:
    with workers.LLVM:
        from structmat.nn.ops.backends.compiled import compiler  # loads llvmlite
        from structmat.nn.parametrizations import block_code

        module = import_module(f"structmat.nn.parametrizations.{code}_code")
        emit = getattr(module, name)
        into: Any = getattr(block_code, f"write_{name}")

        @wraps(emit)  # the compiler identifies code by the module and the name of its function
        def write(*given: Any) -> None:
            into(*given, emit)

        return compiler.function(
            write, radix, arguments=arguments, sources=(block_code,), unroll=False
        )
