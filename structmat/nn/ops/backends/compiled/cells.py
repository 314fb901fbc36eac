"""Division of a network into segments: sets of cells with the same wiring that act in parallel.

A cell of some neighbouring stages is a connected component of their union: a group of wires that
these stages do not join with any others. Neighbouring stages are combined into one pass if each
cell has at most sixteen wires, so that its numbers fit in registers, and if each cell with several
switches has at most 160 block entries and the same wiring as at least three other cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from structmat.linalg.fused_stages import unions
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Stage

VECTORS = 8  # largest number of SIMD vectors in a row of a tile
REGISTERS = 16  # largest number of wires in a cell whose products are unrolled, in registers
_ENTRIES = 160  # largest total number of block entries in a cell with several switches
_ALIKE = 4  # smallest number of cells for which the code for a wiring of several switches pays


class Cell(NamedTuple):
    """The wiring of a cell: its number of wires, and the wires of each switch in order.

    Examples
    --------
    >>> Cell(3, ((0, 1), (1, 2)))
    Cell(size=3, switches=((0, 1), (1, 2)))
    """

    size: int
    switches: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Segment:
    """Disjoint cells with the same wiring.

    Attributes
    ----------
    cell : Cell
    wires : (n, c) int32
        The wires of each cell.
    banks : (q,) int64
        The bank of each switch of the cell.
    offsets : (n, q) int64
        The number of entries that precede the block of each switch in its bank.
    """

    cell: Cell
    wires: npt.NDArray[np.int32]
    banks: Index
    offsets: Index


def passes(net: Network) -> tuple[tuple[Segment, ...], ...]:
    """Divide a straight network into passes over the wires, each consisting of segments.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> [[(s.cell.size, len(s.wires)) for s in each] for each in passes(butterfly(64))]
    [[(16, 4)], [(4, 16)]]
    """
    first_banks = np.cumsum([0, *(len(stage.banks) for stage in net.stages)]).tolist()
    possible = unions(net)
    made = []
    first = 0
    while first < net.depth:
        end = first + 1
        found = _single(net.stages[first], first_banks[first])
        while (first, end + 1) in possible:
            union = possible[first, end + 1]
            if max((bank.radix for bank in union.banks), default=1) > REGISTERS:
                break
            several = _several(union, net.stages[first : end + 1], first_banks[first])
            if several is None:
                break
            found, end = several, end + 1
        if found:
            made.append(found)
        first = end
    return tuple(made)


def _single(stage: Stage, first_bank: int) -> tuple[Segment, ...]:
    return tuple(
        Segment(
            Cell(bank.radix, (tuple(range(bank.radix)),)),
            np.ascontiguousarray(bank.reads, dtype=np.int32),
            np.array([first_bank + k], dtype=np.int64),
            np.arange(bank.count, dtype=np.int64)[:, None] * bank.radix**2,
        )
        for k, bank in enumerate(stage.banks)
    )


def _several(union: Stage, stages: Sequence[Stage], first_bank: int) -> tuple[Segment, ...] | None:
    """Return the segments of several stages; None if a wiring is too rare or has many entries."""
    component = np.full(union.width, -1)
    place = np.zeros(union.width, dtype=np.int64)
    wires: list[Index] = []
    for bank in union.banks:
        component[bank.reads] = np.arange(bank.count)[:, None] + len(wires)
        place[bank.reads] = np.arange(bank.radix)
        wires.extend(bank.reads)
    switches: list[list[tuple[int, ...]]] = [[] for _ in wires]
    offsets: list[list[int]] = [[] for _ in wires]
    banks: list[list[int]] = [[] for _ in wires]
    number = first_bank
    for stage in stages:
        for bank in stage.banks:
            which, local = component[bank.reads[:, 0]], place[bank.reads]
            order = np.lexsort((local.min(axis=1), which))
            for k, own, row in zip(
                order.tolist(), which[order].tolist(), local[order].tolist(), strict=True
            ):
                switches[own].append(tuple(row))
                offsets[own].append(k * bank.radix**2)
                banks[own].append(number)
            number += 1
    alike: dict[tuple[Cell, tuple[int, ...]], list[int]] = {}
    for k, own in enumerate(wires):
        key = Cell(len(own), tuple(switches[k])), tuple(banks[k])
        alike.setdefault(key, []).append(k)
    if any(
        len(cell.switches) > 1  # the code for a single switch is needed anyway
        and (len(members) < _ALIKE or sum(len(wires) ** 2 for wires in cell.switches) > _ENTRIES)
        for (cell, _), members in alike.items()
    ):
        return None  # compiling a function would take longer than it saves
    return tuple(
        Segment(
            cell,
            np.array([wires[k] for k in members], dtype=np.int32),
            np.array(own_banks, dtype=np.int64),
            np.array([offsets[k] for k in members], dtype=np.int64),
        )
        for (cell, own_banks), members in alike.items()
    )
