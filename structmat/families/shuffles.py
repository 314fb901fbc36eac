"""Networks whose wires are permuted by shuffles between their stages."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from structmat.errors import checked_integer
from structmat.families.number_theory import ceil_log
from structmat.families.registry import Claims, family
from structmat.networks import permutation
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Bank, Stage


def _shuffle_refuses(width: int, block: int, depth: int | None) -> str | None:
    size = checked_integer(block, "block", 2)
    if depth is not None:
        checked_integer(depth, "depth", 1)
    return None if width % size == 0 else f"width must be a multiple of {size}"


def _shuffle_depth(width: int, block: int, depth: int | None) -> int:
    return max(1, ceil_log(width, block)) if depth is None else depth


def _shuffle_claims(width: int, block: int, depth: int | None) -> Claims:
    stages, least = _shuffle_depth(width, block, depth), ceil_log(width, block)
    dense = stages >= least
    parameters = stages * width * (block - 1) // 2
    return Claims(stages, parameters, dense=dense, dense_at=least if dense else None)


@family("multiples of block", _shuffle_refuses, claims=_shuffle_claims)
def shuffle(width: int, block: int, depth: int | None = None) -> Network:
    """Alternate blocks of b wires with perfect shuffles of all wires: GSOFT, straightened.

    The network is dense at depth ⌈log_b d⌉, the minimum for any network with blocks of b; the block
    butterfly needs 1 + log₂(d/b) stages. It has m·d(b−1)/2 parameters. The shuffle sends wire i to
    (i mod r)·b + ⌊i/r⌋, where r = d/b; it is absorbed into the switches of the returned network.

    Parameters
    ----------
    width : int
        A multiple of `block`.
    block : int
        Wires per switch, at least 2.
    depth : int, optional
        The number of stages m; by default the smallest with which it is dense.

    Raises
    ------
    WidthError
        For any other width.

    References
    ----------
    Gorbunov et al., Group and Shuffle: Efficient Structured Orthogonal Parametrization,
    NeurIPS 2024, arXiv 2406.10019.

    Examples
    --------
    >>> shuffle(384, block=8)
    Network(width=384, depth=3, parameters=4032)
    """
    size = int(block)
    first = permutation.identity(width).reshape(-1, size)
    to = permutation.perfect_shuffle(width, size)
    return _unrolled(first, to, _shuffle_depth(width, size, depth))


def _unrolled(first: Index, to: Index, depth: int) -> Network:
    """Return the switches `first` in every stage, with wire i moved to `to[i]` in between."""
    width = len(to)
    back = permutation.inverse(to)
    carried = permutation.identity(width)
    stages = []
    for _ in range(depth):
        stages.append(Stage(width, [Bank(carried[first])]))
        carried = carried[back]
    return Network(width, stages)


def _kautz_claims(width: int, block: int, depth: int | None) -> Claims:
    promised = _shuffle_claims(width, block, depth)
    return replace(promised, like=f"shuffle(block={block}, depth={promised.depth})")


@family("multiples of block", _shuffle_refuses, claims=_kautz_claims)
def kautz(width: int, block: int, depth: int | None = None) -> Network:
    """Unroll the Kautz digraph, in which wire i leads to −b·i − 1, …, −b·i − b modulo d.

    Imase and Itoh define this digraph for every width; the original Kautz digraph has
    d = (b+1)·b^(n−1) with n ≥ 2. The b wires i, i + d/b, i + 2d/b, … have the same successors,
    and form a switch. Along m edges a wire influences b^m consecutive wires, so the network is
    dense at depth ⌈log_b d⌉, the minimum, which is n + 1 at Kautz's own widths. It has m·d(b−1)/2
    parameters.

    The successors in the de Bruijn digraph, b·i + 0, …, b·i + b − 1, are the mirror images of these
    (x ↦ d − 1 − x), and the reflection maps switches to switches. As a multistage network this is
    therefore `shuffle` with its wires relabelled; the two digraphs differ only if walks of
    different lengths are combined.

    Parameters
    ----------
    width : int
        A multiple of `block`.
    block : int
        Wires per switch, at least 2.
    depth : int, optional
        The number of stages m; by default the smallest with which it is dense.

    Raises
    ------
    WidthError
        For any other width.

    References
    ----------
    W. H. Kautz, Bounds on directed (d, k) graphs, 1968.
    M. Imase and M. Itoh, A design for directed graphs with minimum diameter, 1983.

    Examples
    --------
    >>> kautz(12, block=2)
    Network(width=12, depth=4, parameters=24)
    >>> kautz(12, block=2, depth=1).stages[0].banks[0].reads.tolist()
    [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11]]
    """
    size = int(block)
    first = permutation.identity(width).reshape(size, -1).T
    to = width - 1 - permutation.perfect_shuffle(width, size)
    return _unrolled(first, to, _shuffle_depth(width, size, depth))


def _deal_refuses(width: int, block: int, depth: int | None) -> str | None:
    size = checked_integer(block, "block", 2)
    if depth is not None:
        checked_integer(depth, "depth", 1)
    return None if width >= size else f"width must be at least {size}, the block"


def _deal_claims(width: int, block: int, depth: int | None) -> Claims:
    least = _deal_dense_depth(width, block)
    stages = least if depth is None else depth
    size, larger = divmod(width, -(-width // block))
    smaller = -(-width // block) - larger
    parameters = (larger * (size + 1) * size + smaller * size * (size - 1)) // 2
    dense = stages >= least
    return Claims(stages, stages * parameters, dense=dense, dense_at=least if dense else None)


@family("any from block on", _deal_refuses, claims=_deal_claims)
def deal(width: int, block: int, depth: int | None = None) -> Network:
    """Shuffle the wires at any width, with switches of nearly equal radix, at most b.

    The wires are cut, like cards, into r = ⌈d/b⌉ hands of nearly equal size, each of which is a
    switch; a hand of one wire is idle. Between stages the hands are stacked into a pile, and the
    wires dealt one at a time to r new hands: from the top of the pile after even stages, from the
    bottom after odd ones. If b divides d, the network is `shuffle`.

    The network is dense at depth ⌈log_b d⌉, the minimum for blocks of b, or one stage later. It is
    always ⌈log_b d⌉ if b divides d, and one more at odd widths with b = 2, the minimum there.
    (Checked for every block at every width up to 600. Dealing only from the top takes up to two
    more stages.) With s = d mod r and q = ⌊d/r⌋, each stage has s·q(q+1)/2 + (r−s)·q(q−1)/2
    parameters.

    Parameters
    ----------
    width : int
        At least `block`.
    block : int
        The largest radix, at least 2.
    depth : int, optional
        The number of stages; by default the smallest with which it is dense.

    Raises
    ------
    WidthError
        If the width is below the block.

    Examples
    --------
    >>> deal(7, block=3).stages
    (Stage(width=7, 2×2 + 1×3), Stage(width=7, 1×3 + 2×2), Stage(width=7, 2×2 + 1×3))
    >>> deal(50257, block=16)
    Network(width=50257, depth=5, parameters=1884075)
    >>> deal(384, block=8) == shuffle(384, block=8)
    True
    """
    hands = -(-width // int(block))
    stages = []
    pile = permutation.identity(width)
    for deal_number in range(_deal_dense_depth(width, int(block)) if depth is None else int(depth)):
        stages.append(
            Stage(width, [Bank(cut) for cut in _cut(pile, hands, deal_number) if cut[0].size > 1])
        )
        pile = _dealt(pile, hands, deal_number)
    return Network(width, stages)


def _cut(pile: Index, hands: int, deal_number: int) -> list[Index]:
    """Cut a pile into hands: the larger ones are last for an even deal number, else first."""
    size, larger = divmod(len(pile), hands)
    sizes = [(hands - larger, size), (larger, size + 1)][:: -1 if deal_number % 2 else 1]
    first = pile[: sizes[0][0] * sizes[0][1]]
    parts = zip((first, pile[len(first) :]), sizes, strict=True)
    return [part.reshape(number, size) for part, (number, size) in parts if number]


def _dealt(pile: Index, hands: int, deal_number: int) -> Index:
    """Deal a pile and stack the hands; in odd deals, deal from the bottom."""
    if deal_number % 2:
        return _dealt(pile[::-1], hands, 0)[::-1]
    return np.concatenate([pile[hand::hands] for hand in range(hands)])


Runs = tuple[Index, Index]  # the starts and ends of runs of hands; one row per initial hand


@lru_cache(maxsize=4096)
def _deal_dense_depth(width: int, block: int) -> int:
    """Return the smallest depth at which `deal` is dense, tracking whole hands instead of wires.

    The hands influenced by an initial hand form a few runs of neighbours, because the wires of a
    run are adjacent in the pile and are dealt to adjacent hands. Memory use is therefore linear in
    the width.
    """
    hands = -(-width // block)
    starts: Index = np.arange(hands)[:, None]
    ends = starts + 1
    deal_number = 0
    while True:
        # Keep the initial hands that do not influence every hand yet.
        partial = (starts[:, 0] > 0) | (ends[:, 0] < hands)
        if not partial.any():
            return deal_number + 1
        starts, ends = _merged(
            *_dealt_runs(starts[partial], ends[partial], width, hands, deal_number), hands
        )
        deal_number += 1


def _dealt_runs(starts: Index, ends: Index, width: int, hands: int, deal_number: int) -> Runs:
    """Return the runs of hands, some of them empty, to which the given runs are dealt."""
    size, larger = divmod(width, hands)
    first, last = (
        size * run
        + (np.minimum(run, larger) if deal_number % 2 else np.maximum(run - hands + larger, 0))
        for run in (starts, ends)
    )
    if deal_number % 2:
        first, last = width - last, width - first
    begin = first % hands
    end = begin + np.minimum(last - first, hands)
    starts = np.hstack([begin, np.zeros_like(begin)])
    ends = np.hstack([np.minimum(end, hands), np.maximum(end - hands, 0)])
    return (hands - ends, hands - starts) if deal_number % 2 else (starts, ends)


def _merged(starts: Index, ends: Index, hands: int) -> Runs:
    """Merge touching runs in each row, and sort them; empty ones come last, at `hands`."""
    starts = np.where(starts < ends, starts, hands)
    order = np.argsort(starts, axis=1)
    starts = np.take_along_axis(starts, order, axis=1)
    ends = np.maximum.accumulate(np.take_along_axis(ends, order, axis=1), axis=1)
    apart = starts[:, 1:] > ends[:, :-1]
    border = np.ones((len(starts), 1), dtype=bool)
    starts = np.sort(np.where(np.hstack([border, apart]), starts, hands), axis=1)
    ends = np.sort(np.where(np.hstack([apart, border]), ends, hands), axis=1)
    some = int((starts < hands).sum(axis=1).max())
    return starts[:, :some], ends[:, :some]
