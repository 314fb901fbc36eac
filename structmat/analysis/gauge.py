"""Gauge redundancy: generators that can be fixed at zero without loss of dimension."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from structmat.analysis.switch_lists import Gate, normal_form
from structmat.errors import BlockError
from structmat.families.resolution import checked
from structmat.linalg.blocks import generators_per_block
from structmat.networks.network import Network

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Reduced:
    """A network with a sufficient set of generators; the others are fixed at zero.

    Attributes
    ----------
    network : Network
    kept : tuple of (n, g) bool
        For each bank, a mask of the g generators of each block that are kept.
    """

    network: Network
    kept: tuple[Mask, ...]

    @property
    def parameters(self) -> int:
        """The number of generators kept."""
        return sum(int(kept.sum()) for kept in self.kept)

    def spread(self, values: npt.ArrayLike) -> list[Array]:
        """Return all generators, one (n, g) array per bank, given the kept ones in order.

        Raises
        ------
        BlockError
            If the values are not as many real numbers as generators are kept, in one row.

        Examples
        --------
        >>> from structmat.families import butterfly
        >>> [g.shape for g in reduced(butterfly(8, block=4)).spread(np.ones(20))]
        [(2, 6), (2, 6)]
        """
        numbers = np.asarray(values)
        if numbers.shape != (self.parameters,) or numbers.dtype.kind not in "iuf":
            raise BlockError(
                f"values of shape {numbers.shape} and dtype {numbers.dtype}: they must be"
                f" {self.parameters} real numbers, in one row"
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
    """Return generators that suffice for all matrices (exp) or for the full dimension (Cayley).

    A switch contained in another, in the sense of `structmat.analysis.switch_lists.normal_form`,
    needs no generators: the block of the larger switch represents the product of both.

    Where k wires lead directly from one switch to another, there is a gauge redundancy: any
    rotation of these wires can be moved from the block of the first switch to that of the second
    without changing R. The second switch therefore needs no generator of two wires that come from
    the same switch. No such redundancy remains among the other generators, and their number is the
    value of `structmat.analysis.switch_lists.gauge_bound` on the normal form. It is the dimension
    of the network, unless there are redundancies other than those between neighbouring switches. In
    the block butterfly (BOFT), one stage keeps all its generators, and in the others the diagonal
    half-blocks of the generators are zero.

    With blocks exp(Q), no matrix is lost: every rotation of r wires is exp(Q)·H, with Q restricted
    to the remaining generators and H absorbed by the preceding switches, because the curves exp(sQ)
    are the geodesics of SO(r)/∏SO(k_i) through the identity, and they reach every point (Hopf and
    Rinow). With Cayley blocks, no matrix near the identity is lost and the dimension is the same
    everywhere, but some individual matrices are lost: two rotations by π/2 of the same two wires
    make −I, which the Cayley transform of one generator only approaches.

    Parameters
    ----------
    net : Network
        It is straightened first if necessary; its banks keep their order.
    unitary : bool
        Whether the blocks are unitary, with r² generators each. The phase of every wire that comes
        from a switch is then omitted as well.

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
    net = checked(net, "reduced")
    needed = frozenset(normal_form(net))
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
