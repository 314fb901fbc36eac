"""A butterfly and its mirror image have d/2 redundant parameters, two equal butterflies none.

Statement. Let d = 2^n, 8 ≤ d ≤ 64. The radix-2 butterfly followed by its mirror image has n·d
parameters and the dimension (2n−1)·d/2, the same as the Beneš network, in which the middle stage
occurs only once. The butterfly followed by itself has the dimension n·d: no parameter is redundant.
(For d = 4 both networks have 8 parameters and dimension 6, and cover SO(4).) The Waksman network on
2^n wires has no redundant parameters either; nor, for d ≤ 32, has the butterfly repeated three to
five times if it has at most d(d−1)/2 parameters.

By T2, at least d/2 parameters of the mirrored network are redundant, because the last stage of one
half is the first stage of the other. That no others are redundant is proved for each width that the
check covers, because the rank modulo a prime attains the upper bound there, but not in general.

Source: derived here.
"""

from __future__ import annotations

from math import comb

import structmat as sm

NUMBER = "T17"
STATUS = "checked by exhaustion"


def check() -> str:
    """Compute the exact dimensions of all these networks up to 64 wires."""
    return f"{_count(range(2, 7))} networks, widths 4 to 64"


def thorough() -> str:
    """Extend the check to 128 wires."""
    return f"{_count(range(7, 8))} networks of 128 wires"


def _count(exponents: range) -> int:
    cases = 0
    for n in exponents:
        d = 1 << n
        net = sm.butterfly(d)
        once, full = (2 * n - 1) * d // 2, comb(d, 2)
        assert sm.benes(d).parameters == once, d
        assert net.then(net.inverse()).parameters == once + d // 2, d
        wanted = {
            net.then(net.inverse()): once,
            sm.benes(d): once,
            net.repeat(2): n * d,
            sm.families.waksman(d): d * n - d + 1,
        }
        if d <= 32:
            wanted |= {net.repeat(k): k * n * d // 2 for k in range(3, 6)}
        for which, value in wanted.items():
            found = sm.dimension(which)
            assert found.proved, which
            assert found.value == min(value, full), which
            cases += 1
    return cases
