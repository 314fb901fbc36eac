"""LLVM code of the functions that multiply cells by their blocks, and compute gradients.

A tile is a matrix (wires, tokens) in scratch memory; a row holds one wire of a few tokens. Complex
wires have two rows, for real and imaginary parts. A function does the same for many cells with the
same wiring: it loads the rows of the wires of a cell into registers, multiplies them by the blocks
of all switches of the cell, and stores them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from structmat.nn.ops.backends.compiled.cells import Cell
from structmat.nn.ops.backends.compiled.writer import Numbers, Value, Writer, of

UNROLLED = 16  # largest number of wires of a cell whose products are written out
_ROWS = 8  # results that are accumulated at a time in the product of a larger switch
_POWERS = (4, 8, 16)  # radices of blocks whose rows are vectors, when there is a single one
_SMALL = 4  # largest radix of a switch whose gradient is accumulated in registers

# Arguments of a function of cells: the tile, bytes of its rows, vectors in a row, number of cells;
# addresses of the wires (int32) of each cell, of the addresses of the blocks of each bank, of the
# bank of each switch, of the number of the first entry of each switch's block for each cell; and of
# saved inputs. For gradients also: the tile of inputs, and the addresses of the sums of each bank.
FORWARD_ARGUMENTS, BACKWARD_ARGUMENTS = 9, 11


class _Cells:
    """The cells of one call, as code: the addresses of rows and blocks of the k-th one."""

    def __init__(self, w: Writer, cell: Cell) -> None:
        self.w, self.cell = w, cell
        self.tile, self.stride, self.vectors, self.count, self.wires = w.arguments[:5]
        bases, self.banks, self.offsets, self.saved = w.arguments[5:9]
        self.number = w.n.parts * w.n.size  # bytes of a number
        self.vector = w.n.lanes * w.n.size  # bytes of a vector of real numbers
        self.bases = self.of_banks(bases)

    def of_banks(self, addresses: Any) -> list[Any]:
        """Return the address for the bank of each switch."""
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
        """Return the address of the saved v-th vectors of the j-th wire."""
        w = self.w
        place = w.add(w.mul(w.add(w.mul(k, self.vectors), v), self.cell.size), j)
        return w.add(self.saved, w.mul(place, self.vector * w.n.parts))


def forward(
    module: ir.Module, name: str, numbers: Numbers, cell: Cell, *, adjoint: bool, save: bool
) -> None:
    """Write the function that multiplies the cells of a tile, and can save their inputs."""
    w = Writer(module, name, FORWARD_ARGUMENTS, numbers)
    c = _Cells(w, cell)
    with w.loop(c.count) as k:
        blocks = c.blocks(k, c.bases)
        if cell.size <= UNROLLED:
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
    """Write the function that multiplies gradients by the adjoint, and adds those for blocks.

    The inputs of the cells were saved, or are still in their tile.
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
        if cell.size <= UNROLLED:
            _gradients(c, k, place, blocks, of_blocks, adjoint=adjoint)
        else:
            _large_gradient(c, k, place, of_blocks[0], adjoint=adjoint)
            with w.loop(c.vectors) as v:
                _large_product(c, k, v, blocks[0], adjoint=not adjoint, save=False)
    w.b.ret_void()


Place = tuple[Any, Any]  # the address of the vector of the real part, and bytes to the next part
Inputs = Callable[[Any, Any], Place]  # of the v-th vectors of the j-th input of a cell


def _gradients(
    c: _Cells,
    k: Any,
    inputs: Inputs,
    blocks: Sequence[Any],
    of_blocks: Sequence[Any],
    *,
    adjoint: bool,
) -> None:
    w, cell = c.w, c.cell
    rows = [c.row(k, j) for j in range(cell.size)]
    # A small block has few entries, each of which is accumulated in a register over all vectors.
    totals = {
        q: [w.zeros() for _ in range(len(wires) ** 2)]
        for q, wires in enumerate(cell.switches)
        if len(wires) <= _SMALL
    }
    with w.loop(c.vectors) as v:
        places = [w.add(row, w.mul(v, c.vector)) for row in rows]
        values = [w.row(*inputs(v, j)) for j in range(cell.size)]
        _, before = _through(w, cell, blocks, values, adjoint=adjoint)
        g = [w.row(place, c.stride) for place in places]
        for q in _order(cell, adjoint=not adjoint):
            wires = cell.switches[q]
            slopes = [g[j] for j in wires]
            left, right = (before[q], slopes) if adjoint else (slopes, before[q])
            if q in totals:
                pairs = [(a, x) for a in left for x in right]
                for total, (a, x) in zip(totals[q], pairs, strict=True):
                    w.set(total, w.add_outer(a, x, w.get(total)))
            else:
                _add_products(c, _copied(c, left), right, of_blocks[q])
            results = _product(w, blocks[q], slopes, adjoint=not adjoint)
            for j, value in zip(wires, results, strict=True):
                g[j] = value
        for place, value in zip(places, g, strict=True):
            w.store_row(value, place, c.stride)
    for q, switch in totals.items():
        w.accumulate([part for total in switch for part in w.get(total)], of_blocks[q])


def _copied(c: _Cells, values: Sequence[Value]) -> Callable[[Any], Place]:
    """Copy vectors to the stack, and return their places."""
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
    """Add the products aᵢ x̄ⱼ, summed over the tokens, to the entries (i, j) of a block's gradient.

    The xⱼ, from the j-th one given by `first`, are transposed, so that the sums need not be reduced
    across lanes: x̄ of each token is multiplied by a number of aᵢ.
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
                a = [
                    w.splat(
                        w.load(
                            w.add(w.add(place, w.mul(stride, part)), t * n.size), n.scalar, n.size
                        ),
                        group,
                    )
                    for part in range(n.parts)
                ]
                total = w.add_outer(a, [token[t] for token in tokens], total)
            entry = w.add(w.add(w.mul(i, r), first), start)
            w.add_to(total, len(rows), w.add(address, w.mul(entry, c.number)))


def _order(cell: Cell, *, adjoint: bool) -> Sequence[int]:
    every = range(len(cell.switches))
    return every[::-1] if adjoint else every


def _through(
    w: Writer, cell: Cell, blocks: Sequence[Any], values: Sequence[Value], *, adjoint: bool
) -> tuple[list[Value], dict[int, list[Value]]]:
    """Return the results of a cell, and the inputs of each switch."""
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
    """Return the product of a block, or its adjoint, and a vector of numbers."""
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
    """Return the product for a single vector of numbers: rows of the block are in registers."""
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
    """Write the product of a large block: `_ROWS` results at a time, in a loop over the inputs."""
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
    """Write the gradient for a large block."""
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
    """Write a loop over groups of numbers, and the code for the rest."""
    rest = count % size
    if count >= size:
        with w.loop(count - rest, size) as first:
            write(first, size)
    if rest:
        write(w.constant(count - rest), rest)
