"""Fractional powers, logarithms and geodesic means of orthogonal and unitary blocks.

A block is normal, so all of these act on its eigenangles θ in (−π, π]: the power with exponent t
has the angles t·θ, and the logarithm is skew-symmetric with the eigenvalues iθ. Everything is
computed in double precision; powers and means are orthogonal up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from structmat.errors import BlockError, abbreviated
from structmat.nn import torch_internals
from structmat.nn.parametrizations.eigenvalues import (
    CUT,
    check_orthogonal,
    eigen,
    of_angles,
    of_skew,
)

_ROUNDS = 200
_ORDER = 3  # highest order of exact derivatives of powers


def power(blocks: Tensor, exponent: float) -> Tensor:
    """Return the principal power of each block: its eigenangles are multiplied by the exponent.

    Parameters
    ----------
    blocks : (..., r, r) orthogonal, or unitary if complex
    exponent : float
        0 gives the identity and 1 the block itself, both exactly.

    Returns
    -------
    (..., r, r)
        In the dtype of the blocks, with derivatives up to third order. At the eigenvalue −1,
        derivatives do not exist; their infinite part is replaced by zero.

    Raises
    ------
    BlockError
        If the exponent is not finite. Unless it is 0 or 1, also if a block is not orthogonal up to
        rounding, if a real block has determinant −1 and therefore no real power, or if the power
        would be exported, or compiled within a transform of `torch.func`.

    Notes
    -----
    The gradient is given by the Daleckii–Krein formula: divided differences of z ↦ z^t between
    eigenvalues (Higham, Functions of Matrices, theorem 3.11). It also holds for repeated
    eigenvalues. Second and third derivatives are computed from a few Newton steps towards the
    logarithm.

    Examples
    --------
    >>> quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    >>> power(quarter, 0.5)
    tensor([[ 0.7071,  0.7071],
            [-0.7071,  0.7071]])
    """
    t = float(exponent)
    if not -math.inf < t < math.inf:  # not math.isfinite, which torch.compile does not support
        raise BlockError(
            f"exponent={abbreviated(exponent)}: it must be a finite number, such as 0.5"
        )
    if t == 1:
        return blocks
    if t == 0:
        one = torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)
        return one.expand(blocks.shape).clone()
    if torch_internals.exporting():
        raise BlockError(
            f"exponent={t}: powers of blocks cannot be exported, because torch has no operation for"
            " them; merge the adapter first, or use Orthogonal.interpolate(t)"
        )
    if blocks.is_meta or blocks.numel() == 0:
        return blocks.clone()
    if (
        torch_internals.transformed() and torch.compiler.is_compiling()
    ):  # torch 2.13 differentiates this wrongly
        raise BlockError(
            f"exponent={t}: powers of blocks cannot be compiled within transforms of torch.func;"
            " call those outside torch.compile"
        )
    made: Tensor = _plain(blocks, t) if torch_internals.transformed() else _power(blocks, t)
    return made


def logarithm(blocks: Tensor) -> Tensor:
    """Return the skew-symmetric (skew-Hermitian) logarithm of each block, with angles in (−π, π].

    Parameters
    ----------
    blocks : (..., r, r) orthogonal, or unitary if complex

    Raises
    ------
    BlockError
        If blocks are not orthogonal up to rounding, or a real one has determinant −1.

    Examples
    --------
    >>> logarithm(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    tensor([[ 0.0000,  1.5708],
            [-1.5708,  0.0000]])
    """
    if blocks.is_meta or blocks.numel() == 0:
        return torch.zeros_like(blocks)
    log = of_angles(blocks.detach(), torch.zeros_like, torch.clone)
    return _like((log - log.mH) / 2, blocks)


def mean(stacks: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted geodesic mean of each block over several stacks, raised to the power Σw.

    If the weights sum to one, this is the Karcher mean: the rotation with the least weighted sum
    of squared geodesic distances to the given ones. Otherwise, the mean for the normalised weights
    is raised to the power of their sum, so a single block with weight w yields its power w, and
    commuting blocks yield the product of their powers.

    Parameters
    ----------
    stacks : one or more tensors (..., r, r) of equal shape
    weights : one number for each stack, at least 0 and not all 0

    Returns
    -------
    (..., r, r)
        Orthogonal up to rounding, without gradients.

    Raises
    ------
    BlockError
        If weights are invalid, `power` rejects a block, or the mean is not unique because blocks
        differ by a rotation by π.

    Notes
    -----
    M ← M·exp(Σ wᵢ log(Mᵀ Bᵢ)) is iterated until it converges; the mean is unique within angles of
    π/2 (Karcher 1977, Moakher 2002).

    Examples
    --------
    >>> one, quarter = torch.eye(2), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    >>> mean([one, quarter], [0.5, 0.5])
    tensor([[ 0.7071,  0.7071],
            [-0.7071,  0.7071]])
    """
    shares = [float(w) for w in weights]
    total = sum(shares)
    if len(shares) != len(stacks) or not shares or min(shares) < 0 or not 0 < total < math.inf:
        raise BlockError(
            f"weights={list(weights)!r} for {len(stacks)} stacks of blocks: each needs a weight"
            " ≥ 0, and at least one must be positive"
        )
    like = stacks[0]
    if like.is_meta or like.numel() == 0:
        return like.clone()
    dtype = torch.complex128 if like.is_complex() else torch.float64
    blocks = [_nearest(b.detach(), dtype) for b in stacks]
    middle = blocks[max(range(len(shares)), key=shares.__getitem__)]
    apart = any(_has_minus_one(middle.mH @ b) for b in blocks)
    tiny = 50 * like.shape[-1] * torch.finfo(torch.float64).eps
    for _ in range(0 if apart else _ROUNDS):
        logs = [logarithm(middle.mH @ b) for b in blocks]
        step = torch.stack([log * (w / total) for log, w in zip(logs, shares, strict=True)]).sum(0)
        middle = middle @ _exponential(step)
        if step.abs().max() <= tiny:
            return _like(power(middle, total), like)
    raise BlockError(
        "blocks differ by a rotation by π, so their mean is not unique: use other weights, or"
        " move them closer to the identity first"
    )


def generators(blocks: Tensor, parametrization: str) -> Tensor:
    """Return the generators of given blocks in a parametrization.

    Parameters
    ----------
    blocks : (..., r, r) orthogonal, or unitary if complex
    parametrization : {"cayley", "exp"}

    Returns
    -------
    (..., r(r−1)/2) real, or (..., r²) real for unitary blocks

    Raises
    ------
    BlockError
        As for `logarithm`; also if the parametrization is a different one, or it is "cayley" and a
        block has the eigenvalue −1.

    Examples
    --------
    >>> generators(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), "exp")
    tensor([1.5708])
    """
    if parametrization not in INVERSES:
        raise BlockError(
            f"parametrization={abbreviated(parametrization)}: generators can be computed for"
            f" {', '.join(INVERSES)} only"
        )
    q = INVERSES[parametrization](blocks.detach())
    radix = blocks.shape[-1]
    upper, lower = torch.triu_indices(radix, radix, 1, device=q.device)
    values = q[..., upper, lower]
    if not q.is_complex():
        return values
    diagonal = torch.diagonal(q, dim1=-2, dim2=-1).imag
    return torch.cat([values.real, values.imag, diagonal], dim=-1)


def _cayley_inverse(blocks: Tensor) -> Tensor:
    """Return the Q for which the block is (I+Q)(I−Q)⁻¹, with eigenvalues i·tan(θ/2)."""
    if blocks.is_meta or blocks.numel() == 0:
        return torch.zeros_like(blocks)
    if _has_minus_one(blocks):
        raise BlockError(
            "a block has the eigenvalue −1, which Cayley blocks cannot have; use"
            " parametrization='exp'"
        )
    q = of_angles(blocks, torch.zeros_like, lambda angle: torch.tan(angle / 2))
    return _like((q - q.mH) / 2, blocks)


INVERSES: dict[str, Callable[[Tensor], Tensor]] = {"cayley": _cayley_inverse, "exp": logarithm}


# Custom operators, which the compiler does not trace: their control flow depends on values.


@torch.library.custom_op("structmat::power", mutates_args=())
def _power(blocks: Tensor, exponent: float) -> Tensor:
    made = of_angles(blocks, lambda a: (exponent * a).cos(), lambda a: (exponent * a).sin())
    return _like(made, blocks)


@torch.library.custom_op("structmat::power_gradient", mutates_args=())
def _gradient(grad: Tensor, blocks: Tensor, exponent: float) -> Tensor:
    return _along(grad, blocks, exponent)


@torch.library.custom_op("structmat::eigenangles", mutates_args=())
def _eigen(blocks: Tensor) -> tuple[Tensor, Tensor]:
    angles, vectors = eigen(blocks)
    return angles.clone(), vectors.clone(memory_format=torch.contiguous_format)


@_eigen.register_fake
def _(blocks: Tensor) -> tuple[Tensor, Tensor]:
    angles = blocks.new_empty(blocks.shape[:-1], dtype=torch.float64)
    return angles, blocks.new_empty(blocks.shape, dtype=torch.complex128)


@_eigen.register_vmap
def _(info: Any, in_dims: tuple[int], blocks: Tensor) -> tuple[Any, Any]:  # noqa: ARG001
    return _eigen(blocks.movedim(in_dims[0], 0)), (0, 0)


def _plain(blocks: Tensor, exponent: float) -> Tensor:
    """Return the powers by torch's own operations, which support all modes of differentiation.

    Newton's method for exp(L) = B starts at the logarithm and treats the derivative of exp at that
    point as constant. Each step makes the derivatives of L with respect to B exact to one more
    order.
    """
    angles, vectors = _eigen(blocks.detach())
    half = (angles[..., :, None] - angles[..., None, :]) / 2
    middle = (angles[..., :, None] + angles[..., None, :]) / 2
    below = torch.sin(half)
    close = below.abs() < CUT
    ratio = half / torch.where(close, torch.ones_like(below), below)
    ratio = torch.where(close, (half.abs() < 1).to(ratio.dtype), ratio)  # as in `_along`
    slopes = torch.polar(ratio, -middle)
    wide = blocks.to(vectors.dtype)
    log = (vectors * (1j * angles)[..., None, :]) @ vectors.mH
    for _ in range(_ORDER):
        error = vectors.mH @ (wide - torch.linalg.matrix_exp(log)) @ vectors
        log = log + vectors @ (slopes * error) @ vectors.mH
    return _like(torch.linalg.matrix_exp(exponent * log), blocks)


def _plain_gradient(grad: Tensor, blocks: Tensor, exponent: float) -> Tensor:
    made: Tensor = torch.func.vjp(lambda b: _plain(b, exponent), blocks)[1](grad)[0]
    return made


def _along(grad: Tensor, blocks: Tensor, exponent: float) -> Tensor:
    angles, vectors = eigen(blocks)
    between = angles[..., :, None] - angles[..., None, :]
    middle = (angles[..., :, None] + angles[..., None, :]) / 2
    below = torch.sin(between / 2)
    close = below.abs() < CUT
    ratio = torch.sin(exponent * between / 2) / torch.where(close, torch.ones_like(below), below)
    # Close on the circle: equal eigenvalues, or eigenvalues on opposite sides of the branch cut.
    ratio = torch.where(close, exponent * (between.abs() < 1).to(ratio.dtype), ratio)
    slopes = torch.polar(torch.ones_like(middle), (exponent - 1) * middle) * ratio
    in_basis = vectors.mH @ grad.to(vectors.dtype) @ vectors
    return _like(vectors @ (slopes.conj() * in_basis) @ vectors.mH, grad)


@_power.register_fake
def _(blocks: Tensor, exponent: float) -> Tensor:  # noqa: ARG001
    return torch.empty_like(blocks, memory_format=torch.contiguous_format)


@_gradient.register_fake
def _(grad: Tensor, blocks: Tensor, exponent: float) -> Tensor:  # noqa: ARG001
    return torch.empty_like(grad, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:  # noqa: ARG001
    blocks, ctx.exponent = inputs
    ctx.save_for_backward(blocks)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (blocks,) = ctx.saved_tensors
    found = _plain_gradient if torch_internals.transformed() else _gradient
    return found(grad, blocks, ctx.exponent), None


_power.register_autograd(_backward, setup_context=_keep)


def _keep_both(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:  # noqa: ARG001
    grad, blocks, ctx.exponent = inputs
    ctx.save_for_backward(grad, blocks)


def _backward_again(ctx: Any, along: Tensor) -> tuple[Tensor, Tensor, None]:
    def first(grad: Tensor, blocks: Tensor) -> Tensor:
        return _plain_gradient(grad, blocks, ctx.exponent)

    of_grad, of_blocks = torch.func.vjp(first, *ctx.saved_tensors)[1](along)
    return of_grad, of_blocks, None


_gradient.register_autograd(_backward_again, setup_context=_keep_both)


torch.library.impl("structmat::power_gradient", "Batched", _along)  # for `is_grads_batched`


@_gradient.register_vmap
def _(
    info: Any, in_dims: tuple[int | None, ...], grad: Tensor, blocks: Tensor, exponent: float
) -> tuple[Tensor, int]:
    grads, stacks = (
        t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
        for t, dim in zip((grad, blocks), in_dims, strict=False)
    )
    return _gradient(grads, stacks, exponent), 0


def _exponential(skew: Tensor) -> Tensor:
    """Return the unitary exponentials of skew-Hermitian matrices, computed from eigenvalues."""
    if not skew.is_complex():
        return of_skew(skew, torch.cos, torch.sin)
    angles, vectors = torch.linalg.eigh(-1j * skew)
    values = torch.polar(torch.ones_like(angles), angles)
    return (vectors * values[..., None, :]) @ vectors.mH


def _nearest(blocks: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the nearest blocks that are orthogonal in this dtype."""
    wide = blocks.to(dtype)
    check_orthogonal(wide, blocks.dtype)
    left, _, right = torch.linalg.svd(wide)
    return left @ right


def _has_minus_one(blocks: Tensor) -> bool:
    """Return whether some block has an eigenvalue close to −1."""
    one = torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)
    return bool((torch.linalg.svdvals(blocks + one)[..., -1] < 1e-6).any())


def _like(values: Tensor, other: Tensor) -> Tensor:
    """Return complex values in the dtype of another tensor; a real dtype drops imaginary parts."""
    made = values.to(other.dtype) if other.is_complex() else values.real.to(other.dtype)
    return made.contiguous()
