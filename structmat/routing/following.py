"""Follow signals that have one path each: they go where their ends are in reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from structmat.permutation import Index, identity
from structmat.routing.planning import Plan

Mask = npt.NDArray[np.bool_]


class Reach(Protocol):
    """Which ends, the wires behind the last stage, can be reached from where."""

    def leads(self, stage: int, wires: Index, ends: Index) -> Mask:
        """Return whether wires before a stage, counted from 0, lead to ends."""
        ...  # pragma: no cover


@dataclass(frozen=True, eq=False)
class Nested:
    """Reach where the ends before each switch are shared out among the wires behind it.

    Before each stage any two wires lead to the same ends, or to none in common, and the wires
    behind a switch have none in common. So paths are unique, and each set is known by its
    smallest end: memory is linear. Butterfly, omega and all networks isomorphic to them are so.

    Attributes
    ----------
    least : (depth + 1, width)
        The smallest end that each wire leads to, before each stage and in the end.
    shared : (depth + 1, width)
        The smallest end that each end has such a set in common with.
    """

    least: Index
    shared: Index

    @classmethod
    def of(cls, plan: Plan) -> Self | None:
        """Return the sets of a network, None where they are not nested like this.

        Examples
        --------
        >>> from structmat.families import butterfly, waksman
        >>> from structmat.routing.planning import plan_of
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
            whole = np.zeros(width, dtype=np.int64)  # the union in which each set is
            whole[least[t + 1]] = joined
            size = np.bincount(whole[np.unique(least[t + 1])], minlength=width)
            taken = np.ones(width, dtype=np.int64)
            for wires in plan.stages[t]:
                taken[wires] = wires.shape[1]
            distinct = all((rows[:, 1:] > rows[:, :-1]).all() for rows in sets)
            if (
                not distinct
                or (whole[least[t + 1]] != joined).any()
                or (size[joined] != taken).any()
            ):
                return None
            least[t], shared[t] = joined, whole[shared[t + 1]]
        return cls(least, shared)

    def leads(self, stage: int, wires: Index, ends: Index) -> Mask:
        """Return whether wires before a stage lead to ends."""
        found: Mask = self.least[stage, wires] == self.shared[stage, ends]
        return found


@dataclass(frozen=True, eq=False)
class Listed:
    """Reach of some ends in any network, a bit for each.

    Attributes
    ----------
    bits : (depth + 1, width, ⌈ends / 8⌉) uint8
        The ends that each wire leads to, before each stage and in the end.
    first : int
        The end of the first bit.
    """

    bits: npt.NDArray[np.uint8]
    first: int

    @classmethod
    def of(cls, plan: Plan, first: int, ends: int) -> Self:
        """Return the reach of so many ends from the first."""
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
        """Return whether wires before a stage lead to ends."""
        own = ends - self.first
        found: Mask = (self.bits[stage, wires, own >> 3] >> (own & 7) & 1).astype(bool)
        return found


def paths(plan: Plan, reach: Reach, signals: Index, ends: Index) -> Index:
    """Return the wires of signals before the first stage and after each, −1 behind a choice.

    Parameters
    ----------
    plan : Plan
    reach : Reach
    signals : (n,) the wires where they begin
    ends : (n,) the wires where they have to end; they can

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
            row = np.full(plan.net.width + 1, -1, dtype=np.int64)  # the last for wire −1
            row[wires] = identity(len(wires))[:, None]
            here = np.flatnonzero(row[before] >= 0)
            ways = wires[row[before[here]]]
            led = reach.leads(t + 1, ways, ends[here, None])
            chosen = ways[identity(len(ways)), led.argmax(axis=1)]
            after[here] = np.where(led.sum(axis=1) == 1, chosen, -1)
    return found
