"""An upper bound on the dimension of every network of a given depth and largest radix."""

from __future__ import annotations

from math import comb

import numpy as np
import numpy.typing as npt

from structmat.errors import checked_integer

Counts = npt.NDArray[np.int64]

_WIDEST = 1024  # the largest width for which the overlap of stages, d² numbers, is considered


def most_dimensions(width: int, block: int, depth: int) -> int:
    """Return an upper bound on the dimension of networks of this depth with radices up to `block`.

    The dimension is at most that of SO(d), and by T2 at most the number of pairs of wires that meet
    in the first stage, plus, for each further stage, the number of pairs that meet in it and not in
    the stage before. With fewer than b switches per stage, two stages inevitably share pairs: the
    other stage, of k parts, splits a switch of a wires into at most k parts, so the switch has at
    most t(a, k) new pairs, the number of edges of Turán's graph. A stage of k parts, counting idle
    wires, has the most pairs, and the most new ones, if all parts but one have 1 or b wires,
    because both numbers are convex functions of the sizes. The bound is the maximum over
    the numbers of parts of all stages.

    Parameters
    ----------
    width, block, depth : int
        d ≥ 1, b ≥ 2 and m ≥ 0. Above width 1,024, the bound is the largest number of parameters.

    Raises
    ------
    StructmatError
        If a number is below these limits.

    References
    ----------
    P. Turán, On an extremal problem in graph theory, 1941.

    Examples
    --------
    >>> most_dimensions(16, 8, 1), most_dimensions(16, 8, 2), most_dimensions(16, 8, 3)
    (56, 88, 120)
    """
    checked_integer(width, "width", 1)
    size = min(checked_integer(block, "block", 2), width)
    stages = checked_integer(depth, "depth")
    fewest = -(-width // size)
    most = width // size * comb(size, 2) + comb(width % size, 2)
    if stages and fewest < size and width <= _WIDEST:
        parts = np.arange(fewest, width + 1)
        pairs = _extreme(width, size, parts, np.arange(size + 1) * np.arange(-1, size) // 2)
        new = np.array([_extreme(width, size, parts, _turan(size, k)) for k in parts.tolist()])
        best = pairs  # for the number of parts of the last stage
        for stage in range(1, stages):
            after = best[:, None] + new
            if stage == 1:  # of two stages, either may come first
                after = np.minimum(after, after.T)
            best = after.max(axis=0)
        return min(comb(width, 2), int(best.max()))
    return min(comb(width, 2), most * stages)


def _turan(size: int, parts: int) -> Counts:
    """Return t(a, k) for a = 0, …, size: the pairs of a elements that k parts can separate."""
    number = np.arange(size + 1)
    each, more = number // parts, number % parts
    within = more * (each + 1) * each // 2 + (parts - more) * each * (each - 1) // 2
    pairs: Counts = number * (number - 1) // 2 - within
    return pairs


def _extreme(width: int, size: int, parts: Counts, values: Counts) -> Counts:
    """Return the largest sum of values[a] over partitions with these numbers of parts, a ≤ size."""
    if size == 1:
        return np.asarray(parts * values[1])
    full, rest = np.divmod(width - parts, size - 1)
    others = np.where(full < parts, values[1 + rest] + (parts - full - 1) * values[1], 0)
    total: Counts = full * values[size] + others
    return total
