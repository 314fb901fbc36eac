"""Who can hear whom: density and path counts of the grid graph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from structmat import permutation
from structmat.components import joined
from structmat.errors import SpecError, whole
from structmat.families.spec import Family, as_family
from structmat.network import Network, checked
from structmat.permutation import Index
from structmat.texttable import counted

_CHUNK = 2048  # wires followed at once, 32 words of 64 bits for each wire: measured to be quickest
_LISTED = 8  # components whose sizes are said one by one
_FEW = 64  # wires followed first, and depths tried for one that a family takes at all

Words: TypeAlias = npt.NDArray[np.uint64]


def reach(net: Network, outputs: npt.ArrayLike | None = None) -> npt.NDArray[np.bool_]:
    """Return which inputs reach which outputs: [i, j] is True when input j reaches output i.

    Entry (i, j) of R is not identically zero exactly where this is True: with complete switches
    nothing cancels for generic blocks.

    Parameters
    ----------
    net : Network
    outputs : sequence of integers, optional
        The rows to return, for a network so wide that all of them would not fit into memory; by
        default all.

    Returns
    -------
    (width, width) or (outputs, width) bool

    Raises
    ------
    WiringError
        For outputs that are no wires of the network.

    Examples
    --------
    >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> reach(net).astype(int)
    array([[1, 1, 0],
           [1, 1, 1],
           [1, 1, 1]])
    >>> reach(net, [0])
    array([[ True,  True, False]])
    """
    back = outputs is not None
    every = permutation.identity(checked(net, "reach").width)
    wires = permutation.some(outputs, net.width, "outputs") if outputs is not None else every
    heard = np.empty((net.width, len(wires)), dtype=bool)
    for chunk in _chunks(len(wires)):
        followed = wires[chunk]
        for bits in _spread(net, followed, back=back):
            last = bits
        octets = last.view(np.uint8)
        heard[:, chunk] = np.unpackbits(octets, axis=1, count=len(followed), bitorder="little")
    return heard.T if back else heard


def is_dense(net: Network) -> bool:
    """Return whether every input reaches every output.

    Follows some thousand inputs at a time, so memory stays linear in the width.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> is_dense(butterfly(64, block=8, depth=4)), is_dense(butterfly(64, block=8, depth=3))
    (True, False)
    """
    return first_dense(checked(net, "is_dense")) is not None


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
    wires = permutation.identity(net.width)
    for chunk in _chunks(net.width):
        inputs = wires[chunk]
        everyone = np.packbits(np.ones(len(inputs), dtype=bool), bitorder="little")
        full = np.pad(everyone, (0, -len(everyone) % 8)).view(np.uint64)
        for stages, bits in enumerate(_spread(net, inputs)):
            if (bits[0] == full).all() and (np.bitwise_and.reduce(bits, axis=0) == full).all():
                fewest = max(fewest, stages)
                break
        else:
            return None
    return fewest


def _chunks(count: int) -> Iterator[slice]:
    """Yield slices of that many wires, each to be followed at once."""
    first, size = 0, _FEW  # most networks that are not dense show it early
    while first < count:
        yield slice(first, first + size)
        first, size = first + size, _CHUNK


def _spread(net: Network, wires: Index, *, back: bool = False) -> Iterator[Words]:
    """Yield, before the first stage and after each, a row of bits for each wire: whom it heard.

    Bit k stands for `wires[k]`. With `back` they are outputs, followed from the last stage to the
    first, and the bits say who heard each wire. Always the same array is yielded: nothing is
    copied, for at large widths this takes as long as the memory takes to be read and written.
    """
    bits = np.zeros((net.width, -(-len(wires) // 64)), dtype=np.uint64)
    own = np.arange(len(wires))
    np.bitwise_or.at(bits, (wires, own // 64), np.uint64(1) << (own % 64).astype(np.uint64))
    yield bits
    for stage in reversed(net.stages) if back else net.stages:
        sides = [
            (bank.writes, bank.reads) if back else (bank.reads, bank.writes) for bank in stage.banks
        ]
        start, end = stage.moves.T[::-1] if back else stage.moves.T
        moved = bits[start]
        heard = []
        for reads, _ in sides:
            together = bits[reads[:, 0]]
            for column in reads.T[1:]:
                together |= bits[column]
            heard.append(together)
        bits[end] = moved
        for (_, writes), together in zip(sides, heard, strict=True):
            for column in writes.T:
                bits[column] = together
        yield bits


class Components(NamedTuple):
    """How the switches of a network join its wires.

    Attributes
    ----------
    sizes : tuple of int
        How many wires each connected component has, the largest first.
    apart : (input, output) or None
        Wires of two components: this input reaches this output by no blocks at all. None where
        there is one component.
    """

    sizes: tuple[int, ...]
    apart: tuple[int, int] | None


def components(net: Network) -> Components:
    """Return the connected components of the wires of a network, joined by its switches.

    With more than one, the matrices of the network are direct sums up to the order of their rows
    and columns: it is not dense, and repeating it in its straight form, or setting its switches
    in another order, changes nothing.

    Parameters
    ----------
    net : Network
        A wired one is looked at in its straight form; `apart` names an input and an output of the
        wired one.

    Examples
    --------
    >>> components(Network.of(5, [[[0, 1]], [[1, 4]]]))
    Components(sizes=(3, 1, 1), apart=(0, 2))
    """
    straight, _, outputs = checked(net, "components").straightened()
    label = joined(permutation.identity(net.width), [bank.reads for bank in straight.banks])
    sizes = np.bincount(label)
    others = np.flatnonzero(label[outputs] != label[0])
    apart = (0, int(others[0])) if len(others) else None
    return Components(tuple(sorted(sizes.tolist(), reverse=True)), apart)


def obstacle(net: Network) -> str | None:
    """Return why a network that is not dense is not, in words; None where it is.

    Examples
    --------
    >>> print(obstacle(Network.of(5, [[[0, 1]], [[1, 4]]])))
    its switches join the 5 wires in 3 connected components, of 3, 1 and 1 wires, so no number of \
stages makes it dense: input 0 never reaches output 2
    >>> print(obstacle(Network.of(3, [[[0, 1]], [[1, 2]]])))
    input 2 does not reach output 0; its switches join all wires, so more stages can make it dense
    """
    if is_dense(net):
        return None
    sizes, apart = components(net)
    if apart is None:
        first = next(k for k in range(net.width) if not reach(net, [k]).all())
        source = int(np.argmin(reach(net, [first])[0]))
        return (
            f"input {source} does not reach output {first}; its switches join all wires, so more"
            " stages can make it dense"
        )
    listed = [f"{size:,}" for size in sizes]
    if len(listed) > _LISTED:
        most, least = sizes[0], sizes[-1]
        of = (
            f"of {least:,} to {most:,} wires"
            if most > least
            else f"of {counted(most, 'wire')} each"
        )
    else:
        of = f"of {', '.join(listed[:-1])} and {listed[-1]} wires"
    return (
        f"its switches join the {net.width:,} wires in {len(sizes):,} connected components, {of},"
        f" so no number of stages makes it dense: input {apart[0]} never reaches output {apart[1]}"
    )


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
    stages = checked(net, "path_counts").stages
    most = math.prod(max((bank.radix for bank in stage.banks), default=1) for stage in stages)
    dtype: Any = np.int64 if most < 2**63 else object
    counts: npt.NDArray[Any] = np.eye(net.width, dtype=np.int64).astype(dtype)
    for stage in stages:
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
    SpecError
        For anything but a spec or a family.
    WidthError
        When the family takes this width at no depth.

    Examples
    --------
    >>> dense_depth("shuffle(block=8)", 384), dense_depth("butterfly(block=8)", 512)
    (3, 7)
    >>> dense_depth("butterfly(block=8)", 384) is None
    True
    """
    given: Any = family
    if isinstance(given, Network):
        raise SpecError(
            f"{given!r}: dense_depth takes a spec or a Family; the dense_depth of a network is in"
            " report(net)"
        )
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
