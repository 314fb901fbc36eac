"""Which stages of a network are meant, and blocks that leave out the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from structmat.errors import StructmatError, whole
from structmat.networks.network import Network
from structmat.nn.parametrizations import powers


def checked_stages(stages: Iterable[int] | slice, depth: int) -> list[int]:
    """Return the numbers of some stages, sorted.

    Parameters
    ----------
    stages : iterable of int, or slice
        0 is the first that acts. A slice takes what there is, as slices do.
    depth : int

    Raises
    ------
    StructmatError
        When a number is no stage of the network.

    Examples
    --------
    >>> checked_stages([2, 0], 3), checked_stages(slice(2), 1), checked_stages(slice(-2, None), 5)
    ([0, 2], [0], [3, 4])
    """
    if isinstance(stages, slice):
        return sorted(range(depth)[stages])
    wanted = {whole(t, "stage") for t in stages}
    if wanted and max(wanted) >= depth:
        raise StructmatError(
            f"stage {max(wanted)} of a network of depth {depth}: its stages are 0 …"
            f" {depth - 1}, the first that acts being 0"
        )
    return sorted(wanted)


def only(net: Network, blocks: Sequence[Tensor], stages: Iterable[int]) -> list[Tensor]:
    """Return the blocks of a network with the identity at all but some stages.

    Parameters
    ----------
    net : Network
    blocks : list of (n, r, r), one for each bank
    stages : iterable of int

    Examples
    --------
    >>> import torch
    >>> net = Network.of(2, [[[0, 1]], [[0, 1]]])
    >>> turn = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]])
    >>> [b.tolist() for b in only(net, [turn, turn], [1])]
    [[[[1.0, 0.0], [0.0, 1.0]]], [[[0.0, 1.0], [-1.0, 0.0]]]]
    """
    wanted = set(stages)
    of_banks = [t in wanted for t, stage in enumerate(net.stages) for _ in stage.banks]
    return [
        block if kept else powers.power(block, 0)
        for block, kept in zip(blocks, of_banks, strict=True)
    ]
