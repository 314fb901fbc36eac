"""Dense networks of m stages have at least m·d·d^(1/m) non-zeros if m ≤ 3 or radices are equal.

Statement. Let N_t be the number of non-zeros of stage t, with an idle wire counting 1. A dense
network of m stages has ΣN_t ≥ m·d^(1+1/m) (1) if no wire is idle and all switches of each stage
have the same radix, and (2) with any switches, if m ≤ 3. (3) For every m ≥ 4 there are dense
networks with fewer.

The bound does not hold for layers that admit no orthogonal matrix: 5d − 2 edges in three layers
suffice to connect every input to every output through one wire (T36).

Proof. (1) At most ∏r_t inputs influence an output, so ∏r_t ≥ d; N_t = d·r_t; apply the inequality
of arithmetic and geometric means. (2) N_t = Σ|S|² over the switches and idle wires S of stage t.
Draw an input x and an output y independently and uniformly; let S be the switch of x in the first
stage and T that of y in the last. The entropy of (x, y) is 2·log d = H(S, T) + E log|S| + E log|T|,
and by Jensen E log|S| ≤ log E|S| = log(N_1/d), and likewise for T. For m = 2 every two switches S,
T share a wire, so (S, T) is a function of that wire and H(S, T) ≤ log d. For m = 3 some switch U of
the middle stage contains a wire of S and one of T, so (S, T) is a function of an ordered pair of
wires of one U, and H(S, T) ≤ log N_2. So N_1·N_2 ≥ d³ or N_1·N_2·N_3 ≥ d⁴, respectively, and the
claim follows by the AM–GM inequality. For m = 1 there is one switch. (3) Let s·g = d. Join the
wires in groups of s, mix one wire of each group in a mixed-radix network of m − 2 stages with
radices near g^(1/(m−2)), and join the same groups again. This takes about 2·d·s +
(m−2)·g^(1+1/(m−2)) + m·d non-zeros. At s = d^(1/(2m−3)) this is of the order d^(1+1/(2m−3)), and 2m
− 3 > m exactly for m > 3, so for large d it is below the bound.

Source: (1) is in the GSOFT paper, arXiv 2406.10019; (2) and (3) are derived here.
"""

from __future__ import annotations

import itertools

import numpy as np

import structmat as sm
from theory._tools import layers

NUMBER = "T8"
STATUS = "proved"


def gathered(size: int, radices: tuple[int, ...]) -> sm.Network:
    """Return the network of part (3): groups of this size are mixed through their first wires."""
    groups = sm.mixed_radix(int(np.prod(radices)), radices)
    width = size * groups.width
    ends = sm.block_diagonal(width, size).stages[0]
    middle = [
        sm.Stage(width, [sm.Bank(bank.reads * size) for bank in stage.banks])
        for stage in groups.stages
    ]
    return sm.Network(width, [ends, *middle, ends])


def check() -> str:
    """Enumerate the networks of up to three stages and five wires; verify the counterexamples."""
    dense = sum(_dense(width, depth) for width in (2, 3, 4, 5) for depth in (1, 2, 3))
    examples = [
        gathered(2, (3, 3)),  # 18 wires: 144 non-zeros, not 149
        gathered(3, (4, 4)),
        gathered(4, (8, 8)),
        gathered(2, (4, 4, 4)),  # five stages
        gathered(2, (4, 4, 4, 4)),  # six
    ]
    for net in examples:
        assert sm.is_dense(net), net
        assert net.nonzeros**net.depth < (net.depth * net.width) ** net.depth * net.width, net
    for width in range(4, 200, 2):
        for net in (sm.families.knodel(width), sm.shuffle(width, 2), sm.mixed_radix(width)):
            m = net.depth
            assert net.nonzeros**m >= (m * width) ** m * width, net
    return f"{dense} dense networks of up to 5 wires and 3 stages, {len(examples)} counterexamples"


def _dense(width: int, depth: int) -> int:
    """Count the dense networks of this size, each of which must satisfy the bound."""
    stages = layers(width)
    counts = stages.sum(axis=(1, 2))
    found = 0
    for chosen in itertools.product(range(len(stages)), repeat=depth - 1):
        paths = np.eye(width, dtype=np.int64)
        for k in chosen:
            paths = stages[k] @ paths
        full = (stages @ paths).min(axis=(1, 2)) > 0
        edges = [sum(int(counts[k]) for k in chosen) + int(n) for n in counts[full]]
        for n in edges:
            assert n**depth >= (depth * width) ** depth * width, (width, chosen, n)
        found += len(edges)
    return found
