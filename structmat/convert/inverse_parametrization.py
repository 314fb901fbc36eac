"""Orthogonal blocks → the parameters of Cayley transforms and exponentials, and how exactly.

Libraries differ in factors and signs; all have a skew-symmetric matrix Q to each block. Here
R = (I+Q)(I−Q)⁻¹ or exp(Q), as in `structmat.linalg.blocks`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from structmat.errors import BlockError

_ROUNDING = 1e-6  # blocks that float32 made are this far from orthogonal, at most
_HUGE = 1e6  # tan(θ/2) of an angle that is half a turn to all digits of float32
_FAR = 1e-4  # from here on, a rounded parameter does not stand for its block any more


def upper(q: Tensor) -> Tensor:
    """Return the strict upper triangles (n, r(r−1)/2) of (n, r, r) matrices, row by row."""
    rows, columns = torch.triu_indices(q.shape[-1], q.shape[-1], 1).unbind()
    return q[..., rows, columns]


def skew(x: Tensor) -> Tensor:
    """Return ½(X − Xᵀ).

    Examples
    --------
    >>> skew(torch.tensor([[[1.0, 2.0], [0.0, 1.0]]])).tolist()
    [[[0.0, 1.0], [-1.0, 0.0]]]
    """
    return 0.5 * (x - x.mT)


def from_upper(generators: Tensor) -> Tensor:
    """Return the skew-symmetric (n, r, r) matrices with these upper triangles.

    Raises
    ------
    BlockError
        When r(r−1)/2 is their number for no r.
    """
    pairs = generators.shape[-1]
    radix = (1 + round((1 + 8 * pairs) ** 0.5)) // 2
    if radix * (radix - 1) // 2 != pairs or radix < 2:
        raise BlockError(f"{pairs} numbers for a block: r(r−1)/2 are needed, as 6 for a 4×4 block")
    rows, columns = torch.triu_indices(radix, radix, 1).unbind()
    q = generators.new_zeros(*generators.shape[:-1], radix, radix)
    q[..., rows, columns] = generators
    return q - q.mT


def cayley(q: Tensor) -> Tensor:
    """Return (I+Q)(I−Q)⁻¹."""
    one = torch.eye(q.shape[-1], dtype=q.dtype)
    return torch.linalg.solve(one - q, one + q)


class HalfTurnError(BlockError):
    """A block with the eigenvalue −1, which no Cayley transform has."""


class Coordinates(NamedTuple):
    """Skew-symmetric matrices, and how far the blocks that they stand for are from the given."""

    q: Tensor
    error: float


def coordinates(blocks: Tensor, dtype: torch.dtype, *, nearest: bool = False) -> Coordinates:
    """Return Q of the Cayley transforms that these blocks are, rounded to a dtype.

    Parameters
    ----------
    blocks : (n, r, r) float64
    dtype : torch dtype
        In which Q will be stored, and blocks computed; the error counts this rounding.
    nearest : bool
        Whether to take the nearest rotation for a block that is not orthogonal.

    Raises
    ------
    BlockError
        For a block that is not orthogonal, unless nearest, and for a reflection.
    HalfTurnError
        For one with the eigenvalue −1.

    Examples
    --------
    >>> turn = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]], dtype=torch.float64)
    >>> coordinates(turn, torch.float32)
    Coordinates(q=tensor([[[ 0.,  1.], [-1.,  0.]]]), error=0.0)
    """
    rotations = orthogonal(blocks, nearest=nearest)
    one = torch.eye(blocks.shape[-1], dtype=blocks.dtype)
    q, _ = torch.linalg.solve_ex(rotations + one, rotations - one)  # the two factors commute
    q = skew(q).to(dtype)
    again = cayley(q).to(torch.float64)  # as who reads the file computes it
    near = ((again - rotations).abs() < _FAR) & (q.abs() < _HUGE)  # no NaN is less
    if not bool(near.all()):
        raise HalfTurnError(
            "a block turns some plane by half a turn, the eigenvalue −1 that no Cayley transform"
            ' has; structmat holds it with blocks="exp"'
        )
    return Coordinates(q, _largest(again - blocks))


def logarithms(blocks: Tensor, dtype: torch.dtype, *, nearest: bool = False) -> Coordinates:
    """Return Q with exp(Q) the blocks, rounded to a dtype: as `coordinates`, for any rotation.

    Examples
    --------
    >>> q, _ = logarithms(-torch.eye(2, dtype=torch.float64)[None], torch.float64)
    >>> bool(abs(abs(q[0, 0, 1]) - np.pi) < 1e-12)
    True
    """
    rotations = orthogonal(blocks, nearest=nearest)
    q = torch.stack([torch.from_numpy(_logarithm(block)) for block in rotations.numpy()])
    q = skew(q).to(dtype)
    again = torch.matrix_exp(torch.cat([q, q[:1]]).to(torch.float64))[:-1]  # never a batch of one
    return Coordinates(q, _largest(again - blocks))


def _logarithm(rotation: np.ndarray) -> np.ndarray:
    """Return a real logarithm, from the plane rotations of the real Schur form."""
    t, z = scipy.linalg.schur(rotation, output="real")
    size = len(t)
    q = np.zeros((size, size))
    halves = []
    k = 0
    while k < size:
        if k + 1 < size and abs(t[k + 1, k]) > 1e-14:
            q[k + 1, k] = np.arctan2(t[k + 1, k], t[k, k])
            q[k, k + 1] = -q[k + 1, k]
            k += 2
            continue
        if t[k, k] < 0:
            halves.append(k)
        k += 1
    for a, b in zip(halves[::2], halves[1::2], strict=True):  # a rotation has an even number
        q[b, a], q[a, b] = np.pi, -np.pi
    made: np.ndarray = z @ q @ z.T
    return made


def orthogonal(blocks: Tensor, *, nearest: bool = False) -> Tensor:
    """Return blocks if they are rotations, or the nearest rotations.

    Raises
    ------
    BlockError
        For what is no rotation.
    """
    if not bool(torch.isfinite(blocks).all()):
        raise BlockError("a block holds NaN or infinity: the adapter diverged in training")
    if not len(blocks):
        return blocks
    left, _, right = torch.linalg.svd(blocks)
    polar = left @ right
    error = _largest(polar - blocks)
    if error > _ROUNDING and not nearest:
        raise BlockError(
            f"its blocks are up to {error:.1e} off orthogonal, as a truncated series leaves them;"
            " nearest=True (--nearest) takes the nearest rotations, and a merged model or LoRA any"
            " matrix"
        )
    if bool((torch.linalg.det(polar) < 0).any()):
        raise BlockError("a block has determinant −1: it is a reflection, which no rotation equals")
    return polar if error > _ROUNDING else blocks


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max()) if difference.numel() else 0.0
