"""The lines of affine space over b elements reach the dimension of SO(d) in (d−1)/(b−1) stages.

Statement. Let b be a power of a prime and d = b^n. The lines of the n-dimensional affine space over
the field of b elements form (d−1)/(b−1) classes of parallel lines, each a partition of the d points
into d/b lines. With one class per stage, the first m stages have dimension m·d(b−1)/2, the number
of their parameters, and all stages have dimension d(d−1)/2. No network with radices up to b has
more dimensions in m stages, for any m.

Proof. Two points are on exactly one line, so no two wires meet twice, and by T2 the dimension is at
least the number of pairs that meet, which is the number of parameters. A stage of switches of at
most b wires has at most d(b−1)/2 parameters (T13).

Source: the geometry is classical; the link is derived here.
"""

from __future__ import annotations

from itertools import combinations
from math import comb

import structmat as sm
from structmat.families import affine
from theory._tools import switches

NUMBER = "T58"
STATUS = "proved"


def check() -> str:
    """Count how often every two wires meet, and compute dimensions."""
    cases = 0
    for block in (2, 3, 4, 5, 7, 8, 9, 16):
        width = block
        while width <= 260:
            net = affine(width, block=block)
            met: dict[tuple[int, int], int] = {}
            for stage in switches(net):
                for row in stage:
                    for pair in combinations(sorted(row), 2):
                        met[pair] = met.get(pair, 0) + 1
            assert len(met) == comb(width, 2) == net.parameters, net
            assert set(met.values()) == {1}, net
            assert net.depth == (width - 1) // (block - 1)
            if width <= 64:
                for m in range(1, net.depth + 1, max(1, net.depth // 4)):
                    found = sm.dimension(net[:m], largest=0)
                    assert found.lower == m * width * (block - 1) // 2, (net, m)
            width, cases = width * block, cases + 1
    return f"{cases} affine spaces of up to 256 points"
