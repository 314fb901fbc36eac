"""Networks of small switches that mix exactly, or nearly so, at every width."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from structmat.errors import checked_integer
from structmat.families.butterflies import digit_bank
from structmat.families.number_theory import (
    below_two,
    best_factorization,
    ceil_log,
    prime_factors,
)
from structmat.families.registry import Claims, family
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Bank, Stage

_LEAST = 25  # a grid is avoided if the product of the sizes of its odd switches is smaller


class Grid(NamedTuple):
    """A grid of points with mixed-radix coordinates, and the wires on its points.

    Every point has `each` wires, except for the odd points, no two of which are on a line along a
    coordinate: `odd` points have one wire more or, if `odd` is negative, −`odd` points have one
    wire fewer.
    """

    radices: tuple[int, ...]
    each: int
    odd: int

    @property
    def points(self) -> int:
        """The number of points."""
        return math.prod(self.radices)

    def switches(self, stage: int) -> dict[int, int]:
        """Return the number of switches of each radix: a switch joins the wires on a line."""
        lines = self.points // self.radices[stage]
        usual = self.each * self.radices[stage]
        unusual = usual + (1 if self.odd > 0 else -1)
        counts = {usual: lines - abs(self.odd), unusual: abs(self.odd)}
        return {radix: count for radix, count in counts.items() if count}

    @property
    def parameters(self) -> int:
        """The number of parameters of all switches."""
        return sum(
            count * math.comb(radix, 2)
            for stage in range(len(self.radices))
            for radix, count in self.switches(stage).items()
        )

    @property
    def wires(self) -> Index:
        """The point of each wire."""
        complete = np.arange(self.points)
        if not self.odd:
            return np.tile(complete, self.each)
        chosen = _scattered(self.radices, abs(self.odd))
        if self.odd > 0:
            return np.concatenate([*[complete] * self.each, chosen])
        return np.concatenate([*[complete] * (self.each - 1), np.delete(complete, chosen)])


def _scattered(radices: tuple[int, ...], number: int) -> Index:
    """Return points of a grid, no two of them on a line, evenly spaced among all such points.

    The digits of two points on a line differ in one place, by less than the largest radix, so the
    sums of their digits differ modulo this radix.
    """
    rest = np.arange(math.prod(radices))
    total = np.zeros_like(rest)
    for radix in radices:
        rest, digit = np.divmod(rest, radix)
        total += digit
    apart = np.flatnonzero(total % max(radices) == 0)
    return apart[np.arange(number) * len(apart) // number]


@lru_cache(maxsize=4096)
def grid(width: int, block: int) -> Grid:
    """Return the grid of the network of this width, with at most `block` wires on each line.

    Examples
    --------
    >>> grid(768, 16), grid(107, 16)
    (Grid(radices=(8, 8, 12), each=1, odd=0), Grid(radices=(10, 10), each=1, odd=7))
    """
    if prime_factors(width)[-1] <= block:
        fewest = best_factorization(width, {radix: (1, radix) for radix in range(2, block + 1)})
        return Grid(fewest[::-1], 1, 0)
    depth = ceil_log(width, block)
    while True:
        found = list(_uneven_grids(width, block, depth))
        if found:
            return min(found, key=lambda one: (_shortfall(one), one.parameters, one))
        depth += 1


def _shortfall(one: Grid) -> int:
    """Return by how much the product of the sizes of the odd switches is below 25.

    For two stages, the value of `mixing` is at most 1/√(p·q), where p and q are these sizes.
    """
    step = 1 if one.odd > 0 else -1
    return max(0, _LEAST - math.prod(one.each * radix + step for radix in one.radices))


def _uneven_grids(width: int, block: int, depth: int) -> Iterator[Grid]:
    """Yield the grids of this depth with few enough odd points."""
    for first in combinations_with_replacement(range(2, block + 1), depth - 1):
        size = math.prod(first)
        for each in range(1, block // first[-1] + 1):
            nearest = width // (size * each)
            for last in range(max(first[-1], nearest - 1), min(block, nearest + 1) + 1):
                made = Grid((*first, last), each, width - each * size * last)
                if _fits(made, block):
                    yield made


def _fits(made: Grid, block: int) -> bool:
    """Return whether the odd points can be scattered, and each point and line has enough wires."""
    longest = max(made.radices)
    few = abs(made.odd) * longest <= made.points
    return few and made.each > (made.odd < 0) and made.each * longest + (made.odd > 0) <= block


def _refuses(width: int, block: int) -> str | None:
    checked_integer(block, "block", 4)
    return below_two(width)


def _claims(width: int, block: int) -> Claims:
    made = grid(width, block)
    depth = len(made.radices)
    like = f"mixed_radix(radices={made.radices})" if made.points == width else None
    return Claims(depth, made.parameters, dense_at=depth, like=like)


def _blocks(width: int) -> list[int]:
    """Return blocks to try, among them the smallest one of at least the width."""
    return sorted((1 << k for k in range(2, 9) if 1 << (k - 1) < width), key=lambda b: b != 16)


@family("any from 2 on", _refuses, claims=_claims, choices={"block": _blocks})
def mixing_network(width: int, block: int) -> Network:
    """Mix exactly, or nearly so, in few stages of switches of at most b wires, at any width.

    If all prime factors of the width are at most b, this is `mixed_radix` with radices of at most
    b: as few of them as possible, and of these the ones with the smallest sum, which means the
    fewest parameters. It mixes exactly (`structmat.mixing` is 0). No network of such switches does
    so at any other width, because averages over at most b wires never add up to 1/d if a prime
    factor of d exceeds b.

    At other widths, the wires are placed on the points of a mixed-radix grid whose number of points
    is near the width or near a fraction of it. Every point has the same number of wires, except for
    some odd points that have one wire more or one fewer; no two of them are on a line along a
    coordinate. Each stage joins the wires on each line along one coordinate. The network is
    therefore dense after its last stage, and the radices of a stage differ by one at most. Of the
    grids with the fewest stages, the one with the fewest parameters is chosen. With two stages,
    `structmat.mixing` is at most 1/√(p·q), where p and q are the sizes of the switches of the two
    stages that contain an odd point: the matrix of the numbers of wires that two switches share is
    a constant matrix plus or minus a partial permutation matrix. Grids with p·q < 25 are avoided,
    so the value is at most 0.2 for b ≥ 8. With more stages it is smaller: for b = 16, at most 0.13
    at all widths that were measured.

    Parameters
    ----------
    width : int
        At least 2.
    block : int
        The largest radix, at least 4. If it is at least the width, the network is one switch.

    Raises
    ------
    WidthError
        For width 1.

    Examples
    --------
    >>> [stage.banks[0].radix for stage in mixing_network(768, block=16).stages]
    [8, 8, 12]
    >>> mixing_network(50257, block=16)
    Network(width=50257, depth=4, parameters=1476788)
    >>> mixing_network(107, block=16).stages[0]
    Stage(width=107, 3×10 + 7×11)
    """
    made = grid(width, int(block))
    wires = made.wires
    stages = []
    stride = 1
    for radix in made.radices:
        if made.points == width:
            banks = [digit_bank(width, radix, stride)]
        else:
            lines = wires // (stride * radix) * stride + wires % stride
            banks = _joined(lines)
        stages.append(Stage(width, banks))
        stride *= radix
    return Network(width, stages)


def _joined(lines: Index) -> list[Bank]:
    """Return switches that join the wires on the same line, in one bank for each radix."""
    order = np.argsort(lines, kind="stable")
    counts = np.bincount(lines)
    first = np.cumsum(counts) - counts
    return [
        Bank(order[first[counts == radix][:, None] + np.arange(radix)])
        for radix in np.unique(counts).tolist()
    ]
