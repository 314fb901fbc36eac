"""Bounds on the rank of submatrices of R, from minimum cuts of the network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from structmat.errors import WiringError
from structmat.families.resolution import checked
from structmat.networks import permutation
from structmat.networks.network import Network
from structmat.networks.permutation import Index


def rank_bound(net: Network, outputs: npt.ArrayLike, inputs: npt.ArrayLike) -> int:
    """Return the maximum rank of R[outputs, inputs] over all blocks: the size of a minimum cut.

    A cut is a set of wires whose removal, each at some point along it, separates the inputs from
    the outputs. The rank of R[outputs, inputs] never exceeds the size of a minimum cut, and equals
    it for almost all blocks: by Menger's theorem there are as many paths without a common wire as
    a minimum cut has wires; switches that swap wires can route inputs to outputs along all of
    these; and a rank that some blocks attain is attained or exceeded by almost all. For one input
    and one output, the bound is 1 if a path exists and 0 otherwise.

    By the Eckart–Young theorem, the Frobenius distance from R to a matrix A is therefore, for all
    blocks, at least the distance from A[outputs, inputs] to the nearest matrix of this rank.

    Parameters
    ----------
    net : Network
    outputs, inputs : sequences of integers
        Rows and columns of R, without repetition.

    Raises
    ------
    WiringError
        If a value is not a wire of the network, or is repeated.

    References
    ----------
    K. Menger, Zur allgemeinen Kurventheorie, Fundamenta Mathematicae 10, 1927.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> net = butterfly(16)
    >>> rank_bound(net, range(8), range(8)), rank_bound(net, range(0, 16, 2), range(8))
    (8, 4)
    >>> rank_bound(net[:3], range(8), range(8, 16))
    0
    """
    net = checked(net, "rank_bound")
    return int(rank_bounds(net, [(outputs, inputs)])[0])


def rank_bounds(net: Network, pairs: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]) -> Index:
    """Return `rank_bound` for each of several pairs, preprocessing the network only once.

    A pair is (outputs, inputs), as in `rank_bound`.

    Returns
    -------
    (pairs,) int64

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> rank_bounds(butterfly(16), [(range(0, 16, 2), range(k)) for k in (2, 4, 8, 16)])
    array([1, 2, 4, 8])
    """
    net = checked(net, "rank_bounds")
    wiring = _wiring(net)
    flows = [_flow(wiring.between(outputs, inputs)).flow_value for outputs, inputs in pairs]
    return np.array(flows, dtype=np.int64)


def cut(net: Network, outputs: npt.ArrayLike, inputs: npt.ArrayLike) -> Index:
    """Return a minimum set of wires whose removal separates the inputs from the outputs.

    Returns
    -------
    (k, 2) int64
        Nodes (t, wire) of the grid graph `net.to_networkx()`: the wire after stage t, or the input
        wire if t is 0. Among all minimum cuts, this is the one nearest the inputs.

    Examples
    --------
    >>> neck = Network.of(6, [[[0, 1, 2]], [[2, 3]], [[3, 4, 5]]])
    >>> cut(neck, outputs=[3, 4, 5], inputs=[0, 1, 2])
    array([[1, 2]])
    """
    net = checked(net, "cut")
    wiring = _wiring(net)
    links = wiring.between(outputs, inputs)
    free = links.graph - _flow(links).flow
    free.eliminate_zeros()
    near = np.zeros(free.shape[0], dtype=bool)
    near[
        scipy.sparse.csgraph.breadth_first_order(free, links.source, return_predecessors=False)
    ] = True
    crossing = wiring.starts[links.segments[near[links.tails] & ~near[links.heads]]]
    return crossing[np.lexsort(crossing.T[::-1])]


class _Links(NamedTuple):
    """The segments that can lie on a path from the inputs, as one node, to the outputs, as one."""

    graph: scipy.sparse.csr_array  # the number of segments from each node to each other node
    segments: Index
    tails: Index
    heads: Index
    source: int  # represents all inputs
    sink: int  # represents all outputs


class _Wiring(NamedTuple):
    """A graph of the switches, whose edges are segments of wires between switches.

    Removing any node of the grid graph within a segment has the same effect, so a minimum set of
    nodes is a minimum set of segments. Switches are numbered first, then inputs and outputs.
    """

    switches: int
    width: int
    tails: Index
    heads: Index
    starts: Index  # (segments, 2): the first node (t, wire) of each segment in the grid graph

    def between(self, outputs: npt.ArrayLike, inputs: npt.ArrayLike) -> _Links:
        source, sink = self.switches, self.switches + 1
        node = np.full(self.switches + 2 * self.width, -1)
        node[: self.switches] = np.arange(self.switches)
        node[self.switches + _once(inputs, self.width, "inputs")] = source
        node[self.switches + self.width + _once(outputs, self.width, "outputs")] = sink
        segments = np.flatnonzero((node[self.tails] >= 0) & (node[self.heads] >= 0))
        tails, heads = node[self.tails[segments]], node[self.heads[segments]]
        one = np.ones(len(segments), dtype=np.int32)
        shape = (sink + 1, sink + 1)
        graph = scipy.sparse.coo_array((one, (tails, heads)), shape=shape).tocsr()
        return _Links(graph, segments, tails, heads, source, sink)


def _wiring(net: Network) -> _Wiring:
    wires = permutation.identity(net.width)
    switches = sum(bank.count for bank in net.banks)
    writer, start = switches + wires, np.stack([np.zeros_like(wires), wires], axis=1)
    parts = []
    first = 0
    for t, stage in enumerate(net.stages, 1):
        after, begun = writer.copy(), start.copy()
        left, arrived = stage.moves.T
        after[arrived], begun[arrived] = writer[left], start[left]
        for bank in stage.banks:
            reads, writes = bank.reads.ravel(), bank.writes.ravel()
            switch = first + np.arange(len(reads)) // bank.radix
            parts.append((writer[reads], switch, start[reads]))
            after[writes] = switch
            begun[writes, 0], begun[writes, 1] = t, writes
            first += bank.count
        writer, start = after, begun
    parts.append((writer, switches + net.width + wires, start))
    tails, heads, starts = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Wiring(switches, net.width, tails, heads, starts)


def _flow(links: _Links) -> Any:
    return scipy.sparse.csgraph.maximum_flow(links.graph, links.source, links.sink)


def _once(values: npt.ArrayLike, width: int, name: str) -> Index:
    wires = permutation.some(values, width, name)
    if len(np.unique(wires)) < len(wires):
        raise WiringError(f"{name}: a wire is repeated; give each wire once")
    return wires
