"""Conversion of undirected graphs: nodes are wires, edges or cliques are switches."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from structmat.errors import GraphError, abbreviated, checked_integer
from structmat.graph.cliques import clique_partition, clique_stages
from structmat.graph.edge_colouring import edge_colouring
from structmat.graph.node_order import in_order
from structmat.networks.network import Network
from structmat.networks.stage import Stage

if TYPE_CHECKING:
    import networkx as nx


def from_graph(
    graph: nx.Graph[Any],  # nodes of any type; Graph is invariant in its node type, hence Any
    repeat: int = 1,
    switches: str = "edges",
    *,
    nodelist: Iterable[Hashable] | None = None,
) -> Network:
    """Return the network whose switches are the edges, or cliques, of an undirected graph.

    The edges are given a proper colouring, and each colour becomes a stage. A bipartite graph of
    maximum degree Δ takes Δ colours (Kőnig), any other graph Δ or Δ + 1 (Vizing). When Δ colours
    suffice, recolouring almost always finds such a colouring, and always does for graphs with up to
    7 nodes.

    The wires are the nodes in sorted order, and the nodes become the `labels` (unless they are
    0 … d−1). Nodes that `<` does not order are sorted by kind and value: first numbers, then
    strings, then tuples and frozensets by their elements, then other objects by type and repr.
    Nodes with the same repr, or with a memory address in their repr, come last, in insertion order;
    equal graphs without such nodes are converted to equal networks. An isolated node becomes an
    idle wire, and a graph without edges the identity. Weights and other attributes are ignored.

    Edges are coloured in order of increasing stride (the difference between the two wire numbers),
    each with the first free colour, and the stages follow the order of the colours. A hypercube
    thus becomes the butterfly, a path the two stages of the brick-wall mesh, and a complete graph
    the rounds of a round-robin tournament.

    With ``switches="cliques"``, mutually adjacent nodes are joined by one switch: the edges are
    partitioned into cliques by repeatedly taking a largest clique of the remaining graph, with ties
    broken by wire order, and the cliques of a stage have no node in common. A Hamming graph thus
    becomes the mixed-radix butterfly, and a complete graph one switch. For graphs without triangles
    the result is the same as with edges.

    Parameters
    ----------
    graph : networkx.Graph
        An undirected graph without self-loops or parallel edges.
    repeat : int
        The number of repetitions of the stages, at least 1.
    switches : {"edges", "cliques"}
        Whether a switch joins the two nodes of an edge, or all nodes of a clique.
    nodelist : iterable of nodes, optional
        All nodes, each once, in the order that the wires should have, as in networkx's
        `to_numpy_array`. The default is sorted order. The list only renumbers the wires: the
        stages are found with the nodes in sorted order.

    Raises
    ------
    GraphError
        If `graph` is directed, a multigraph, empty, has a self-loop, or is not a graph; if
        `switches` is "cliques" and the number of maximal cliques exceeds the number of edges by
        more than 100,000; if `switches` is invalid; if `nodelist` omits or repeats a node, or
        contains anything else.
    StructmatError
        If `repeat` is not a positive integer.

    References
    ----------
    V. G. Vizing, On an estimate of the chromatic class of a p-graph, 1964.
    J. Misra and D. Gries, A constructive proof of Vizing's theorem, 1992.
    D. Brélaz, New methods to color the vertices of a graph, 1979 (the stages of cliques).

    Examples
    --------
    >>> import networkx as nx
    >>> from structmat.families import butterfly, mixed_radix
    >>> from_graph(nx.hypercube_graph(4)) == butterfly(16)
    True
    >>> from_graph(nx.path_graph(6), repeat=3)
    Network(width=6, depth=6, parameters=15)
    >>> from_graph(nx.path_graph(3), nodelist=[2, 0, 1]).labels
    (2, 0, 1)
    >>> rooks = nx.cartesian_product(nx.complete_graph(4), nx.complete_graph(3))
    >>> from_graph(rooks, switches="cliques") == mixed_radix(12, (3, 4))
    True
    """
    times = checked_integer(repeat, "repeat", 1)
    if switches not in ("edges", "cliques"):
        raise GraphError(f'switches={abbreviated(switches)}: it must be "edges" or "cliques"')
    _check(graph)
    nodes = in_order(graph)
    listed = nodes if nodelist is None else _listed(graph, nodelist)
    width = len(nodes)
    wire = {node: i for i, node in enumerate(nodes)}
    edges = [(min(wire[a], wire[b]), max(wire[a], wire[b])) for a, b in graph.edges]
    cliques = clique_partition(width, edges) if switches == "cliques" else []
    stages: Sequence[Sequence[Sequence[int]]]
    if any(len(clique) > 2 for clique in cliques):
        stages = clique_stages(width, cliques)
    else:
        stages = edge_colouring(width, edges)
    if nodelist is not None:
        place = {node: i for i, node in enumerate(listed)}
        renamed = [place[node] for node in nodes]
        stages = [sorted(sorted(renamed[i] for i in joined) for joined in s) for s in stages]
    return Network(
        width,
        [Stage.of(width, stage) for stage in stages] * times,
        labels=None if listed == list(range(width)) else listed,
    )


def _listed(graph: nx.Graph[Any], nodelist: Any) -> list[Any]:
    """Return the nodes in the requested order, as the graph's own node objects."""
    rule = "list every node of the graph once, or omit nodelist for sorted order"
    if not isinstance(nodelist, Iterable):
        raise GraphError(f"nodelist={abbreviated(nodelist)}: {rule}")
    own = {node: node for node in graph}
    listed: dict[Any, Any] = {}
    for node in nodelist:
        if not isinstance(node, Hashable) or node not in own:
            raise GraphError(f"nodelist: {abbreviated(node)} is not a node of the graph; {rule}")
        if node in listed:
            raise GraphError(f"nodelist: {abbreviated(node)} is repeated; {rule}")
        listed[node] = own[node]
    missing = [node for node in own if node not in listed]
    if missing:
        count = f"{len(missing)} of {len(own)} nodes missing"
        raise GraphError(f"nodelist: {abbreviated(missing[0])} is missing ({count}); {rule}")
    return list(listed.values())


def _check(graph: Any) -> None:
    import networkx as nx

    if not isinstance(graph, nx.Graph):
        raise GraphError(
            f"graph of type {type(graph).__name__}: from_graph takes an undirected networkx.Graph;"
            " networkx.Graph(edges) makes one from a list of pairs"
        )
    if graph.is_directed():
        raise GraphError(
            "a directed graph: a switch joins its wires both ways, so from_graph takes an"
            " undirected graph; use graph.to_undirected(), or from_layers for a layered graph"
        )
    if graph.is_multigraph():
        raise GraphError(
            "a multigraph: from_graph makes one switch per pair of adjacent nodes;"
            " networkx.Graph(graph) drops parallel edges, and repeat= repeats all of them"
        )
    if len(graph) == 0:
        raise GraphError("a graph without nodes: a network has at least 1 wire; add a node")
    loop = next(nx.selfloop_edges(graph), None)
    if loop is not None:
        raise GraphError(
            f"node {abbreviated(loop[0])} is joined to itself: a switch joins two wires; remove"
            " self-loops with graph.remove_edges_from(list(networkx.selfloop_edges(graph)))"
        )
