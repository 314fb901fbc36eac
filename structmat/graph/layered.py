"""Conversion of layered grid graphs: which 0/1 patterns are allowed, and completion of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from structmat.errors import GraphError, StructmatError, abbreviated, checked_integer
from structmat.graph.bipartite_patterns import Layer, refusal
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage

if TYPE_CHECKING:
    import networkx as nx

Node: TypeAlias = tuple[int, int]


def from_layers(digraph: nx.DiGraph[Node], incomplete: str = "error") -> Network:
    """Return the network of a layered grid graph, as returned by `Network.to_networkx`.

    The nodes are pairs (t, wire); an edge (t, j) → (t+1, i) means that entry (i, j) of factor t+1
    may be non-zero. A layer is a stage if each of its connected components is complete. The
    component is then a switch that reads the sources and writes the targets, and is straight if
    these are the same wires. Any other layer is rejected for the first of these reasons that
    applies:

    1. It has no perfect matching: some wires have too few sources (Hall).
    2. Two rows, or two columns, of the factor overlap in a single position, so they cannot be
       orthogonal (quadrangularity).
    3. It passes both tests but is not complete. Which of these patterns orthogonal matrices can
       have is unknown in general, and complete switches cannot represent such a pattern.

    The smallest stage that contains a layer is unique: it completes every component. With
    ``incomplete="complete"`` that stage is used; `completion` lists the additional edges.

    A component of one edge is a wire in no switch, or, if the attribute `switch` of the edge is set
    (not None), a switch of radix 1. If every node of column 0 has an attribute `label`, it becomes
    the label of its wire.

    Parameters
    ----------
    digraph : networkx.DiGraph
        A graph whose nodes are all (t, wire) with t = 0 … depth and wire = 0 … width − 1. The graph
        attributes `width` and `depth` are checked if present, and inferred otherwise.
    incomplete : {"error", "complete"}
        Whether an incomplete component raises an error or is completed.

    Raises
    ------
    GraphError
        If a layer is not a stage, the graph is not layered, or `incomplete` is invalid.

    References
    ----------
    L. B. Beasley, R. A. Brualdi and B. L. Shader, Combinatorial orthogonality, 1993.

    Examples
    --------
    >>> import networkx as nx
    >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> from_layers(net.to_networkx()) == net
    True
    >>> shift = nx.DiGraph(((0, j), (1, i % 3)) for j in range(3) for i in (j, j + 1))
    >>> from_layers(shift)
    Traceback (most recent call last):
    ...
    structmat.errors.GraphError: layer 0→1: wires 0 and 1 of column 1 have wire 0 of column 0 as ...
    >>> from_layers(shift, incomplete="complete")
    Network(width=3, depth=1, parameters=3)
    """
    if incomplete not in ("error", "complete"):
        raise GraphError(f'incomplete={abbreviated(incomplete)}: it must be "error" or "complete"')
    width, layers = _read(digraph)
    _check(layers, completing=incomplete == "complete")
    labels = [digraph.nodes[0, wire].get("label") for wire in range(width)]
    labelled = all(label is not None for label in labels)
    stages = [_stage(layer, digraph) for layer in layers]
    return Network(width, stages, labels=labels if labelled else None)


def completion(digraph: nx.DiGraph[Node]) -> list[tuple[Node, Node]]:
    """Return the edges that complete each component of a layered grid graph, in order.

    They are the smallest set of edges whose addition makes every layer a stage, and are those that
    ``from_layers(digraph, incomplete="complete")`` adds.

    Raises
    ------
    GraphError
        If a component has more wires on one side than on the other, or the graph is not layered.

    Examples
    --------
    >>> import networkx as nx
    >>> completion(nx.DiGraph([((0, 0), (1, 0)), ((0, 1), (1, 0)), ((0, 1), (1, 1))]))
    [((0, 0), (1, 1))]
    """
    width, layers = _read(digraph)
    _check(layers, completing=True)
    added = []
    for layer in layers:
        present = layer.sources * width + layer.targets
        for part in np.flatnonzero(layer.incomplete):
            sources = np.flatnonzero(layer.left == part)
            every = (sources[:, None] * width + np.flatnonzero(layer.right == part)).ravel()
            absent = np.setdiff1d(every, present).tolist()
            added += [((layer.t, k // width), (layer.t + 1, k % width)) for k in absent]
    return sorted(added)


def _check(layers: list[Layer], *, completing: bool) -> None:
    for layer in layers:
        reason = refusal(layer, completing=completing)
        if reason is not None:
            raise GraphError(f"layer {layer.t}→{layer.t + 1}: {reason}")


def _read(digraph: Any) -> tuple[int, list[Layer]]:
    """Return the width and the layers of a grid graph, after validating it."""
    width, depth = _grid(digraph)
    edges = np.array([(*a, *b) for a, b in digraph.edges], dtype=np.int64).reshape(-1, 4)
    edges = edges[np.lexsort(edges.T[::-1])]
    astray = np.flatnonzero(edges[:, 2] != edges[:, 0] + 1)
    if len(astray):
        s, j, t, i = edges[astray[0]].tolist()
        raise GraphError(
            f"edge ({s}, {j}) → ({t}, {i}): every edge leads from a column to the next; route it"
            " through a node of each column in between, or reverse it"
        )
    parts = np.split(edges, np.searchsorted(edges[:, 0], np.arange(1, depth))) if depth else []
    return width, [Layer.of(t, width, part[:, 1], part[:, 3]) for t, part in enumerate(parts)]


def _grid(digraph: Any) -> tuple[int, int]:
    """Return the width and depth of a graph whose nodes form a complete grid."""
    import networkx as nx

    if not isinstance(digraph, nx.DiGraph) or digraph.is_multigraph():
        raise GraphError(
            f"graph of type {type(digraph).__name__}: from_layers takes a networkx.DiGraph on nodes"
            " (t, wire); for an undirected graph use from_graph"
        )
    if len(digraph) == 0:
        raise GraphError("a graph without nodes: a network has at least 1 wire; add node (0, 0)")
    nodes = {_place(node) for node in digraph}
    width = _extent(digraph, "width", 1 + max(wire for _, wire in nodes), least=1)
    depth = _extent(digraph, "depth", max(t for t, _ in nodes), least=0)
    outside = min((node for node in nodes if node[0] > depth or node[1] >= width), default=None)
    if outside is not None:
        raise GraphError(
            f"node {outside} is outside the grid: according to its attributes the graph has columns"
            f" 0 to {depth} of wires 0 to {width - 1}; correct the node or graph.graph"
        )
    if len(nodes) < width * (depth + 1):
        grid = ((t, wire) for t in range(depth + 1) for wire in range(width))
        missing = next(node for node in grid if node not in nodes)
        raise GraphError(
            f"node {missing} is missing: a grid graph has every node (t, wire), here {depth + 1}"
            f" columns of {width} wires; a wire in no switch also has an edge"
            " (t, wire) → (t+1, wire)"
        )
    return width, depth


def _place(node: Any) -> Node:
    try:
        t, wire = node
        return checked_integer(t, "t"), checked_integer(wire, "wire")
    except (TypeError, ValueError):
        raise GraphError(
            f"node {abbreviated(node)}: the nodes of a grid graph are pairs (t, wire) of integers"
            " ≥ 0; relabel it with networkx.relabel_nodes"
        ) from None


def _extent(digraph: nx.DiGraph[Node], name: str, inferred: int, *, least: int) -> int:
    stated = digraph.graph.get(name)
    if stated is None:
        return inferred
    try:
        return checked_integer(stated, name, least)
    except StructmatError as error:
        raise GraphError(f"graph attribute {error}; correct it or delete it") from None


def _stage(layer: Layer, digraph: nx.DiGraph[Node]) -> Stage:
    """Return the stage with one switch for each component, as if it were complete.

    A single edge is a switch of radix 1 if its attribute `switch` is set, and an idle wire
    otherwise.
    """
    size = layer.sizes[0]
    sources = np.argsort(layer.left, kind="stable")  # by component, then by wire
    targets = np.argsort(layer.right, kind="stable")
    of_each = size[layer.left[sources]]
    banks, moves = [], None
    for radix in np.unique(size)[::-1]:
        reads = sources[of_each == radix].reshape(-1, radix)
        writes = targets[of_each == radix].reshape(-1, radix)
        order = np.argsort(reads[:, 0])
        if radix > 1:
            banks.append(Bank(reads[order], writes[order]))
        else:
            edges = np.hstack([reads[order], writes[order]])
            ends = (((layer.t, i), (layer.t + 1, j)) for i, j in edges.tolist())
            given = [digraph.edges[edge].get("switch") is not None for edge in ends]
            switched = np.array(given, dtype=bool)
            if switched.any():
                banks.append(Bank(edges[switched, :1], edges[switched, 1:]))
            moves = edges[~switched]
    return Stage(len(layer.left), banks, moves)
