"""Connected components of the wires of a network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import scipy

from structmat.networks.permutation import Index


def joined(label: Index, switches: Iterable[Index]) -> Index:
    """Return the component number of each wire after joining the wires of some switches.

    Parameters
    ----------
    label : (width,) integers from 0
        The current component of each wire.
    switches : iterable of (n, r) integers
        The wires of the switches, one array for each radix.

    Examples
    --------
    >>> joined(np.array([0, 1, 2, 2]), [np.array([[0, 3]])])
    array([0, 1, 0, 0])
    """
    rows = list(switches)
    if not rows:
        return label
    starts = np.concatenate([label[wires[:, :1]].repeat(wires.shape[1]) for wires in rows])
    ends = np.concatenate([label[wires].ravel() for wires in rows])
    size = int(label.max()) + 1
    links = (np.ones(len(starts), dtype=bool), (starts, ends))
    graph = scipy.sparse.coo_array(links, shape=(size, size))
    _, part = scipy.sparse.csgraph.connected_components(graph, directed=False)
    return np.asarray(part[label], dtype=np.int64)
