"""Undirected graphs as networks: nodes are wires, edges or cliques are switches."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from structmat.errors import GraphError, whole
from structmat.graph.cliques import clique_partition, clique_stages
from structmat.graph.colouring import edge_colouring
from structmat.graph.nodes import in_order
from structmat.network import Network
from structmat.stage import Stage

if TYPE_CHECKING:
    import networkx as nx


def from_graph(
    graph: nx.Graph[Any],  # nodes of any type, which Graph is invariant in
    repeat: int = 1,
    switches: str = "edges",
    *,
    nodelist: Iterable[Hashable] | None = None,
) -> Network:
    """Return the network whose switches are the edges, or cliques, of an undirected graph.

    The edges are coloured so that no two at a node agree; each colour is a stage. A bipartite
    graph of largest degree Δ gets Δ stages (Kőnig), any other Δ or Δ + 1 (Vizing). Where Δ
    suffice, recolouring nearly always finds them: for every graph of up to 7 nodes it does.

    The wires are the nodes in sorted order, and bear their names as `labels` (unless these are
    0 … d−1). Nodes that `<` does not order are sorted by kind and value: numbers, strings, tuples
    and frozensets by their elements, anything else by type and repr; nodes that repr does not tell
    apart, or by an address only, follow as they were inserted. So equal graphs without such nodes
    give equal networks. An isolated node is an idle wire, and a graph without edges is the
    identity. Weights and other attributes are not looked at.

    Edges are coloured from the shortest stride (the difference of their wires) to the longest,
    each with the first colour that is free, and the stages follow the colours. So a hypercube
    gives the butterfly, a path the two stages of the brick-wall mesh. A complete graph gives the
    rounds of a round-robin tournament.

    With ``switches="cliques"``, nodes that are all joined to each other meet in one switch: the
    edges are partitioned into cliques, a largest one of what remains at a time (ties by wires),
    and stages hold cliques without a common node. So a Hamming graph gives the mixed-radix
    butterfly, and a complete graph one switch. Without triangles it is the same as edges.

    Parameters
    ----------
    graph : networkx.Graph
        Undirected, without self-loops or parallel edges.
    repeat : int
        How many times the stages follow each other, at least 1.
    switches : {"edges", "cliques"}
        Whether a switch joins the two nodes of an edge, or all nodes of a clique.
    nodelist : iterable of nodes, optional
        Every node once: the wires in this order, as in networkx's `to_numpy_array`, instead of
        sorted. It renames the wires and nothing else: the stages are those of the sorted nodes.

    Raises
    ------
    GraphError
        For a directed graph, a multigraph, a self-loop, no nodes, or anything but a graph; with
        cliques, where it has over 100,000 maximal cliques more than edges; for a nodelist that
        leaves a node out, names one twice, or names what is no node.

    References
    ----------
    V. G. Vizing, On an estimate of the chromatic class of a p-graph, 1964.
    J. Misra and D. Gries, A constructive proof of Vizing's theorem, 1992.
    D. Brélaz, New methods to color the vertices of a graph, 1979, for the stages of cliques.

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
    times = whole(repeat, "repeat", 1)
    if switches not in ("edges", "cliques"):
        raise GraphError(f'switches={switches!r}: it must be "edges" or "cliques"')
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
    """Return the nodes in the order asked for, as the graph has them."""
    rule = "list every node of the graph once, or leave nodelist out to have them sorted"
    if not isinstance(nodelist, Iterable):
        raise GraphError(f"nodelist={nodelist!r}: {rule}")
    own = {node: node for node in graph}
    listed: dict[Any, Any] = {}
    for node in nodelist:
        if not isinstance(node, Hashable) or node not in own:
            raise GraphError(f"nodelist: {node!r} is no node of the graph; {rule}")
        if node in listed:
            raise GraphError(f"nodelist: {node!r} is there twice; {rule}")
        listed[node] = own[node]
    missing = [node for node in own if node not in listed]
    if missing:
        count = f"{len(missing)} of {len(own)} nodes"
        raise GraphError(f"nodelist: {missing[0]!r} is missing, as {count} are; {rule}")
    return list(listed.values())


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
