"""Index tables of a schedule, from which the Triton kernels load the wires of each block.

A switch may overwrite its input: wires keep their places throughout, and a gather only changes
which wires the next product reads. A tile of vectors therefore needs a single scratch buffer,
called a strip, with one row per wire, and idle wires cost nothing. All permutations are applied at
the ends, when a tile is loaded or stored.

Switches are packed into units whose number of wires suits tensor cores: applying a unit means
multiplying by the block-diagonal matrix of its switches, whatever their radices. One kernel
therefore supports every network.

Wires are loaded from tables rather than computed, even if they are evenly spaced. The tables
contain five 4-byte numbers per wire, compared with the 128 bytes read and written for a row of 32
vectors in bfloat16. The tables are the same for all tiles, so they stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from structmat.errors import StructmatError
from structmat.linalg.schedule import Gather, Product, Schedule
from structmat.networks import permutation
from structmat.networks.permutation import Index

SMALLEST, LARGEST = 16, 64  # wires in a unit, as tensor cores require and registers allow
_SECTOR = 8  # fewest consecutive wires (at least 16 bytes) that make direct access to x worthwhile

_T = TypeVar("_T", "Units", "Route")


@dataclass(frozen=True, eq=False)
class Units:
    """The packed switches of all products in order, as int32 arrays (units, wires per unit).

    Attributes
    ----------
    size : int
        The number of wires in a unit, a power of two; unused places contain −1 in all arrays.
    wires : array
        The wire at each place.
    labels : array
        The index, within the unit, of the wire's switch.
    rows : array
        The offset, among the entries of all blocks, of the wire's row in that switch's block.
    columns : array
        The wire's column in the block.
    spans : (depth, 2) array
        The index of the first unit of each product, and one past its last unit.
    outputs : (width,) array
        Coordinate i of the result is wire `outputs[i]`.
    shapes : tuple
        The shapes (n, r, r) of the blocks.
    """

    size: int
    wires: Any
    labels: Any
    rows: Any
    columns: Any
    spans: Any
    outputs: Any
    shapes: tuple[tuple[int, int, int], ...]

    @property
    def entries(self) -> int:
        """The total number of entries of the blocks."""
        return sum(n * r * r for n, r, _ in self.shapes)


@dataclass(frozen=True, eq=False)
class Route:
    """The rows of a strip that each unit reads and writes.

    Attributes
    ----------
    height : int
        The number of rows of a strip.
    sources, targets : (units, size) int32 arrays
        Row indices, −1 for unused places.
    spans : (depth, 2) array
        The spans of the units, in the order in which the products act.
    entry : (width,) int32 array
        The row in which each coordinate of a vector is stored.
    leave : (width,) int32 array
        The row from which each coordinate of the result is loaded.
    runs : Runs
    """

    height: int
    sources: Any
    targets: Any
    spans: Any
    entry: Any
    leave: Any
    runs: Runs


@dataclass(frozen=True, eq=False)
class Tables:
    """The units of a schedule and their routes, with all arrays as tensors on one device.

    Attributes
    ----------
    units : Units
    routes : tuple of Route
        For R and for Rᵀ.
    kept : tuple of Route
        The same routes, but with new rows for everything that is written.
    """

    units: Units
    routes: tuple[Route, Route]
    kept: tuple[Route, Route]


@dataclass(frozen=True)
class Runs:
    """Lengths of the contiguous runs in a route, which the kernels load and store at once.

    Attributes
    ----------
    reads, writes : int
        The length of the runs of wires in the first (last) stage that are contiguous in the
        vectors. If that stage contains every wire, it reads the vectors (writes the results)
        directly; otherwise, the number is 0.
    first, last, between : int
        The length of the runs of entries that are contiguous in the blocks: in the first stage, in
        the last stage, and in all stages that neither read vectors nor write results.
    """

    reads: int
    writes: int
    first: int
    last: int
    between: int


def prepared(plan: Schedule, device: torch.device | str) -> Tables:
    """Return the index tables of a schedule on a device.

    Raises
    ------
    StructmatError
        If a switch has more than 64 wires, the most that the kernels support.

    Examples
    --------
    >>> from structmat.families import monarch
    >>> from structmat.linalg.schedule import schedule
    >>> found = prepared(schedule(monarch(64)), "cpu").units
    >>> found.size, len(found.wires), found.shapes
    (16, 8, ((8, 8, 8), (8, 8, 8)))
    """
    units = packed(plan)
    if units.size > LARGEST:
        raise StructmatError(
            f"a switch of {max(r for _, r, _ in units.shapes)} wires: the Triton kernels support up"
            f" to {LARGEST}; structmat.nn.ops.backends.tiled supports any number"
        )

    def on_device(tables: _T) -> _T:
        made: dict[str, Any] = {
            name: torch.tensor(value.astype(np.int32), device=device)
            for name, value in vars(tables).items()
            if isinstance(value, np.ndarray)
        }
        return replace(tables, **made)

    ahead, back, kept_ahead, kept_back = (
        on_device(route(units, adjoint=adjoint, keep=keep))
        for keep in (False, True)
        for adjoint in (False, True)
    )
    return Tables(on_device(units), (ahead, back), (kept_ahead, kept_back))


def packed(plan: Schedule) -> Units:
    """Return the units of a schedule.

    The number of wires in a unit is the largest radix rounded up to a power of two, at least 16.

    Examples
    --------
    >>> from structmat.families import mixed_radix
    >>> from structmat.linalg.schedule import schedule
    >>> units = packed(schedule(mixed_radix(24, (3, 8))))
    >>> units.size, units.spans.tolist(), units.entries
    (16, [[0, 2], [2, 4]], 264)
    >>> units.wires[1].tolist()             # three more switches of three wires
    [15, 16, 17, 18, 19, 20, 21, 22, 23, -1, -1, -1, -1, -1, -1, -1]
    """
    products = [step.segments for step in plan.steps if isinstance(step, Product)]
    shapes = tuple((s.count, s.radix, s.radix) for segments in products for s in segments)
    widest = max((radix for _, radix, _ in shapes), default=1)
    size = max(SMALLEST, 1 << (widest - 1).bit_length())
    wires = permutation.identity(plan.network.width)  # at each position
    offset = first = 0
    spans: list[tuple[int, int]] = []
    made: list[Index] = [np.zeros((4, 0, size), np.int32)]
    for step in plan.steps:
        if isinstance(step, Gather):
            wires = wires[step.index]
            continue
        parts = []
        for s in step.segments:
            parts.append(_units(wires[s.start : s.end].reshape(s.count, s.radix), offset, size))
            offset += s.count * s.radix**2
        tables = np.concatenate(parts, axis=1)
        if len(spans) in (0, len(products) - 1):
            by_wire = _sorted(tables)
            if run(by_wire[0]) >= _SECTOR:
                tables = by_wire
        made.append(tables)
        spans.append((first, first + tables.shape[1]))
        first += tables.shape[1]
    ranges = np.array(spans, dtype=np.int64).reshape(-1, 2)
    at, labels, rows, columns = np.concatenate(made, axis=1)
    return Units(size, at, labels, rows, columns, ranges, wires, shapes)


def _units(wires: Index, offset: int, size: int) -> Index:
    """Return the four tables of a bank, (4, units, size): wires, labels, rows and columns."""
    count, radix = wires.shape
    together = size // radix
    # Adjacent switches share a unit, so that strided wires form contiguous runs.
    order = np.argsort(wires.min(axis=1), kind="stable")
    tables = np.full((4, -(-count // together), size), -1, dtype=np.int32)
    k = np.arange(count)[:, None]
    column = np.arange(radix)
    place = k % together * radix + column
    tables[0, k // together, place] = wires[order]
    tables[1, k // together, place] = k % together
    tables[2, k // together, place] = offset + (order[:, None] * radix + column) * radix
    tables[3, k // together, place] = column
    return tables


def _sorted(tables: Index) -> Index:
    """Return the tables with the wires of each unit sorted."""
    wires = tables[0]
    order = np.argsort(np.where(wires < 0, np.iinfo(np.int32).max, wires), axis=1, kind="stable")
    return np.take_along_axis(tables, order[None], axis=2)


def run(wires: Index) -> int:
    """Return the largest power of two such that all runs of this length are consecutive wires.

    Each run must start at a multiple of its length. The result is 0 if a place is unused.

    Examples
    --------
    >>> run(np.array([[0, 1, 4, 5], [2, 3, 6, 7]]))
    2
    """
    if wires.size == 0 or wires.min() < 0:
        return 0
    return _halved(wires.shape[1], lambda length: _neighbours(wires, length))


def _neighbours(values: Index, length: int) -> bool:
    cut = values.reshape(len(values), -1, length)
    starts = cut[..., :1]
    return bool((starts % length == 0).all() and (cut == starts + np.arange(length)).all())


def _entries(units: Units, span: tuple[int, int]) -> int:
    """Return the length of the runs in a unit's matrix rows that are contiguous in the blocks."""
    first, last = span
    labels, rows, columns = (a[first:last] for a in (units.labels, units.rows, units.columns))
    if labels.size == 0:
        return 1

    def fits(length: int) -> bool:
        cut = labels.reshape(len(labels), -1, length)
        held = np.repeat((cut >= 0).all(axis=2), length, axis=1)
        together = (cut == cut[..., :1]).all()
        # Unused places may have any column, because nothing is loaded there.
        counted = np.where(held, columns, np.arange(labels.shape[1]))
        aligned = (rows[labels >= 0] % length == 0).all()
        return bool(together and aligned and _neighbours(counted, length))

    return _halved(units.size, fits)


def _halved(length: int, fits: Callable[[int], bool]) -> int:
    while length > 1 and not fits(length):
        length //= 2
    return length


def route(units: Units, *, adjoint: bool, keep: bool) -> Route:
    """Return the route of a tile for R or its adjoint.

    Parameters
    ----------
    units : Units
    adjoint : bool
        Whether the products act in reverse order, with the inverse permutation.
    keep : bool
        Whether each unit writes new rows, so that the inputs of all units remain available.
    """
    width = len(units.outputs)
    spans = units.spans[::-1] if adjoint else units.spans
    into, out = (units.outputs, permutation.identity(width))[:: 1 if adjoint else -1]
    runs = _runs(units, spans, into, out)
    if not keep:
        return Route(width, units.wires, units.wires, spans, into, out, runs)
    current = permutation.identity(width)
    sources, targets = np.full_like(units.wires, -1), np.full_like(units.wires, -1)
    height = width
    for first, last in spans.tolist():
        wires = units.wires[first:last]
        used = wires >= 0
        sources[first:last][used] = current[wires[used]]
        current[wires[used]] = np.arange(height, height + int(used.sum()))
        targets[first:last][used] = current[wires[used]]
        height += int(used.sum())
    runs = Runs(0, 0, 1, 1, runs.between)
    return Route(height, sources, targets, spans, into, current[out], runs)


def _runs(units: Units, ordered: Index, into: Index, out: Index) -> Runs:
    """Return the lengths of contiguous runs in a route that does not keep inputs."""
    spans = [(first, last) for first, last in ordered.tolist()]
    if not spans:
        return Runs(0, 0, 1, 1, 1)
    reads = _direct(units, spans[0], into)
    writes = _direct(units, spans[-1], out)
    lengths = [_entries(units, span) for span in spans]
    between = lengths[1 if reads else 0 : len(lengths) - 1 if writes else len(lengths)]
    return Runs(reads, writes, lengths[0], lengths[-1], min(between, default=1))


def _direct(units: Units, span: tuple[int, int], ends: Index) -> int:
    wires = units.wires[span[0] : span[1]]
    if wires.size != len(ends) or not np.array_equal(ends, np.arange(len(ends))):
        return 0
    length = run(wires)
    return length if length >= _SECTOR else 0
