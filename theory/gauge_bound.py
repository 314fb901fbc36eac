"""The dimension lies between the pairs that ever meet and the parameters without the trades.

Statement. Let E_t be the pairs of wires that share a switch in stage t of a straight network of
rotations, and dim the dimension of the set of its matrices R, the generic rank of the derivative
of R by the generators. Call a pair of wires direct where both lead from one switch to one other,
with no switch between. Then

    |∪E_t| ≤ dim ≤ min(d(d−1)/2, Σ|E_t| − direct pairs),

where the direct pairs of neighbouring stages number |E_t ∩ E_(t+1)|. If the stages in which any
pair meets follow one another, both sides are |∪E_t| and the dimension is that: so in every network
of two stages, in butterflies, mixed radix, Monarch, BOFT and one-factorizations. And where a
connected component C of a window of stages has more than |C|(|C|−1)/2 parameters, its switches
count as one switch on C.

Proof. At R = I the derivative by the generator of a pair {i, j} is E_ij − E_ji in every stage, so
the rank there is |∪E_t|, and a rank at one point is at most the generic one. For the right side
let switch S lead k wires directly to switch T. For h in SO(k) on these wires, h after the block of
S and hᵀ before that of T leave R as it is. All these trades together are a group of dimension
Σ k(k−1)/2, the number of direct pairs. It acts freely: a trade that changes no block is trivial on
all that the first switches hand on, then on what the second ones do, and so on. So every fibre of
the map from blocks to R has at least this dimension. dim ≤ d(d−1)/2 because R is in SO(d). If a
pair meets in k stages in a row it is direct k − 1 times, which leaves each pair once. A window can
do nothing on C that one switch on C cannot, and a network that can be more has no smaller
dimension.

Source: derived here. The bound is not always reached: see T34.
"""

from __future__ import annotations

import itertools

import structmat as sm
from structmat.gates import upper_bound
from theory._tools import every_network, pairs, switches

NUMBER = "T2"
STATUS = "proved"


def direct(net: sm.Network) -> int:
    """Return how many pairs of wires lead from one switch directly to another."""
    last: dict[int, tuple[int, int]] = {}
    found = 0
    for t, stage in enumerate(switches(net)):
        for k, row in enumerate(stage):
            origins = [last[wire] for wire in row if wire in last]
            found += sum(a == b for a, b in itertools.combinations(origins, 2))
            last.update(dict.fromkeys(row, (t, k)))
    return found


def check() -> str:
    """Compare exact dimensions of all small networks, and of large ones, with both sides."""
    cases, met = 0, 0
    drawn = [sm.random(d, b, m, rng=d) for d in (6, 9, 12) for b in (2, 3, 4) for m in (2, 3, 5)]
    named = [sm.butterfly(64, block=8), sm.mixed_radix(60), sm.monarch(48), sm.round_robin(12)]
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
    return f"{cases} networks, all of 3 wires and 3 stages among them; {met} with pairs in a row"


def _in_a_row(meeting: list[set[tuple[int, int]]]) -> bool:
    """Return whether the stages in which any pair meets follow one another."""
    for pair in set().union(*meeting):
        stages = [t for t, here in enumerate(meeting) if pair in here]
        if stages[-1] - stages[0] >= len(stages):
            return False
    return True
