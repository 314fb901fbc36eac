"""The rank modulo a prime at an integer point is a proved lower bound on the dimension.

Statement. Let the blocks be the Cayley transforms (I+Q)(I−Q)⁻¹ of skew-symmetric integer matrices,
and let p be a prime that divides no det(I−Q). Then the rank modulo p of the derivative of R with
respect to the generators is at most the dimension of the network. The two are equal at every
integer point where a certain polynomial is non-zero, for all but finitely many primes. Where the
rank equals an upper bound, it is proved to be the dimension.

Proof. The entries of the derivative are quotients of integers by products of the det(I−Q), so
modulo p they are the reductions of their rational values. A minor that is non-zero modulo p is
non-zero as a rational number; so the rank modulo p is at most the rank at this point, and this is
at most the generic rank, because the minors are rational functions of the generators. Conversely a
minor that is not identically zero vanishes only where its numerator does, and at other points its
value is divisible by finitely many primes.

The rank in floating-point arithmetic depends on a tolerance and proves nothing. For a brick-wall
mesh of 16 wires at a random point, the smallest singular value of the derivative is about 10⁻⁹ of
the largest; at 32 wires it is lost in rounding errors, and the rank appears smaller although it is
full.

Source: derived here; the argument is that of Schwartz and Zippel.
"""

from __future__ import annotations

import itertools

import numpy as np
import sympy

import structmat as sm
from structmat.errors import StructmatError
from structmat.linalg import modular
from structmat.linalg.modular import MERSENNE

NUMBER = "T3"
STATUS = "proved"


def derivative(net: sm.Network, point: list[int]) -> sympy.Matrix:
    """Return the derivative of R with respect to the generators at a point, in exact arithmetic."""
    r = sm.symbolic(net, parametrization="cayley")
    values = dict(zip(r.symbols, point, strict=True))
    matrix = r.matrix()
    return sympy.Matrix([[e.diff(q).subs(values) for e in matrix] for q in r.symbols])


def smallest(net: sm.Network, rng: np.random.Generator) -> float:
    """Return the ratio of the smallest to the largest singular value of the derivative of R."""
    blocks = sm.random_blocks(net, rng=rng)
    first, second = np.triu_indices(net.width, 1)
    rows = np.eye(net.width)
    wedges = []
    rest = iter(blocks)
    for stage in net.stages:
        for bank in stage.banks:
            rows[bank.reads] = next(rest) @ rows[bank.reads]
            one, other = rows[bank.reads[:, 0]], rows[bank.reads[:, 1]]
            wedges.append(one[:, first] * other[:, second] - one[:, second] * other[:, first])
    values = np.linalg.svd(np.concatenate(wedges), compute_uv=False)
    return float(values[-1] / values[0])


def check() -> str:
    """Compare ranks modulo primes with rational ranks; show where floating-point ranks fail."""
    rng = np.random.default_rng(0)
    nets = [sm.brickwall(3), sm.butterfly(4), sm.families.round_robin(4)]
    for net in nets:
        point = [int(x) for x in rng.integers(2, 9, net.parameters)]
        rational = derivative(net, point).rank()
        found = sm.dimension(net)
        assert rational == found.value == found.upper, net
    for size, full in [(6, 2), (9, 5), (12, 12)]:
        factors = rng.integers(-3, 4, (size, full)), rng.integers(-3, 4, (full, size + 1))
        matrix = factors[0] @ factors[1]
        rational = sympy.Matrix(matrix).rank()
        for prime in (3, 5, 101, MERSENNE):
            found = modular.rank((matrix % prime).astype(float), prime)
            assert found <= rational, (matrix, prime)
            assert prime < MERSENNE or found == rational, matrix
    cases = 0
    drawn = [sm.random(6, 3, 3, rng=k) for k in range(5)]
    for net, prime in itertools.product([*nets, sm.benes(8), *drawn], (3, 5, 7, 11, 101)):
        try:
            low = sm.dimension(net, primes=[prime]).lower
        except StructmatError:
            continue  # small primes divide nearly every det(I−Q)
        assert low <= sm.dimension(net, primes=[MERSENNE]).value, (net, prime)
        cases += 1
    wall = sm.brickwall(32)
    assert smallest(sm.brickwall(16), rng) < 1e-6
    assert smallest(wall, rng) < wall.parameters * np.finfo(float).eps, "numpy's own tolerance"
    assert sm.dimension(wall).lower == 32 * 31 // 2
    return (
        f"{len(nets)} networks in rational arithmetic, {cases} cases of small primes, brick-walls"
    )
