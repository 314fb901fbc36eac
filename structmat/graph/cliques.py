"""Cliques of a graph as switches: the edges are partitioned into stages of disjoint cliques."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import combinations, islice
from typing import TYPE_CHECKING, TypeAlias

from structmat.errors import GraphError
from structmat.graph.edge_colouring import Edge

if TYPE_CHECKING:
    import networkx as nx

Clique: TypeAlias = tuple[int, ...]

_MOST = 100_000  # limit on the maximal cliques, in addition to the number of edges


def clique_partition(width: int, edges: Iterable[Edge]) -> list[Clique]:
    """Return edge-disjoint cliques that cover all edges, larger ones first.

    Each is a largest clique of the graph that remains, the first such clique in wire order.

    Raises
    ------
    GraphError
        If the graph has too many maximal cliques to enumerate.

    Examples
    --------
    >>> clique_partition(4, [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)])
    [(0, 1, 2), (1, 3), (2, 3)]
    """
    import networkx as nx

    rest: nx.Graph[int] = nx.Graph()
    rest.add_nodes_from(range(width))
    rest.add_edges_from(edges)
    partition: list[Clique] = []
    while rest.number_of_edges():
        cliques = _maximal(rest)
        largest = max(map(len, cliques))
        if largest == 2:
            return partition + sorted(tuple(sorted(edge)) for edge in rest.edges)
        # Removing edges creates no new clique of this size, so one pass removes all of them.
        for clique in sorted(clique for clique in cliques if len(clique) == largest):
            pairs = list(combinations(clique, 2))
            if all(rest.has_edge(*pair) for pair in pairs):
                rest.remove_edges_from(pairs)
                partition.append(clique)
    return partition


def _maximal(graph: nx.Graph[int]) -> list[Clique]:
    import networkx as nx

    most = graph.number_of_edges() + _MOST
    found = [tuple(sorted(clique)) for clique in islice(nx.find_cliques(graph), most + 1)]
    if len(found) > most:
        raise GraphError(
            f"more than {most} maximal cliques: a graph of {len(graph)} nodes can have"
            " exponentially many, and all must be listed to find the largest; use"
            ' switches="edges", or pass the switches to Network.of'
        )
    return found


def clique_stages(width: int, cliques: Sequence[Clique]) -> list[list[Clique]]:
    """Return the cliques in stages such that the cliques of a stage are disjoint.

    Two heuristics are tried: first fit in order of increasing stride, and Brélaz's DSATUR, which
    always places a clique with the fewest stages available. The one with fewer stages is used,
    first fit in case of a tie.

    Examples
    --------
    >>> clique_stages(6, [(0, 1, 2), (3, 4, 5), (0, 3), (1, 4), (2, 5)])
    [[(0, 1, 2), (3, 4, 5)], [(0, 3), (1, 4), (2, 5)]]
    """
    ordered = sorted(cliques, key=lambda clique: (clique[1] - clique[0], clique))
    at: list[list[int]] = [[] for _ in range(width)]
    for number, clique in enumerate(ordered):
        for wire in clique:
            at[wire].append(number)
    stages = _first_fit(width, ordered)
    if max(stages) >= max(map(len, at)):  # a wire in k cliques needs k stages
        stages = min(stages, _saturated(ordered, at), key=max)
    found: list[list[Clique]] = [[] for _ in range(max(stages) + 1)]
    for stage, clique in zip(stages, ordered, strict=True):
        found[stage].append(clique)
    return [sorted(stage) for stage in found]


def _first_fit(width: int, cliques: list[Clique]) -> list[int]:
    """Return the stage of each clique as found by first fit."""
    taken: list[set[int]] = [set() for _ in range(width)]
    stages = []
    for clique in cliques:
        stage = _first_free(set().union(*(taken[wire] for wire in clique)))
        for wire in clique:
            taken[wire].add(stage)
        stages.append(stage)
    return stages


def _saturated(cliques: list[Clique], at: list[list[int]]) -> list[int]:
    """Return the stage of each clique as found by DSATUR: the most excluded stages go first."""
    excluded: list[set[int]] = [set() for _ in cliques]
    rivals = [sum(len(at[wire]) - 1 for wire in clique) for clique in cliques]
    stages = [-1] * len(cliques)
    waiting = [(0, -rivals[number], number) for number in range(len(cliques))]
    heapq.heapify(waiting)
    while waiting:
        _, _, number = heapq.heappop(waiting)
        if stages[number] >= 0:  # already placed, by an entry with more excluded stages
            continue
        stages[number] = stage = _first_free(excluded[number])
        for wire in cliques[number]:
            for other in at[wire]:
                if stages[other] < 0 and stage not in excluded[other]:
                    excluded[other].add(stage)
                    heapq.heappush(waiting, (-len(excluded[other]), -rivals[other], other))
    return stages


def _first_free(taken: set[int]) -> int:
    stage = 0
    while stage in taken:
        stage += 1
    return stage
