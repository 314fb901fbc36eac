"""BOFT(m, b) has m·d(b−1)/2 parameters, of which (m−1)·d(b−2)/4 are redundant.

Statement. In BOFT with m stages of b×b blocks on d wires (b even, b·2^(m−1) divides d) the
dimension is m·d·b/4 + d(b−2)/4, that is, the parameters minus (m−1)·d(b−2)/4. For b = 2 no
parameter is redundant; for b > 2 the redundant fraction grows towards one half with m and b. The
generators of one full stage, together with those of the form [[0, −Aᵀ], [A, 0]], partitioned into
half-blocks, in every other stage, number exactly this dimension.

Proof. Two wires of one half-block (b/2 wires) share a switch in every stage: d(b−2)/4 such pairs.
Two wires of different half-blocks share a switch in at most one stage, the one whose bit
distinguishes the half-blocks: (d/b)·(b/2)² pairs per stage. So the stages in which a pair is joined
are always consecutive, and by T2 the dimension is the number of pairs, m·d·b/4 + d(b−2)/4. The
generators of this form number (d/b)·(b/2)² in each of m − 1 stages, and the full stage has
d(b−1)/2.

Source: derived here, with T2. The network is that of Liu et al., arXiv 2311.06243.
"""

from __future__ import annotations

import sympy

import structmat as sm
from theory._tools import pairs

NUMBER = "T4"
STATUS = "proved"


def check() -> str:
    """Simplify the count symbolically; compare exact dimensions and the generators kept."""
    m, b, d = sympy.symbols("m b d", positive=True)
    parameters = m * d * (b - 1) / 2
    formula = parameters - (m - 1) * d * (b - 2) / 4
    counted = m * (d / b) * (b / 2) ** 2 + (2 * d / b) * (b / 2) * (b / 2 - 1) / 2
    kept = (m - 1) * (d / b) * (b / 2) ** 2 + d * (b - 1) / 2
    assert sympy.simplify(formula - counted) == 0
    assert sympy.simplify(formula - kept) == 0
    assert sympy.limit(sympy.limit(1 - formula / parameters, m, sympy.oo), b, sympy.oo) == (
        sympy.Rational(1, 2)
    )
    cases = 0
    for block in (2, 4, 6, 8, 16):
        for depth in (1, 2, 3, 4):
            for width in (block << (depth - 1), 3 * block << (depth - 1)):
                if width > 96:
                    continue
                net = sm.butterfly(width, block, depth)
                value = int(formula.subs({m: depth, b: block, d: width}))
                found = sm.dimension(net)
                assert found.proved, net
                assert found.value == value == len(set().union(*pairs(net))), net
                assert sm.reduced(net).parameters == value, net
                cases += 1
    return f"the formulas symbolically, and {cases} networks of up to 96 wires"
