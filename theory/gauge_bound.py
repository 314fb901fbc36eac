"""The dimension lies between the number of joined pairs and the parameters minus gauge redundancy.

Statement. Let E_t be the pairs of wires that share a switch in stage t of a straight network of
rotations, and let dim be the dimension of the set of its matrices R, that is, the generic rank of
the derivative of R with respect to the generators. Call a pair of wires of a switch direct if both
lead there from one earlier switch, with no other switch between; let D be the number of direct
pairs, summed over all switches. Then

    |∪E_t| ≤ dim ≤ min(d(d−1)/2, Σ|E_t| − D),

where the direct pairs between neighbouring stages number |E_t ∩ E_(t+1)|. If every pair is joined
in consecutive stages only, both sides equal |∪E_t|, which is then the dimension. This is the case
in every network of two stages, in butterflies, mixed-radix, Monarch and BOFT networks, and in
one-factorizations. Moreover, if the switches on a connected component C of a window of consecutive
stages have more than |C|(|C|−1)/2 parameters, the upper bound may be computed with one switch on C
in their place.

Proof. At R = I the derivative with respect to the generator of a pair {i, j} is E_ij − E_ji in
every stage, so the rank there is |∪E_t|, and the rank at one point is at most the generic one. For
the upper bound let switch S lead k wires directly to switch T. For h in SO(k) on these wires,
multiplying the block of S by h on the left and that of T by hᵀ on the right leaves R unchanged. All
these gauge transformations form a group of dimension D = Σ k(k−1)/2. It acts freely: a
transformation that changes no block is trivial on all wires that the first switches pass on, then
on those that the second ones pass on, and so on. So every fibre of the map from blocks to R has at
least this dimension. Also, dim ≤ d(d−1)/2 because R is in SO(d). A pair that is joined in k
consecutive stages is direct k − 1 times, so Σ|E_t| − D counts it once. On C, a window can represent
nothing that one switch cannot, and a network that represents more matrices has no smaller
dimension.

Source: derived here. The bound is not always attained: see T34.
"""

from __future__ import annotations

import itertools

import structmat as sm
from structmat.analysis.switch_lists import upper_bound
from theory._tools import every_network, pairs, switches

NUMBER = "T2"
STATUS = "proved"


def direct(net: sm.Network) -> int:
    """Return the number of direct pairs of wires."""
    last: dict[int, tuple[int, int]] = {}
    found = 0
    for t, stage in enumerate(switches(net)):
        for k, row in enumerate(stage):
            origins = [last[wire] for wire in row if wire in last]
            found += sum(a == b for a, b in itertools.combinations(origins, 2))
            last.update(dict.fromkeys(row, (t, k)))
    return found


def check() -> str:
    """Compare the dimensions of all small networks, and of some large ones, with both bounds."""
    cases, met = 0, 0
    drawn = [sm.random(d, b, m, rng=d) for d in (6, 9, 12) for b in (2, 3, 4) for m in (2, 3, 5)]
    named = [
        sm.butterfly(64, block=8),
        sm.mixed_radix(60),
        sm.monarch(48),
        sm.families.round_robin(12),
    ]
    for net in itertools.chain(every_network(3, 3), every_network(4, 2), drawn, named):
        meeting = pairs(net)
        union = len(set().union(*meeting))
        fewer = net.parameters - direct(net)
        if net.depth == 2:
            assert direct(net) == len(meeting[0] & meeting[1]), net
        found = sm.dimension(net)
        assert union <= found.lower, net
        assert found.upper <= min(fewer, net.width * (net.width - 1) // 2), net
        assert found.lower <= upper_bound(net), net
        if _in_a_row(meeting):
            assert union == fewer == found.value, net
            met += 1
        cases += 1
    window = sm.Network.of(5, [[[i, i + 1]] for i in (0, 1, 0, 1, 2, 3)])
    assert (direct(window), upper_bound(window), sm.dimension(window).value) == (0, 5, 5)
    return f"{cases} networks, including all of 3 wires and 3 stages; {met} attain both bounds"


def _in_a_row(meeting: list[set[tuple[int, int]]]) -> bool:
    """Return whether the stages in which a pair is joined are consecutive, for every pair."""
    for pair in set().union(*meeting):
        stages = [t for t, here in enumerate(meeting) if pair in here]
        if stages[-1] - stages[0] >= len(stages):
            return False
    return True
