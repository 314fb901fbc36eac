"""Perfect mixing needs (d/2)·log₂ d + Σ e(p) parameters, over the odd prime factors p of d.

Statement. Let the averaging matrices of a network multiply to J/d, and let e(r) = r(r − 1 −
log₂ r)/2. If d = ∏ p^a(p), the network has at least (d/2)·log₂ d + Σ a(p)·e(p) parameters. If its
radices are at most b, it has at least ⌈a(p)/⌊log_p b⌋⌉ stages for each prime p, and no such network
exists if some prime factor of d exceeds b. A prime width needs a single switch on all wires; for
d = 6 the bound is 9, which mixed radix attains. T49 gives networks near the bound.

Proof. Let v_p(x) be the exponent of p in a rational number x. A switch of r wires replaces rows of
the product of the averaging matrices by their mean, which lowers the smallest v_p of their entries
by at most v_p(r). In the end it is −a(p); so, following one entry of a row backwards, always along
an entry with the smallest v_p, some path passes switches whose radices have v_p(r) in total at
least a(p). It passes one switch in each stage, and v_p(r) ≤ ⌊log_p b⌋: this is the bound on the
stages. All switches of the network together have Σ v_p(r) ≥ a(p) for each p. A switch of radix r
has r(r−1)/2 = e(r) + (r/2)·log₂ r parameters. By T9, Σ r·log₂ r ≥ d·log₂ d. And e is superadditive
over products, e(xy) ≥ e(x) + e(y) for x, y ≥ 2: xy − 1 ≥ (x − 1) + (y − 1), and x − 1 − log₂ x ≥ 0,
so e(xy) ≥ (xy/2)·((x − 1 − log₂ x) + (y − 1 − log₂ y)) ≥ e(x) + e(y). Hence e(r) ≥ Σ v_p(r)·e(p),
and Σ e(r) ≥ Σ a(p)·e(p), where e(2) = 0. For prime d the bound is d(d−1)/2.

Source: derived here.
"""

from __future__ import annotations

from math import ceil, log2

import structmat as sm
from structmat.analysis.lower_bounds import mixing_depth_bound
from structmat.analysis.mixing import mixes_exactly
from structmat.families.number_theory import prime_factors
from theory._tools import every_network

NUMBER = "T56"
STATUS = "proved"


def excess(radix: int) -> float:
    """Return e(r)."""
    return radix * (radix - 1 - log2(radix)) / 2


def least(width: int) -> int:
    """Return the bound of the statement, rounded up."""
    total = width * log2(width) / 2 + sum(excess(prime) for prime in prime_factors(width))
    return ceil(total - 1e-9 * width)


def check() -> str:
    """Enumerate small networks, and compare the bounds with mixed radix and with the library."""
    for x in range(2, 40):
        for y in range(2, 40):
            assert excess(x * y) >= excess(x) + excess(y)
    perfect = 0
    for width, depth in [(2, 2), (3, 3), (4, 3), (5, 2)]:
        for net in every_network(width, depth):
            if net.parameters < least(width) or net.depth < 1:
                assert not mixes_exactly(net), net
            perfect += mixes_exactly(net)
    met = []
    for width in range(2, 400):
        net = sm.mixed_radix(width)
        (row,) = [r for r in sm.lower_bounds(net).rows if r.goal == "mixing"]
        assert row.least == least(width) <= net.parameters, width
        if net.parameters == least(width):
            met.append(width)
        for block in (2, 3, 4, 8, 16):
            if max(prime_factors(width)) <= block:
                stages = mixing_depth_bound(width, block)
                assert stages <= net.depth
    primes = [width for width in range(2, 400) if len(prime_factors(width)) == 1]
    assert {*primes, 6, *(1 << n for n in range(1, 9))} <= set(met)
    return f"{perfect} small networks that mix; mixed radix meets the bound at {len(met)} widths"
