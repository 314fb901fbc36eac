"""All pairs of wires can meet in ⌈(d−1)/(b−1)⌉ stages if d and b are powers of one prime.

Statement. If every two of d wires share a switch in some stage of a straight network with switches
of at most b wires, the network has at least ⌈(d−1)/(b−1)⌉ stages. If d ≥ b are powers of one prime,
`pair_cover` attains this bound, with d/b switches of b wires in each stage. The dimension of a
network in which all pairs meet is d(d−1)/2, that of SO(d).

Proof. In one stage, a wire meets at most b − 1 of the d − 1 others. The last sentence follows from
T2, since the number of pairs that meet is a lower bound on the dimension. For the construction, let
b = p^c and d = p^a.

If a ≥ 2c, then q = d/b is the size of a field F with at least b elements. Number the wires by
(x, y) with x in a set X of b elements of F and y in F. For m and t in F, let the wires
(x, m·x + t), x ∈ X, share a switch. For fixed m, these switches partition the wires, and two wires
(x, y) and (x', y') with x ≠ x' share the switch with m = (y − y')/(x − x') and no other. After
these q stages, only pairs within a group of equal x have not met. The groups have q wires, which
meet in stages common to all groups, in ⌈(q−1)/(b−1)⌉ stages by induction. As d − 1 = q(b − 1) +
q − 1, the sum is the bound.

If c < a < 2c, replace wires by bundles of h = b²/d wires, and X by a set of b/h = d/b elements of
the field of q = d/b elements. The groups then have q·h = b wires, and meet in one stage. The sum,
d/b + 1, is the bound, since 0 < (d/b − 1)/(b − 1) ≤ 1. If a = c, one switch suffices.

Source: a ≥ 2c is a resolvable transversal design, C. J. Colbourn and J. H. Dinitz, Handbook of
Combinatorial Designs, 2007, section III.3; the rest is derived here. For a a multiple of c, T58 is
another construction.
"""

from __future__ import annotations

from math import comb

import numpy as np

import structmat as sm
from structmat.families.pair_covers import least_rounds, pair_cover
from theory._tools import even_partitions, pairs

NUMBER = "T62"
STATUS = "proved"


def check() -> str:
    """Count meetings in the construction, and search all sequences of partitions of six wires."""
    cases = 0
    for prime in (2, 3, 5, 7):
        powers = [prime**k for k in range(1, 10) if prime**k <= 512]
        for block in powers:
            for width in (d for d in powers if d >= block):
                net = pair_cover(width, block)
                bound = -(-(width - 1) // (block - 1))
                assert net.depth == bound == least_rounds(width, block), net
                met = np.eye(width, dtype=bool)
                for bank in net.banks:
                    assert bank.reads.shape == (width // block, block), net
                    met[bank.reads[:, :, None], bank.reads[:, None]] = True
                assert met.all(), net
                if width <= 64:
                    assert sm.dimension(net, largest=0).lower == comb(width, 2), net
                cases += 1
    assert _fewest(8, 4) == 3 == least_rounds(8, 4)
    assert _fewest(6, 2) == 5 == least_rounds(6, 2)
    assert _fewest(6, 3) == 4 > least_rounds(6, 3)  # 6 is not a power of a prime
    return f"{cases} pairs of powers up to 512 wires, and all partitions of 6 and 8 wires"


def _fewest(width: int, block: int) -> int:
    """Return the smallest number of even partitions in which all pairs meet, by search."""
    options = [
        frozenset().union(*pairs(sm.Network.of(width, [parts])))
        for parts in even_partitions(width, block)
    ]
    states, stages = {frozenset()}, 0
    while comb(width, 2) not in map(len, states):
        states = {state | option for state in states for option in options}
        if stages == 0:  # all first partitions are equivalent up to the numbers of wires
            states = {options[0]}
        stages += 1
    return stages
