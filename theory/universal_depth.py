"""To cover SO(d), 2×2 switches need d − 1 stages (d for odd d), and blocks of b ⌈(d−1)/(b−1)⌉.

Statement. If a network represents all of SO(d), it has at least d(d−1)/2 parameters. With 2×2
switches it has at least d − 1 stages for even d and d for odd d; with switches of at most b wires
it has at least ⌈(d−1)/(b−1)⌉. Of the bounds for 2×2 switches, the brick-wall mesh attains the one
for odd d, and the ruler the one for even d if d = 2^n.

Proof. The matrices of a network are the image of a smooth map from a space whose dimension is the
number of parameters. If this is less than d(d−1)/2, they have measure zero in SO(d). A stage of 2×2
switches has at most ⌊d/2⌋ parameters, and d(d−1)/2 divided by ⌊d/2⌋ is d − 1 or d. A stage of
switches of r ≤ b wires has Σr(r−1)/2 ≤ (b−1)·Σr/2 ≤ d(b−1)/2 parameters. The brick wall covers
SO(d) by T31, the ruler by T12.

Source: a counting argument; W. R. Clements et al. 2016, arXiv 1603.08788, for the brick wall.
"""

from __future__ import annotations

from math import comb

import structmat as sm
from theory._tools import every_network

NUMBER = "T13"
STATUS = "proved"


def check() -> str:
    """Compare dimensions at the bound and one stage below it."""
    for d, depth in [(2, 0), (3, 2), (4, 2)]:
        for net in every_network(d, depth):
            if all(bank.radix == 2 for bank in net.banks):
                assert sm.dimension(net).upper < comb(d, 2), net
    for d in range(3, 22, 2):
        assert sm.dimension(sm.brickwall(d)).lower == comb(d, 2), d
        assert sm.brickwall(d).depth == d == _stages(d, 2)
        assert sm.dimension(sm.brickwall(d)[: d - 1]).upper < comb(d, 2), d
    for d in (2, 4, 8, 16):
        assert sm.ruler(d).depth == d - 1 == _stages(d, 2)
        assert sm.dimension(sm.ruler(d)).lower == comb(d, 2), d
    for d in range(2, 40):
        for block in range(2, d + 1):
            assert _stages(d, block) >= -(-(d - 1) // (block - 1)), (d, block)
            if d % block == 0:
                assert _stages(d, block) == -(-(d - 1) // (block - 1)), (d, block)
    return "networks of 2×2 switches up to 4 wires, brick walls to 21, rulers to 16, bounds to 39"


def _stages(width: int, block: int) -> int:
    """Return the lower bound on the number of stages that the library reports."""
    (row,) = (
        row
        for row in sm.lower_bounds(width, block=block).rows
        if (row.goal, row.quantity) == ("universal", "depth")
    )
    return row.least
