"""Refuted: unequal switches can be dense in three stages with fewer than 3·d^(4/3) non-zeros.

Statement. If the radices within a stage may differ, dense networks of three stages can have fewer
non-zeros than the 3·d·d^(1/3) that equal radices need.

Refutation. By T8 no network has fewer than m·d·d^(1/m) for m ≤ 3. The statement is true of general
layers: a star from all d inputs into one wire, a layer of idle wires, and a star to all outputs
have a path from each input to each output and 5d − 2 edges, fewer than the bound from d = 4 on. But
no orthogonal matrix has a star as its support, since two of its rows overlap in exactly one place
(T27). For switches, the analogous statement is true of four stages, for example at 18 wires: gather
pairs, mix the nine resulting wires in threes twice, and gather again.

Source: derived here.
"""

from __future__ import annotations

import networkx as nx

import structmat as sm
from theory.edges_by_depth import gathered

NUMBER = "T36"
STATUS = "refuted"


def stars(width: int) -> nx.DiGraph:
    """Return the grid graph of the two stars with idle wires between them."""
    graph = nx.DiGraph()
    for t in range(3):
        graph.add_edges_from(((t, i), (t + 1, i)) for i in range(width))
    graph.add_edges_from(((0, i), (1, 0)) for i in range(width))
    graph.add_edges_from(((2, 0), (3, i)) for i in range(width))
    return graph


def check() -> str:
    """Count the edges of the stars, check that they are rejected, and verify four stages."""
    for d in range(3, 40):
        graph = stars(d)
        edges = graph.number_of_edges()
        assert edges == 5 * d - 2
        assert all(nx.has_path(graph, (0, j), (3, i)) for j in range(d) for i in range(d))
        assert (edges**3 < (3 * d) ** 3 * d) == (d >= 4), d
        try:
            sm.from_layers(graph)
        except sm.StructmatError:
            continue
        raise AssertionError(f"a star of {d} wires was taken for a stage")
    net = gathered(2, (3, 3))
    assert sm.is_dense(net)
    assert net.nonzeros**4 < (4 * net.width) ** 4 * net.width
    return "stars of 3 to 39 wires, and a network of 18 wires and four stages"
