"""Reachability: which inputs influence which outputs, density, and path counts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from structmat._util.text_table import counted
from structmat.errors import StructmatError, WiringError, checked_integer
from structmat.families import Rule, as_rule
from structmat.families.resolution import checked, is_path, network
from structmat.networks import permutation
from structmat.networks.components import joined
from structmat.networks.network import Network
from structmat.networks.permutation import Index

_CHUNK = 2048  # wires propagated at once, as 32 words of 64 bits per wire; measured to be fastest
_LISTED = 8  # maximum number of components whose sizes are listed
_FEW = 64  # wires propagated first; and depths tried before a family is assumed to reject a width

Words: TypeAlias = npt.NDArray[np.uint64]


def reach(net: Network, outputs: npt.ArrayLike | None = None) -> npt.NDArray[np.bool_]:
    """Return the reachability matrix: [i, j] is True if input j influences output i.

    It is True if and only if entry (i, j) of R is not identically zero: no cancellation occurs for
    generic blocks, because every entry of a block is free.

    Parameters
    ----------
    net : Network
    outputs : sequence of integers, optional
        The rows to return, for networks so wide that the whole matrix would not fit into memory; by
        default all.

    Returns
    -------
    (width, width) or (outputs, width) bool

    Raises
    ------
    WiringError
        If an output is not a wire of the network.

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
    net = checked(net, "reach")
    back = outputs is not None
    every = permutation.identity(net.width)
    wires = permutation.some(outputs, net.width, "outputs") if outputs is not None else every
    reached = np.empty((net.width, len(wires)), dtype=bool)
    for chunk in _chunks(len(wires)):
        reached[:, chunk] = _reached(net, wires[chunk], back=back)
    return reached.T if back else reached


def fewest_reached(net: Network, inputs: npt.ArrayLike | None = None) -> tuple[int, int]:
    """Return the smallest number of outputs that an input influences, and the first such input.

    If switches have at most b wires, an input reaches at most b^m outputs after m stages. An input
    that reaches n outputs leaves, for all blocks, at least 1/n of its energy on one of them.

    Parameters
    ----------
    net : Network
    inputs : sequence of integers, optional
        The inputs to consider; by default all, in time proportional to the square of the width.

    Raises
    ------
    WiringError
        If an input is not a wire of the network, or there are none.

    Examples
    --------
    >>> from structmat.families import shuffle
    >>> fewest_reached(shuffle(1032, 8, depth=2)), fewest_reached(shuffle(1032, 8, depth=4))
    ((64, 0), (1032, 0))
    """
    net = checked(net, "fewest_reached")
    every = permutation.identity(net.width)
    wires = every if inputs is None else permutation.some(inputs, net.width, "inputs")
    if not len(wires):
        raise WiringError("inputs is empty: give at least one input")
    chunks = [wires[chunk] for chunk in _chunks(len(wires))]
    counts = np.concatenate([_reached(net, chunk).sum(axis=0, dtype=np.int64) for chunk in chunks])
    fewest = int(counts.argmin())
    return int(counts[fewest]), int(wires[fewest])


def is_dense(net: Network) -> bool:
    """Return whether every input influences every output.

    Inputs are propagated about two thousand at a time, so memory use is linear in the width.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> is_dense(butterfly(64, block=8, depth=4)), is_dense(butterfly(64, block=8, depth=3))
    (True, False)
    """
    net = checked(net, "is_dense")
    return leading_dense_depth(net) is not None


def unreached(net: Network, inputs: npt.ArrayLike | None = None) -> tuple[int, int] | None:
    """Return an input and an output that it does not influence, or None if there are none.

    Parameters
    ----------
    net : Network
    inputs : sequence of integers, optional
        The inputs to consider; by default all, until one of about two thousand propagated together
        does not influence every output.

    Raises
    ------
    WiringError
        If an input is not a wire of the network.

    Examples
    --------
    >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> unreached(net), unreached(net, [0, 1])
    ((2, 0), None)
    """
    net = checked(net, "unreached")
    every = permutation.identity(net.width)
    wires = every if inputs is None else permutation.some(inputs, net.width, "inputs")
    for chunk in _chunks(len(wires)):
        some = wires[chunk]
        for bits in spread(net, some):
            last = bits
        lacking = (last != _ones(len(some))).any(axis=1)
        if lacking.any():
            output = int(lacking.argmax())
            row = last[output].view(np.uint8)
            has = np.unpackbits(row, count=len(some), bitorder="little")
            return int(some[has.argmin()]), output
    return None


def leading_dense_depth(net: Network) -> int | None:
    """Return the smallest number of leading stages that are dense, or None if the network is not.

    Further stages preserve density: a switch combines the inputs that influence its wires.

    Examples
    --------
    >>> from structmat.families import benes
    >>> leading_dense_depth(benes(8)), benes(8).depth
    (3, 5)
    """
    fewest = 0
    wires = permutation.identity(net.width)
    for chunk in _chunks(net.width):
        inputs = wires[chunk]
        full = _ones(len(inputs))
        for stages, bits in enumerate(spread(net, inputs)):
            if (bits[0] == full).all() and (np.bitwise_and.reduce(bits, axis=0) == full).all():
                fewest = max(fewest, stages)
                break
        else:
            return None
    return fewest


def _ones(count: int) -> Words:
    """Return words whose first `count` bits are set."""
    bits = np.packbits(np.ones(count, dtype=bool), bitorder="little")
    return np.pad(bits, (0, -len(bits) % 8)).view(np.uint64)


def _reached(net: Network, wires: Index, *, back: bool = False) -> npt.NDArray[np.uint8]:
    """Return, as (width, wires) zeros and ones, which outputs each of these inputs influences.

    With `back`, return which inputs influence each of these outputs.
    """
    for bits in spread(net, wires, back=back):
        last = bits
    return np.unpackbits(last.view(np.uint8), axis=1, count=len(wires), bitorder="little")


def _chunks(count: int) -> Iterator[slice]:
    """Yield slices of the wires that are propagated together."""
    first, size = 0, _FEW  # a few wires suffice to detect most networks that are not dense
    while first < count:
        yield slice(first, first + size)
        first, size = first + size, _CHUNK


def spread(
    net: Network, wires: Index, *, back: bool = False, slots: Index | None = None
) -> Iterator[Words]:
    """Yield, before the first stage and after each, which inputs influence each wire, as bits.

    Bit k stands for the input `wires[k]`. With `back`, the wires are outputs, propagated from the
    last stage to the first, and the bits are the outputs that each wire influences. With `slots`,
    bit `slots[k]` stands for `wires[k]`. The same array is yielded every time, without a copy,
    because at large widths memory bandwidth dominates the time.

    Examples
    --------
    >>> [bits.ravel().tolist() for bits in spread(Network.of(2, [[[0, 1]]]), np.array([0, 1]))][1]
    [3, 3]
    """
    own = np.arange(len(wires)) if slots is None else slots
    bits = np.zeros((net.width, -(-int(own.max(initial=0) + 1) // 64)), dtype=np.uint64)
    np.bitwise_or.at(bits, (wires, own // 64), np.uint64(1) << (own % 64).astype(np.uint64))
    yield bits
    for stage in reversed(net.stages) if back else net.stages:
        sides = [
            (bank.writes, bank.reads) if back else (bank.reads, bank.writes) for bank in stage.banks
        ]
        start, end = stage.moves.T[::-1] if back else stage.moves.T
        moved = bits[start]
        reached = []
        for reads, _ in sides:
            together = bits[reads[:, 0]]
            for column in reads.T[1:]:
                together |= bits[column]
            reached.append(together)
        bits[end] = moved
        for (_, writes), together in zip(sides, reached, strict=True):
            for column in writes.T:
                bits[column] = together
        yield bits


class Components(NamedTuple):
    """The connected components of the wires of a network.

    Attributes
    ----------
    sizes : tuple of int
        The number of wires in each connected component, the largest first.
    apart : (input, output) or None
        An input and an output in different components: for all blocks, this input does not
        influence this output. None if there is one component.
    """

    sizes: tuple[int, ...]
    apart: tuple[int, int] | None


def components(net: Network) -> Components:
    """Return the connected components of the wires of a network, joined by its switches.

    If there is more than one component, the matrices of the network are direct sums up to the order
    of their rows and columns: the network is not dense, and neither repeating its straight form nor
    reordering its switches makes it dense.

    Parameters
    ----------
    net : Network
        A network that is not straight is examined in its straight form, but `apart` names its own
        input and output.

    Examples
    --------
    >>> components(Network.of(5, [[[0, 1]], [[1, 4]]]))
    Components(sizes=(3, 1, 1), apart=(0, 2))
    """
    net = checked(net, "components")
    straight, _, outputs = net.straightened()
    label = joined(permutation.identity(net.width), [bank.reads for bank in straight.banks])
    sizes = np.bincount(label)
    others = np.flatnonzero(label[outputs] != label[0])
    apart = (0, int(others[0])) if len(others) else None
    return Components(tuple(sorted(sizes.tolist(), reverse=True)), apart)


def why_not_dense(net: Network) -> str | None:
    """Explain why a network is not dense, or return None if it is dense.

    Examples
    --------
    >>> print(why_not_dense(Network.of(5, [[[0, 1]], [[1, 4]]])))
    its switches join the 5 wires in 3 connected components, of 3, 1 and 1 wires, so no \
number of repetitions of its stages makes it dense: input 0 never influences output 2
    >>> print(why_not_dense(Network.of(3, [[[0, 1]], [[1, 2]]])))
    input 2 does not influence output 0; its switches join all wires, so more stages can make it \
dense
    """
    missing = unreached(net)
    return None if missing is None else separation(net, missing)


def separation(net: Network, missing: tuple[int, int]) -> str:
    """Explain why a network is not dense, given an input and an output that it does not influence.

    Examples
    --------
    >>> separation(Network.of(3, [[[0, 1]], [[1, 2]]]), (2, 0))
    'input 2 does not influence output 0; its switches join all wires, so more stages can make it \
dense'
    """
    sizes, apart = components(net)
    if apart is None:
        source, output = missing
        return (
            f"input {source} does not influence output {output}; its switches join all wires, so"
            " more stages can make it dense"
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
        " so no number of repetitions of its stages makes it dense:"
        f" input {apart[0]} never influences output {apart[1]}"
    )


def path_counts(net: Network) -> npt.NDArray[Any]:
    """Return the number of paths from each input to each output, exactly.

    Returns
    -------
    (width, width) int64, or Python integers (dtype object) where int64 could overflow
        Entry (i, j) is the number of paths from input j to output i.

    Examples
    --------
    >>> path_counts(Network.of(2, [[[0, 1]], [[0, 1]]]))
    array([[2, 2],
           [2, 2]])
    """
    net = checked(net, "path_counts")
    stages = net.stages
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


def dense_depth(topology: Any, width: int | None = None, *, most: int | None = None) -> int | None:
    """Return the smallest depth at which a topology is dense, or None.

    A family with a depth option is built with increasing depth, up to `most` stages or to the first
    depth that it rejects; a depth given in the spec is ignored. By the contract of families, the
    network of a smaller depth consists of the first stages of a deeper one. For any other family,
    and for a network, the leading stages are tried.

    Parameters
    ----------
    topology
        Anything that `network` accepts: a spec, a family, a network, a networkx graph or a file.
    width : int, optional
        Required for specs, families and compositions.
    most : int, optional
        The largest depth tried; by default the width plus 64.

    Raises
    ------
    StructmatError
        If the topology cannot be resolved, or the width is missing.
    WidthError
        If the family does not accept this width at any depth.

    Examples
    --------
    >>> dense_depth("shuffle(block=8)", 384), dense_depth("butterfly(block=8)", 512)
    (3, 7)
    >>> dense_depth("butterfly(block=8)", 384) is None
    True
    >>> dense_depth(Network.of(3, [[[0, 1]], [[1, 2]], [[0, 1]]]))
    3
    """
    if not isinstance(topology, str | Rule) or (isinstance(topology, str) and is_path(topology)):
        leading = leading_dense_depth(network(topology, width))
        return (
            leading
            if most is None or leading is None or leading <= checked_integer(most, "most")
            else None
        )
    rule = as_rule(topology)
    if width is None:
        raise StructmatError(f"{rule}: a family has a network for each width; give the width")
    size = checked_integer(width, "width", 1)
    limit = size + 64 if most is None else checked_integer(most, "most", 1)
    if not rule.has_depth:
        return leading_dense_depth(rule(size)[:limit])
    depth = next(
        (k for k in range(1, min(limit, _FEW) + 1) if rule.with_options(depth=k).accepts(size)), 1
    )
    while True:
        found = leading_dense_depth(rule.with_options(depth=depth)(size))
        deeper = min(2 * depth, limit)
        while deeper > depth and not rule.with_options(depth=deeper).accepts(size):
            deeper -= 1
        if found is not None or deeper <= depth:
            return found
        depth = deeper
