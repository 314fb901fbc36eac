"""After m stages of random blocks of b, C(d,2)·(1 − (b−1)/(d−1))^m pairs have not met on average.

Statement. Let b divide d, and let each stage be a partition of d wires into blocks of b, uniformly
at random and independent of the others. After m stages, the expected number of pairs of wires that
have not shared a block is C(d,2)·(1 − ρ)^m with ρ = (b−1)/(d−1). With probability at least 1 − δ,
all pairs have met after m ≥ (ln C(d,2) + ln 1/δ)/ρ stages. The expectation falls below 1 only after
ln C(d,2)/(−ln(1 − ρ)) stages, for ρ ≪ 1 about ln C(d,2) ≈ 2·ln d times the bound 1/ρ of T62.

Proof. Given the block of one wire, the other is equally likely to have any of the d − 1 other
places, of which b − 1 are in this block. A pair therefore meets in a stage with probability ρ, and
expectations add up. The expected number bounds the probability that a pair has not met, and
(1 − ρ)^m ≤ exp(−ρm).

Source: a coupon collector's argument, derived here.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from math import comb

import structmat as sm
from structmat.analysis.switch_lists import distinct_pairs
from theory._tools import even_partitions, pairs

NUMBER = "T63"
STATUS = "proved"


def check() -> str:
    """Average over all pairs of partitions of six wires, and over draws at 64 and 128 wires."""
    for block in (2, 3):
        met = [pairs(sm.Network.of(6, [parts]))[0] for parts in even_partitions(6, block)]
        rho = Fraction(block - 1, 5)
        unmet = [15 - len(a | b) for a, b in itertools.product(met, met)]
        assert Fraction(sum(unmet), len(unmet)) == 15 * (1 - rho) ** 2, block
    for width, block, stages in [(64, 8, 9), (128, 16, 9), (128, 16, 40)]:
        nets = [sm.families.random(width, block, stages, rng=seed) for seed in range(40)]
        unmet = [
            comb(width, 2) - distinct_pairs((bank.reads for bank in net.banks), width)
            for net in nets
        ]
        expected = comb(width, 2) * (1 - (block - 1) / (width - 1)) ** stages
        # The numbers of different pairs are nearly independent, so their sum is nearly Poisson.
        assert abs(sum(unmet) / 40 - expected) < 6 * math.sqrt(expected / 40), (width, block)
    return "all pairs of partitions of 6 wires; 40 draws each at 64 and 128 wires"
