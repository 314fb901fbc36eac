"""Who can hear whom: density and path counts of the grid graph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.errors import whole
from structmat.families.spec import Family, as_family
from structmat.network import Network

_CHUNK = 4096  # inputs followed at once: 64 words of 64 bits for each wire
_FEW = 64  # inputs followed first, and depths tried for one that a family takes at all


def reach(net: Network) -> npt.NDArray[np.bool_]:
    """Return which inputs reach which outputs: [i, j] is True when input j reaches output i.

    Entry (i, j) of R is not identically zero exactly where this is True: with complete switches
    nothing cancels for generic blocks.

    Returns
    -------
    (width, width) bool

    Examples
    --------
    >>> reach(Network.of(3, [[[0, 1]], [[1, 2]]])).astype(int)
    array([[1, 1, 0],
           [1, 1, 1],
           [1, 1, 1]])
    """
    parts = []
    for inputs, spread in _spreading(net):
        for bits in spread:
            last = bits
        parts.append(np.unpackbits(last.view(np.uint8), axis=1, count=inputs, bitorder="little"))
    return np.concatenate(parts, axis=1).view(bool)


def is_dense(net: Network) -> bool:
    """Return whether every input reaches every output.

    Follows some thousand inputs at a time, so memory stays linear in the width.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> is_dense(butterfly(64, block=8, depth=4)), is_dense(butterfly(64, block=8, depth=3))
    (True, False)
    """
    return first_dense(net) is not None


def first_dense(net: Network) -> int | None:
    """Return how few of the first stages of a network are dense already, or None if all are not.

    More stages never undo it: what all wires have heard, all wires have heard after a switch.

    Examples
    --------
    >>> from structmat.families import benes
    >>> first_dense(benes(8)), benes(8).depth
    (3, 5)
    """
    fewest = 0
    for inputs, spread in _spreading(net):
        everyone = np.zeros(-(-inputs // 64) * 8, dtype=np.uint8)
        everyone[: -(-inputs // 8)] = np.packbits(np.ones(inputs, bool), bitorder="little")
        full = everyone.view(np.uint64)
        for stages, bits in enumerate(spread):
            if np.array_equal(np.bitwise_and.reduce(bits, axis=0), full):
                fewest = max(fewest, stages)
                break
        else:
            return None
    return fewest


def _spreading(net: Network) -> Iterator[tuple[int, Iterator[npt.NDArray[np.uint64]]]]:
    """Yield, for a chunk of inputs at a time, their number and what `_spread` yields for them."""
    first, inputs = 0, min(_FEW, net.width)  # most networks that are not dense show it early
    while inputs:
        yield inputs, _spread(net, first, inputs)
        first += inputs
        inputs = min(_CHUNK, net.width - first)


def _spread(net: Network, first: int, inputs: int) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield, before the first stage and after each, a row of bits for each wire: whom it heard."""
    bits = np.zeros((net.width, -(-inputs // 64)), dtype=np.uint64)
    own = np.arange(inputs)
    bits[first + own, own // 64] = np.uint64(1) << (own % 64).astype(np.uint64)
    yield bits
    for stage in net.stages:
        after = bits.copy() if stage.banks or len(stage.moves) else bits
        after[stage.moves[:, 1]] = bits[stage.moves[:, 0]]
        for bank in stage.banks:
            heard = bits[bank.reads[:, 0]]
            for column in bank.reads.T[1:]:
                heard |= bits[column]
            for column in bank.writes.T:
                after[column] = heard
        bits = after
        yield bits


def path_counts(net: Network) -> npt.NDArray[Any]:
    """Return how many paths lead from each input to each output, exactly.

    Returns
    -------
    (width, width) int64, or Python integers (dtype object) where int64 could overflow
        [i, j] counts the paths from input j to output i.

    Examples
    --------
    >>> path_counts(Network.of(2, [[[0, 1]], [[0, 1]]]))
    array([[2, 2],
           [2, 2]])
    """
    most = math.prod(max((bank.radix for bank in stage.banks), default=1) for stage in net.stages)
    dtype: Any = np.int64 if most < 2**63 else object
    counts: npt.NDArray[Any] = np.eye(net.width, dtype=np.int64).astype(dtype)
    for stage in net.stages:
        after = counts.copy()
        after[stage.moves[:, 1]] = counts[stage.moves[:, 0]]
        for bank in stage.banks:
            after[bank.writes] = counts[bank.reads].sum(axis=1)[:, None]
        counts = after
    return counts


def dense_depth(family: Family | str, width: int, *, most: int | None = None) -> int | None:
    """Return the smallest depth at which the family is dense at this width, or None.

    A family with a depth to choose is built ever deeper, up to `most` stages or to the depth it
    refuses; of any other network the first stages are tried. A depth that the family already
    states is replaced. As every family promises, the first stages of a deeper member are the
    shallower one.

    Parameters
    ----------
    family : Family or str
        A family or its spec.
    width : int
    most : int, optional
        The deepest tried; by default 64 more than the width.

    Raises
    ------
    WidthError
        When the family takes this width at no depth.

    Examples
    --------
    >>> dense_depth("shuffle(block=8)", 384), dense_depth("butterfly(block=8)", 512)
    (3, 7)
    >>> dense_depth("butterfly(block=8)", 384) is None
    True
    """
    rule = as_family(family)
    size = whole(width, "width", 1)
    limit = size + 64 if most is None else whole(most, "most", 1)
    if not rule.has_depth:
        return first_dense(rule(size)[:limit])
    depth = next((k for k in range(1, min(limit, _FEW) + 1) if rule.having(depth=k).takes(size)), 1)
    while True:
        found = first_dense(rule.having(depth=depth)(size))
        deeper = min(2 * depth, limit)
        while deeper > depth and not rule.having(depth=deeper).takes(size):
            deeper -= 1
        if found is not None or deeper <= depth:
            return found
        depth = deeper
