"""With chosen angles, 2×2 switches spread energy evenly at every width, not only at powers of two.

Statement. Let each 2×2 block be fixed, with squared entries [[1−λ, λ], [λ, 1−λ]], and reverse the
sign of every wire before every stage at random. Then E R_ij² = W_ij, where W is the product of
these matrices; the averages of T9 are the case λ = 1/2. (1) For every d there are a network of N(d)
switches and numbers λ with W = J/d, where N(1) = 0 and N(d), for d ≥ 2, is the minimum over 0 < a <
d of N(a) + N(d−a) + d − gcd(a, d). (2) W = J/d needs at least max(d − 1, (d/2)·log₂ d) switches; at
least d − 1 of them have λ = 1/2, and, unless d is a power of two, at least one does not. So N(d) is
the minimum at powers of two, and at d = 3, where it is 3. (3) No choice of angles and signs makes
all entries of R itself equal in modulus unless there is a real Hadamard matrix of order d.

Proof. With independent signs, the expectation of R_ij² is the sum over the paths of the squares of
the entries on them, because products of two different paths contain some sign once. (1) Mix a wires
and the other d − a among themselves, with N(a) + N(d−a) switches. The rows of W are now u on a
wires and v on the others, with u and v uniform on disjoint sets, and J/d needs the row t·u + (1 −
t)·v, with t = a/d, on all. Call the coefficient of u the level of a wire: a wires have level 1, the
others 0, and their mean is t. Let g = gcd(a, d), and divide the wires into g sets with a/g of level
1 each, so that the mean level of each set is t. In a set, as long as some level is not t, there is
one above and one below it. Join these two wires with the λ that gives one of them the level t; the
mean does not change. After d/g − 1 switches only one wire can be left, and the mean is t, so its
level is t. This takes g·(d/g − 1) = d − g switches. (2) By the concavity of entropy, as in the
proof of T9, a switch raises the sum of the entropies of the rows by at most 2 bits: the new rows
(1−λ)x + λy and λx + (1−λ)y have an entropy at most h(λ) above the means of those of x and y with
these weights, where h(λ) ≤ 1. The sum is d·log₂ d for J/d. The rank of W must fall from d to 1; the
matrix of a switch is invertible unless λ = 1/2, and otherwise lowers the rank by at most one. If λ
= 1/2 in all switches, d is a power of two by T9. (3) is the definition of a Hadamard matrix.

Source: derived here; the matrices with λ are the T-transforms of R. F. Muirhead 1902.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from math import ceil, gcd, log2

import numpy as np

NUMBER = "T51"
STATUS = "proved"

Switch = tuple[int, int, Fraction]
HALF = Fraction(1, 2)


@cache
def fewest(width: int) -> tuple[int, int]:
    """Return N(d), and the a that attains it."""
    if width == 1:
        return 0, 0
    return min(
        (fewest(a)[0] + fewest(width - a)[0] + width - gcd(a, width), -a)
        for a in range(1, width // 2 + 1)
    )


def mixer(wires: Sequence[int]) -> Iterator[Switch]:
    """Yield the switches of part (1), each as two wires and λ."""
    width, a = len(wires), -fewest(len(wires))[1]
    if width == 1:
        return
    yield from mixer(wires[:a])
    yield from mixer(wires[a:])
    target, sets = Fraction(a, width), gcd(a, width)
    for k in range(sets):
        levels = dict.fromkeys(wires[:a][k::sets], Fraction(1))
        levels |= dict.fromkeys(wires[a:][k::sets], Fraction(0))
        while set(levels.values()) != {target}:
            high, low = max(levels, key=levels.__getitem__), min(levels, key=levels.__getitem__)
            above, below = levels[high] - target, target - levels[low]
            share = min(above, below) / (above + below)
            move = share * (levels[high] - levels[low])
            yield high, low, share
            levels[high] -= move
            levels[low] += move


def energies(width: int, switches: Sequence[Switch]) -> list[list[Fraction]]:
    """Return W."""
    rows = [[Fraction(int(i == j)) for j in range(width)] for i in range(width)]
    for i, j, share in switches:
        pair = list(zip(rows[i], rows[j], strict=True))
        rows[i] = [(1 - share) * x + share * y for x, y in pair]
        rows[j] = [share * x + (1 - share) * y for x, y in pair]
    return rows


def check() -> str:
    """Multiply in rational arithmetic; average squares over all signs of small networks."""
    widest = 24
    for width in range(2, widest + 1):
        switches = list(mixer(range(width)))
        assert len(switches) == fewest(width)[0], width
        assert all(x == Fraction(1, width) for row in energies(width, switches) for x in row)
        bound = max(width - 1, ceil(width * log2(width) / 2 - 1e-9))
        assert bound <= len(switches), width
        halves = sum(share == HALF for _, _, share in switches)
        assert halves >= width - 1, width
        power = width & (width - 1) == 0
        assert (halves == len(switches)) == power, width
        assert (bound == len(switches)) == (power or width == 3), width
    cases = [_over_all_signs(width) for width in (2, 3, 4)]
    return f"widths up to {widest} exactly, all {sum(cases)} choices of signs at up to 4"


def _over_all_signs(width: int) -> int:
    """Compare the mean of R² over the signs before each switch with 1/d."""
    switches = list(mixer(range(width)))
    found = np.zeros((width, width))
    choices = list(itertools.product((1, -1), repeat=2 * len(switches)))
    for signs in choices:
        r = np.eye(width)
        for k, (i, j, share) in enumerate(switches):
            c, s = float(1 - share) ** 0.5, float(share) ** 0.5
            x, y = signs[2 * k] * r[i], signs[2 * k + 1] * r[j]
            r[i], r[j] = c * x - s * y, s * x + c * y
        found += r**2 / len(choices)
    assert np.abs(found - 1 / width).max() < 1e-12, width
    return len(choices)
