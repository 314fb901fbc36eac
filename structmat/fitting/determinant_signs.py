"""Conversion of reflections to rotations, by moving signs along wires between switches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from structmat.linalg.blocks import Array
from structmat.networks.network import Network


def rotated(net: Network, blocks: Sequence[Array]) -> list[Array]:
    """Return blocks with the same product, of determinant 1 if possible.

    A wire between two switches can be negated at both: the product does not change, but both
    determinants change sign. Along a spanning tree, starting from the leaves, this makes all but
    one of the connected switches rotations, and that one as well if the determinants multiply to 1.

    Parameters
    ----------
    net : Network
        A straight network.
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
    links: dict[tuple[int, int], tuple[int, int]] = {}  # positions of the wire in both switches
    last: dict[int, tuple[int, int]] = {}  # the last switch of each wire, and its position there
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
