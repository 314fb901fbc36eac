"""Switches of radix 1 that a wider switch on the same wire absorbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from structmat.linalg.blocks import Array, identity_blocks
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage


class Absorbed(NamedTuple):
    """A network without the switches of radix 1 that it does not need.

    Attributes
    ----------
    network : Network
        A network that represents the same matrices.
    kept : tuple of (n,) bool
        For each bank of the original network, which switches are left.
    """

    network: Network
    kept: tuple[npt.NDArray[np.bool_], ...]

    def restored(self, net: Network, blocks: Sequence[Array]) -> list[Array]:
        """Return blocks of the original network, with identities for the switches left out."""
        rest = iter(blocks)
        made = identity_blocks(net, np.result_type(*blocks) if len(blocks) else float)
        for block, kept in zip(made, self.kept, strict=True):
            if kept.any():
                block[kept] = next(rest)
        return made


def absorbed(net: Network) -> Absorbed:
    """Return a straight network without the switches of radix 1 that are not needed.

    The block of a wider switch represents the product with a sign or a phase on one of its wires,
    before it or after it. If a wire is in no wider switch, the first of its switches of radix 1
    represents all of them. Stages without any remaining switches are left out.

    Parameters
    ----------
    net : Network
        A straight network.

    Examples
    --------
    >>> net = Network.of(3, [[[0], [2]], [[0, 1]], [[0], [1], [2]]])
    >>> [bank.reads.tolist() for bank in absorbed(net).network.banks]
    [[[2]], [[0, 1]]]
    """
    needless = np.zeros(net.width, dtype=bool)
    for bank in net.banks:
        if bank.radix > 1:
            needless[bank.reads] = True
    stages, marks = [], []
    for stage in net.stages:
        banks = []
        for bank in stage.banks:
            kept = np.ones(bank.count, dtype=bool)
            if bank.radix == 1:
                wires = bank.reads[:, 0]
                kept = ~needless[wires]
                needless[wires] = True
            marks.append(kept)
            if kept.any():
                banks.append(bank if kept.all() else Bank(bank.reads[kept]))
        if banks or not stage.banks:
            stages.append(Stage(net.width, banks))
    return Absorbed(Network(net.width, stages), tuple(marks))
