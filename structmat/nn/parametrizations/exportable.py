"""Blocks computed by elementary torch operations only, for exported programs.

Formats such as ONNX have no linear solve and no matrix exponential, and a recorded program must be
valid for all values of the generators. Up to rounding, the results equal the blocks of
`cayley_transform` and `matrix_exponential`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.linalg.blocks import LARGEST_ANGLE
from structmat.nn.parametrizations.generators import (
    columns,
    is_unitary,
    narrowed,
    skew,
    widened,
    with_batch_first,
)

# The degree of the Taylor polynomial, and the largest norm for which it is exact in float64.
_DEGREE, _NORM = 16, 0.8
_SQUARINGS = 32  # sufficient for the largest angle


def cayley(generators: Tensor, radix: int) -> Tensor:
    """Return the blocks (I+Q)(I−Q)⁻¹ as products of reflections.

    `structmat.nn.parametrizations.cayley_transform` defines the reflections.

    Examples
    --------
    >>> cayley(torch.tensor([1.0]), 2)
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """
    above, diagonal = columns(generators, radix)
    one = torch.ones_like(above[:1])
    made = one[None]
    if diagonal is not None:
        made = 2 / torch.complex(one.real, -diagonal[-1:])[None] - 1
    place = radix * (radix - 1) // 2
    for i in reversed(range(radix - 1)):
        rest = radix - 1 - i
        place -= rest
        b = -above[place : place + rest].conj()
        u = ((made * b).sum(1) + b) / 2
        v = torch.cat([one, u])
        s = (v.conj() * v).sum(0)
        if diagonal is not None:
            s = torch.complex(s.real, (b.conj() * u).sum(0).imag - diagonal[i])
        # diag(−1, made)
        top = torch.cat([-one, torch.zeros_like(b)])
        below = torch.cat([torch.zeros_like(b)[:, None], made], dim=1)
        bordered = torch.cat([top[None], below])
        made = bordered - (2 * v / s)[:, None] * (v.conj()[:, None] * bordered).sum(0)
    return with_batch_first(made, generators)


def exponential(generators: Tensor, radix: int) -> Tensor:
    """Return the blocks exp(Q) by a Taylor polynomial and repeated squaring.

    Examples
    --------
    >>> exponential(torch.tensor([torch.pi / 2]), 2).round() + 0
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """
    unitary = is_unitary(generators, radix)
    wide = widened(generators)
    bound = wide.detach().square().sum(-1, keepdim=True).sqrt()  # on the norm, as in `_halvings`
    wide = torch.where(bound <= LARGEST_ANGLE, wide, torch.nan)
    bound = bound * math.sqrt(2) if unitary else bound
    squarings = (bound / _NORM).log2().ceil().clamp(0, _SQUARINGS)
    x = skew(wide * torch.exp2(-squarings), radix)
    one = torch.eye(radix, dtype=x.dtype, device=x.device)
    made = one + x / _DEGREE
    for k in reversed(range(1, _DEGREE)):
        made = one + (x @ made) / k
    for k in range(_SQUARINGS):
        made = torch.where(squarings[..., None] > k, made @ made, made)
    for _ in range(2):  # restores orthogonality, as `polished` does
        made = made + made @ ((one - made.mH @ made) / 2)
    return narrowed(made, generators.dtype)
