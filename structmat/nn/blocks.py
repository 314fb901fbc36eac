"""Generators → orthogonal or unitary blocks in torch, with gradients.

The layout of the generators is that of `structmat.blocks`, whose numpy functions are the plain
reference. Whatever dtype the generators have, blocks are computed in at least float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from structmat.blocks import KINDS as REFERENCE_KINDS
from structmat.blocks import generators_per_block
from structmat.errors import BlockError, suggest


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which to compute with numbers of this dtype.

    Examples
    --------
    >>> at_least_float32(torch.bfloat16), at_least_float32(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype, torch.float32)


@cache
def _triangle(radix: int) -> tuple[list[int], list[int]]:
    upper, lower = np.triu_indices(radix, 1)
    return upper.tolist(), lower.tolist()


def skew(generators: Tensor, radix: int) -> Tensor:
    """Return the skew-symmetric (or skew-Hermitian) matrices of some generators.

    Parameters
    ----------
    generators : (..., r(r−1)/2) real, or (..., r²) real for skew-Hermitian matrices
    radix : int

    Returns
    -------
    (..., r, r) real or complex

    Raises
    ------
    BlockError
        For any other number of generators.

    Examples
    --------
    >>> skew(torch.tensor([1.0, 2.0, 3.0]), 3)
    tensor([[ 0.,  1.,  2.],
            [-1.,  0.,  3.],
            [-2., -3.,  0.]])
    """
    pairs = generators_per_block(radix)
    if generators.shape[-1] not in (pairs, radix * radix):
        raise BlockError(
            f"generators of shape {tuple(generators.shape)}: a block of radix {radix} needs"
            f" {pairs} numbers, or {radix * radix} when unitary"
        )
    upper, lower = _triangle(radix)
    shape = (*generators.shape[:-1], radix, radix)
    if generators.shape[-1] == pairs:
        q = generators.new_zeros(shape)
        q[..., upper, lower] = generators
        return q - q.mT
    real, imaginary, diagonal = generators.split([pairs, pairs, radix], dim=-1)
    values = torch.complex(real, imaginary)
    q = values.new_zeros(shape)
    q[..., upper, lower] = values
    return q - q.mH + torch.diag_embed(torch.complex(torch.zeros_like(diagonal), diagonal))


def cayley(generators: Tensor, radix: int) -> Tensor:
    """Return the blocks (I+Q)(I−Q)⁻¹: every rotation that has no eigenvalue −1, once.

    Solved exactly, never by a truncated series: the blocks are orthogonal to rounding.

    Examples
    --------
    >>> cayley(torch.tensor([1.0]), 2)       # a quarter turn: tan(θ/2) = 1
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """
    q = skew(generators, radix)
    one = torch.eye(radix, dtype=q.dtype, device=q.device)
    return torch.linalg.solve(one - q, one + q)  # the two factors commute


def exponential(generators: Tensor, radix: int) -> Tensor:
    """Return the blocks exp(Q): every rotation, or every unitary matrix.

    Examples
    --------
    >>> exponential(torch.tensor([0.0]), 2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    q = skew(generators, radix)
    if q.numel() != radix * radix:
        return torch.linalg.matrix_exp(q)
    # A batch of one goes another way in torch, with a wrong coefficient: errors to 5e-5 in
    # float32 and 2e-10 in float64 (pytorch issue 196592). So it is done as a batch of two.
    two = torch.linalg.matrix_exp(torch.stack([q, q]))
    return two[0]


KINDS: dict[str, Callable[[Tensor, int], Tensor]] = {"cayley": cayley, "exp": exponential}
assert KINDS.keys() == REFERENCE_KINDS.keys()


def checked_kind(name: str) -> str:
    """Return the name of a kind of blocks, if there is one of this name.

    Raises
    ------
    BlockError
        When there is none; the message suggests the nearest names.

    Examples
    --------
    >>> checked_kind("cayley")
    'cayley'
    """
    if name not in list(KINDS):  # a list, for what cannot be hashed
        raise BlockError(f"blocks={name!r}: no such kind{suggest(str(name), KINDS)}")
    return name
