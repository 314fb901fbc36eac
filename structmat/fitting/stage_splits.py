"""Connected components of the wires under the leading and the trailing stages of a network."""

from __future__ import annotations

import numpy as np

from structmat.networks.components import joined
from structmat.networks.network import Network
from structmat.networks.permutation import Index, identity


def connected(net: Network) -> list[Index]:
    """Return, for t = 0, …, m, the component of each wire when stages 1 … t join the wires.

    Parameters
    ----------
    net : Network
        A straight network.

    Examples
    --------
    >>> connected(Network.of(3, [[[0, 1]], [[1, 2]]]))
    [array([0, 1, 2]), array([0, 0, 1]), array([0, 0, 0])]
    """
    labels = [identity(net.width)]
    for stage in net.stages:
        labels.append(joined(labels[-1], (bank.reads for bank in stage.banks)))
    return labels


def groups(label: Index) -> list[Index]:
    """Return the wires of each component.

    Examples
    --------
    >>> groups(np.array([0, 1, 0]))
    [array([0, 2]), array([1])]
    """
    order = np.argsort(label, kind="stable")
    return np.split(order, np.cumsum(np.bincount(label))[:-1])
