"""Signs that turn the blocks of a routed permutation into rotations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from structmat.networks.permutation import Index, identity
from structmat.routing.clos_levels import Plan


def negations(plan: Plan, held: Index, odd: list[npt.NDArray[np.bool_]]) -> list[Index]:
    """Return signs for the signals that enter each switch, such that every block is a rotation.

    A switch with an odd permutation must negate an odd number of its signals, and any other switch
    an even number; each signal should be negated an even number of times along its path. The
    negations therefore form a T-join in the bipartite graph of switches and signals. In a spanning
    forest, starting from the leaves, each node that is still odd takes the edge to its parent. Only
    the parity of each component then remains, at its root: the signal that arrives at the last
    output of the component.

    Parameters
    ----------
    plan : Plan
    held : (depth + 1, width)
        The signal on each wire before the first stage and after each.
    odd : list of (n,) bool, one for each bank
        Which switches permute their signals by an odd permutation.

    Returns
    -------
    list of (n, r) of 1 and −1, one for each bank
    """
    width = plan.net.width
    entering = [held[t][wires] for t, banks in enumerate(plan.stages) for wires in banks]
    counts = [len(signals) for signals in entering]
    first = width + np.cumsum([0, *counts])  # nodes: the signals, the switches, a common root
    above = int(first[-1])
    roots = _roots(plan, held[-1])
    switches = [
        np.repeat(start + identity(len(signals)), signals.shape[1])
        for start, signals in zip(first, entering, strict=False)
    ]
    tails = np.concatenate([*switches, np.full(len(roots), above)])
    heads = np.concatenate([*(signals.ravel() for signals in entering), roots])
    graph = scipy.sparse.csr_array(
        (np.ones(len(tails), dtype=np.int8), (tails, heads)), shape=(above + 1, above + 1)
    )
    order, parents = scipy.sparse.csgraph.breadth_first_order(graph, above, directed=False)
    parity = np.concatenate([np.zeros(width, dtype=bool), *odd, [False]]).tolist()
    parent = parents.tolist()
    for node in order[:0:-1].tolist():
        parity[parent[node]] ^= parity[node]
    taken = np.flatnonzero(parity[:above])
    ends = np.sort(np.stack([taken, parents[taken]]), axis=0)  # (signal, switch) of each edge
    ends = ends[:, ends[1] < above]
    signs = []
    for start, signals in zip(first, entering, strict=False):
        sign = np.ones(signals.shape, dtype=np.int64)
        here = (ends[1] >= start) & (ends[1] < start + len(signals))
        row = ends[1, here] - start
        sign[row, (signals[row] == ends[0, here, None]).argmax(axis=1)] = -1
        signs.append(sign)
    return signs


def _roots(plan: Plan, target: Index) -> Index:
    """Return the signal that arrives at the last output of each component."""
    last = np.zeros(plan.components.max() + 1, dtype=np.int64)
    last[plan.components[plan.outputs]] = target[plan.outputs]  # the last value written remains
    return last
