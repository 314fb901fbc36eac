"""A layer with balanced components has a unique smallest stage that contains it.

Statement. Consider a layer of a grid graph as a bipartite graph of d inputs and d outputs, and let
every connected component be balanced, that is, have as many outputs as inputs. The stage with one
switch per component contains all edges of the layer, and every stage that contains the layer
contains this stage. It equals the layer exactly when every component is complete. If some component
is not balanced, the layer admits no orthogonal matrix, and there may be several minimal stages that
contain it.

Proof. Each edge of a stage lies within one switch, so each component of the layer lies in one
switch, which contains all edges between its wires. The switches of the components are balanced, so
they form a stage. A component with more or fewer inputs than outputs has no perfect matching
(Hall), so every term of the determinant is zero. A layer of three inputs and outputs whose only
edges lead from one input to two outputs is contained in two minimal stages, one for each input that
may join the component.

Source: derived here; P. Hall 1935 for matchings.
"""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np

import structmat as sm
from theory._tools import layers

NUMBER = "T40"
STATUS = "proved"


def stages(width: int) -> np.ndarray:
    """Return the 0/1 pattern of every stage, including wired ones."""
    orders = itertools.permutations(range(width))
    wired = np.concatenate([layers(width)[:, list(order)] for order in orders])
    return np.unique(wired, axis=0)


def drawn(pattern: np.ndarray) -> nx.DiGraph:
    """Return the grid graph of a layer: entry (i, j) is the edge from input j to output i."""
    graph = nx.DiGraph()
    graph.add_nodes_from((t, wire) for t in range(2) for wire in range(len(pattern)))
    graph.add_edges_from(((0, int(j)), (1, int(i))) for i, j in np.argwhere(pattern))
    return graph


def check() -> str:
    """Compare completions with all stages, for all layers of three wires and many of four."""
    rng = np.random.default_rng(0)
    every = [np.reshape(bits, (3, 3)) for bits in itertools.product([0, 1], repeat=9)]
    some = [
        (rng.random((4, 4)) < share).astype(int) for share in (0.2, 0.3, 0.5) for _ in range(150)
    ]
    known = {width: stages(width) for width in (3, 4)}
    balanced = 0
    for pattern in [*every, *some]:
        graph = drawn(pattern)
        around = [s for s in known[len(pattern)] if (s >= pattern).all()]
        least = min(int(s.sum()) for s in around)
        smallest = [s for s in around if s.sum() == least]
        parts = nx.weakly_connected_components(graph)
        if all(sum(1 - 2 * t for t, _ in part) == 0 for part in parts):
            (only,) = smallest
            assert all((s >= only).all() for s in around), pattern
            added = {(i, j) for (_, j), (_, i) in sm.completion(graph)}
            assert added == {tuple(place) for place in np.argwhere(only > pattern).tolist()}, (
                pattern
            )
            net = sm.from_layers(graph, incomplete="complete")
            assert np.array_equal(sm.reach(net), only > 0), pattern
            balanced += 1
        else:
            matching = nx.bipartite.maximum_matching(
                graph.to_undirected(), [(0, j) for j in range(len(pattern))]
            )
            assert len(matching) < 2 * len(pattern), pattern
            try:
                sm.completion(graph)
            except sm.StructmatError:
                continue
            raise AssertionError(pattern)
    star = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0]])
    around = [s for s in known[3] if (s >= star).all()]
    least = min(int(s.sum()) for s in around)
    assert sum(s.sum() == least for s in around) == 2
    return f"all layers of 3 wires and 450 of 4; {balanced} of them are balanced"
