"""With 2×2 switches, density needs ⌈log₂ d⌉ stages for even d (Knödel's graph), one more for odd d.

Statement. Let all switches have two wires, and let d ≥ 2. A dense network has at least ⌈log₂ d⌉
stages for even d, and Knödel's network attains this bound; for odd d ≥ 3 it has at least ⌈log₂ d⌉ +
1, and the network constructed below attains this bound.

Proof. After m stages at most 2^m inputs influence a wire. For even d, stage t of Knödel's network
joins wire 2j to wire 2(j + 2^k − 1 mod d/2) + 1, k = t mod ⌊log₂ d⌋; after the stages 0, …, k the
first wire of pair j is influenced by the pairs j, …, j + 2^k − 1 and the second one by j − 2^k + 1,
…, j. With n = ⌊log₂ d⌋ these are 2^(n−1) pairs after n stages, all of them if d = 2^n; otherwise
one more stage joins the wires of each pair, which are then influenced by 2^n − 1 ≥ d/2 consecutive
pairs. For odd d some wire is idle in the last stage, so all inputs must influence it before that
stage, and d ≤ 2^(m−1). This bound is attained: with 2^n < d < 2^(n+1), join each wire beyond the
first 2^n to one of the first 2^n, let these form a butterfly, and repeat the first stage. This
takes n + 2 = ⌈log₂ d⌉ + 1 stages.

Source: W. Knödel, New gossips and telephones, 1975.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

import structmat as sm
from theory._tools import layers

NUMBER = "T39"
STATUS = "proved"


def odd(width: int) -> sm.Network:
    """Return the network of the proof for an odd width."""
    n = (width - 1).bit_length() - 1
    ends = sm.Network.of(width, [[[i, i + 2**n] for i in range(width - 2**n)]])
    idle = sm.Network(width - 2**n)
    return ends.then(sm.butterfly(2**n).direct_sum(idle)).then(ends)


def check() -> str:
    """Enumerate the small networks of 2×2 switches, and test both families at every width."""
    tried = 0
    for width, depth in [(3, 2), (5, 3)]:
        pairs = layers(width, largest=2)
        for chosen in itertools.product(pairs, repeat=depth - 1):
            paths = functools.reduce(np.matmul, chosen)
            assert not (pairs @ paths > 0).all(axis=(1, 2)).any(), chosen
            tried += len(pairs)
    for width in range(2, 400):
        rounds = (width - 1).bit_length()
        if width % 2 == 0:
            net = sm.families.knodel(width)
        else:
            net, rounds = odd(width), rounds + 1
            assert sm.families.deal(width, block=2).depth == rounds, width
        assert net.depth == rounds, width
        assert {bank.radix for bank in net.banks} == {2}, width
        assert sm.is_dense(net), width
        assert width == 2 or not sm.is_dense(net[: rounds - 1]), width
    return f"all {tried} networks of 2×2 switches on 3 and 5 wires, both families to 399 wires"
