"""What routing needs to know of a network, whatever the permutation: its levels, from both ends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from structmat.network import Network
from structmat.permutation import Index, identity
from structmat.routing.halving import Slots


@dataclass(frozen=True)
class Side:
    """One stage of a level: which switch each wire meets, a wire in none being one of its own.

    Attributes
    ----------
    switch : (width,) the number of each wire's switch
    order : (width,) the wires by switch, and within a switch by the network they lead to
    """

    switch: Index
    order: Index


@dataclass(frozen=True)
class Level:
    """A pair of stages, equally far from both ends, and the smaller networks between them.

    Attributes
    ----------
    first, last : Side
    slots : Slots
        How many wires of each switch lead to each of the smaller networks.
    """

    first: Side
    last: Side
    slots: Slots


class Plan:
    """A network straightened and taken apart for routing.

    Attributes
    ----------
    net : Network
    stages : tuple of tuples of (n, r) arrays
        The wires of the switches, stage by stage and bank by bank, with all wiring moved to the
        end.
    outputs : (width,) the wire, so called, that comes out at each output
    """

    def __init__(self, net: Network) -> None:
        straight, _, self.outputs = net.straightened()
        self.net = net
        self.stages = tuple(tuple(bank.reads for bank in stage.banks) for stage in straight)

    @cached_property
    def components(self) -> Index:
        """The number of the component in which each wire lies."""
        return self._nested[-1]

    @cached_property
    def _nested(self) -> list[Index]:
        """The components of the stages between each pair, from the middle outwards."""
        depth = len(self.stages)
        label = identity(self.net.width)
        if depth % 2:
            label = _joined(label, self.stages[depth // 2])
        nested = [label]
        for t in range(depth // 2 - 1, -1, -1):
            label = _joined(label, self.stages[t] + self.stages[depth - 1 - t])
            nested.append(label)
        return nested

    @cached_property
    def levels(self) -> list[Level]:
        """The pairs of stages, the ends first."""
        outside_in = self._nested[::-1]
        return [
            _level(self.stages[t], self.stages[-1 - t], outside_in[t], outside_in[t + 1])
            for t in range(len(self.stages) // 2)
        ]


@lru_cache(maxsize=4)
def plan_of(net: Network) -> Plan:
    """Return the plan of a network; those of the last few networks are kept.

    Examples
    --------
    >>> plan_of(Network.of(3, [[[0, 1]], [[1, 2]]])).components.tolist()
    [0, 0, 0]
    """
    return Plan(net)


def _joined(label: Index, banks: tuple[Index, ...]) -> Index:
    """Return the components when the switches join components already numbered."""
    joints = [(label[wires[:, :1]].repeat(wires.shape[1]), label[wires].ravel()) for wires in banks]
    rows, columns = np.concatenate([*joints, np.zeros((2, 0), dtype=np.int64)], axis=1)
    graph = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=2 * label.shape)
    joined: Index = connected_components(graph, directed=False)[1].astype(np.int64)[label]
    return joined


def _level(first: tuple[Index, ...], last: tuple[Index, ...], outer: Index, inner: Index) -> Level:
    # The smaller networks within each are numbered from 0: the slot to which a wire leads.
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
