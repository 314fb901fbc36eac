"""Blocks that are products of plane rotations or reflections, as in `structmat.linalg.blocks`.

Where there are no compiled functions, the blocks are computed with the batch as the last axis, and
autograd computes the gradients, for which it saves r²/2 rows per block for plane rotations, and r
matrices per block for reflections.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.nn.parametrizations import compiled_blocks
from structmat.nn.parametrizations.cayley_transform import cayley
from structmat.nn.parametrizations.generators import columns, is_unitary, with_batch_first
from structmat.nn.precision import conjugate

_LARGEST_ANGLE = 1e5  # for which the compiled functions reduce angles to (−π/4, π/4) exactly


def givens(generators: Tensor, radix: int) -> Tensor:
    """Return products of rotations in all planes (i, j), which cover every rotation or unitary.

    See `structmat.linalg.blocks.givens` for the order of the planes. Real blocks and their
    gradients are exact to rounding for generators of any size; the angles of unitary blocks, |Qᵢⱼ|,
    are exact to an ulp of float64 times |Qᵢⱼ|.

    Examples
    --------
    >>> givens(torch.tensor([torch.pi / 2, 0.0, 0.0]), 3).round() + 0
    tensor([[ 0.,  1.,  0.],
            [-1.,  0.,  0.],
            [ 0.,  0.,  1.]])
    """
    if radix == 1 and not is_unitary(generators, radix):
        return cayley(generators, radix)  # the same block, whose graph contains the generators
    return compiled_blocks.computed("givens", generators, radix, _givens, largest=_LARGEST_ANGLE)


def _givens(generators: Tensor, radix: int) -> Tensor:
    above, diagonal = columns(generators, radix)
    if diagonal is None:
        cosine, sine = above.cos(), above.sin()
        phases = None
    else:
        cosine, quotient = _cos_and_sinc(above.real**2 + above.imag**2)
        sine = above * quotient
        phases = torch.polar(torch.ones_like(diagonal), diagonal)
    one = torch.eye(radix, dtype=above.dtype, device=above.device)
    rows = list(one[:, :, None].expand(radix, radix, above.shape[-1]).unbind())
    place = radix * (radix - 1) // 2
    for i in reversed(range(radix)):
        if phases is not None:
            rows[i] = rows[i] * phases[i]
        for j in reversed(range(i + 1, radix)):
            place -= 1
            c, s = cosine[place], sine[place]
            rows[i], rows[j] = c * rows[i] + s * rows[j], c * rows[j] - conjugate(s) * rows[i]
    return with_batch_first(torch.stack(rows), generators)


def householder(generators: Tensor, radix: int) -> Tensor:
    """Return products of reflections, which cover almost every rotation or unitary matrix once.

    See `structmat.linalg.blocks.householder` for the definition of the reflections. The blocks are
    exact to rounding for generators of any size, and the gradient to a few ulps times the size of
    the generators.

    Examples
    --------
    >>> householder(torch.tensor([1.0]), 2)
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """
    if radix == 2 and not is_unitary(generators, radix):
        return cayley(generators, radix)  # the same block, with an exact gradient at any size
    largest = torch.finfo(torch.float32).max
    return compiled_blocks.computed("householder", generators, radix, _householder, largest=largest)


def _householder(generators: Tensor, radix: int) -> Tensor:
    above, diagonal = columns(generators, radix)
    place = radix * (radix - 1) // 2
    made = above.new_zeros(0, 0, above.shape[-1])
    one = above.new_ones(1, above.shape[-1])
    for i in reversed(range(radix)):
        rest = radix - 1 - i
        v = torch.cat([one, -conjugate(above[place - rest : place])])
        place -= rest
        size = v.detach().abs().amax(0)  # squares must not overflow
        v = v / size
        s = (conjugate(v) * v).sum(0)
        if diagonal is not None:
            s = torch.complex(s.real, -diagonal[i] / size / size)
        # diag(−1, made), whose first column is the same for every block
        top = torch.cat([-one, one.new_zeros(rest, one.shape[-1])])
        below = torch.cat([one.new_zeros(rest, 1, one.shape[-1]), made], dim=1)
        bordered = torch.cat([top[None], below])
        across = (conjugate(v)[:, None] * bordered).sum(0)
        made = bordered - (2 * v / s)[:, None] * across
    return with_batch_first(made, generators)


def _cos_and_sinc(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return cos √t and sin √t / √t, with all derivatives even at 0."""
    root = t.clamp(min=1).sqrt()
    near = t.clamp(max=1)
    cosine, quotient = torch.zeros_like(t), torch.zeros_like(t)
    for k in reversed(range(11)):  # the truncation error is 1/22!
        cosine = cosine * near + (-1) ** k / math.factorial(2 * k)
        quotient = quotient * near + (-1) ** k / math.factorial(2 * k + 1)
    far = t > 1
    return torch.where(far, root.cos(), cosine), torch.where(far, root.sin() / root, quotient)
