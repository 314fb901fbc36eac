"""Routing of signals that have a unique path, by reachability of their destinations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from structmat.networks.permutation import Index, identity
from structmat.routing.clos_levels import Plan

Mask = npt.NDArray[np.bool_]


class Reach(Protocol):
    """The destinations, wires after the last stage, that are reachable from each wire."""

    def leads(self, stage: int, wires: Index, ends: Index) -> Mask:
        """Return whether wires before a stage, counted from 0, lead to the given destinations."""
        ...  # pragma: no cover


@dataclass(frozen=True, eq=False)
class Nested:
    """Reachability in networks whose switches partition the destinations among their outputs.

    Before each stage the sets of destinations to which any two wires lead are equal or disjoint,
    and the outputs of a switch lead to disjoint sets. Paths are therefore unique, and each set is
    represented by its smallest destination, so memory use is linear. Butterfly, omega and all
    isomorphic networks have this structure.

    Attributes
    ----------
    least : (depth + 1, width)
        The smallest destination of each wire, before each stage and at the end.
    shared : (depth + 1, width)
        The smallest destination in the same set as each destination.
    """

    least: Index
    shared: Index

    @classmethod
    def of(cls, plan: Plan) -> Self | None:
        """Return the sets of a network, or None if they do not have this structure.

        Examples
        --------
        >>> from structmat.families import butterfly, waksman
        >>> from structmat.routing.clos_levels import plan_of
        >>> Nested.of(plan_of(butterfly(4))).least.tolist()
        [[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 3]]
        >>> Nested.of(plan_of(waksman(4))) is None
        True
        """
        width, depth = plan.net.width, len(plan.stages)
        least = np.empty((depth + 1, width), dtype=np.int64)
        least[-1] = identity(width)
        shared = least.copy()
        for t in range(depth - 1, -1, -1):
            sets = [np.sort(least[t + 1][wires], axis=1) for wires in plan.stages[t]]
            joined = least[t + 1].copy()
            for wires, rows in zip(plan.stages[t], sets, strict=True):
                joined[wires] = rows[:, :1]
            union = np.zeros(width, dtype=np.int64)  # the union that contains each set
            union[least[t + 1]] = joined
            size = np.bincount(union[np.unique(least[t + 1])], minlength=width)
            taken = np.ones(width, dtype=np.int64)
            for wires in plan.stages[t]:
                taken[wires] = wires.shape[1]
            distinct = all((rows[:, 1:] > rows[:, :-1]).all() for rows in sets)
            if (
                not distinct
                or (union[least[t + 1]] != joined).any()
                or (size[joined] != taken).any()
            ):
                return None
            least[t], shared[t] = joined, union[shared[t + 1]]
        return cls(least, shared)

    def leads(self, stage: int, wires: Index, ends: Index) -> Mask:
        """Return whether wires before a stage lead to the given destinations."""
        found: Mask = self.least[stage, wires] == self.shared[stage, ends]
        return found


@dataclass(frozen=True, eq=False)
class Listed:
    """Reachability of some destinations in any network, as bits.

    Attributes
    ----------
    bits : (depth + 1, width, ⌈ends / 8⌉) uint8
        The destinations of each wire, before each stage and at the end.
    first : int
        The destination of the first bit.
    """

    bits: npt.NDArray[np.uint8]
    first: int

    @classmethod
    def of(cls, plan: Plan, first: int, ends: int) -> Self:
        """Return the reachability of `ends` destinations, starting from `first`."""
        width, depth = plan.net.width, len(plan.stages)
        bits = np.zeros((depth + 1, width, -(-ends // 8)), dtype=np.uint8)
        own = identity(ends)
        bits[-1, first + own, own >> 3] = 1 << (own & 7)
        for t in range(depth - 1, -1, -1):
            bits[t] = bits[t + 1]
            for wires in plan.stages[t]:
                bits[t][wires] = np.bitwise_or.reduce(bits[t + 1][wires], axis=1)[:, None]
        return cls(bits, first)

    def leads(self, stage: int, wires: Index, ends: Index) -> Mask:
        """Return whether wires before a stage lead to the given destinations."""
        own = ends - self.first
        found: Mask = (self.bits[stage, wires, own >> 3] >> (own & 7) & 1).astype(bool)
        return found


def paths(plan: Plan, reach: Reach, signals: Index, ends: Index) -> Index:
    """Return the wire of each signal before the first stage and after each, or −1 if not unique.

    Parameters
    ----------
    plan : Plan
    reach : Reach
    signals : (n,) the wires where they start
    ends : (n,) the wires where they must end, which are reachable

    Returns
    -------
    (depth + 1, n)
    """
    found = np.empty((len(plan.stages) + 1, len(signals)), dtype=np.int64)
    found[0] = signals
    for t, banks in enumerate(plan.stages):
        before, after = found[t], found[t + 1]
        after[:] = before
        for wires in banks:
            row = np.full(plan.net.width + 1, -1, dtype=np.int64)  # the last entry is for wire −1
            row[wires] = identity(len(wires))[:, None]
            here = np.flatnonzero(row[before] >= 0)
            ways = wires[row[before[here]]]
            led = reach.leads(t + 1, ways, ends[here, None])
            selected = ways[identity(len(ways)), led.argmax(axis=1)]
            after[here] = np.where(led.sum(axis=1) == 1, selected, -1)
    return found
