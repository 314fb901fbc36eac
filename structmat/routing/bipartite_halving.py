"""Assignment of signals to smaller networks: an edge colouring, by recursive halving.

The signals are the edges of a bipartite multigraph between the switches of a first and of a last
stage; the smaller networks between the two stages are the colours. As many signals of a switch must
go to each smaller network as the switch has wires that lead there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy

from structmat.networks.permutation import Index, identity

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shares:
    """The number of signals that each switch of a stage sends to each of two halves.

    Attributes
    ----------
    lower, upper : (switches,) the number of signals of each switch that go to each half
    """

    lower: Index
    upper: Index

    @cached_property
    def walkable(self) -> bool:
        """Whether each switch divides its signals equally, or has no choice."""
        choice = (self.lower > 0) & (self.upper > 0)
        return bool(np.array_equal(self.lower[choice], self.upper[choice]))

    @cached_property
    def mates(self) -> Index:
        """For signals sorted by switch, the partner in the other half, or the signal itself."""
        sizes = self.lower + self.upper
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        here = identity(len(starts))
        paired = np.repeat(self.lower == self.upper, sizes)
        return np.where(paired, starts + ((here - starts) ^ 1), here)

    @cached_property
    def fixed(self) -> Index:
        """For each switch, the half to which all its signals go, 0 or 1, or −1 if both are used."""
        return np.where(self.upper == 0, 0, np.where(self.lower == 0, 1, -1))


class Slots:
    """The smaller networks with numbers from `low` to `high`, and the wires that lead to them.

    Parameters
    ----------
    first, last : (wires,) the switch of each wire in the first and in the last stage
    slot : (wires,) the number of the smaller network to which each wire leads
    low, high : int
    """

    def __init__(self, first: Index, last: Index, slot: Index, low: int, high: int) -> None:
        self._ends = first, last
        self._slot = slot
        self.low, self.high = low, high
        self._middle = (low + high) // 2

    @cached_property
    def shares(self) -> tuple[Shares, Shares]:
        """The signals that each switch sends to each half, counted in the first and last stage."""
        upper = self._slot >= self._middle
        counts = [
            [np.bincount(end[part], minlength=end.max() + 1) for part in (~upper, upper)]
            for end in self._ends
        ]
        return Shares(*counts[0]), Shares(*counts[1])

    @cached_property
    def halves(self) -> tuple[Slots, Slots]:
        """The lower and the upper half."""
        upper = self._slot >= self._middle
        parts = []
        for part, low, high in ((~upper, self.low, self._middle), (upper, self._middle, self.high)):
            first, last = (end[part] for end in self._ends)
            parts.append(Slots(first, last, self._slot[part], low, high))
        return parts[0], parts[1]

    def coloured(self, first: Index, last: Index) -> Index | None:
        """Return a smaller network for each signal, within the capacities of all switches.

        Parameters
        ----------
        first, last : (signals,) the switches of each signal

        Returns
        -------
        (signals,) or None
            None if the halving fails. For a regular graph it always succeeds.

        Examples
        --------
        >>> switches = np.array([0, 0, 1, 1])
        >>> four = Slots(switches, switches, np.array([0, 1, 0, 1]), 0, 2)
        >>> four.coloured(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0]))
        array([0, 1, 0, 1])
        """
        if self.high - self.low == 1:
            return np.full(len(first), self.low)
        upper = self._halved(first, last)
        if upper is None:
            return None
        slots = np.empty_like(first)
        for part, selected in zip(self.halves, (~upper, upper), strict=True):
            found = part.coloured(first[selected], last[selected])
            if found is None:
                return None
            slots[selected] = found
        return slots

    def _halved(self, first: Index, last: Index) -> Mask | None:
        ways = [loops] if all(share.walkable for share in self.shares) else []
        for way in (*ways, flow):
            upper = way(first, last, *self.shares)
            if upper is not None:
                return upper
        return None


def loops(first: Index, last: Index, here: Shares, there: Shares) -> Mask | None:
    """Return which signals go to the upper half, by the looping algorithm.

    At each of its two switches, a signal has a partner that goes to the other half, unless the
    switch has no choice. The halves therefore alternate along loops of partners, and along paths,
    which end at signals whose switch has no choice.

    Returns
    -------
    (signals,) bool, or None if the two ends of a path contradict each other

    Examples
    --------
    >>> two = np.array([1, 1])
    >>> loops(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0]), *[Shares(two, two)] * 2)
    array([False,  True, False,  True])
    """
    ends = here.fixed[first], there.fixed[last]
    fixed = np.maximum(*ends)
    if ((np.minimum(*ends) >= 0) & (ends[0] != ends[1])).any():
        return None
    mates = _mates(first, here).tolist(), _mates(last, there).tolist()
    upper = np.array(_alternating(*mates, fixed.tolist())) == 1
    return upper if _keeps(upper, first, here) and _keeps(upper, last, there) else None


def _mates(switch: Index, share: Shares) -> Index:
    order = np.argsort(switch, kind="stable")
    mates = np.empty_like(order)
    mates[order] = order[share.mates]
    return mates


def _keeps(upper: Mask, switch: Index, share: Shares) -> bool:
    return np.array_equal(np.bincount(switch[upper], minlength=len(share.upper)), share.upper)


def _alternating(first: list[int], last: list[int], fixed: list[int]) -> list[int]:
    """Return 0 or 1 for each signal: different from its partners, and as fixed where possible."""
    half = [-1] * len(fixed)
    ends = [signal for signal, value in enumerate(fixed) if value >= 0]
    for start in (*ends, *range(len(fixed))):
        signal, value = start, max(fixed[start], 0)
        here, there = (last, first) if first[start] == start else (first, last)
        while half[signal] < 0:
            half[signal] = value
            signal, value = here[signal], 1 - value
            here, there = there, here
    return half


def flow(first: Index, last: Index, here: Shares, there: Shares) -> Mask | None:
    """Return which signals go to the upper half, by a maximum flow between the switches.

    Returns
    -------
    (signals,) bool, or None if no assignment fits both stages

    Examples
    --------
    >>> one, two = np.array([1, 1]), np.array([2, 2])
    >>> switches = np.array([0, 0, 0, 1, 1, 1])
    >>> upper = flow(switches, np.array([0, 0, 1, 0, 1, 1]), *[Shares(two, one)] * 2)
    >>> np.bincount(switches[upper])
    array([1, 1])
    """
    senders, receivers = len(here.upper), len(there.upper)
    pair = first * receivers + last
    order = np.argsort(pair, kind="stable")
    pairs, starts, counts = np.unique(pair[order], return_index=True, return_counts=True)
    source, sink = senders + receivers, senders + receivers + 1
    tails = np.concatenate(
        [np.full(senders, source), pairs // receivers, senders + identity(receivers)]
    )
    heads = np.concatenate(
        [identity(senders), senders + pairs % receivers, np.full(receivers, sink)]
    )
    most = np.concatenate([here.upper, counts, there.upper]).astype(np.int32)
    graph = scipy.sparse.csr_array((most, (tails, heads)), shape=(sink + 1, sink + 1))
    found = scipy.sparse.csgraph.maximum_flow(graph, source, sink)
    if found.flow_value < max(here.upper.sum(), there.upper.sum()):
        return None
    taken = found.flow.tocoo()
    forward = (taken.row < senders) & (taken.col < source) & (taken.data > 0)
    sent = np.zeros(len(pairs), dtype=np.int64)
    key = taken.row[forward].astype(np.int64) * receivers + taken.col[forward] - senders
    sent[np.searchsorted(pairs, key)] = taken.data[forward]
    upper = np.empty(len(first), dtype=bool)
    upper[order] = identity(len(first)) - np.repeat(starts, counts) < np.repeat(sent, counts)
    return upper
