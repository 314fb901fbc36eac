"""Averages over random blocks of b multiply mean-zero energy by (d−b)/(b(d−1)) in expectation.

Statement. Let W be the averaging projection (T9) of a uniformly random partition of d wires into
blocks of b, where b divides d, and ρ = (d−b)/(b(d−1)). Then E[W] = J/d + ρ(I − J/d), and every
fixed vector v of mean zero has E‖Wv‖² = ρ‖v‖². For m independent such stages, E‖W_m ⋯ W_1 − J/d‖²
in the Frobenius norm is (d−1)·ρ^m, which bounds the mean square of the spectral norm, the mixing.
If each stage is a single random pair of wires, and all others are idle (repeated averages), all
this holds with ρ = 1 − 1/(d−1). In Kac's walk, where each step rotates a random pair of coordinates
by a uniform angle, the expected squares of the coordinates follow the repeated averages.

Proof. Two given wires share a block with probability (b−1)/(d−1), so E[W] has 1/b on the diagonal
and (b−1)/(b(d−1)) elsewhere. These differ by ρ, and the rows sum to 1, so E[W] = J/d + ρ(I − J/d).
W is an orthogonal projection: ‖Wv‖² = vᵀWv, with mean ρ‖v‖². Also W maps vectors of mean zero to
such vectors, so by induction the same holds for m stages with ρ^m, because each is independent of
those before; W_m ⋯ W_1 − J/d is W_m ⋯ W_1 applied to the columns of I − J/d, which have mean zero
and whose squares sum to d − 1. For a pair, W = I − uuᵀ/2 with u = e_i − e_j. The sum of uuᵀ over
all d(d−1)/2 pairs is dI − J, so E[W] = I − (dI − J)/(d(d−1)). After a rotation of (x_i, x_j) by a
uniform angle, the mean of either square is (x_i² + x_j²)/2, as after the average W.

Source: the pairs are in Chatterjee, Diaconis, Sly and Zhang (2022), A phase transition for repeated
averages; the blocks are derived here.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import sympy

import structmat as sm
from structmat.analysis.mixing import energy
from theory._tools import even_partitions

NUMBER = "T41"
STATUS = "proved"
SAMPLES = 200

Matrix = list[list[Fraction]]


def contraction(width: int, block: int) -> Fraction:
    """Return ρ for blocks of a given size."""
    return Fraction(width - block, block * (width - 1))


def check() -> str:
    """Average over all partitions, pairs and two-stage networks; sample; integrate the angle."""
    d, b = sympy.symbols("d b", positive=True)
    apart = 1 / b - (b - 1) / (b * (d - 1))
    assert sympy.simplify(apart - (d - b) / (b * (d - 1))) == 0
    for width, block in [(4, 2), (6, 2), (6, 3), (8, 2), (8, 4), (9, 3), (10, 5)]:
        stages = [_averages(width, parts) for parts in even_partitions(width, block)]
        _check_mean(stages, contraction(width, block))
    for width in range(2, 9):
        stages = [_averages(width, [p]) for p in itertools.combinations(range(width), 2)]
        _check_mean(stages, 1 - Fraction(1, width - 1))
    for width, block in [(4, 2), (6, 3)]:
        _check_two_stages(width, block)
    for width, block, depth in [(24, 4, 2), (30, 5, 3), (48, 8, 2)]:
        nets = [sm.random(width, block, depth, rng=seed) for seed in range(SAMPLES)]
        squares = [float(((energy(net) - 1 / width) ** 2).sum()) for net in nets]
        expected = float((width - 1) * contraction(width, block) ** depth)
        error = np.std(squares) / SAMPLES**0.5
        assert abs(np.mean(squares) - expected) <= 5 * error, (width, block, depth)
        assert np.mean([sm.mixing(net) ** 2 for net in nets]) <= expected, (width, block, depth)
    _check_angle()
    return f"all partitions of 4 to 10 wires, all pairs of 2 to 8, {3 * SAMPLES} random networks"


def _averages(width: int, switches: list[list[int]] | list[tuple[int, ...]]) -> Matrix:
    rows = [[Fraction(int(i == j)) for j in range(width)] for i in range(width)]
    for wires in switches:
        for i in wires:
            rows[i] = [Fraction(int(j in wires), len(wires)) for j in range(width)]
    return rows


def _check_mean(stages: list[Matrix], rho: Fraction) -> None:
    width = len(stages[0])
    for i, j in itertools.product(range(width), repeat=2):
        mean = sum(w[i][j] for w in stages) / len(stages)
        assert mean == Fraction(1, width) + rho * (int(i == j) - Fraction(1, width)), (i, j)


def _check_two_stages(width: int, block: int) -> None:
    """Compare the mean of ‖W₂W₁ − J/d‖² over all pairs of partitions with (d−1)·ρ²."""
    stages = [np.array(_averages(width, parts)) for parts in even_partitions(width, block)]
    total = sum(
        ((second @ first - Fraction(1, width)) ** 2).sum()
        for first, second in itertools.product(stages, repeat=2)
    )
    assert total / len(stages) ** 2 == (width - 1) * contraction(width, block) ** 2


def _check_angle() -> None:
    x, y, angle = sympy.symbols("x y theta", real=True)
    after = (sympy.cos(angle) * x - sympy.sin(angle) * y) ** 2
    mean = sympy.integrate(sympy.expand(after), (angle, 0, 2 * sympy.pi)) / (2 * sympy.pi)
    assert sympy.simplify(mean - (x**2 + y**2) / 2) == 0
