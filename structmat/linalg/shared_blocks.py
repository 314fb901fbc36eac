"""Banks of equal blocks: arrays (n, r, r) that keep only one block in memory.

A fixed rotation often has the same block in every switch of a bank. `numpy.broadcast_to(block,
(n, r, r))` is such a bank: its first axis has the stride 0. The functions here keep it that way,
so that a bank of a million wires takes no more memory than a single switch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from structmat.networks.network import Network

Array = Any  # an array of any library; only numpy arrays are recognised as banks of equal blocks


def distinct(blocks: Array) -> Array:
    """Return the only block of a bank, (1, r, r), if its blocks share memory, else all blocks.

    Examples
    --------
    >>> bank = np.broadcast_to(np.eye(2), (1000, 2, 2))
    >>> distinct(bank).shape, distinct(bank.copy()).shape
    ((1, 2, 2), (1000, 2, 2))
    """
    if isinstance(blocks, np.ndarray) and blocks.ndim == 3 and len(blocks) > 1:
        return blocks[:1] if blocks.strides[0] == 0 else blocks
    return blocks


def repeated(blocks: Array, count: int) -> Array:
    """Return a bank of `count` blocks from the result of `distinct`.

    Examples
    --------
    >>> repeated(np.eye(2)[None], 1000).strides[0]
    0
    """
    if isinstance(blocks, np.ndarray) and blocks.ndim == 3 and len(blocks) == 1 < count:
        return np.broadcast_to(blocks, (count, *blocks.shape[1:]))
    return blocks


def repeated_in(net: Network, blocks: Sequence[Array]) -> list[Array]:
    """Return the banks of a network from the results of `distinct`.

    Examples
    --------
    >>> net = Network.of(4, [[[0, 1], [2, 3]]])
    >>> repeated_in(net, [np.eye(2)[None]])[0].shape
    (2, 2, 2)
    """
    return [repeated(b, bank.count) for bank, b in zip(net.banks, blocks, strict=True)]


def each(function: Callable[[Array], Array], blocks: Array) -> Array:
    """Apply a function of stacks (n, r, r) to the distinct blocks of a bank.

    Examples
    --------
    >>> each(np.negative, np.broadcast_to(np.eye(2), (1000, 2, 2))).strides[0]
    0
    """
    own = distinct(blocks)
    made = function(own)
    return made if own is blocks else repeated(made, len(blocks))
