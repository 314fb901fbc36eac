"""A dense network has at least 2d − 4 parameters, at any depth and with any blocks.

Statement. For d ≥ 4 the smallest number of parameters of a network of rotations on d wires in which
every input influences every output is 2d − 4; for d = 1, 2, 3 it is 0, 1, 3. The radix-2 butterfly
attains it for d = 2, 4, 8 only.

Proof. In the terms of the gossip problem, a 2×2 switch is a telephone call, after which both wires
know what either knew. By the gossip theorem, at least 2d − 4 calls (d ≥ 4) are needed until
everybody knows everything. A switch of r wires can be replaced by calls through which its r wires
exchange all their information; this takes 1 call for r = 2, 3 for r = 3 and 2r − 4 for r ≥ 4, no
more than its r(r−1)/2 parameters. The gossip network attains the bound: d − 4 calls from the other
wires to four wires, 4 calls among these, and d − 4 calls back. The butterfly has (d/2)·log₂ d
parameters.

Source: B. Baker and R. Shostak 1972, R. Tijdeman 1971, A. Hajnal, E. C. Milner and E. Szemerédi
1972 for gossip; that larger blocks are no better is derived here.
"""

from __future__ import annotations

import heapq
import itertools

import numpy as np

import structmat as sm

NUMBER = "T7"
STATUS = "proved"


def fewest(width: int) -> int:
    """Return the fewest parameters of a dense network, by a search over all switches.

    States are reachability matrices up to a relabelling of the wires; a switch of r wires costs
    r(r−1)/2, and the cheapest states come first.
    """
    names = np.array(list(itertools.permutations(range(width))))
    weights = 1 << np.arange(width * width, dtype=np.int64).reshape(width, width)
    subsets = [
        list(wires)
        for r in range(2, width + 1)
        for wires in itertools.combinations(range(width), r)
    ]

    def canonical(reached: np.ndarray) -> int:
        renamed = reached[names[:, :, None], names[:, None, :]]
        return int((renamed * weights).sum(axis=(1, 2)).min())

    seen: set[int] = set()
    known: dict[bytes, int] = {}
    queue = [(0, 0, np.eye(width, dtype=bool))]
    for number in itertools.count(1):  # breaks ties, so that states are never compared
        cost, _, reached = heapq.heappop(queue)
        if reached.all():
            return cost
        key = canonical(reached)
        if key in seen:
            continue
        seen.add(key)
        for k, wires in enumerate(subsets):
            after = reached.copy()
            after[wires] = reached[wires].any(axis=0)
            price = cost + len(wires) * (len(wires) - 1) // 2
            if known.get(after.tobytes(), price + 1) > price:
                known[after.tobytes()] = price
                heapq.heappush(queue, (price, number * len(subsets) + k, after))
    raise AssertionError("unreachable")


def least(width: int) -> int:
    """Return the minimum given in the statement."""
    return 2 * width - 4 if width >= 4 else width * (width - 1) // 2


def check() -> str:
    """Search for the fewest parameters, and count those of gossip networks and butterflies."""
    for width in range(1, 7):
        assert fewest(width) == least(width), width
    for width in range(2, 200):
        net = sm.gossip(width)
        assert sm.is_dense(net), width
        assert net.parameters == least(width), width
    attained = [1 << n for n in range(1, 13) if sm.butterfly(1 << n).parameters == least(1 << n)]
    assert attained == [2, 4, 8]
    return "all networks of up to 6 wires, gossip up to 199 wires, butterflies up to 4096"
