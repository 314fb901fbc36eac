"""Eigenangles of orthogonal and unitary blocks, and matrix functions of the eigenangles.

A block is a normal matrix with eigenvalues e^{iθ}. An even function c of θ and an odd function s
define a matrix with the same eigenvectors and the eigenvalues c(θ) + i·s(θ); it is real for real
blocks. If all angles are well below π, it is computed from the real symmetric matrix QᵀQ, where Q
is the block's skew-symmetric Cayley transform. All other blocks need complex eigenvectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from structmat.errors import BlockError

CUT = 1e-8  # √ε: within this distance from π, the sign of an angle is lost to rounding
_TAME = (
    3.0  # largest entry of Q for which the real computation is as accurate: angles up to about 140°
)

OfAngle = Callable[[Tensor], Tensor]


def of_angles(blocks: Tensor, even: OfAngle, odd: OfAngle) -> Tensor:
    """Return matrices with the eigenvectors of the blocks and the eigenvalues c(θ) + i·s(θ).

    Parameters
    ----------
    blocks : (..., r, r) orthogonal, or unitary if complex
    even, odd : functions c and s of θ in (−π, π]

    Returns
    -------
    (..., r, r)
        float64, or complex128 if blocks are complex.

    Raises
    ------
    BlockError
        If blocks are not orthogonal up to rounding, or a real one has determinant −1.

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
    tame = q.abs().amax(dim=(-2, -1)) <= _TAME  # False for NaN
    q = torch.where(tame[:, None, None], (q - q.mT) / 2, 0.0)
    made = of_skew(q, lambda m: even(2 * m.atan()), lambda m: odd(2 * m.atan()))
    if not tame.all():
        made[~tame] = _by_vectors(flat[~tame], even, odd).real
    return made.reshape(blocks.shape)


def of_skew(q: Tensor, even: OfAngle, odd: OfAngle) -> Tensor:
    """Return matrix functions c(μ) + i·s(μ) of real skew-symmetric matrices with eigenvalues iμ.

    Examples
    --------
    >>> of_skew(torch.tensor([[0.0, 0.5], [-0.5, 0.0]]), torch.cos, torch.sin)        # exp
    tensor([[ 0.8776,  0.4794],
            [-0.4794,  0.8776]])
    """
    squares, vectors = torch.linalg.eigh(q.mT @ q)
    size = squares.clamp(min=CUT**2).sqrt()  # below, s(μ)/μ equals its limit up to rounding
    c, s = (
        (vectors * values[..., None, :]) @ vectors.mT for values in (even(size), odd(size) / size)
    )
    return c + q @ s


def eigen(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenangles (..., r) in (−π, π] and orthonormal eigenvectors (..., r, r).

    The Cayley transform of a unitary matrix is i times a Hermitian matrix, and distinct eigenvalues
    stay distinct, so its orthonormal eigenvectors are eigenvectors of the block. A block with an
    eigenvalue near −1 is first multiplied by a phase such that −1 lies in the middle of the widest
    gap between its eigenvalues.

    Parameters
    ----------
    blocks : (..., r, r) orthogonal, or unitary if complex

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
        shifted = _away_from_minus_one(u[wild])
        q[wild] = torch.linalg.solve(shifted + one, shifted - one)
    vectors = torch.linalg.eigh((q - q.mH) * -0.5j).eigenvectors
    angles = (vectors.conj() * (u @ vectors)).sum(dim=-2).angle()
    if not blocks.is_complex():
        _pair_minus_ones(angles, vectors)
    return angles.reshape(blocks.shape[:-1]), vectors.reshape(blocks.shape)


def check_orthogonal(blocks: Tensor, given: torch.dtype) -> Tensor:
    """Check that blocks are orthogonal up to rounding in the given dtype; return the identity.

    Raises
    ------
    BlockError
        If they are not.
    """
    radix = blocks.shape[-1]
    one = torch.eye(radix, dtype=blocks.dtype, device=blocks.device)
    error = (blocks.mH @ blocks - one).abs().amax()
    if not error <= 100 * radix * torch.finfo(given).eps:
        raise BlockError(
            f"blocks deviate from orthogonality by {float(error):.1e}: powers and means need"
            " orthogonal blocks; use an exact parametrization such as 'cayley' or 'exp'"
        )
    return one


def _by_vectors(blocks: Tensor, even: OfAngle, odd: OfAngle) -> Tensor:
    angles, vectors = eigen(blocks)
    values = torch.complex(even(angles), odd(angles))
    return (vectors * values[..., None, :]) @ vectors.mH


def _away_from_minus_one(blocks: Tensor) -> Tensor:
    """Return blocks (n, r, r) multiplied by phases that move their eigenvalues away from −1."""
    found = torch.linalg.eigvals(blocks).angle().sort(dim=-1).values
    gaps = torch.cat([found[..., 1:], found[..., :1] + 2 * math.pi], dim=-1) - found
    widest = gaps.argmax(dim=-1, keepdim=True)
    middle = (found.gather(-1, widest) + gaps.gather(-1, widest) / 2)[..., None]
    return blocks * torch.polar(torch.ones_like(middle), math.pi - middle)


def _pair_minus_ones(angles: Tensor, vectors: Tensor) -> None:
    """Pair eigenvalues −1 of real blocks as conjugates, in place, so that powers are real."""
    half = angles.abs() > math.pi - CUT
    for k in half.any(dim=-1).nonzero().flatten().tolist():
        found = half[k].nonzero().flatten()
        if len(found) % 2:
            raise BlockError(
                "a block has determinant −1, so it has no real power or logarithm; use only the"
                " exponents 0 and 1, or a parametrization whose blocks are rotations"
            )
        space = vectors[k][:, found]
        # The projector onto the eigenspace is real, and so is this basis.
        real = torch.linalg.eigh((space @ space.mH).real).eigenvectors[:, -len(found) :]
        first, second = real[:, 0::2], real[:, 1::2]
        vectors[k, :, found] = torch.cat([first + 1j * second, first - 1j * second], 1) / 2**0.5
        angles[k, found[: len(found) // 2]] = math.pi
        angles[k, found[len(found) // 2 :]] = -math.pi
