"""Stages of few large switches share pairs of wires, which bounds the dimension of m stages.

Statement. Let k_1, …, k_m be the numbers of parts of the stages, where a part is a switch or an
idle wire, and let no part have more than b of the d wires. Let P(k) be the largest number of pairs
of wires in common parts, over partitions into k parts of at most b wires, and N(k, l) the largest Σ
t(a, k) over the sizes a of partitions into l such parts, where t(a, k) is the number of edges of
Turán's graph, the complete k-partite graph on a nodes with parts as equal as possible. Then the
dimension is at most P(k_1) + N(k_1, k_2) + N(k_2, k_3) + …, and for m = 2 at most P(k_2) + N(k_2,
k_1), too. Both P and N are attained by partitions in which all parts but one have 1 or b wires.

Proof. By T2, the dimension is at most Σ|E_t| − Σ|E_t ∩ E_(t+1)| = |E_1| + Σ|E_(t+1) ∖ E_t|. A part
of a wires in stage t + 1 is divided among the k_t parts of stage t, and its pairs that are not in
E_t are those in different parts of stage t: at most t(a, k_t), the largest number of edges of a
k_t-partite graph. For m = 2 the two stages may exchange their roles. The sizes that maximise a sum
of a convex function, with a given sum and 1 ≤ a ≤ b, are extreme: moving a wire from a smaller to a
larger part does not decrease the sum. C(a, 2) is convex, and so is t(·, k), since t(a + 1, k) −
t(a, k) = a − ⌊a/k⌋ does not decrease with a.

Source: P. Turán 1941 for t(a, k); the bound is derived here.
"""

from __future__ import annotations

import itertools
from math import comb

import numpy as np

import structmat as sm
from structmat.analysis.most_dimensions import _extreme, _turan, most_dimensions
from theory._tools import partitions

NUMBER = "T59"
STATUS = "proved"


def check() -> str:
    """Compare t, the extreme partitions and the bound with enumerations."""
    for size, parts in itertools.product(range(9), range(1, 9)):
        classes = [i % parts for i in range(size)]
        edges = sum(a != b for a, b in itertools.combinations(classes, 2))
        assert _turan(size, parts)[size] == edges
    for width in range(1, 9):
        sizes = {tuple(sorted(map(len, p))) for p in partitions(list(range(width)))}
        for block, k in itertools.product(range(2, width + 1), range(1, width + 1)):
            counts = np.array(sorted({len(s) for s in sizes if max(s) <= block}))
            for values in (_turan(block, k), np.array([comb(a, 2) for a in range(block + 1)])):
                found = _extreme(width, block, counts, values)
                for count, most in zip(counts, found, strict=True):
                    tried = [s for s in sizes if len(s) == count and max(s) <= block]
                    assert most == max(sum(values[a] for a in s) for s in tried)
    cases = 0
    for width, block in [(8, 4), (16, 8), (64, 16), (24, 8), (30, 16)]:
        for spec in ("shuffle", "deal"):
            rule = sm.parse(f"{spec}(block={block}, depth=2)")
            if rule.accepts(width):
                assert sm.dimension(rule(width)).value <= most_dimensions(width, block, 2)
                cases += 1
    assert sm.dimension(sm.shuffle(64, 16)).value == most_dimensions(64, 16, 2)
    return f"all partitions of up to 8 wires, and {cases} networks of two stages"
