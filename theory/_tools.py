"""Functions shared by the checks of several claims."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

import structmat as sm


def partitions(wires: list[int]) -> Iterator[list[list[int]]]:
    """Yield every partition of the wires into switches and idle wires."""
    if not wires:
        yield []
        return
    first, *rest = wires
    for parts in partitions(rest):
        yield [[first], *parts]
        for k, part in enumerate(parts):
            yield [*parts[:k], [first, *part], *parts[k + 1 :]]


def even_partitions(width: int, block: int) -> Iterator[list[list[int]]]:
    """Yield every partition of the wires into blocks of this size."""
    for parts in partitions(list(range(width))):
        if all(len(part) == block for part in parts):
            yield parts


def every_network(width: int, depth: int) -> Iterator[sm.Network]:
    """Yield every straight network of this size, including those with idle stages."""
    for stages in itertools.product(partitions(list(range(width))), repeat=depth):
        yield sm.Network.of(width, [[p for p in parts if len(p) > 1] for parts in stages])


def layers(width: int, largest: int | None = None) -> np.ndarray:
    """Return the 0/1 pattern of every stage whose switches have at most `largest` wires."""
    found = []
    for parts in partitions(list(range(width))):
        if max(map(len, parts)) <= (largest or width):
            layer = np.zeros((width, width), dtype=np.int64)
            for part in parts:
                layer[np.ix_(part, part)] = 1
            found.append(layer)
    return np.array(found)


def switches(net: sm.Network) -> list[list[list[int]]]:
    """Return the wires of each switch, stage by stage."""
    return [[row for bank in stage.banks for row in bank.reads.tolist()] for stage in net.stages]


def pairs(net: sm.Network) -> list[set[tuple[int, int]]]:
    """Return the pairs of wires that share a switch, stage by stage."""
    return [
        {pair for row in stage for pair in itertools.combinations(sorted(row), 2)}
        for stage in switches(net)
    ]


def packed(width: int, wires: Iterable[Sequence[int]]) -> sm.Network:
    """Return the network of these switches, in this order, each in the earliest stage possible."""
    stages: list[list[Sequence[int]]] = []
    busy = [0] * width
    for switch in wires:
        t = max(busy[w] for w in switch)
        stages += [[]] * (t == len(stages))
        stages[t] = [*stages[t], switch]
        for w in switch:
            busy[w] = t + 1
    return sm.Network.of(width, stages)


def rotation(width: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random rotation from the Haar measure on SO(d)."""
    (block,) = sm.random_blocks(sm.block_diagonal(width, width), rng=rng)
    return block[0]


def rounding(net: sm.Network) -> float:
    """Return a bound on the accumulated rounding errors, entry by entry."""
    return 100 * max(1, net.depth) * net.width * float(np.finfo(float).eps)
