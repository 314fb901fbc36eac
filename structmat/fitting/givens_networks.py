"""Access to the blocks of networks of 2×2 switches by stage and wires."""

from __future__ import annotations

from typing import Any

import numpy as np

from structmat.linalg.blocks import Array
from structmat.networks.network import Network
from structmat.networks.permutation import Index


class Pairs:
    """The blocks of a straight network of 2×2 switches, initially the identity.

    Attributes
    ----------
    mates : (depth, width) int64
        The partner of each wire in each stage, −1 for none.

    Examples
    --------
    >>> pairs = Pairs(Network.of(3, [[[1, 0]], [[1, 2]]]), np.dtype(float))
    >>> pairs.mates
    array([[ 1,  0, -1],
           [-1,  2,  1]])
    >>> pairs.put(0, 0, np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> pairs.blocks()[0].tolist()
    [[[4.0, 3.0], [2.0, 1.0]]]
    """

    def __init__(self, net: Network, dtype: np.dtype[Any]) -> None:
        shape = (net.depth, net.width)
        self.mates = np.full(shape, -1, dtype=np.int64)
        self._number = np.full(shape, -1, dtype=np.int64)
        self._side = np.zeros(shape, dtype=np.int64)
        self._counts = [bank.count for bank in net.banks]
        count = 0
        for t, stage in enumerate(net.stages):
            for bank in stage.banks:
                self.mates[t, bank.reads] = bank.reads[:, ::-1]
                self._number[t, bank.reads] = count + np.arange(bank.count)[:, None]
                self._side[t, bank.reads] = (0, 1)
                count += bank.count
        self._blocks = np.tile(np.eye(2, dtype=dtype), (count, 1, 1))

    def put(self, stage: int, wire: int | Index, block: Array) -> None:
        """Set the block of a wire and its partner, in this order; `wire` may be an array."""
        swapped = np.asarray(self._side[stage, wire] == 1)[..., None, None]
        ordered = np.where(swapped, block[..., ::-1, ::-1], block)
        self._blocks[self._number[stage, wire]] = ordered

    def scale(self, stage: int, wire: int, factor: Any, *, output: bool) -> None:
        """Multiply the output or the input of a switch on one wire by a scalar."""
        block = self._blocks[self._number[stage, wire]]
        line = block if output else block.T
        line[self._side[stage, wire]] *= factor

    def blocks(self) -> list[Array]:
        """Return the blocks, one array for each bank."""
        return np.split(self._blocks, np.cumsum(self._counts)[:-1]) if self._counts else []


def pairs_of(net: Network, dtype: np.dtype[Any]) -> Pairs | None:
    """Return the pairs of a network, or None if a switch has more than two wires.

    Examples
    --------
    >>> pairs_of(Network.of(3, [[[0, 1, 2]]]), np.dtype(float)) is None
    True
    """
    return Pairs(net, dtype) if all(bank.radix == 2 for bank in net.banks) else None
