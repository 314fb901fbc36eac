"""Wires meet in the block butterfly if and only if their half-blocks differ in at most one bit.

Statement. Let d = b·2^k with b even. Over all k + 1 stages of the block butterfly, d(b−2)/4 +
(k+1)·d·b/4 of the d(d−1)/2 pairs of wires share a switch in some stage. For k ≥ 1, some pairs never
do, however often the stages are repeated and in whatever order.

Proof. The half-blocks of b/2 wires are numbered from 0 to 2^(k+1) − 1, and stage i joins those
whose numbers differ in bit i only. The pairs within half-blocks number d/2·(b/2 − 1), and for each
stage, d/b pairs of half-blocks meet, each with (b/2)² pairs of wires. For k ≥ 1, half-blocks 0 and
3 differ in two bits.

Source: derived here.
"""

from __future__ import annotations

from math import comb

import structmat as sm
from structmat.analysis.switch_lists import distinct_pairs

NUMBER = "T64"
STATUS = "proved"


def check() -> str:
    """Count pairs that share a switch."""
    cases = 0
    for block in (2, 4, 6, 8, 16):
        for k in range(7):
            width = block << k
            net = sm.butterfly(width, block=block)
            met = distinct_pairs((bank.reads for bank in net.banks), width)
            assert met == width * (block - 2) // 4 + (k + 1) * width * block // 4, net
            assert (met == comb(width, 2)) == (k == 0), net
            cases += 1
    return f"{cases} butterflies of up to 1,024 wires"
