"""The number of parameters of many families has a closed form, such as ½(b−1)·d·m for BOFT.

Statement. A switch of r wires has r(r−1)/2 parameters, the dimension of SO(r). On d wires, the
following families therefore have these numbers of parameters:

    OFT, blocks of b                      d(b−1)/2
    BOFT(m, b), shuffle, Kautz, m stages  m·d(b−1)/2
    mixed radix r_1, …, r_n               d·Σ(r_t − 1)/2
    radix-2 butterfly, dense Knödel       (d/2)·⌈log₂ d⌉
    Monarch, blocks of p and q            d(p + q − 2)/2
    Beneš, d = 2^n                        (2n−1)·d/2
    Waksman, n = ⌈log₂ d⌉                 d·n − 2^n + 1
    Clos, blocks of p, q and p            d(2p + q − 3)/2
    ruler, brick-wall, triangle, round-robin, one switch     d(d−1)/2
    gossip, d ≥ 4                         2d − 4

The first two lines, applied to every linear layer of every block of a transformer, with an output
scale and a bias for each adapted layer, yield the counts reported in the BOFT paper: 0.79M and
0.75M for DeBERTaV3-base (OFT with blocks of 16, BOFT(2, 8)); 2.10M, 1.99M, 1.77M and 1.11M for
DINOv2-large (OFT with 16, BOFT(2, 8), BOFT(4, 4), BOFT(6, 2)).

Proof. Count the switches of each stage. The number for Waksman's network is ⌈log₂ 1⌉ + … + ⌈log₂
d⌉, by the recursion w(d) = w(⌊d/2⌋) + w(⌈d/2⌉) + d − 1.

Source: Liu et al., arXiv 2311.06243, for the counts of models; A. Waksman 1968.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import comb, prod

import structmat as sm

NUMBER = "T20"
STATUS = "proved"

DEBERTA = 12 * [*5 * [768], 3072]  # inputs: q, k, v, o and up of width 768, down of 3072
DINO = 24 * [*5 * [1024], 4096]
OUTPUTS = {"DeBERTaV3-base": 82_944, "DINOv2-large": 221_184}
REPORTED = [
    ("DeBERTaV3-base", DEBERTA, "block_diagonal(block=16)", 0.79),
    ("DeBERTaV3-base", DEBERTA, "butterfly(block=8, depth=2)", 0.75),
    ("DINOv2-large", DINO, "block_diagonal(block=16)", 2.10),
    ("DINOv2-large", DINO, "butterfly(block=8, depth=2)", 1.99),
    ("DINOv2-large", DINO, "butterfly(block=4, depth=4)", 1.77),
    ("DINOv2-large", DINO, "butterfly(block=2, depth=6)", 1.11),
]


def check() -> str:
    """Count switches of these families at many widths, and the layers of the paper's models."""
    cases = 0
    for net, formula in _networks():
        counted = sum(bank.count * comb(bank.radix, 2) for bank in net.banks)
        assert counted == net.parameters == formula, net
        cases += 1
    for model, inputs, spec, reported in REPORTED:
        rotations = sum(sm.parse(spec)(width).parameters for width in inputs)
        trained = rotations + 2 * OUTPUTS[model]
        assert round(trained / 1e6, 2) == reported, (model, spec, trained)
    return f"{cases} networks of 15 families, {len(REPORTED)} counts reported in the paper"


def _networks() -> Iterator[tuple[sm.Network, int]]:
    for d in range(2, 100):
        full = comb(d, 2)
        yield sm.brickwall(d), full
        yield sm.families.triangle(d), full
        yield sm.families.round_robin(d), full
        yield sm.block_diagonal(d, d), full
        n = (d - 1).bit_length()
        yield sm.families.waksman(d), d * n - 2**n + 1
        assert d * n - 2**n + 1 == _by_halves(d)
        if d >= 4:
            yield sm.gossip(d), 2 * d - 4
        if d % 2 == 0:
            yield sm.families.knodel(d), d // 2 * n
        if d & (d - 1) == 0:
            yield sm.ruler(d), full
            yield sm.butterfly(d), d // 2 * n
            yield sm.benes(d), (2 * n - 1) * d // 2
        for b in (2, 3, 4, 6):
            if d % b:
                continue
            yield sm.block_diagonal(d, b), d * (b - 1) // 2
            for m in (1, 2, 3):
                each = m * d * (b - 1) // 2
                yield sm.shuffle(d, b, m), each
                yield sm.families.kautz(d, b, m), each
                if b % 2 == 0 and d % (b << (m - 1)) == 0:
                    yield sm.butterfly(d, b, m), each
    for radices in [(2, 3), (4, 3, 5), (2,) * 6, (7, 2), (6, 6)]:
        d = prod(radices)
        yield sm.mixed_radix(d, radices), d * sum(r - 1 for r in radices) // 2
        if len(radices) == 2:
            p, q = radices
            yield sm.monarch(d, radices), d * (p + q - 2) // 2
            yield sm.families.clos(d, radices), d * (2 * p + q - 3) // 2


@cache
def _by_halves(width: int) -> int:
    return 0 if width == 1 else _by_halves(width // 2) + _by_halves(-(-width // 2)) + width - 1
