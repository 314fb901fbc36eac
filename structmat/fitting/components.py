"""Which wires the first stages of a network connect, and which the last."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from scipy.sparse import csgraph

from structmat.network import Network
from structmat.permutation import Index, identity
from structmat.stage import Stage


def connected(net: Network) -> list[Index]:
    """Return for t = 0, …, m the number of each wire's component when stages 1 … t join wires.

    Parameters
    ----------
    net : Network
        Straight.

    Examples
    --------
    >>> connected(Network.of(3, [[[0, 1]], [[1, 2]]]))
    [array([0, 1, 2]), array([0, 0, 1]), array([0, 0, 0])]
    """
    labels = [identity(net.width)]
    for stage in net.stages:
        labels.append(_joined(labels[-1], stage))
    return labels


def _joined(label: Index, stage: Stage) -> Index:
    """Return the components when the switches of one more stage join them."""
    starts = [label[bank.reads[:, :1]].repeat(bank.radix, axis=1).ravel() for bank in stage.banks]
    ends = [label[bank.reads].ravel() for bank in stage.banks]
    if not starts:
        return label
    links = (np.concatenate(starts), np.concatenate(ends))
    size = int(label.max()) + 1
    graph = scipy.sparse.coo_array((np.ones(len(links[0]), bool), links), shape=(size, size))
    joined = csgraph.connected_components(graph, directed=False)[1]
    return np.asarray(joined[label], dtype=np.int64)


def groups(label: Index) -> list[Index]:
    """Return the wires of each component.

    Examples
    --------
    >>> groups(np.array([0, 1, 0]))
    [array([0, 2]), array([1])]
    """
    order = np.argsort(label, kind="stable")
    return np.split(order, np.cumsum(np.bincount(label))[:-1])
