"""Inverse Cayley transforms and logarithms of orthogonal blocks, with rounding errors.

Libraries differ in factors and signs, but all define each block R by a skew-symmetric matrix Q.
Here, R = (I+Q)(I−Q)⁻¹ or R = exp(Q), as in `structmat.linalg.blocks`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from structmat.errors import BlockError

_ROUNDING = 1e-6  # largest deviation from orthogonality that float32 rounding explains
_HUGE = 1e6  # tan(θ/2) for an angle that equals π to all digits of float32
_FAR = 1e-4  # error of a block above which its rounded parameters are invalid


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
    """Return the skew-symmetric (n, r, r) matrices with the given upper triangles.

    Raises
    ------
    BlockError
        If the number of entries is not r(r−1)/2 for any r ≥ 2.
    """
    pairs = generators.shape[-1]
    radix = (1 + round((1 + 8 * pairs) ** 0.5)) // 2
    if radix * (radix - 1) // 2 != pairs or radix < 2:
        raise BlockError(
            f"{pairs} numbers for a block: the number must be r(r−1)/2, such as 6 for a 4×4 block"
        )
    rows, columns = torch.triu_indices(radix, radix, 1).unbind()
    q = generators.new_zeros(*generators.shape[:-1], radix, radix)
    q[..., rows, columns] = generators
    return q - q.mT


def cayley(q: Tensor) -> Tensor:
    """Return (I+Q)(I−Q)⁻¹."""
    one = torch.eye(q.shape[-1], dtype=q.dtype)
    return torch.linalg.solve(one - q, one + q)


class MinusOneError(BlockError):
    """Raised for a block with the eigenvalue −1, which no Cayley transform has."""


class Coordinates(NamedTuple):
    """Skew-symmetric matrices, and the largest error of the blocks that they represent."""

    q: Tensor
    error: float


def coordinates(
    blocks: Tensor, dtype: torch.dtype, *, nearest: bool = False, factor: float = 1.0
) -> Coordinates:
    """Return matrices Q, rounded to a dtype, for which the blocks are Cayley transforms of f·Q.

    Parameters
    ----------
    blocks : (n, r, r) float64
    dtype : torch dtype
        The dtype in which Q is stored and blocks are computed; the error includes the rounding.
    nearest : bool
        Whether to replace a block that is not orthogonal with the nearest rotation.
    factor : float
        The factor f by which readers of the file multiply Q.

    Raises
    ------
    BlockError
        If a block is not finite, is not orthogonal while `nearest` is False, or is closer to a
        reflection than to any rotation.
    MinusOneError
        If a block has the eigenvalue −1.

    Examples
    --------
    >>> quarter = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]], dtype=torch.float64)
    >>> coordinates(quarter, torch.float32)
    Coordinates(q=tensor([[[ 0.,  1.], [-1.,  0.]]]), error=0.0)
    """
    rotations = orthogonal(blocks, nearest=nearest)
    one = torch.eye(blocks.shape[-1], dtype=blocks.dtype)
    q, _ = torch.linalg.solve_ex(rotations + one, rotations - one)  # the two factors commute
    q = (skew(q) / factor).to(dtype)
    again = cayley(q * factor).to(torch.float64)  # as readers of the file compute it
    near = ((again - rotations).abs() < _FAR) & (q.abs() * factor < _HUGE)  # False for NaN
    if not bool(near.all()):
        raise MinusOneError(
            "a block rotates a plane by 180°, so it has the eigenvalue −1, which no Cayley"
            ' transform has; structmat represents it with parametrization="exp"'
        )
    return Coordinates(q, _largest(again - blocks))


def logarithms(
    blocks: Tensor, dtype: torch.dtype, *, nearest: bool = False, factor: float = 1.0
) -> Coordinates:
    """Return matrices Q for which the blocks are exp(f·Q), for any rotations; see `coordinates`.

    Raises
    ------
    BlockError
        As for `orthogonal`.

    Examples
    --------
    >>> q, _ = logarithms(-torch.eye(2, dtype=torch.float64)[None], torch.float64)
    >>> bool(abs(abs(q[0, 0, 1]) - np.pi) < 1e-12)
    True
    """
    rotations = orthogonal(blocks, nearest=nearest)
    q = torch.stack([torch.from_numpy(_logarithm(block)) for block in rotations.numpy()])
    q = (skew(q) / factor).to(dtype)
    # Not a batch of one, for which torch's result is inaccurate.
    again = torch.matrix_exp(torch.cat([q, q[:1]]).to(torch.float64) * factor)[:-1]
    return Coordinates(q, _largest(again - blocks))


def _logarithm(rotation: np.ndarray) -> np.ndarray:
    """Return a real logarithm, computed from the plane rotations of the real Schur form."""
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
    for a, b in zip(halves[::2], halves[1::2], strict=True):  # the eigenvalues −1 come in pairs
        q[b, a], q[a, b] = np.pi, -np.pi
    made: np.ndarray = z @ q @ z.T
    return made


def orthogonal(blocks: Tensor, *, nearest: bool = False) -> Tensor:
    """Return the blocks, which must be rotations, or with `nearest` the nearest rotations.

    Raises
    ------
    BlockError
        If a block is not finite, is not orthogonal while `nearest` is False, or is closer to a
        reflection than to any rotation.
    """
    if not bool(torch.isfinite(blocks).all()):
        raise BlockError("a block contains NaN or infinity: the adapter diverged in training")
    if not len(blocks):
        return blocks
    left, _, right = torch.linalg.svd(blocks)
    polar = left @ right
    error = _largest(polar - blocks)
    if error > _ROUNDING and not nearest:
        raise BlockError(
            f"its blocks deviate from orthogonality by up to {error:.1e}, as those of a truncated"
            " series do; use the nearest rotations with nearest=True (--nearest), or convert to a"
            " merged model or LoRA"
        )
    if bool((torch.linalg.det(polar) < 0).any()):
        raise BlockError("a block has determinant −1: it is a reflection, not a rotation")
    return polar if error > _ROUNDING else blocks


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max()) if difference.numel() else 0.0
