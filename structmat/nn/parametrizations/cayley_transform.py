"""The Cayley transform (I+Q)(I−Q)⁻¹ of many small matrices, and its closed-form gradient.

**Many small blocks** are computed as products of reflections. Let Q = [[iδ, −bᴴ], [b, Q′]], let R′
be the transform of Q′, and let u = ½(R′b + b) and v = (1, u). Then, by bordering,

    R = (I − (2/s) v vᴴ) diag(−1, R′),   s = 1 − iδ + bᴴu,   Re s = vᴴv ≥ 1

With M′ = (I−Q′)⁻¹ = ½(R′ + I), we have u = M′b, and M′ + M′ᴴ = 2M′ᴴM′ implies Re bᴴu = uᴴu. The
first factor is unitary for any v as long as Re s = vᴴv, and s is computed so that this holds. No
pivoting is needed, no divisor is small, and the blocks are orthogonal up to rounding for Q of any
size. However, ½(R′b + b) loses log₁₀‖Q‖ digits, so this method is used for moderate generators
only.

**Few blocks, or large generators**: R = 2M − I, where M = (I−Q)⁻¹ is computed by LU with pivoting.
A real Q of odd radix has the eigenvalue 0, which LU does not resolve next to large eigenvalues; Q
is therefore partitioned once, as above, and M′ is computed by LU.

**Gradients**: dR = 2 M dQ M. For small Q, M = ½(R+I); for large Q, R+I is a difference of nearly
equal numbers, and M is recomputed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from structmat.nn import torch_internals
from structmat.nn.parametrizations import compiled_blocks, exportable
from structmat.nn.parametrizations.generators import (
    all_or_none,
    is_unitary,
    known_below,
    narrowed,
    skew,
    to_generators,
    widened,
)
from structmat.nn.parametrizations.matrix_products import times
from structmat.nn.precision import without_autocast

# Limits within which reflections (about sixty torch calls) are faster than a LAPACK call for each
# block, as measured on two cores with AVX-512. Both give the same results up to rounding.
_WIDEST = 12
_FEWEST = 4000  # smallest number of generators
_REFLECTED = 1e5  # largest generator for which reflections are exact to float32 rounding
_SUMMED = 1.0  # largest generator for which R + I loses less than a digit
_SUMMED_IN_FLOAT64 = 1e3  # the same, if all digits of float64 are available for a float32 result


def cayley(generators: Tensor, radix: int) -> Tensor:
    """Return the blocks (I+Q)(I−Q)⁻¹, which cover each rotation without eigenvalue −1 exactly once.

    The transform is computed exactly, not by a truncated series: the blocks are orthogonal up to
    rounding for generators of any size, and exact in float32; in float64 their error is a few ulps,
    or a few ulps times ‖Q‖ if Q is nearly singular. The gradient decreases as 1/‖Q‖² and is also
    exact to rounding, even if it is far below one ulp of the blocks.

    Parameters
    ----------
    generators : (..., r(r−1)/2) or (..., r²), floating
        As for `skew`.
    radix : int

    Returns
    -------
    (..., r, r) in the same precision, at least float32; complex for r² generators

    Raises
    ------
    BlockError
        If the number of generators fits neither real nor unitary blocks.

    Examples
    --------
    >>> cayley(torch.tensor([1.0]), 2)       # a rotation by 90°: tan(θ/2) = 1
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """
    if torch_internals.exporting():
        return exportable.cayley(generators, radix)
    limits = {"largest": _REFLECTED, "largest_for_gradient": _SUMMED_IN_FLOAT64}
    return compiled_blocks.computed("cayley", generators, radix, _reference, **limits)


def _reference(generators: Tensor, radix: int) -> Tensor:
    """Return the blocks of `cayley` by torch's operations, for generators (n, g)."""
    if torch_internals.refuses_functions():
        return solved(generators, radix)
    function = _Cayley if torch.compiler.is_compiling() else _CayleyWithTangents
    blocks: Tensor = function.apply(generators, radix)
    return blocks


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


def plain_cayley(generators: Tensor, radix: int) -> Tensor:
    """Return the blocks of `cayley` by one linear solve, with torch's own gradient.

    Examples
    --------
    >>> plain_cayley(torch.tensor([1.0]), 2)
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """
    a = torch.eye(radix, device=generators.device) - skew(generators, radix)
    return torch.linalg.solve(a, a.mH)  # I + Q is the adjoint of I − Q, and they commute


class _Cayley(torch.autograd.Function):
    """The blocks (n, r, r) of generators (n, g), and their gradient."""

    @staticmethod
    def forward(generators: Tensor, radix: int) -> Tensor:
        unitary = is_unitary(generators, radix)
        if radix == 2 and not unitary:
            return _cayley_2x2(generators)
        many = radix <= _WIDEST and generators.numel() >= _FEWEST
        if many and generators.dtype != torch.float64 and known_below(generators, _REFLECTED):
            return reflected(generators, radix, unitary=unitary)
        return solved(generators, radix)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None]:
        generators, blocks = ctx.saved_tensors
        radix = blocks.shape[-1]
        if radix == 2 and not blocks.is_complex():
            (c, s), (d, e) = blocks[..., 0, :].unbind(-1), slopes.unbind(-2)
            of_angle = (d[..., 1] - e[..., 0]) * c - (d[..., 0] + e[..., 1]) * s
            q = widened(generators)
            made = of_angle[..., None] * (2 / (1 + q * q))  # dθ = 2/(1+q²) dq
            return made.to(generators.dtype), None
        with without_autocast(slopes.device.type):
            # This gradient may itself be differentiated under transforms, with unknown values.
            if not torch.is_grad_enabled() and known_below(generators, _SUMMED):
                m = _plus_one(blocks).mH / 2
            else:
                m, slopes = (
                    resolvent(skew(all_or_none(widened(generators)), radix)).mH,
                    widened(slopes),
                )
            made = to_generators(times(times(m, slopes), m))
        return made.mul(2).to(generators.dtype), None

    @staticmethod
    def vmap(
        info: Any,  # noqa: ARG004 (torch's signature)
        in_dims: tuple[int | None, None],
        generators: Tensor,
        radix: int,
    ) -> tuple[Tensor, int | None]:
        if in_dims[0] is None:
            return cayley(generators, radix), None
        return cayley(generators.movedim(in_dims[0], 0), radix), 0


class _CayleyWithTangents(_Cayley):
    """`_Cayley` with forward-mode derivatives, which torch.compile does not support in 2.13."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        generators, ctx.radix = inputs
        ctx.save_for_backward(generators, output)
        ctx.save_for_forward(generators)

    @staticmethod
    def jvp(ctx: Any, along: Tensor, _: None) -> Tensor:
        (generators,) = ctx.saved_tensors
        q, e = (skew(widened(g), ctx.radix) for g in (generators, along))
        m = resolvent(q)
        made = narrowed(times(times(m, e), m).mul(2), generators.dtype)
        return made.contiguous()  # like the blocks


def _plus_one(blocks: Tensor) -> Tensor:
    return blocks + torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)


def _cayley_2x2(generators: Tensor) -> Tensor:
    """Return [[c, s], [−s, c]] with c = (1−q²)/(1+q²), s = 2q/(1+q²)."""
    q = all_or_none(widened(generators))[:, 0]
    twice = 2 / (1 + q * q)
    c, s = twice - 1, twice * q
    return narrowed(torch.stack([c, s, 0 - s, c], dim=1).view(-1, 2, 2), generators.dtype)


def solved(generators: Tensor, radix: int) -> Tensor:
    """Return the blocks by LU with pivoting, for Q of any size."""
    m = resolvent(skew(all_or_none(widened(generators)), radix))
    blocks = 2 * m - torch.eye(radix, dtype=m.dtype, device=m.device)
    if generators.dtype == torch.float64:
        return polished(blocks)
    return narrowed(blocks, generators.dtype)


def resolvent(q: Tensor) -> Tensor:
    """Return (I−Q)⁻¹ for skew matrices, with even small entries exact to rounding.

    Examples
    --------
    >>> resolvent(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    tensor([[ 0.5000,  0.5000],
            [-0.5000,  0.5000]])
    """
    radix = q.shape[-1]
    odd = radix % 2 == 1 and radix > 1 and not q.is_complex()
    inner = q[..., 1:, 1:] if odd else q
    one = torch.eye(inner.shape[-1], dtype=q.dtype, device=q.device)
    # Not `solve`, whose second-order forward-mode derivatives are wrong in torch 2.13.
    m = torch.linalg.inv_ex(one - inner).inverse
    if not odd:
        return m
    b = q[..., 1:, :1]
    u, w = m @ b, m.mT @ b
    size = u.detach().abs().amax(dim=-2, keepdim=True).clamp(min=1)  # squares must not overflow
    u, w = u / size, w / size
    root = (1 / size / size + u.mT @ u).sqrt()
    u, w, corner = u / root, w / root, 1 / root / size
    top = torch.cat([corner * corner, -corner * w.mT], dim=-1)
    return torch.cat([top, torch.cat([corner * u, m - u @ w.mT], dim=-1)], dim=-2)


def polished(blocks: Tensor) -> Tensor:
    """Return, to second order, the orthogonal matrices nearest to nearly orthogonal ones.

    One Newton–Schulz step R + ½R(I − RᴴR) reduces an error e to ¾e².

    Examples
    --------
    >>> polished(1.000001 * torch.eye(2, dtype=torch.float64)[None]).diagonal(dim1=1, dim2=2) - 1
    tensor([[-1.5...e-12, -1.5...e-12]], dtype=torch.float64)
    """
    one = torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)
    return blocks + blocks @ ((one - blocks.mH @ blocks) / 2)


def reflected(generators: Tensor, radix: int, *, unitary: bool) -> Tensor:
    """Return the blocks as products of reflections, computed with the batch as the last axis."""
    # float32 blocks are computed in float64, so that digits lost for large Q do not matter.
    rows = widened(generators).mT.contiguous()
    pairs = radix * (radix - 1) // 2
    if unitary:
        below, diagonal = torch.complex(rows[:pairs], -rows[pairs : 2 * pairs]), rows[2 * pairs :]
    else:
        below, diagonal = rows, None
    blocks = below.new_zeros(radix, radix, rows.shape[1])
    blocks.diagonal(dim1=0, dim2=1).fill_(-1)
    v = below.new_full(blocks.shape[1:], -2)  # −2 times v as defined above: −2, R′c + c, c = −b
    end = pairs
    for i in reversed(range(radix)):
        rest = radix - 1 - i
        c, end = below[end - rest : end], end - rest
        torch.add((blocks[i + 1 :, i + 1 :] * c).sum(1), c, out=v[i + 1 :])
        u = v[i:].conj()
        s = (u * v[i:]).sum(0)
        if diagonal is not None:
            imaginary = (c.conj() * v[i + 1 :]).sum(0).imag
            s = torch.complex(s.real, 2 * imaginary - 4 * diagonal[i])
        blocks[i:, i:].addcmul_(
            (v[i:] / s)[:, None], (u[:, None] * blocks[i:, i:]).sum(0), value=-2
        )
    return narrowed(blocks.permute(2, 0, 1), generators.dtype)
