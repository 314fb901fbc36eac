"""The Cayley transform by a truncated Neumann series, as other libraries compute it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.nn.parametrizations.generators import is_unitary, narrowed, skew, widened
from structmat.nn.parametrizations.matrix_products import times


def cayley_neumann(generators: Tensor, radix: int) -> Tensor:
    """Return I + 2Q + 2Q² + 2Q³ + Q⁴, the Cayley transform by five terms of the Neumann series.

    This exists for compatibility with layers that compute this sum: the blocks are orthogonal only
    up to 2‖Q‖⁴, that is, to float32 rounding for ‖Q‖ below 0.015. The sum itself is exact to
    rounding; if it overflows the dtype, it is infinite.
    See `structmat.linalg.blocks.cayley_neumann`.

    Examples
    --------
    >>> cayley_neumann(torch.tensor([0.1]), 2)
    tensor([[ 0.9801,  0.1980],
            [-0.1980,  0.9801]])
    """
    is_unitary(generators, radix)
    flat = generators.reshape(math.prod(generators.shape[:-1]), generators.shape[-1])
    q = skew(widened(flat), radix)
    square = times(q, q)
    one = torch.eye(radix, dtype=q.dtype, device=q.device)
    made = narrowed(times(one + 2 * q + square, one + square), generators.dtype)
    return made.view(*generators.shape[:-1], radix, radix)
