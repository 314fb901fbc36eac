"""Generators of LLVM code that applies the blocks of cells, and computes gradients.

A tile is a matrix (wires, tokens) in scratch memory; each row is one wire for a few tokens. A
complex wire has two rows, for the real and imaginary parts. Each function handles many cells with
the same wiring: for each cell, it loads the rows of its wires into registers, multiplies them by
the blocks of all its switches, and stores the results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from structmat.nn.ops.backends.compiled.cells import REGISTERS, VECTORS, Cell
from structmat.nn.ops.backends.compiled.writer import Numbers, Value, Writer, of

_ROWS = 8  # number of results accumulated at a time in the product with a larger block
_POWERS = (4, 8, 16)  # radices for which, with a single token, rows of blocks are SIMD vectors
_SMALL = 8  # largest radix of a switch whose gradient is accumulated in registers
_TOTALS = 16  # number of registers for gradients

# Arguments of a cell function: the address of the tile, the size of a row in bytes, the number of
# SIMD vectors in a row, the number of cells; the addresses of four arrays (the wires of each cell,
# int32; the address of each bank's blocks; the bank of each switch; for each cell, the index of the
# first entry of each switch's block); and the address of the saved inputs. The backward function
# has two more: the address of the tile of inputs, and that of an array with the address of each
# bank's gradient.
FORWARD_ARGUMENTS, BACKWARD_ARGUMENTS = 9, 11


class _Cells:
    """Emits the addresses of the rows and blocks of the k-th cell."""

    def __init__(self, w: Writer, cell: Cell) -> None:
        self.w, self.cell = w, cell
        self.tile, self.stride, self.vectors, self.count, self.wires = w.arguments[:5]
        bases, self.banks, self.offsets, self.saved = w.arguments[5:9]
        self.number = w.n.parts * w.n.size  # bytes of a number
        self.vector = w.n.lanes * w.n.size  # bytes of a SIMD vector
        self.bases = self.of_banks(bases)

    def of_banks(self, addresses: Any) -> list[Any]:
        """Load the address that an array contains for the bank of each switch."""
        switches = range(len(self.cell.switches))
        return [self.w.long(addresses, self.w.long(self.banks, q)) for q in switches]

    def row(self, k: Any, j: Any, tile: Any = None) -> Any:
        """Return the address of the row of the j-th wire."""
        w = self.w
        wire = w.index(self.wires, w.add(w.mul(k, self.cell.size), j))
        step = w.mul(self.stride, w.n.parts)
        return w.add(self.tile if tile is None else tile, w.mul(wire, step))

    def blocks(self, k: Any, bases: Sequence[Any]) -> list[Any]:
        """Return the address of the block of each switch."""
        w, size = self.w, len(bases)
        entries = [w.long(self.offsets, w.add(w.mul(k, size), q)) for q in range(size)]
        return [
            w.add(base, w.mul(entry, self.number))
            for base, entry in zip(bases, entries, strict=True)
        ]

    def kept(self, k: Any, v: Any, j: Any) -> Any:
        """Return the address at which the v-th vector of the j-th wire is saved."""
        w = self.w
        place = w.add(w.mul(w.add(w.mul(k, self.vectors), v), self.cell.size), j)
        return w.add(self.saved, w.mul(place, self.vector * w.n.parts))


def forward(
    module: ir.Module, name: str, numbers: Numbers, cell: Cell, *, adjoint: bool, save: bool
) -> None:
    """Emit the function that applies cells to a tile, and saves their inputs if `save` is set."""
    w = Writer(module, name, FORWARD_ARGUMENTS, numbers)
    c = _Cells(w, cell)
    with w.loop(c.count) as k:
        blocks = c.blocks(k, c.bases)
        if cell.size <= REGISTERS:
            rows = [c.row(k, j) for j in range(cell.size)]
            with w.loop(c.vectors) as v:
                places = [w.add(row, w.mul(v, c.vector)) for row in rows]
                values = [w.row(place, c.stride) for place in places]
                if save:
                    for j, value in enumerate(values):
                        w.store_row(value, c.kept(k, v, j), c.vector)
                values, _ = _through(w, cell, blocks, values, adjoint=adjoint)
                for place, value in zip(places, values, strict=True):
                    w.store_row(value, place, c.stride)
        else:
            with w.loop(c.vectors) as v:
                _large_product(c, k, v, blocks[0], adjoint=adjoint, save=save)
    w.b.ret_void()


def backward(
    module: ir.Module, name: str, numbers: Numbers, cell: Cell, *, adjoint: bool, saved: bool
) -> None:
    """Emit the function that applies the adjoint to gradients and adds up gradients of blocks.

    The inputs of the cells have been saved, or are still in the tile of inputs.
    """
    w = Writer(module, name, BACKWARD_ARGUMENTS, numbers)
    c = _Cells(w, cell)
    inputs, sums = w.arguments[9:]
    sum_bases = c.of_banks(sums)
    with w.loop(c.count) as k:

        def place(v: Any, j: Any, k: Any = k) -> Place:
            if saved:
                return c.kept(k, v, j), c.vector
            return w.add(c.row(k, j, inputs), w.mul(v, c.vector)), c.stride

        blocks, of_blocks = c.blocks(k, c.bases), c.blocks(k, sum_bases)
        if cell.size <= REGISTERS:
            _gradients(c, k, place, blocks, of_blocks, adjoint=adjoint)
        else:
            _large_gradient(c, k, place, of_blocks[0], adjoint=adjoint)
            with w.loop(c.vectors) as v:
                _large_product(c, k, v, blocks[0], adjoint=not adjoint, save=False)
    w.b.ret_void()


Place = tuple[Any, Any]  # the address of a real part, and the bytes from it to the imaginary part
Inputs = Callable[[Any, Any], Place]  # from (v, j) to the v-th vector of a cell's j-th input


def _gradients(
    c: _Cells,
    k: Any,
    inputs: Inputs,
    blocks: Sequence[Any],
    of_blocks: Sequence[Any],
    *,
    adjoint: bool,
) -> None:
    """Emit code that takes the slopes of a cell through its switches, one batch at a time.

    The gradients of all switches of a cell do not fit into registers, so each batch has its own
    loop over the SIMD vectors.
    """
    w, cell = c.w, c.cell
    rows = [c.row(k, j) for j in range(cell.size)]

    def slope(v: Any, j: int) -> Place:
        return w.add(rows[j], w.mul(v, c.vector)), c.stride

    before = _recomputed(c, inputs, blocks, adjoint=adjoint)
    for batch in _batches(c, adjoint=not adjoint):
        parts = _parts(c, batch)
        for part in parts:
            totals = [w.zeros() for _ in part]
            with w.loop(c.vectors) as v:
                pairs: dict[tuple[int, int, int], tuple[Value, Value]] = {}
                for q in batch:
                    wires = cell.switches[q]
                    slopes = [w.row(*slope(v, j)) for j in wires]
                    given = [w.row(*before(v, q, i)) for i in range(len(wires))]
                    left, right = (given, slopes) if adjoint else (slopes, given)
                    pairs |= {
                        (q, i, j): (a, x) for i, a in enumerate(left) for j, x in enumerate(right)
                    }
                    if not part:
                        _add_products(c, _copied(c, left), right, of_blocks[q])
                    if part is parts[-1]:  # nothing reads these slopes any more
                        results = _product(w, blocks[q], slopes, adjoint=not adjoint)
                        for j, value in zip(wires, results, strict=True):
                            w.store_row(value, *slope(v, j))
                for total, entry in zip(totals, part, strict=True):
                    a, x = pairs[entry]
                    w.set(total, w.add_outer(a, x, w.get(total)))
            for q in batch:
                own = [pair for pair in zip(part, totals, strict=True) if pair[0][0] == q]
                if own:
                    (_, i, j), _ = own[0]
                    first = i * len(cell.switches[q]) + j
                    sums = [vector for _, total in own for vector in w.get(total)]
                    w.accumulate(sums, w.add(of_blocks[q], first * c.number))


def _recomputed(
    c: _Cells, inputs: Inputs, blocks: Sequence[Any], *, adjoint: bool
) -> Callable[[Any, int, int], Place]:
    """Recompute the inputs of all switches, and return a function from (v, q, i) to their places.

    Inputs of the cell are not copied; those of later switches are stored on the stack.
    """
    w, cell = c.w, c.cell
    slots: dict[tuple[int, int], int] = {}
    seen: set[int] = set()
    for q in _order(cell, adjoint=adjoint):
        wires = cell.switches[q]
        for i, j in enumerate(wires):
            if j in seen:
                slots[q, i] = len(slots)
        seen |= set(wires)
    width = c.vector * w.n.parts
    memory = w.memory(w.n.vector, max(1, len(slots)) * VECTORS * w.n.parts)

    def place(v: Any, q: int, i: int) -> Place:
        if (q, i) not in slots:
            return inputs(v, cell.switches[q][i])
        at = w.add(w.mul(slots[q, i] * VECTORS, width), w.mul(v, width))
        return w.add(memory, at), c.vector

    if slots:
        with w.loop(c.vectors) as v:
            values = [w.row(*inputs(v, j)) for j in range(cell.size)]
            _, before = _through(w, cell, blocks, values, adjoint=adjoint)
            for q, i in slots:
                w.store_row(before[q][i], *place(v, q, i))
    return place


def _batches(c: _Cells, *, adjoint: bool) -> list[list[int]]:
    """Divide the switches, in order, into batches whose gradients fit in registers if possible."""
    batches: list[list[int]] = []
    used: set[int] = set()
    entries = 0
    for q in _order(c.cell, adjoint=adjoint):
        wires = c.cell.switches[q]
        size = len(wires) ** 2 * c.w.n.parts
        if batches and entries + size <= _TOTALS and used.isdisjoint(wires):
            batches[-1].append(q)
        else:
            batches.append([q])
            used, entries = set(), 0
        used |= set(wires)
        entries += size
    return batches


def _parts(c: _Cells, batch: Sequence[int]) -> list[list[tuple[int, int, int]]]:
    """Divide the entries (q, i, j) of the gradients of a batch into parts that fit into registers.

    A block that is too large for this has one part, without entries.
    """
    radices = [len(c.cell.switches[q]) for q in batch]
    if max(radices) > _SMALL:
        return [[]]
    every = [
        (q, i, j) for q, r in zip(batch, radices, strict=True) for i in range(r) for j in range(r)
    ]
    rows = max(1, _TOTALS // (radices[0] * c.w.n.parts))
    size = len(every) if len(batch) > 1 else rows * radices[0]
    return [every[k : k + size] for k in range(0, len(every), size)]


def _copied(c: _Cells, values: Sequence[Value]) -> Callable[[Any], Place]:
    """Copy vectors to the stack, and return a function from indices to addresses."""
    w = c.w
    size = c.vector * w.n.parts
    copy = w.memory(w.n.vector, len(values) * w.n.parts)
    for i, value in enumerate(values):
        w.store_row(value, w.add(copy, i * size), c.vector)
    return lambda i: (w.add(copy, w.mul(i, size)), c.vector)


def _add_products(
    c: _Cells,
    left: Callable[[Any], Place],
    right: Sequence[Value],
    address: Any,
    first: Any = 0,
    radix: int | None = None,
) -> None:
    """Add aᵢ x̄ⱼ, summed over the tokens, to entry (i, j) of a block's gradient.

    The vectors in `right` are the xⱼ from j = `first` on. They are transposed so that no reduction
    across lanes is needed: for each token, a vector of x̄ⱼ is multiplied by a scalar, its aᵢ.
    """
    w, n = c.w, c.w.n
    r = len(right) if radix is None else radix
    parts = range(n.parts)
    group = min(n.lanes, max(2, 1 << (len(right) - 1).bit_length()))
    for start in range(0, len(right), group):
        rows = right[start : start + group]
        tokens = [w.transposed_in_groups([row[part] for row in rows], group) for part in parts]
        with w.loop(r) as i:
            place, stride = left(i)
            total = [ir.Constant(of(n.scalar, group), None)] * n.parts
            for t in range(n.lanes):
                at = [w.add(w.add(place, w.mul(stride, part)), t * n.size) for part in parts]
                a = [w.splat(w.load(number, n.scalar, n.size), group) for number in at]
                total = w.add_outer(a, [token[t] for token in tokens], total)
            entry = w.add(w.add(w.mul(i, r), first), start)
            w.add_to(total, len(rows), w.add(address, w.mul(entry, c.number)))


def _order(cell: Cell, *, adjoint: bool) -> Sequence[int]:
    every = range(len(cell.switches))
    return every[::-1] if adjoint else every


def _through(
    w: Writer, cell: Cell, blocks: Sequence[Any], values: Sequence[Value], *, adjoint: bool
) -> tuple[list[Value], dict[int, list[Value]]]:
    """Apply all switches of a cell; return the results and the inputs of each switch."""
    values = list(values)
    before = {}
    for q in _order(cell, adjoint=adjoint):
        wires = cell.switches[q]
        before[q] = [values[j] for j in wires]
        results = _product(w, blocks[q], before[q], adjoint=adjoint)
        for j, value in zip(wires, results, strict=True):
            values[j] = value
    return values, before


def _product(w: Writer, block: Any, x: Sequence[Value], *, adjoint: bool) -> list[Value]:
    """Multiply a block, or its adjoint, by a vector with r entries."""
    r, number = len(x), w.n.parts * w.n.size
    if w.n.lanes == 1 and not w.n.is_complex and r in _POWERS:
        return [[part] for part in _single_product(w, block, [value[0] for value in x], adjoint)]
    made = []
    for i in range(r):
        total = None
        for j in range(r):
            place = j * r + i if adjoint else i * r + j
            entry = w.entry(w.add(block, place * number), conjugate=adjoint)
            total = w.multiply_add(entry, x[j], total)
        assert total is not None
        made.append(total)
    return made


def _single_product(w: Writer, block: Any, x: Sequence[Any], adjoint: bool) -> list[Any]:  # noqa: FBT001
    """Multiply a block by the r numbers of a single token, with each row in a register."""
    r = len(x)
    rows = [w.load(w.add(block, i * r * w.n.size), of(w.n.scalar, r), w.n.size) for i in range(r)]
    if not adjoint:
        vector = w.gathered(x)
        return w.scattered(w.reduced([w.b.fmul(row, vector) for row in rows]))
    total = w.b.fmul(rows[0], w.splat(x[0], r))
    for row, number in zip(rows[1:], x[1:], strict=True):
        total = w.intrinsic("fmuladd", row, w.splat(number, r), total)
    return w.scattered(total)


def _large_product(c: _Cells, k: Any, v: Any, block: Any, *, adjoint: bool, save: bool) -> None:
    """Emit the product with a large block: loops over the inputs for `_ROWS` results at a time."""
    w, r = c.w, c.cell.size
    at = w.mul(v, c.vector)
    width = c.vector * w.n.parts
    copy = w.memory(w.n.vector, r * w.n.parts)
    with w.loop(r) as j:
        value = w.row(w.add(c.row(k, j), at), c.stride)
        w.store_row(value, w.add(copy, w.mul(j, width)), c.vector)
        if save:
            w.store_row(value, c.kept(k, v, j), c.vector)

    def results(first: Any, count: int) -> None:
        totals = [w.zeros() for _ in range(count)]
        with w.loop(r) as j:
            x = w.row(w.add(copy, w.mul(j, width)), c.vector)
            for u, total in enumerate(totals):
                i = w.add(first, u)
                place = w.add(w.mul(j, r), i) if adjoint else w.add(w.mul(i, r), j)
                entry = w.entry(w.add(block, w.mul(place, c.number)), conjugate=adjoint)
                w.set(total, w.multiply_add(entry, x, w.get(total)))
        for u, total in enumerate(totals):
            w.store_row(w.get(total), w.add(c.row(k, w.add(first, u)), at), c.stride)

    _in_groups(w, r, _ROWS, results)


def _large_gradient(c: _Cells, k: Any, inputs: Inputs, sums: Any, *, adjoint: bool) -> None:
    """Emit code that accumulates the gradient of a large block."""
    w, r = c.w, c.cell.size

    def slopes(v: Any, j: Any) -> Place:
        return w.add(c.row(k, j), w.mul(v, c.vector)), c.stride

    left, right = (inputs, slopes) if adjoint else (slopes, inputs)

    def columns(first: Any, count: int) -> None:
        with w.loop(c.vectors) as v:
            rows = [w.row(*right(v, w.add(first, u))) for u in range(count)]
            _add_products(c, lambda i: left(v, i), rows, sums, first, r)

    _in_groups(w, r, w.n.lanes, columns)


def _in_groups(w: Writer, count: int, size: int, write: Callable[[Any, int], None]) -> None:
    """Emit a loop over groups of `size` indices below `count`, and code for the remaining ones."""
    rest = count % size
    if count >= size:
        with w.loop(count - rest, size) as first:
            write(first, size)
    if rest:
        write(w.constant(count - rest), rest)
