"""Undirected graphs as networks: a proper edge colouring, each colour a stage of 2×2 switches."""

from __future__ import annotations

from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from structmat.errors import GraphError, whole
from structmat.network import Network
from structmat.stage import Bank, Stage

if TYPE_CHECKING:
    import networkx as nx

Edge: TypeAlias = tuple[int, int]


def from_graph(graph: nx.Graph, repeat: int = 1) -> Network:
    """Return the network whose 2×2 switches are the edges of an undirected graph.

    The edges are coloured so that no two at a node agree; each colour is a stage. A bipartite
    graph of largest degree Δ gets Δ stages (Kőnig), any other Δ or Δ + 1 (Vizing).

    The wires are the nodes in sorted order, or in the order of insertion where they cannot be
    sorted; an isolated node is an idle wire, and a graph without edges is the identity. Edges
    are coloured from the shortest stride (the difference of their wires) to the longest, each
    with the first colour that is free, and the stages follow the colours. So a hypercube gives
    the butterfly, a path the two stages of the brick-wall mesh, and equal graphs equal networks.
    A complete graph gives the rounds of a round-robin tournament. Weights and other attributes
    are not looked at.

    Parameters
    ----------
    graph : networkx.Graph
        Undirected, without self-loops or parallel edges.
    repeat : int
        How many times the stages follow each other, at least 1.

    Raises
    ------
    GraphError
        For a directed graph, a multigraph, a self-loop, no nodes, or anything but a graph.

    References
    ----------
    V. G. Vizing, On an estimate of the chromatic class of a p-graph, 1964.
    J. Misra and D. Gries, A constructive proof of Vizing's theorem, 1992.

    Examples
    --------
    >>> import networkx as nx
    >>> from structmat.families import butterfly
    >>> from_graph(nx.hypercube_graph(4)) == butterfly(16)
    True
    >>> from_graph(nx.path_graph(6), repeat=3)
    Network(width=6, depth=6, parameters=15)
    """
    times = whole(repeat, "repeat", 1)
    _check(graph)
    nodes = _in_order(graph)
    width = len(nodes)
    wire = {node: i for i, node in enumerate(nodes)}
    edges = [(min(wire[a], wire[b]), max(wire[a], wire[b])) for a, b in graph.edges]
    if len(edges) == width * (width - 1) // 2:
        colours = _rounds(width)
    else:
        edges.sort(key=lambda edge: (edge[1] - edge[0], edge[0]))
        colours = _coloured(width, edges)
    return Network(width, [Stage(width, [Bank(pairs)]) for pairs in colours]).repeat(times)


def _check(graph: Any) -> None:
    import networkx as nx

    if not isinstance(graph, nx.Graph):
        raise GraphError(
            f"a {type(graph).__name__}: from_graph takes an undirected networkx.Graph;"
            " networkx.Graph(edges) makes one from a list of pairs"
        )
    if graph.is_directed():
        raise GraphError(
            "a directed graph: a switch joins its wires both ways, so from_graph takes an"
            " undirected graph; give graph.to_undirected(), or a layered graph to from_layers"
        )
    if graph.is_multigraph():
        raise GraphError(
            "a multigraph: from_graph takes one switch for each pair of nodes;"
            " networkx.Graph(graph) drops parallel edges, and repeat= repeats all of them"
        )
    if len(graph) == 0:
        raise GraphError("a graph without nodes: a network has at least 1 wire; add a node")
    loop = next(nx.selfloop_edges(graph), None)
    if loop is not None:
        raise GraphError(
            f"node {loop[0]!r} is joined to itself: a switch joins two wires; remove it with"
            " graph.remove_edges_from(list(networkx.selfloop_edges(graph)))"
        )


def _in_order(graph: nx.Graph) -> list[Any]:
    """Return the nodes sorted, or as inserted where `<` does not order them all."""
    try:
        nodes = sorted(graph)
        if all(a < b for a, b in pairwise(nodes)):  # sets compare, but only by inclusion
            return nodes
    except (TypeError, ValueError):
        pass
    return list(graph)


def _rounds(width: int) -> list[list[Edge]]:
    """Return the rounds in which everyone meets everyone: width − 1 of them, or width if odd.

    The circle method: i and j meet in round i + j. Of an even number, the last sits in the
    middle and meets whoever would have to meet himself.
    """
    rounds = width - 1 + width % 2
    met: list[list[Edge]] = [[] for _ in range(rounds)]
    for i in range(width):
        for j in range(i + 1, width):
            met[(2 * i if j == rounds else i + j) % rounds].append((i, j))
    return [pairs for pairs in met if pairs]


def _coloured(width: int, edges: list[Edge]) -> list[list[Edge]]:
    """Return the edges by colour, each colour a matching in order of its wires."""
    degree = [0] * width
    for edge in edges:
        for node in edge:
            degree[node] += 1
    most = max(degree, default=0)
    colouring = _Colouring(width)
    for u, v in edges:
        colouring.add(u, v, most)
    classes: list[list[Edge]] = [[] for _ in range(most + 1)]
    for u, neighbours in enumerate(colouring.along):
        for colour, v in neighbours.items():
            if u < v:
                classes[colour].append((u, v))
    return [pairs for pairs in classes if pairs]


class _Colouring:
    """A proper colouring that grows by one edge at a time, recolouring others when it must."""

    def __init__(self, width: int) -> None:
        self.along: list[dict[int, int]] = [{} for _ in range(width)]  # colour → neighbour
        self.lowest = [0] * width  # the first colour that is free at each node

    def add(self, u: int, v: int, most: int) -> None:
        """Colour the edge uv, if possible with the first `most` colours, else with one more.

        Neither node may have `most` edges yet. A bipartite graph never needs the fan: there the
        alternating path from v arrives on the side of u only along the colour that u lacks.
        """
        a, b = self.lowest[u], self.lowest[v]
        for colour in range(max(a, b), most):
            if colour not in self.along[u] and colour not in self.along[v]:
                self.set(u, v, colour)
                return
        path = self.path(v, a, b)
        if path[-1] != u:
            self.flip(path, a, b)
            self.set(u, v, a)
        elif not (self.fan(u, v, most) or self.fan(v, u, most)):
            self.fan(u, v, most + 1)  # more colours than any degree: never stuck

    def fan(self, u: int, v: int, palette: int) -> bool:
        """Colour uv by Vizing's fan of edges at u; False, and no change, where it is stuck.

        The fan turns: each of its edges takes a colour that is free at its outer end, and so
        frees its own colour for the edge before it. It is stuck at an outer end where the
        whole palette is taken.
        """
        ends, free = [v], [self.lowest[v]]  # the edge to ends[k + 1] has the colour free[k]
        place = {v: 0}
        while True:
            if free[-1] >= palette:
                return False
            following = self.along[u].get(free[-1])
            if following is None:  # free at u too
                return self.turn(u, ends, free)
            if following in place:
                break
            place[following] = len(ends)
            ends.append(following)
            free.append(self.lowest[following])
        # Two ends lack the colour d and u lacks c. Of the paths in c and d that start at the
        # two ends, only one can finish at u: exchange c and d along the other.
        c, d = self.lowest[u], free[-1]
        last = place[following] - 1
        path = self.path(ends[last], c, d)
        if path[-1] == u:
            last = len(ends) - 1
            path = self.path(ends[last], c, d)
        self.flip(path, c, d)
        return self.turn(u, ends[: last + 1], [*free[:last], c])

    def turn(self, u: int, ends: list[int], colours: list[int]) -> bool:
        """Give the edges from u to the ends these colours, all but the last taken from the next."""
        for end, colour in zip(ends[1:], colours[:-1], strict=True):
            self.clear(u, end, colour)
        for end, colour in zip(ends, colours, strict=True):
            self.set(u, end, colour)
        return True

    def path(self, start: int, colour: int, other: int) -> list[int]:
        """Follow the two colours in turn, from a node that lacks the other one, to the end."""
        nodes = [start]
        while (following := self.along[nodes[-1]].get(colour)) is not None:
            nodes.append(following)
            colour, other = other, colour
        return nodes

    def flip(self, path: list[int], colour: int, other: int) -> None:
        """Exchange the two colours along a whole path."""
        steps = list(pairwise(path))
        for (x, y), old in zip(steps, cycle((colour, other)), strict=False):
            self.clear(x, y, old)
        for (x, y), new in zip(steps, cycle((other, colour)), strict=False):
            self.set(x, y, new)

    def set(self, u: int, v: int, colour: int) -> None:
        for x, y in ((u, v), (v, u)):
            self.along[x][colour] = y
            while self.lowest[x] in self.along[x]:
                self.lowest[x] += 1

    def clear(self, u: int, v: int, colour: int) -> None:
        for x in (u, v):
            del self.along[x][colour]
            self.lowest[x] = min(self.lowest[x], colour)
