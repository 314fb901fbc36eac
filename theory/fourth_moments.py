"""Mixed-radix networks of two or more stages have entries with heavier tails than Haar matrices.

Statement. Let the blocks of a mixed-radix network be independent and Haar distributed on SO(r_t) or
O(r_t). Each entry has E[R_ij²] = 1/d, and d²·E[R_ij⁴] = ∏ 3r_t/(r_t + 2). For the Haar measure on
SO(d) the latter is 3d/(d + 2). The two are equal for a single radix; otherwise the product is
larger: for the butterfly of 2^n wires it is (3/2)^n, compared with nearly 3.

Proof. There is one path from j to i, changing one digit per stage, so R_ij is a product of one
entry of each stage, and these are independent. A column of a Haar block is uniform on the sphere,
where the square of a coordinate has the beta distribution with parameters 1/2 and (r−1)/2: its
moments are 1/r and 3/(r(r+2)). Multiply, and use ∏r_t = d. For two factors a, b > 1 the product
9ab/((a+2)(b+2)) is larger than 3ab/(ab+2), because 3(ab+2) − (a+2)(b+2) = 2(a−1)(b−1) is positive;
for more factors, by induction.

Source: derived here; the moments of the sphere are classical.
"""

from __future__ import annotations

import numpy as np
import sympy

import structmat as sm
from structmat.analysis.mixing import fourth_moments
from structmat.linalg import factors as stagewise

NUMBER = "T11"
STATUS = "proved"


def check() -> str:
    """Compute moments of spheres, simplify the inequality, count paths, and sample."""
    r = sympy.Symbol("r", positive=True)
    for radix in range(2, 9):
        total = sympy.beta(sympy.Rational(1, 2), sympy.Rational(radix - 1, 2))
        for power, expected in [(1, sympy.Rational(1, radix)), (2, _fourth(radix))]:
            moment = sympy.beta(power + sympy.Rational(1, 2), sympy.Rational(radix - 1, 2)) / total
            assert sympy.simplify(moment.rewrite(sympy.gamma) - expected) == 0, radix
    a, b = sympy.symbols("a b", positive=True)
    assert sympy.expand(3 * (a * b + 2) - (a + 2) * (b + 2) - 2 * (a - 1) * (b - 1)) == 0
    assert sympy.simplify(r**2 * _fourth(r) - 3 * r / (r + 2)) == 0
    for radices in [(2,) * 5, (3, 4), (2, 3, 5), (6, 6)]:
        net = sm.mixed_radix(int(np.prod(radices)), radices)
        assert (sm.path_counts(net) == 1).all(), net
        expected = float(np.prod([3 * k / (k + 2) for k in radices]))
        exactly = net.width**2 * fourth_moments(net)
        assert np.abs(exactly / expected - 1).max() <= 100 * net.depth * np.finfo(float).eps, net
        _check_sample(net, expected)
    d = 24
    _check_sample(sm.block_diagonal(d, d), 3 * d / (d + 2))
    return "spheres up to dimension 8 and the inequality symbolically, samples of 5 networks"


def _fourth(radix: int | sympy.Symbol) -> sympy.Expr:
    return sympy.Integer(3) / (radix * (radix + 2))


def _check_sample(net: sm.Network, expected: float, count: int = 400) -> None:
    """Compare the mean over all entries of random matrices, within five standard errors."""
    rng = np.random.default_rng(0)
    means = []
    for _ in range(count):
        r = stagewise.matrix_of(net, sm.random_blocks(net, rng=rng))
        means.append(net.width**2 * float((r**4).mean()))
    error = np.std(means) / np.sqrt(count)
    assert abs(np.mean(means) - expected) <= 5 * error, net
