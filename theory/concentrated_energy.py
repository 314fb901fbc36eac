"""An input that reaches n outputs leaves at least 1/n of its energy on one; after m stages n ≤ b^m.

Statement. Let input j influence n outputs. Then max_i |R_ij|² ≥ 1/n for all blocks, orthogonal or
unitary. If no switch has more than b wires, then n ≤ b^m after m stages; if b^m < d, no blocks
spread the energy of any input evenly over d outputs. The bound is attained: for the first m stages
of a mixed-radix network with flat blocks (all entries of modulus r^(−1/2)), |R_ij|² = 1/n for every
non-zero entry, n = r_1 ⋯ r_m. The same holds for rows: if n inputs influence output i, then
max_j |R_ij|² ≥ 1/n.

Proof. Column j has norm 1 and at most n non-zero entries, so the largest of their squares is at
least their mean 1/n. Each stage multiplies the number of wires that the input influences by at most
b (T6). In the first stages of a mixed-radix network there is one path from j to each of its n
outputs, so a non-zero entry is a product of one block entry from each stage. Rows also have norm 1.

Source: derived here.
"""

from __future__ import annotations

import math

import numpy as np

import structmat as sm
from structmat.linalg.factors import matrix_of
from theory._tools import every_network, rounding
from theory.perfect_mixing import flat_rotation

NUMBER = "T42"
STATUS = "proved"


def check() -> str:
    """Test all small networks and random ones with random blocks, and flat mixed radices."""
    rng = np.random.default_rng(0)
    small = [net for d, m in [(2, 2), (3, 2), (4, 2)] for net in every_network(d, m)]
    wide = [sm.random(120, 4, m, rng=m) for m in (1, 2, 3)]
    wide += [sm.shuffle(120, 8, 2), sm.gossip(64), sm.brickwall(40, 6)]
    for net in [*small, *wide]:
        pattern = sm.reach(net)
        for dtype in (float, complex):
            r = np.abs(matrix_of(net, sm.random_blocks(net, rng, dtype))) ** 2
            slack = rounding(net)
            assert (r.max(axis=0) >= 1 / pattern.sum(axis=0) - slack).all(), net
            assert (r.max(axis=1) >= 1 / pattern.sum(axis=1) - slack).all(), net
        largest = max((bank.radix for bank in net.banks), default=1)
        assert pattern.sum(axis=0).max() <= largest**net.depth, net
    for radices in [(2, 2, 2, 2), (3, 4, 5), (8, 3, 2), (6, 6)]:
        net = sm.mixed_radix(math.prod(radices), radices)
        for m in range(net.depth + 1):
            n = math.prod(radices[:m])
            energies = np.abs(flat_rotation(net[:m], rng)) ** 2
            assert (sm.reach(net[:m]).sum(axis=0) == n).all(), (radices, m)
            assert np.abs(energies[sm.reach(net[:m])] - 1 / n).max() <= rounding(net), (radices, m)
    return f"{len(small)} small networks, {len(wide)} wide ones, flat blocks of 4 mixed radices"
