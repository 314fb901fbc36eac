"""Eigenangles of orthogonal and unitary blocks, and matrices made of functions of them.

A block is normal, with eigenvalues e^{iθ}. A function c of θ that is even and another, s, that is
odd make a matrix with the eigenvalues c(θ) + i·s(θ), real for real blocks. Angles that stay away
from half a turn take the short way: functions of the real symmetric matrix QᵀQ, where Q is the
block's skew-symmetric Cayley transform. All others take complex eigenvectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from structmat.errors import BlockError

CUT = 1e-8  # closer to a half turn than this, √ε, rounding hides which way a block turns
_TAME = 3.0  # the largest entry of Q with which the short way is as exact: angles to 140° or so

OfAngle = Callable[[Tensor], Tensor]


def of_angles(blocks: Tensor, even: OfAngle, odd: OfAngle) -> Tensor:
    """Return the matrices with the eigenvectors of blocks and the eigenvalues c(θ) + i·s(θ).

    Parameters
    ----------
    blocks : (..., r, r) orthogonal, or unitary where complex
    even, odd : functions c and s of θ in (−π, π]

    Returns
    -------
    (..., r, r)
        float64, or complex128 where blocks are complex.

    Raises
    ------
    BlockError
        When blocks are not orthogonal to rounding, or a real one has determinant −1.

    Examples
    --------
    >>> of_angles(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), torch.zeros_like, torch.clone)
    tensor([[ 0.0000,  1.5708],
            [-1.5708,  0.0000]], dtype=torch.float64)
    """
    radix = blocks.shape[-1]
    flat = blocks.reshape(-1, radix, radix)
    if flat.is_complex():
        return _by_vectors(flat, even, odd).reshape(blocks.shape)
    wide = flat.double()
    one = check_orthogonal(wide, blocks.dtype)
    q, _ = torch.linalg.solve_ex(wide + one, wide - one)
    tame = q.abs().amax(dim=(-2, -1)) <= _TAME  # not so for NaN
    q = torch.where(tame[:, None, None], (q - q.mT) / 2, 0.0)
    made = of_skew(q, lambda m: even(2 * m.atan()), lambda m: odd(2 * m.atan()))
    if not tame.all():
        made[~tame] = _by_vectors(flat[~tame], even, odd).real
    return made.reshape(blocks.shape)


def of_skew(q: Tensor, even: OfAngle, odd: OfAngle) -> Tensor:
    """Return the matrices c(μ) + i·s(μ) of real skew-symmetric ones with the eigenvalues iμ.

    Examples
    --------
    >>> of_skew(torch.tensor([[0.0, 0.5], [-0.5, 0.0]]), torch.cos, torch.sin)        # exp
    tensor([[ 0.8776,  0.4794],
            [-0.4794,  0.8776]])
    """
    squares, vectors = torch.linalg.eigh(q.mT @ q)
    size = squares.clamp(min=CUT**2).sqrt()  # s(μ)/μ has its limit there, to rounding
    c, s = (
        (vectors * values[..., None, :]) @ vectors.mT for values in (even(size), odd(size) / size)
    )
    return c + q @ s


def eigen(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenangles (..., r) in (−π, π] and orthonormal eigenvectors (..., r, r).

    The Cayley transform of a unitary matrix is Hermitian, and different eigenvalues stay
    different, so its eigenvectors are orthonormal ones of the block. A block with an eigenvalue
    near −1 is turned first, so that −1 lies in the widest gap between its eigenvalues.

    Parameters
    ----------
    blocks : (..., r, r) orthogonal, or unitary where complex

    Raises
    ------
    BlockError
        As for `of_angles`.

    Examples
    --------
    >>> eigen(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))[0]
    tensor([-1.5708,  1.5708], dtype=torch.float64)
    """
    radix = blocks.shape[-1]
    u = blocks.reshape(-1, radix, radix).to(torch.complex128)
    one = check_orthogonal(u, blocks.dtype)
    q, _ = torch.linalg.solve_ex(u + one, u - one)
    wild = ~(q.abs().amax(dim=(-2, -1)) <= _TAME)
    if wild.any():
        turned = _half_turns_cleared(u[wild])
        q[wild] = torch.linalg.solve(turned + one, turned - one)
    vectors = torch.linalg.eigh((q - q.mH) * -0.5j).eigenvectors
    angles = (vectors.conj() * (u @ vectors)).sum(dim=-2).angle()
    if not blocks.is_complex():
        _pair_half_turns(angles, vectors)
    return angles.reshape(blocks.shape[:-1]), vectors.reshape(blocks.shape)


def check_orthogonal(blocks: Tensor, given: torch.dtype) -> Tensor:
    """Return the identity, when blocks are orthogonal to the rounding of their given dtype.

    Raises
    ------
    BlockError
        When they are not.
    """
    radix = blocks.shape[-1]
    one = torch.eye(radix, dtype=blocks.dtype, device=blocks.device)
    error = (blocks.mH @ blocks - one).abs().amax()
    if not error <= 100 * radix * torch.finfo(given).eps:
        raise BlockError(
            f"blocks are off orthogonal by {float(error):.1e}: powers and means are those of"
            " orthogonal blocks, which exact kinds such as 'cayley' and 'exp' make"
        )
    return one


def _by_vectors(blocks: Tensor, even: OfAngle, odd: OfAngle) -> Tensor:
    angles, vectors = eigen(blocks)
    values = torch.complex(even(angles), odd(angles))
    return (vectors * values[..., None, :]) @ vectors.mH


def _half_turns_cleared(blocks: Tensor) -> Tensor:
    """Return blocks (n, r, r), each times a number that turns its eigenvalues away from −1."""
    found = torch.linalg.eigvals(blocks).angle().sort(dim=-1).values
    gaps = torch.cat([found[..., 1:], found[..., :1] + 2 * math.pi], dim=-1) - found
    widest = gaps.argmax(dim=-1, keepdim=True)
    middle = (found.gather(-1, widest) + gaps.gather(-1, widest) / 2)[..., None]
    return blocks * torch.polar(torch.ones_like(middle), math.pi - middle)


def _pair_half_turns(angles: Tensor, vectors: Tensor) -> None:
    """Make the eigenvalues −1 of real blocks conjugate pairs, in place, so that powers are real."""
    half = angles.abs() > math.pi - CUT
    for k in half.any(dim=-1).nonzero().flatten().tolist():
        found = half[k].nonzero().flatten()
        if len(found) % 2:
            raise BlockError(
                "a block has determinant −1: a reflection has no real power or logarithm; keep"
                " the exponents 0 and 1, or take kinds of blocks that are rotations"
            )
        space = vectors[k][:, found]
        # The projector on the eigenspace is real; so is this basis of it.
        real = torch.linalg.eigh((space @ space.mH).real).eigenvectors[:, -len(found) :]
        first, second = real[:, 0::2], real[:, 1::2]
        vectors[k, :, found] = torch.cat([first + 1j * second, first - 1j * second], 1) / 2**0.5
        angles[k, found[: len(found) // 2]] = math.pi
        angles[k, found[len(found) // 2 :]] = -math.pi
