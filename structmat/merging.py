"""Neighbouring stages whose union is again small blocks: worth multiplying out before use.

Two stages one after the other act on each connected component of their union on its own. Where
components are small, one block for each of them does the work of both stages, and the vectors
are read once instead of twice. Multiplying the blocks out costs as much as applying them to one
vector for each wire of a component; it pays when there are many more vectors than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from structmat.components import joined
from structmat.network import Network
from structmat.permutation import Index
from structmat.stage import Bank, Stage

LARGEST = 32  # wires in a merged switch
PASS = 64  # multiply-adds a wire that cost as much as reading and writing it once more
_MIXED = 3  # most radices in a merged stage: each is a product of its own


@dataclass(frozen=True, eq=False)
class Merged:
    """A network and a coarser one with the same matrices.

    Attributes
    ----------
    network : Network
        Stage g is the union of `groups[g]`; its switches are the components of that union. Where
        the given network is wired, a last stage of bare wires carries its output permutation.
    groups : tuple of Network
        The straight stages that are multiplied out, in order; one stage stays as it is.
    """

    network: Network
    groups: tuple[Network, ...]

    @property
    def widest(self) -> int:
        """The most wires in a switch that replaces several."""
        switches = zip(self.network.stages, self.groups, strict=False)
        radices = [bank.radix for stage, g in switches if g.depth > 1 for bank in stage.banks]
        return max(radices, default=0)


@lru_cache(maxsize=64)
def merged(net: Network) -> Merged:
    """Return the network with neighbouring stages merged where that saves work.

    Stages join the group before them as long as the components stay within 32 wires, and the
    larger products cost less than the passes over the vectors that are saved.

    Examples
    --------
    >>> from structmat.families import mixed_radix
    >>> coarse = merged(mixed_radix(384))       # eight stages, of 2 and 3
    >>> [stage.banks[0].radix for stage in coarse.network.stages]
    [32, 12]
    >>> [group.depth for group in coarse.groups]
    [5, 3]
    """
    straight, _, outputs = net.straightened()
    stages: list[Stage] = []
    groups: list[Network] = []
    first = 0
    while first < straight.depth:
        last, stage = first + 1, straight.stages[first]
        separate = _cost(stage)
        part = _components(stage)
        for following in straight.stages[last:]:
            part = joined(part, (bank.reads for bank in following.banks))
            separate += _cost(following)
            together = _union(part)
            if together is None or _cost(together) > separate:
                break
            last, stage = last + 1, together
        stages.append(stage)
        groups.append(straight[first:last])
        first = last
    wires = np.arange(net.width)
    if not np.array_equal(outputs, wires):
        stages.append(Stage(net.width, moves=np.stack([outputs, wires], axis=1)))
    return Merged(Network(net.width, stages), tuple(groups))


def _cost(stage: Stage) -> int:
    """Return what a stage costs a vector, in multiply-adds."""
    return sum(bank.reads.size * bank.radix for bank in stage.banks) + PASS * stage.width


def _components(stage: Stage) -> Index:
    """Return for each wire the number of its switch; an idle wire has one of its own."""
    return joined(np.arange(stage.width), (bank.reads for bank in stage.banks))


def _union(part: Index) -> Stage | None:
    """Return the stage with a switch for each component, or None where that is too coarse."""
    sizes = np.bincount(part)
    radices = np.unique(sizes[sizes > 1])
    if len(radices) > _MIXED or (len(radices) and radices[-1] > LARGEST):
        return None
    wires = np.argsort(part, kind="stable")  # by component, and in order within it
    size = sizes[part[wires]]
    return Stage(len(part), [Bank(wires[size == r].reshape(-1, r)) for r in radices])
