"""Beyond log₂ d stages, cycled butterflies have dim = parameters and the best conditioning found.

Statement. Let d = 8, 16 or 32, and log₂ d < m ≤ 2·log₂ d. The butterfly repeated in the same order
and `shuffle`, with m stages of 2×2 switches, have the largest dimension possible, m·d/2, which is
the number of their parameters, and at Haar blocks a ratio of the smallest to the largest singular
value of the derivative above 0.05 (the median of five draws). The first m rounds of a round-robin
tournament have the same dimension, but a ratio less than half as large. Brick-walls have fewer
parameters, and a ratio less than a quarter as large. Random matchings (four draws) have a smaller
dimension or a smaller ratio, and the butterfly followed by its mirror image has a smaller
dimension.

Up to log₂ d stages the ratio of the butterfly is exactly 1 at all blocks (T53). At d = 16 and m = 8
the medians are 0.26 for the cycled butterfly and for the shuffle, 0.0038 for the round-robin and
0.00013 for the brick-wall; at d = 32 and m = 10 they are 0.37, 0.40, 0.0003 and 0.00005.

Source: computed here.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

import structmat as sm

NUMBER = "T54"
STATUS = "checked numerically"
DRAWS = 5


def ratio(net: sm.Network) -> float:
    """Return the median of the ratio of singular values at Haar blocks."""
    return float(np.median([sm.conditioning(net, rng=seed).ratio for seed in range(DRAWS)]))


def check() -> str:
    """Compute dimensions and ratios on 8 and 16 wires."""
    return f"{_compare([(8, 5), (16, 8)])} networks of 8 and 16 wires"


def thorough() -> str:
    """Compute dimensions and ratios at all these depths, up to 32 wires."""
    cases = _compare((1 << n, m) for n in (3, 4, 5) for m in range(n + 1, 2 * n + 1))
    return f"{cases} networks of up to 32 wires"


def _compare(cases: Iterable[tuple[int, int]]) -> int:
    count = 0
    for d, m in cases:
        once = sm.butterfly(d)
        cycled = [once.repeat(2)[:m], sm.shuffle(d, 2, m)]
        full = [*cycled, sm.families.round_robin(d)[:m]]
        brick = sm.brickwall(d, m)
        drawn = [sm.random(d, 2, m, rng=k) for k in range(4)]
        for net in full:
            assert sm.dimension(net).value == net.parameters == m * d // 2, net
        assert sm.dimension(brick).value == brick.parameters < m * d // 2
        assert sm.dimension(once.then(once.inverse())[:m]).value < m * d // 2, (d, m)
        good = min(map(ratio, cycled))
        assert good > 0.05, (d, m, good)
        assert good > 2 * ratio(full[-1]), (d, m)
        assert good > 4 * ratio(brick), (d, m)
        for net in drawn:
            assert sm.dimension(net).value < m * d // 2 or ratio(net) < good, (d, m)
        count += len(full) + len(drawn) + 2
    return count
