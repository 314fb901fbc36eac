"""Reflections made rotations: signs sent along the wires between switches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from structmat.blocks import Array
from structmat.network import Network


def rotated(net: Network, blocks: Sequence[Array]) -> list[Array]:
    """Return blocks of the same product, real ones of determinant 1 where that can be.

    A wire between two switches may be negated at both: the product stays, and both determinants
    change. Along the branches of a spanning tree, from the leaves on, this makes rotations of all
    switches that wires connect but one, and of that one where their determinants multiply to 1.

    Parameters
    ----------
    net : Network
        Straight.
    blocks : one (n, r, r) array of orthogonal blocks for each bank

    Examples
    --------
    >>> net = Network.of(2, [[[0, 1]], [[0, 1]]])
    >>> swap = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    >>> [np.linalg.det(b).tolist() for b in rotated(net, [swap, swap])]
    [[1.0], [1.0]]
    """
    made = [np.array(array) for array in blocks]
    if any(np.iscomplexobj(array) for array in made):
        return made
    flat = [block for array in made for block in array]
    links: dict[tuple[int, int], tuple[int, int]] = {}  # places of the wire in both switches
    last: dict[int, tuple[int, int]] = {}  # the switch that a wire has left, and its place there
    switches = [wires for bank in net.banks for wires in bank.reads.tolist()]
    for number, wires in enumerate(switches):
        for place, wire in enumerate(wires):
            if wire in last:
                links.setdefault((last[wire][0], number), (last[wire][1], place))
            last[wire] = (number, place)
    odd = np.array([np.linalg.det(block) < 0 for block in flat])
    seen = np.zeros(len(flat), dtype=bool)
    ends = np.array(list(links), dtype=np.int64).reshape(-1, 2).T
    entries = (np.ones(ends.shape[1]), (ends[0], ends[1]))
    graph = scipy.sparse.coo_array(entries, shape=(len(flat),) * 2).tocsr()
    for root in range(len(flat)):
        if seen[root]:
            continue
        order, before = scipy.sparse.csgraph.breadth_first_order(graph, root, directed=False)
        seen[order] = True
        for switch in order[:0:-1].tolist():
            if odd[switch]:
                parent = int(before[switch])
                early, late = min(switch, parent), max(switch, parent)
                row, column = links[early, late]
                flat[early][row] *= -1
                flat[late][:, column] *= -1
                odd[switch] = False
                odd[parent] ^= True
    return made
