"""Computation in the requested precision, regardless of autocast.

A context manager disables autocast in the forward pass only: torch runs the backward pass of its
own operations in the context in which the caller starts it. Every matrix product that torch must
differentiate is therefore computed by `product`, which disables autocast in all passes. Other
operations that autocast would affect are computed in float64, on which it has no effect.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from structmat.nn import torch_internals

_HAVE_IT = ("cpu", "cuda")  # before torch 2.12, the compiler cannot call is_autocast_available


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Return a context manager that disables autocast.

    Examples
    --------
    >>> a = torch.ones(2, 2)
    >>> with torch.autocast("cpu", torch.bfloat16), without_autocast("cpu"):
    ...     (a @ a).dtype
    torch.float32
    """
    known = device_type in _HAVE_IT
    recorded = torch.compiler.is_compiling() and not torch_internals.exporting()
    if known and not recorded and not torch.is_autocast_enabled(device_type):
        return nullcontext()  # faster, and an exported program does not record it
    if known or torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()  # such as the meta device, which has no autocast


def conjugate(a: Tensor) -> Tensor:
    """Return the conjugate as computed values, whereas `a.conj()` only sets a flag.

    Batched tangents fail on this flag in torch 2.13.

    Examples
    --------
    >>> conjugate(torch.tensor([1 + 2j])).is_conj()
    False
    """
    return torch.complex(a.real, -a.imag) if a.is_complex() else a


def conjugate_transposed(a: Tensor) -> Tensor:
    """Return the conjugate transpose aᴴ of each matrix, by `conjugate`.

    Examples
    --------
    >>> conjugate_transposed(torch.tensor([[1 + 2j, 3 + 4j]])).tolist()
    [[(1-2j)], [(3-4j)]]
    """
    return conjugate(a.mT)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b for stacks of matrices, computed in their own precision in every pass.

    Derivatives of any order, by autograd, forward-mode differentiation and `torch.func`, are
    also computed by `product`.

    Parameters
    ----------
    a : (n, i, j)
    b : (n, j, k), of the dtype of a

    Returns
    -------
    (n, i, k) of the same dtype

    Examples
    --------
    >>> a = torch.full((1, 2, 2), 1.001, requires_grad=True)
    >>> y = product(a, a).sum()
    >>> with torch.autocast("cpu", torch.bfloat16):      # 1.001 in bfloat16 is 1
    ...     torch.autograd.grad(y, a)[0]
    tensor([[[4.0040, 4.0040],
             [4.0040, 4.0040]]])
    """
    # The backward pass of a traced graph runs without autocast.
    if torch_internals.recorded() or torch_internals.refuses_functions():
        return _multiplied(a, b)
    made: Tensor = _Product.apply(a, b)
    return made


def _multiplied(a: Tensor, b: Tensor) -> Tensor:
    with without_autocast(a.device.type):
        return torch.bmm(a, b)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return _multiplied(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004 (torch's signature)
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        of_a, of_b = ctx.needs_input_grad
        return (
            product(grads[0], conjugate_transposed(b)) if of_a else None,
            product(conjugate_transposed(a), grads[0]) if of_b else None,
        )

    @staticmethod
    def jvp(ctx: Any, *given: Tensor | None) -> Tensor | None:
        a, b = ctx.saved_tensors
        along_a, along_b = given
        of_a = None if along_a is None else product(along_a, b)
        of_b = None if along_b is None else product(a, along_b)
        if of_a is None or of_b is None:
            return of_b if of_a is None else of_a
        return of_a + of_b

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, int | None],
        a: Tensor,
        b: Tensor,
    ) -> tuple[Tensor, int]:
        """Fold the batch into the rows of a, the columns of b, or the stack."""
        of_a, of_b = in_dims
        size = info.batch_size
        if of_a is None and of_b is not None:
            n, j, k = b.movedim(of_b, 0).shape[1:]
            folded = b.movedim(of_b, 2).reshape(n, j, size * k)
            return product(a, folded).unflatten(2, (size, k)), 2
        if of_b is None and of_a is not None:
            n, i, j = a.movedim(of_a, 0).shape[1:]
            folded = a.movedim(of_a, 1).reshape(n, size * i, j)
            return product(folded, b).unflatten(1, (size, i)), 1
        assert of_a is not None
        assert of_b is not None
        left, right = a.movedim(of_a, 0), b.movedim(of_b, 0)
        made = product(left.flatten(0, 1), right.flatten(0, 1))
        return made.unflatten(0, left.shape[:2]), 0
