"""Redundant generators: rotations that two switches can trade, and which to leave out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from structmat.blocks import generators_per_block
from structmat.errors import BlockError
from structmat.gates import Gate, normal_form
from structmat.network import Network, checked

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Reduced:
    """A network with the generators that suffice; the others stay zero.

    Attributes
    ----------
    network : Network
    kept : tuple of (n, g) bool
        For each bank, which of the g generators of each block are kept.
    """

    network: Network
    kept: tuple[Mask, ...]

    @property
    def parameters(self) -> int:
        """How many generators are kept."""
        return sum(int(kept.sum()) for kept in self.kept)

    def spread(self, values: npt.ArrayLike) -> list[Array]:
        """Return all generators, one (n, g) array for each bank, from the kept ones in order.

        Raises
        ------
        BlockError
            When there are not as many numbers as generators are kept.

        Examples
        --------
        >>> from structmat.families import butterfly
        >>> [g.shape for g in reduced(butterfly(8, block=4)).spread(np.ones(20))]
        [(2, 6), (2, 6)]
        """
        numbers = np.asarray(values)
        if numbers.shape != (self.parameters,) or numbers.dtype.kind not in "iuf":
            raise BlockError(
                f"values of shape {numbers.shape} and dtype {numbers.dtype}: {self.parameters}"
                " real numbers are kept, in one row"
            )
        found, first = [], 0
        for kept in self.kept:
            count = int(kept.sum())
            spread = np.zeros(kept.shape, dtype=np.result_type(numbers.dtype, np.float32))
            spread[kept] = numbers[first : first + count]
            found.append(spread)
            first += count
        return found

    def __repr__(self) -> str:
        return f"Reduced({self.network!r}, parameters={self.parameters})"


def reduced(net: Network, *, unitary: bool = False) -> Reduced:
    """Return which generators suffice: for all matrices with exp, for all dimensions with Cayley.

    A switch that another contains, as `structmat.gates.normal_form` tells, needs none: the larger
    can be whatever both were.

    Where k wires lead directly from one switch to another, the two can trade any rotation of
    these wires: the first gives it away, the second takes it, and R does not change. So the
    second may do without: it needs no generator of two wires that come from the same switch.
    Among the switches that are left no such trade is, and as many generators are kept as
    `structmat.gates.less_trades` counts of the normal form; that is the dimension unless the
    network has more to trade than neighbours do. For the block butterfly (BOFT) one stage is
    full, and in every other the diagonal half-blocks of the generators are zero.

    With blocks exp(Q) nothing is lost at all: every rotation of r wires is exp(Q)·H, with Q left
    over and H given away, for the curves exp(sQ) are the geodesics of SO(r)/∏SO(k_i) that start
    at the identity, and they reach every point of it (Hopf and Rinow). With Cayley blocks nothing
    is lost near the identity, and no dimension anywhere, but some matrices are: two quarter turns
    of the same two wires make −I, which Cayley's transform of one generator only comes near.

    Parameters
    ----------
    net : Network
        A wired one is straightened first; its banks keep their order.
    unitary : bool
        For unitary blocks, with r² generators a block: also the phase of every wire that comes
        from a switch is left out.

    Returns
    -------
    Reduced

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> boft = butterfly(64, block=8, depth=4)
    >>> boft.parameters, reduced(boft).parameters
    (896, 608)
    """
    needed = frozenset(normal_form(checked(net, "reduced")))
    came_from = np.full(net.width, -1, dtype=np.int64)
    switches = 0
    kept = []
    for t, stage in enumerate(net.straightened().network.stages):
        for bank in stage.banks:
            origin = came_from[bank.reads]
            i, j = np.triu_indices(bank.radix, 1)
            pairs = (origin[:, i] != origin[:, j]) | (origin[:, i] < 0)
            mask = np.concatenate([pairs, pairs, origin < 0], axis=1) if unitary else pairs
            assert mask.shape[1] == generators_per_block(bank.radix, unitary=unitary)
            left = np.array([Gate(t, frozenset(row)) in needed for row in bank.reads.tolist()])
            kept.append(mask & left[:, None])
            numbers = switches + np.arange(bank.count)
            came_from[bank.reads[left]] = numbers[left, None]
            switches += bank.count
    return Reduced(net, tuple(kept))
