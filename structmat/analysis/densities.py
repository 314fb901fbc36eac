"""Densities of wide networks: edges and reachability between bins of adjacent wires."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from structmat.analysis.reachability import Words, spread
from structmat.errors import StructmatError, checked_integer
from structmat.families.resolution import checked
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Stage

_WHOLE = 2048  # maximum width at which all inputs are propagated
_ONE, _TWO_OF_FOUR = np.uint64(1), np.uint64(0x3333333333333333)
_EACH = 8  # inputs of each bin that are propagated at larger widths


def bins_of(width: int, bins: int) -> Index:
    """Return the bin of each wire: bins of adjacent wires whose sizes differ by at most one.

    Raises
    ------
    StructmatError
        If there are no bins, or more than wires.

    Examples
    --------
    >>> bins_of(5, 2)
    array([0, 0, 0, 1, 1])
    """
    count = checked_integer(bins, "bins", 1)
    if count > width:
        raise StructmatError(f"bins={bins}: it must be at most the number of wires, {width}")
    return np.arange(width, dtype=np.int64) * count // width


def edge_counts(net: Network, bins: int) -> npt.NDArray[np.int64]:
    """Return the number of edges of each stage between bins of adjacent wires.

    An edge is an entry of a factor that may be non-zero: r² for each switch of radix r, and one for
    each other wire.

    Parameters
    ----------
    net : Network
    bins : int
        The number of bins, at most the width.

    Returns
    -------
    (depth, bins, bins)
        Entry [t, i, j] is the number of edges of stage t from bin j to bin i.

    Raises
    ------
    StructmatError
        If there are no bins, or more than wires.

    Examples
    --------
    >>> edge_counts(Network.of(4, [[[0, 1]], [[0, 3]]]), 2).tolist()
    [[[4, 0], [0, 2]], [[2, 1], [1, 2]]]
    """
    net = checked(net, "edge_counts")
    place = bins_of(net.width, bins)
    return np.array([_edges(stage, place, bins) for stage in net.stages]).reshape(-1, bins, bins)


def _edges(stage: Stage, place: Index, bins: int) -> npt.NDArray[np.int64]:
    start, end = stage.passing
    cells = np.bincount(place[end] * bins + place[start], minlength=bins * bins)
    found: npt.NDArray[np.int64] = cells.reshape(bins, bins).astype(np.int64)
    for bank in stage.banks:
        read, written = (
            scipy.sparse.csr_array(  # the number of wires of each switch in each bin
                (
                    np.ones(wires.size, dtype=np.int64),
                    (np.repeat(np.arange(bank.count), bank.radix), place[wires].ravel()),
                ),
                shape=(bank.count, bins),
            )
            for wires in (bank.reads, bank.writes)
        )
        found += (written.T @ read).toarray()
    return found


def sampled_inputs(width: int, bins: int) -> tuple[Index, Index]:
    """Return the inputs from which `reach_densities` propagates, and the bin of each.

    These are all inputs up to a width of 2,048, and eight of each bin at larger widths, drawn with
    a fixed seed.

    Examples
    --------
    >>> inputs, place = sampled_inputs(65536, 64)
    >>> len(inputs), np.bincount(place).tolist() == [8] * 64
    (512, True)
    """
    place = bins_of(width, bins)
    each = width if width <= _WHOLE else _EACH
    rng = np.random.default_rng(0)
    some = [np.flatnonzero(place == k) for k in range(bins)]
    inputs = [
        wires if len(wires) <= each else np.sort(rng.choice(wires, each, replace=False))
        for wires in some
    ]
    wires = np.concatenate(inputs)
    return wires, place[wires]


def reach_densities(net: Network, bins: int) -> npt.NDArray[np.float64]:
    """Return, after each number of stages, how densely bins of inputs influence bins of wires.

    Parameters
    ----------
    net : Network
    bins : int
        The number of bins of adjacent wires, at most the width.

    Returns
    -------
    (depth + 1, bins, bins)
        Entry [t, i, j] is the fraction of the pairs of a wire in bin i and an input in bin j for
        which the input influences the wire after t stages. Above a width of 2,048, it is
        estimated without bias from the inputs of `sampled_inputs`. An estimate below 1 also proves
        that the first t stages are not dense.

    Raises
    ------
    StructmatError
        If there are no bins, or more than wires.

    Examples
    --------
    >>> reach_densities(Network.of(4, [[[0, 1]], [[0, 3]]]), 2).tolist()
    [[[0.5, 0.0], [0.0, 0.5]], [[1.0, 0.0], [0.0, 0.5]], [[1.0, 0.25], [0.5, 0.5]]]
    """
    net = checked(net, "reach_densities")
    place = bins_of(net.width, bins)
    inputs, origin = sampled_inputs(net.width, bins)
    counts = np.bincount(origin, minlength=bins)
    size = -(-int(counts.max()) // 8)  # bytes of each bin
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    slots = np.arange(len(inputs)) - first[origin] + 8 * size * origin
    starts = np.searchsorted(place, np.arange(bins))
    pairs = np.bincount(place, minlength=bins)[:, None] * counts
    found = np.empty((net.depth + 1, bins, bins))
    for t, bits in enumerate(spread(net, inputs, slots=slots)):
        ones = _ones_in_bytes(bits)[:, : bins * size]
        rows = np.add.reduceat(ones, starts, axis=0, dtype=np.uint32)
        found[t] = rows.reshape(bins, bins, size).sum(axis=2) / pairs
    return found


def _ones_in_bytes(bits: Words) -> npt.NDArray[np.uint8]:
    """Return the number of bits set in each byte, by adding adjacent fields of 1, 2 and 4 bits."""
    pairs = bits - ((bits >> _ONE) & np.uint64(0x5555555555555555))
    fours = (pairs & _TWO_OF_FOUR) + ((pairs >> np.uint64(2)) & _TWO_OF_FOUR)
    eights = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    found: npt.NDArray[np.uint8] = eights.view(np.uint8)
    return found
