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
    graph: nx.Graph[Any],  # nodes of any type, which Graph is invariant in
    repeat: int = 1,
    switches: str = "edges",
    *,
    nodelist: Iterable[Hashable] | None = None,
) -> Network:
    """Return the network whose switches are the edges, or cliques, of an undirected graph.

    The edges are coloured properly, and each colour is a stage. A bipartite graph of maximum degree
    Δ gets Δ stages (Kőnig), any other Δ or Δ + 1 (Vizing). If Δ suffice, recolouring nearly always
    achieves this, including for every graph of up to 7 nodes.

    The wires are the nodes in sorted order, with the nodes as `labels` (unless these are 0 … d−1).
    Nodes that `<` does not order are sorted by kind and value: numbers, strings, tuples and
    frozensets by their elements, other objects by type and repr; nodes that repr does not
    distinguish, or only by an address, follow in order of insertion. Equal graphs without such
    nodes therefore give equal networks. An isolated node is an idle wire, and a graph without edges
    is the identity. Weights and other attributes are ignored.

    Edges are coloured from the shortest stride (the difference of their wires) to the longest, each
    with the first free colour, and the stages follow the colours. A hypercube thus gives the
    butterfly, a path the two stages of the brick-wall mesh, and a complete graph the rounds of a
    round-robin tournament.

    With ``switches="cliques"``, mutually adjacent nodes are joined by one switch: the edges are
    partitioned into cliques, always taking a largest one of the remaining graph (ties by wires),
    and stages hold cliques without common nodes. A Hamming graph thus gives the mixed-radix
    butterfly, and a complete graph one switch. Without triangles the result is the same as with
    edges.

    Parameters
    ----------
    graph : networkx.Graph
        Undirected, without self-loops or parallel edges.
    repeat : int
        The number of repetitions of the stages, at least 1.
    switches : {"edges", "cliques"}
        Whether a switch joins the two nodes of an edge, or all nodes of a clique.
    nodelist : iterable of nodes, optional
        Every node once: the order of the wires, as in networkx's `to_numpy_array`, instead of
        sorted order. It only renumbers the wires: the stages are those of the sorted nodes.

    Raises
    ------
    GraphError
        For a directed graph, a multigraph, a self-loop, no nodes, or anything but a graph; with
        cliques, if it has over 100,000 more maximal cliques than edges; for a nodelist that omits a
        node, repeats one, or contains something else.

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
    """Return the nodes in the requested order, as they are in the graph."""
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
        count = f"{len(missing)} of {len(own)} nodes"
        raise GraphError(f"nodelist: {abbreviated(missing[0])} is missing, as {count} are; {rule}")
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
            " undirected graph; use graph.to_undirected(), or from_layers for a layered graph"
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
            f"node {abbreviated(loop[0])} is joined to itself: a switch joins two wires; remove it"
            " with graph.remove_edges_from(list(networkx.selfloop_edges(graph)))"
        )
