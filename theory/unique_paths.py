"""Perfect mixing with (d/2)·log₂ d parameters means unique paths: 1 topology at d = 4, 3 at d = 8.

Statement. A network on d = 2^n wires mixes perfectly with (d/2)·log₂ d parameters, the fewest (T9),
if and only if, up to moving switches past idle wires, it has n stages of d/2 switches of radix 2
and one path from each input to each output. All such networks have (d/2)·log₂ d dimensions and the
same moments E[R_ij²] = 1/d and d²·E[R_ij⁴] = (3/2)^n. Up to relabelling the wires of each column,
the butterfly is the only one on 4 wires. On 8 wires there are three: the butterfly; the network in
which stages 1 and 2 form one ring of eight switches, and stages 2 and 3 two rings of four; and the
reverse of that.

Proof. Equality in the proof of T9 requires log₂ r = r − 1, so r = 2, at every switch, and a
Jensen–Shannon divergence of 1 bit, which means that the two rows that a switch averages have
disjoint supports: no input has a path to both wires. So there is at most one path from an input to
an output, hence exactly one, and its weight 2^(−length) is 1/d: it has n switches. If a path of i
switches leads to a wire, and k follow, then i + k = n; so all paths to a switch have the same
number i of switches before it. Put it into stage i + 1. Every wire is a path from its input to its
output, so it is in a switch of each stage. Conversely, if there is one path, of n switches, then
W_ij = 2^(−n). No two switches have the same pair of wires, since there would be two paths, so by T2
the dimension is the number of parameters. An entry of R is the product of n independent entries of
Haar rotations, which have the moments 1/2 and 3/8 (T11).

For the classes, consider the graph whose vertices are the switches, with an edge for each wire
between a switch of one stage and one of the next. Every switch of stages t and t + 1 has two of the
edges between them, and no edge is double, because there would be two paths. So these edges form
cycles, of even length at least four, through the d/2 switches of either stage. For d = 4 there is
one cycle of four. For d = 8 there are two of four or one of eight, on each side of the middle
stage, whose switches are A, B, C, D. A switch of stage 1 leads to two of these, which must have no
switch of stage 3 in common, because all four of them must be reached, each exactly once. If stages
2 and 3 form two rings of four, two pairs of middle switches, say {A, B} and {C, D}, share both
their switches of stage 3, and stage 1 joins one of A, B to one of C, D, which can be done by two
rings of four or by one of eight, A C B D; all choices are equal up to relabelling. If they form a
ring of eight, A and B, B and C, C and D, D and A share a switch of stage 3, so stage 1 joins A to C
and B to D, in two rings of four.

Source: networks with unique paths are called banyans, L. R. Goke and G. J. Lipovski 1973; that not
all are isomorphic to the butterfly is classical, see J.-C. Bermond, J.-M. Fourneau and A.
Jean-Marie 1987. The link to mixing is derived here.
"""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np

import structmat as sm
from structmat.analysis.mixing import fourth_moments
from theory._tools import even_partitions, packed, pairs

NUMBER = "T52"
STATUS = "proved"


def rings(net: sm.Network) -> tuple[tuple[int, ...], ...]:
    """Return the sorted numbers of switches on the cycles between each stage and the next."""
    found = []
    for before, after in itertools.pairwise(pairs(net)):
        graph = nx.Graph()
        owner = {w: pair for pair in after for w in pair}
        for pair in before:
            graph.add_edges_from((("before", pair), ("after", owner[w])) for w in pair)
        found.append(tuple(sorted(map(len, nx.connected_components(graph)))))
    return tuple(found)


def all_unique(width: int) -> list[sm.Network]:
    """Return the networks of log₂ d stages of pairs with unique paths that begin as a butterfly.

    All others are equal to one of them up to a relabelling of the wires.
    """
    stages = [(parts, _layer(width, parts)) for parts in even_partitions(width, 2)]
    begin = sm.butterfly(width).stages[0]
    some = [([begin], _layer(width, begin.banks[0].reads.tolist()))]
    for _ in range(width.bit_length() - 2):
        some = [
            ([*before, sm.Stage(width, [sm.Bank(parts)])], layer @ paths)
            for before, paths in some
            for parts, layer in stages
            if (layer @ paths).max() == 1
        ]
    return [sm.Network(width, chosen) for chosen, _ in some]


def check() -> str:
    """Enumerate all sequences of four switches on 4 wires, and three stages of pairs on 8."""
    found = _four_wires()
    classes: dict[tuple[tuple[int, ...], ...], sm.Network] = {}
    nets = all_unique(8)
    for net in nets:
        first = classes.setdefault(rings(net), net)
        assert sm.isomorphism(net, first, ends=True) is not None, net
    fours, eight = (4, 4), (8,)
    assert set(classes) == {(fours, fours), (eight, fours), (fours, eight)}
    assert rings(sm.butterfly(8)) == (fours, fours)
    assert sm.isomorphism(classes[eight, fours].T, classes[fours, eight], ends=True) is not None
    for net in classes.values():
        assert sm.mixing(net) < 1e-12, net
        assert sm.dimension(net).lower == net.parameters == 12, net
        assert np.allclose(64 * fourth_moments(net), 1.5**3, rtol=0, atol=1e-12), net
    return f"{found} networks on 4 wires, {len(nets)} on 8 that begin alike, {len(classes)} classes"


def _four_wires() -> int:
    """Compare mixing with unique paths for all sequences of four switches on 4 wires."""
    switches = list(itertools.combinations(range(4), 2))
    butterfly = sm.butterfly(4)
    found = 0
    for chosen in itertools.product(switches, repeat=4):
        rows, paths = np.eye(4), np.eye(4, dtype=np.int64)
        for pair in map(list, chosen):
            rows[pair], paths[pair] = rows[pair].mean(axis=0), paths[pair].sum(axis=0)
        perfect = bool((rows == 1 / 4).all())
        assert perfect == bool((paths == 1).all()), chosen
        if perfect:
            net = packed(4, chosen)
            assert sm.isomorphism(net, butterfly, ends=True) is not None, chosen
            found += 1
    return found


def _layer(width: int, parts: list[list[int]]) -> np.ndarray:
    layer = np.zeros((width, width), dtype=np.int64)
    for part in parts:
        layer[np.ix_(part, part)] = 1
    return layer
