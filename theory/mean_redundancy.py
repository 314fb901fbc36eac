"""Between two random stages of b×b blocks, d(b−1)²/(2(d−1)) parameters are redundant on average.

Statement. Let b divide d. For two stages that are independent uniform partitions of d wires into
blocks of b, the mean number of pairs of wires that share a block in both, hence the mean number of
redundant parameters of the two stages, is d(b−1)²/(2(d−1)), about (b−1)²/2 at any width. Between
neighbouring stages of BOFT it is d(b−2)/4, which grows with d.

Proof. The first stage has d(b−1)/2 pairs. Any pair shares a block of the second with probability
(b−1)/(d−1), because each wire has b−1 others in its block, all equally likely. Multiply. Two stages
have no other redundancy, by T2. In BOFT a switch shares a half-block of b/2 wires with each of two
switches of the next stage: there are 2d/b half-blocks, each with (b/2)(b/2−1)/2 pairs.

Source: derived here.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

import structmat as sm
from theory._tools import even_partitions, pairs

NUMBER = "T16"
STATUS = "proved"
SAMPLES = 40


def expected(width: int, block: int) -> Fraction:
    """Return the mean given in the statement."""
    return Fraction(width * (block - 1) ** 2, 2 * (width - 1))


def check() -> str:
    """Count over all partitions; compare redundant parameters of random networks and of BOFT."""
    for width, block in [(4, 2), (6, 2), (6, 3), (8, 2), (8, 4), (9, 3)]:
        stages = list(even_partitions(width, block))
        first = sm.Network.of(width, [stages[0]])
        counts = [len(pairs(first)[0] & pairs(sm.Network.of(width, [s]))[0]) for s in stages]
        assert Fraction(sum(counts), len(counts)) == expected(width, block), (width, block)
    for width, block in [(24, 4), (24, 6), (30, 5)]:
        found = [sm.dimension(sm.random(width, block, 2, rng=k)) for k in range(SAMPLES)]
        assert all(f.proved for f in found)
        lost = [f.redundant for f in found]
        error = np.std(lost) / np.sqrt(len(lost))
        assert abs(np.mean(lost) - expected(width, block)) <= 5 * error, (width, block)
    for width, block in [(16, 4), (32, 8), (48, 6)]:
        found = sm.dimension(sm.butterfly(width, block, 2))
        assert found.redundant == width * (block - 2) // 4, (width, block)
    return f"all partitions of 4 to 9 wires, {3 * SAMPLES} random networks, 3 of BOFT"
