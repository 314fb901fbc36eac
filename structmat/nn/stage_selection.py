"""Selection of stages of a network, and blocks in which the other stages are disabled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from structmat.errors import StructmatError, abbreviated, checked_integer
from structmat.networks.network import Network
from structmat.nn.parametrizations import powers


def listed(stages: Any) -> list[Any] | slice:
    """Return stages as a list or a slice, without checking their indices.

    Raises
    ------
    StructmatError
        If they are neither iterable nor a slice.

    Examples
    --------
    >>> listed(1)
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: stages=1: it must be a list of stages or a slice, such as [1]
    """
    if isinstance(stages, slice):
        return stages
    if not isinstance(stages, Iterable) or isinstance(stages, str):
        example = stages if isinstance(stages, int) else 0
        raise StructmatError(
            f"stages={abbreviated(stages)}: it must be a list of stages or a slice, such as"
            f" [{abbreviated(example)}]"
        )
    return list(stages)


def checked_stages(stages: Iterable[int] | slice, depth: int) -> list[int]:
    """Return the indices of the selected stages, sorted.

    Parameters
    ----------
    stages : iterable of int, or slice
        0 is the first stage to act. Slices may exceed the depth, as usual.
    depth : int

    Raises
    ------
    StructmatError
        If the stages are neither iterable nor a slice, or an index is not that of a stage.

    Examples
    --------
    >>> checked_stages([2, 0], 3), checked_stages(slice(2), 1), checked_stages(slice(-2, None), 5)
    ([0, 2], [0], [3, 4])
    """
    if isinstance(stages, slice):
        return sorted(range(depth)[stages])
    given: Any = listed(stages)
    wanted = {checked_integer(t, "stage") for t in given}
    if wanted and max(wanted) >= depth:
        raise StructmatError(
            f"stage {max(wanted)} of a network of depth {depth}: its stages are 0 to"
            f" {depth - 1}, where 0 acts first"
        )
    return sorted(wanted)


def only(net: Network, blocks: Sequence[Tensor], stages: Iterable[int]) -> list[Tensor]:
    """Return the blocks of a network, in which all stages but the given ones are the identity.

    Parameters
    ----------
    net : Network
    blocks : list of (n, r, r), one for each bank
    stages : iterable of int

    Examples
    --------
    >>> import torch
    >>> net = Network.of(2, [[[0, 1]], [[0, 1]]])
    >>> quarter = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]])
    >>> [b.tolist() for b in only(net, [quarter, quarter], [1])]
    [[[[1.0, 0.0], [0.0, 1.0]]], [[[0.0, 1.0], [-1.0, 0.0]]]]
    """
    wanted = set(stages)
    of_banks = [t in wanted for t, stage in enumerate(net.stages) for _ in stage.banks]
    return [
        block if kept else powers.power(block, 0)
        for block, kept in zip(blocks, of_banks, strict=True)
    ]
