"""Preparation of a network for routing, independent of the permutation: its levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from structmat.networks.components import joined
from structmat.networks.network import Network
from structmat.networks.permutation import Index, identity
from structmat.routing.bipartite_halving import Slots


@dataclass(frozen=True, eq=False)
class Side:
    """One stage of a level, in which a wire in no switch counts as a switch of its own.

    Attributes
    ----------
    switch : (width,) the index of each wire's switch
    order : (width,) the wires sorted by switch, and within a switch by the smaller network
    """

    switch: Index
    order: Index


@dataclass(frozen=True, eq=False)
class Level:
    """Two stages at equal distances from the two ends, and the smaller networks between them.

    Attributes
    ----------
    first, last : Side
    slots : Slots
        The number of wires from each switch to each of the smaller networks.
    """

    first: Side
    last: Side
    slots: Slots


@dataclass(frozen=True, eq=False)
class Plan:
    """The switches of a network in stages, with all permutations moved to the end.

    Attributes
    ----------
    net : Network
    outputs : (width,) the wire at each output
    stages : tuple of tuples of (n, r) arrays
        The wires of the switches, stage by stage and bank by bank.
    origin : tuple of (n, 2) arrays, one for each bank
        The bank and the row of each switch in the network.
    """

    net: Network
    outputs: Index
    stages: tuple[tuple[Index, ...], ...]
    origin: tuple[Index, ...]

    @property
    def banks(self) -> tuple[Index, ...]:
        """The banks of all stages."""
        return tuple(wires for banks in self.stages for wires in banks)

    @cached_property
    def components(self) -> Index:
        """The index of the component of each wire."""
        return self._nested[0]

    @cached_property
    def levels(self) -> list[Level]:
        """The pairs of stages, outermost first."""
        return [
            _level(self.stages[t], self.stages[-1 - t], self._nested[t], self._nested[t + 1])
            for t in range(len(self.stages) // 2)
        ]

    @cached_property
    def _nested(self) -> list[Index]:
        """The components of all stages, of all but the first and the last, and so on inwards."""
        depth = len(self.stages)
        label = identity(self.net.width)
        if depth % 2:
            label = joined(label, self.stages[depth // 2])
        nested = [label]
        for t in range(depth // 2 - 1, -1, -1):
            label = joined(label, self.stages[t] + self.stages[-1 - t])
            nested.append(label)
        return nested[::-1]

    @cached_property
    def centred(self) -> Plan:
        """The plan with each switch moved to a stage as close as possible to the nearer end.

        Networks of unequal depth in parallel are thereby aligned at their middles.
        """
        before = _chains(self.stages, self.net.width)
        behind = _chains([banks[::-1] for banks in self.stages[::-1]], self.net.width)[::-1]
        nearer = [np.minimum(*pair) for pair in zip(before, behind, strict=True)]
        half = max((int(least.max()) + 1 for least in nearer), default=0)
        parts: list[list[tuple[Index, Index]]] = [[] for _ in range(2 * half + 1)]
        for wires, origin, start, end in zip(self.banks, self.origin, before, behind, strict=True):
            stage = np.where(start < end, start, np.where(start > end, 2 * half - end, half))
            for t in np.unique(stage).tolist():
                parts[t].append((wires[stage == t], origin[stage == t]))
        return Plan(
            self.net,
            self.outputs,
            tuple(tuple(wires for wires, _ in part) for part in parts),
            tuple(origin for part in parts for _, origin in part),
        )


@lru_cache(maxsize=4)
def plan_of(net: Network) -> Plan:
    """Return the plan of a network, cached for the most recent networks.

    Examples
    --------
    >>> plan_of(Network.of(3, [[[0, 1]], [[1, 2]]])).components.tolist()
    [0, 0, 0]
    """
    straight, _, outputs = net.straightened()
    stages = tuple(tuple(bank.reads for bank in stage.banks) for stage in straight)
    origin = (
        np.stack([np.full(bank.count, number), identity(bank.count)], axis=1)
        for number, bank in enumerate(net.banks)
    )
    return Plan(net, outputs, stages, tuple(origin))


def _chains(stages: Sequence[tuple[Index, ...]], width: int) -> list[Index]:
    """Return the length of the longest chain of switches before each switch, bank by bank."""
    deep = np.zeros(width, dtype=np.int64)
    chains = []
    for wires in (wires for banks in stages for wires in banks):
        chain = deep[wires].max(axis=1)
        deep[wires] = chain[:, None] + 1
        chains.append(chain)
    return chains


def _level(first: tuple[Index, ...], last: tuple[Index, ...], outer: Index, inner: Index) -> Level:
    # The smaller networks within each are numbered from 0: the slot of a wire.
    width = len(outer)
    within, number = np.unique(outer * width + inner, return_inverse=True)
    parent = within // width
    slot = (identity(len(within)) - np.searchsorted(parent, parent))[number]
    here, there = _switches(first, width), _switches(last, width)
    return Level(
        Side(here, np.lexsort((slot, here))),
        Side(there, np.lexsort((slot, there))),
        Slots(here, there, slot, 0, int(slot.max()) + 1),
    )


def _switches(banks: tuple[Index, ...], width: int) -> Index:
    switch = np.full(width, -1, dtype=np.int64)
    count = 0
    for wires in banks:
        switch[wires] = count + identity(len(wires))[:, None]
        count += len(wires)
    idle = switch < 0
    switch[idle] = count + identity(int(idle.sum()))
    return switch
