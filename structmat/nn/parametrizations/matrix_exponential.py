"""The exponential of many small skew matrices, by polynomials and squaring, and its derivative.

exp(Q) is exp(Q/2ˢ) squared s times, where ‖Q/2ˢ‖ is small enough for a Taylor polynomial. Its
derivative in a direction E is the upper right block of exp([[Q, E], [0, Q]]) (Mathias 1996), and
the gradient is the derivative at Qᴴ = −Q in the direction of the incoming gradient (Al-Mohy and
Higham 2009, "Computing the Fréchet derivative of the matrix exponential"). The pair [Q, E]
represents such a block matrix, so that the same code computes the exponential and its derivative.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from structmat.linalg.blocks import LARGEST_ANGLE, check_angles
from structmat.nn import torch_internals
from structmat.nn.parametrizations import compiled_blocks, exportable
from structmat.nn.parametrizations.cayley_transform import polished
from structmat.nn.parametrizations.generators import (
    is_unitary,
    narrowed,
    skew,
    to_generators,
    widened,
)
from structmat.nn.parametrizations.givens_householder import givens
from structmat.nn.parametrizations.matrix_products import times
from structmat.nn.precision import without_autocast

# (degree, number of powers, norm): up to this norm, the truncation error of the Taylor polynomial
# relative to the norm is norm^degree / (degree+1)!: 8e-17 for float64, and 7e-11 for float32, which
# is less than an ulp even after a few squarings amplify it several hundredfold.
_FOR_FLOAT32 = 9, 3, 0.4
_FOR_FLOAT64 = 16, 4, 0.8
_MANY = 8  # each squaring doubles errors; after this many, blocks are orthogonalised again
_LARGEST = _FOR_FLOAT32[2] * 2**_MANY  # largest norm for the compiled functions

Pair = list[Tensor]  # [A], or [A, E] for [[A, E], [0, A]]


def exponential(generators: Tensor, radix: int) -> Tensor:
    """Return the blocks exp(Q), which cover every rotation or unitary matrix.

    Real blocks of two wires consist of cosines and sines, exact to rounding for generators of any
    size. All other blocks are orthogonal up to rounding and exact in float32; in float64 their
    angles, and the gradient, are exact to a few ulps times ‖Q‖. Generators larger than 1e9 are
    rejected, because float64 does not determine their angles.

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
        If the number of generators fits neither real nor unitary blocks, or finite generators of a
        block have a norm above 1e9, unless the radix is 2 and blocks are real. If the values cannot
        be checked immediately (in compiled code, and on devices other than the CPU), such blocks
        become NaN.

    Examples
    --------
    >>> exponential(torch.tensor([0.0]), 2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    if radix == 2 and not is_unitary(generators, radix):
        return givens(generators, radix)
    if torch_internals.exporting():
        return exportable.exponential(generators, radix)
    # The norm of the generators of a block is at most √g times the largest of them.
    largest = _LARGEST / math.sqrt(max(1, generators.shape[-1]))
    return compiled_blocks.computed("exponential", generators, radix, _reference, largest=largest)


def _reference(generators: Tensor, radix: int) -> Tensor:
    """Return the blocks of `exponential` by torch's operations, for generators (n, g)."""
    # The number of squarings depends on the values, which traced and fake tensors lack.
    known = torch_internals.has_numbers(generators) and not torch_internals.refuses_functions()
    function = _Exponential.apply if known else plain_exponential
    blocks: Tensor = function(generators, radix)
    return blocks


def plain_exponential(generators: Tensor, radix: int) -> Tensor:
    """Return the blocks of `exponential` by torch's own matrix exponential, with its gradient.

    Examples
    --------
    >>> plain_exponential(torch.tensor([[0.0]]), 2)
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    wide = widened(generators)
    fits = torch.linalg.vector_norm(wide.detach(), dim=-1, keepdim=True) <= LARGEST_ANGLE
    blocks = _matrix_exp(skew(torch.where(fits, wide, torch.nan), radix))
    return narrowed(polished(polished(blocks)), generators.dtype)


class _Exponential(torch.autograd.Function):
    """The blocks (n, r, r) of generators (n, g), and their gradient."""

    @staticmethod
    def forward(generators: Tensor, radix: int) -> Tensor:
        blocks = _doubled(widened(generators), radix, single=generators.dtype != torch.float64)
        return narrowed(blocks, generators.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004 (torch's signature)
        generators, ctx.radix = inputs
        ctx.save_for_backward(generators)
        ctx.save_for_forward(generators)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None]:
        (generators,) = ctx.saved_tensors
        with without_autocast(slopes.device.type):
            back, wide = -widened(generators), widened(slopes)
            if torch.is_grad_enabled():  # for second derivatives
                derivative = _plain_derivative(skew(back, ctx.radix), wide)
            else:
                single = generators.dtype != torch.float64
                derivative = _doubled(back, ctx.radix, single=single, direction=wide)
            return to_generators(derivative).to(generators.dtype), None

    @staticmethod
    def jvp(ctx: Any, along: Tensor, _: None) -> Tensor:
        (generators,) = ctx.saved_tensors
        q, e = (skew(widened(g), ctx.radix) for g in (generators, along))
        return narrowed(_plain_derivative(q, e), generators.dtype).contiguous()  # like the blocks

    @staticmethod
    def vmap(
        info: Any,  # noqa: ARG004 (torch's signature)
        in_dims: tuple[int | None, None],
        generators: Tensor,
        radix: int,
    ) -> tuple[Tensor, int | None]:
        if in_dims[0] is None:
            return exponential(generators, radix), None
        return exponential(generators.movedim(in_dims[0], 0), radix), 0


def _doubled(
    generators: Tensor, radix: int, *, single: bool, direction: Tensor | None = None
) -> Tensor:
    """Return exp(Q), or its derivative in a direction (n, r, r), to single or double precision."""
    degree, kept, norm = _FOR_FLOAT32 if single else _FOR_FLOAT64
    halvings = _halvings(generators, radix, norm)
    least, most = (int(h) for h in halvings.aminmax()) if len(halvings) else (0, 0)
    if single and most > _MANY:  # squarings amplify the truncation error of the polynomial
        return _doubled(generators, radix, single=False, direction=direction)
    scale = torch.exp2(-halvings.to(generators.dtype))[:, None]
    x = skew(generators * scale, radix)
    pair = _taylor([x] if direction is None else [x, direction * scale[..., None]], degree, kept)
    for k in range(most):
        squared = _times(pair, pair)
        if k % _MANY == _MANY - 1:
            squared[0] = polished(squared[0])
        if k >= least:  # a block must not depend on the others in the batch
            left = (halvings > k)[:, None, None]
            squared = [torch.where(left, s, part) for s, part in zip(squared, pair, strict=True)]
        pair = squared
    if direction is None and not single:
        return polished(pair[0])
    return pair[-1]


def _halvings(generators: Tensor, radix: int, norm: float) -> Tensor:
    """Return how often each Q must be halved for its norm to be below a bound, (n,) integers.

    Raises
    ------
    BlockError
        If a norm exceeds `LARGEST_ANGLE`.
    """
    # Eigenvalues of a skew-symmetric matrix come in pairs: 2‖Q‖₂² ≤ ‖Q‖ꜰ² = 2‖g‖². For a
    # skew-Hermitian matrix, ‖Q‖₂² ≤ ‖Q‖ꜰ² ≤ 2‖g‖².
    bound = torch.linalg.vector_norm(generators, dim=-1)
    if bound.numel():
        finite = generators.isfinite().all(dim=-1)
        check_angles(float(torch.where(finite, bound, 0).amax()))
    bound = bound * (math.sqrt(2) if is_unitary(generators, radix) else 1)
    wanted = (bound / norm).log2().ceil().clamp(min=0)
    return wanted.nan_to_num(nan=0, posinf=0).to(torch.int64)


def _times(a: Pair, b: Pair) -> Pair:
    """Return the product of matrices [A], or of block matrices [[A, E], [0, A]] given as [A, E]."""
    if len(a) == 1:
        return [times(a[0], b[0])]
    return [times(a[0], b[0]), times(a[0], b[1]).add_(times(a[1], b[0]))]


def _taylor(x: Pair, degree: int, kept: int) -> Pair:
    """Return Σ xᵏ/k! up to a degree that is a multiple of the number of stored powers.

    This is the Paterson–Stockmeyer scheme: a polynomial in x^kept whose coefficients are
    polynomials in x.
    """
    powers = [x]
    while len(powers) < kept:
        powers.append(_times(powers[-1], x))
    result = [part / math.factorial(degree) for part in powers[-1]]
    for first in reversed(range(0, degree, kept)):
        for k, power in enumerate(powers[:-1], start=first + 1):
            for part, term in zip(result, power, strict=True):
                part.add_(term, alpha=1 / math.factorial(k))
        result[0].diagonal(dim1=-2, dim2=-1).add_(1 / math.factorial(first))
        if first:
            result = _times(result, powers[-1])
    return result


def _plain_derivative(q: Tensor, direction: Tensor) -> Tensor:
    """Return the derivative of exp at Q in a direction, by torch's own matrix exponential."""
    # The result is linear in the direction; a large one would cause too many halvings of Q.
    with torch.no_grad():
        size = direction.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=1)
    upper = torch.cat([q, direction / size], dim=-1)
    lower = torch.cat([torch.zeros_like(q), q], dim=-1)
    radix = q.shape[-1]
    return _matrix_exp(torch.cat([upper, lower], dim=-2))[..., :radix, radix:] * size


def _matrix_exp(x: Tensor) -> Tensor:
    if x.numel() != x.shape[-1] ** 2:
        return torch.linalg.matrix_exp(x)
    # For a batch of one, torch uses another algorithm, with a wrong coefficient: errors reach 5e-5
    # in float32 and 2e-10 in float64 (pytorch issue 196592). A batch of two avoids this.
    two = torch.linalg.matrix_exp(torch.stack([x, x]))
    return two[0]
