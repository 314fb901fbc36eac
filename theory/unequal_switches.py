"""Refuted: with unequal switches, three stages can be dense with fewer than 3·d^(4/3) non-zeros.

Statement. If the radices within a stage may differ, a dense network of three stages can have fewer
than the 3·d·d^(1/3) non-zeros that equal radices need.

Refutation. By T8, a dense network of m ≤ 3 stages has at least m·d·d^(1/m) non-zeros, whatever the
radices.

The statement is true of general layers. Let the first layer connect every input to wire 0, the
second leave all wires idle, and the third connect wire 0 to every output, where each wire also
continues straight through every layer. Then every input has a path to every output, and there are
(2d − 1) + d + (2d − 1) = 5d − 2 edges, which is below the bound for d ≥ 4. But no orthogonal matrix
has the support of such a first or third layer, the diagonal plus one full row or column, because
two rows of it overlap in exactly one column (T27).

With four stages, unequal switches do suffice. On 18 wires, for example, join the wires in pairs,
mix one wire of each pair in two stages of switches of radix 3, and join the same pairs again. This
takes 144 non-zeros, whereas equal radices need at least 4·18·18^(1/4) ≈ 148.3.

Source: derived here.
"""

from __future__ import annotations

import networkx as nx

import structmat as sm
from theory.edges_by_depth import gathered

NUMBER = "T36"
STATUS = "refuted"


def through_one_wire(width: int) -> nx.DiGraph:
    """Return the grid graph of the three layers that connect everything through wire 0."""
    graph = nx.DiGraph()
    for t in range(3):
        graph.add_edges_from(((t, i), (t + 1, i)) for i in range(width))
    graph.add_edges_from(((0, i), (1, 0)) for i in range(width))
    graph.add_edges_from(((2, 0), (3, i)) for i in range(width))
    return graph


def check() -> str:
    """Count the edges of the layers, which `from_layers` must reject; verify the four stages."""
    for d in range(3, 40):
        graph = through_one_wire(d)
        edges = graph.number_of_edges()
        assert edges == 5 * d - 2
        assert all(nx.has_path(graph, (0, j), (3, i)) for j in range(d) for i in range(d))
        assert (edges**3 < (3 * d) ** 3 * d) == (d >= 4), d
        try:
            sm.from_layers(graph)
        except sm.StructmatError:
            continue
        raise AssertionError(f"from_layers accepted the layers of {d} wires")
    net = gathered(2, (3, 3))
    assert sm.is_dense(net)
    assert (net.width, net.depth, net.nonzeros) == (18, 4, 144)
    assert net.nonzeros**4 < (4 * net.width) ** 4 * net.width
    return "layers of 3 to 39 wires, and a network of four stages on 18 wires"
