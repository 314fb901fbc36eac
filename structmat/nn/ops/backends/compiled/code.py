"""LLVM code of the compiled kernels: functions of cells, and drivers that take tiles through them.

A *tile* is a matrix (wires, tokens) in scratch memory; a row holds one wire of a few tokens, as
whole vectors of lanes. Complex wires have two rows, for real and imaginary parts. A *cell* is a
small network on a few wires (`Cell`), such as a single switch or several stages of a butterfly: its
rows are loaded into registers, multiplied by the blocks of all its switches, and stored again. A
function of a cell does this for many cells with the same wiring and different wires. The drivers
claim tiles from an atomic counter, transpose vectors into a tile, call the functions of all
cells, and transpose the result back, so that threads never wait for each other within a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from structmat.nn.ops.backends.compiled.cells import Cell

I32, I64, BYTE, POINTER = ir.IntType(32), ir.IntType(64), ir.IntType(8), ir.PointerType()
UNROLLED = 16  # largest number of wires of a cell whose products are written out
_ROWS = 8  # results that are accumulated at a time in the product of a larger switch
_SQUARE = 4  # rows and columns of a larger switch's gradient that are accumulated at a time


@dataclass(frozen=True)
class Numbers:
    """The numbers of blocks and tiles: real or complex, and the number of tokens in a vector."""

    name: str  # of the real type
    is_complex: bool
    lanes: int

    @property
    def size(self) -> int:
        """Bytes of a real number."""
        return {"float": 4, "double": 8}[self.name]

    @property
    def parts(self) -> int:
        """Real numbers of a number."""
        return 2 if self.is_complex else 1

    @property
    def scalar(self) -> Any:
        """The LLVM type of a real number."""
        return {"float": ir.FloatType(), "double": ir.DoubleType()}[self.name]

    @property
    def vector(self) -> Any:
        """The LLVM type of a wire of a few tokens."""
        return self.scalar if self.lanes == 1 else ir.VectorType(self.scalar, self.lanes)


def _of(scalar: Any, size: int) -> Any:
    return scalar if size == 1 else ir.VectorType(scalar, size)


def _filled(kind: Any, value: int) -> Any:
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [value] * kind.count)
    return ir.Constant(kind, value)


Value = list[Any]  # the parts of a number, or of a vector of numbers


class Writer:
    """Writes the code of one function."""

    def __init__(self, module: ir.Module, name: str, arguments: int, numbers: Numbers) -> None:
        kind = ir.FunctionType(ir.VoidType(), [I64] * arguments)
        self.function = ir.Function(module, kind, name)
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.n = numbers
        self.arguments = self.function.args

    # integers and pointers

    def int(self, value: Any) -> Any:
        return ir.Constant(I64, value) if isinstance(value, int) else value

    def add(self, a: Any, b: Any) -> Any:
        return self.b.add(self.int(a), self.int(b))

    def mul(self, a: Any, b: Any) -> Any:
        return self.b.mul(self.int(a), self.int(b))

    def less(self, a: Any, b: Any) -> Any:
        return self.b.icmp_signed("<", self.int(a), self.int(b))

    def least(self, a: Any, b: Any) -> Any:
        a, b = self.int(a), self.int(b)
        return self.b.select(self.less(a, b), a, b)

    def load(self, address: Any, kind: Any, align: int | None = None) -> Any:
        return self.b.load(self.b.inttoptr(address, POINTER), typ=kind, align=align)

    def store(self, value: Any, address: Any, align: int | None = None) -> None:
        self.b.store(value, self.b.inttoptr(address, POINTER), align=align)

    def long(self, address: Any, k: Any = 0) -> Any:
        """Load the k-th 8-byte integer."""
        return self.load(self.add(address, self.mul(k, 8)), I64, 8)

    def index(self, address: Any, k: Any) -> Any:
        """Load the k-th 4-byte integer."""
        return self.b.sext(self.load(self.add(address, self.mul(k, 4)), I32, 4), I64)

    @contextmanager
    def loop(self, count: Any, step: int = 1) -> Iterator[Any]:
        """Repeat the code written within for 0, step, 2·step, … below count."""
        b = self.b
        before = b.block
        head, body, end = (b.append_basic_block(name) for name in ("head", "body", "end"))
        b.branch(head)
        b.position_at_end(head)
        k = b.phi(I64)
        k.add_incoming(self.int(0), before)
        b.cbranch(self.less(k, count), body, end)
        b.position_at_end(body)
        yield k
        k.add_incoming(self.add(k, step), b.block)
        b.branch(head)
        b.position_at_end(end)

    def memory(self, kind: Any, count: int) -> Any:
        """Reserve memory on the stack; return its address."""
        with self.b.goto_entry_block():
            place = self.b.alloca(ir.ArrayType(kind, count))
            place.align = 64
            return self.b.ptrtoint(place, I64)

    # vectors

    def intrinsic(self, name: str, *given: Any) -> Any:
        kind = given[0].type
        suffix = f"f{8 * self.n.size}"
        if isinstance(kind, ir.VectorType):
            suffix = f"v{kind.count}{suffix}"
        full = f"llvm.{name}.{suffix}"
        module = self.function.module
        if full not in module.globals:
            ir.Function(module, ir.FunctionType(kind, [kind] * len(given)), full)
        return self.b.call(module.globals[full], given)

    def zero(self) -> Any:
        return ir.Constant(self.n.vector, None if self.n.lanes > 1 else 0.0)

    def splat(self, scalar: Any) -> Any:
        if self.n.lanes == 1:
            return scalar
        undefined = ir.Constant(self.n.vector, ir.Undefined)
        first = self.b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.shuffle(first, undefined, [0] * self.n.lanes)

    def shuffle(self, a: Any, b: Any, lanes: Sequence[int]) -> Any:
        mask = ir.Constant(ir.VectorType(I32, len(lanes)), [int(k) for k in lanes])
        return self.b.shuffle_vector(a, b, mask)

    def row(self, address: Any, stride: Any) -> Value:
        """Load a vector of each part; the parts are `stride` bytes apart."""
        return [
            self.load(self.add(address, self.mul(stride, part)), self.n.vector, self.n.size)
            for part in range(self.n.parts)
        ]

    def store_row(self, value: Value, address: Any, stride: Any) -> None:
        """Store a vector of each part."""
        for part, vector in enumerate(value):
            self.store(vector, self.add(address, self.mul(stride, part)), self.n.size)

    def entry(self, address: Any, *, conjugate: bool) -> Value:
        """Load a number of a block into all lanes."""
        n = self.n
        parts = [
            self.splat(self.load(self.add(address, part * n.size), n.scalar, n.size))
            for part in range(n.parts)
        ]
        if conjugate and n.is_complex:
            parts[1] = self.b.fneg(parts[1])
        return parts

    def multiply_add(self, a: Value, x: Value, total: Value | None) -> Value:
        """Return total + a x; a is negated in its second part by the caller to conjugate it."""
        b, fma = self.b, lambda *given: self.intrinsic("fmuladd", *given)
        if not self.n.is_complex:
            return [b.fmul(a[0], x[0]) if total is None else fma(a[0], x[0], total[0])]
        if total is None:
            re, im = b.fmul(a[0], x[0]), b.fmul(a[0], x[1])
        else:
            re, im = fma(a[0], x[0], total[0]), fma(a[0], x[1], total[1])
        return [fma(b.fneg(a[1]), x[1], re), fma(a[1], x[0], im)]

    def add_outer(self, a: Value, x: Value, total: Value) -> Value:
        """Return total + a x̄."""
        fma = lambda *given: self.intrinsic("fmuladd", *given)  # noqa: E731
        if not self.n.is_complex:
            return [fma(a[0], x[0], total[0])]
        re = fma(a[1], x[1], fma(a[0], x[0], total[0]))
        return [re, fma(a[1], x[0], fma(self.b.fneg(a[0]), x[1], total[1]))]

    def variables(self) -> list[Any]:
        """Return a place for each part of a vector, which LLVM keeps in a register if it can."""
        with self.b.goto_entry_block():
            return [self.b.alloca(self.n.vector) for _ in range(self.n.parts)]

    def zeros(self) -> list[Any]:
        """Return variables that are zero."""
        places = self.variables()
        self.set(places, [self.zero()] * self.n.parts)
        return places

    def get(self, places: Sequence[Any]) -> Value:
        return [self.b.load(place, typ=self.n.vector) for place in places]

    def set(self, places: Sequence[Any], value: Value) -> None:
        for place, part in zip(places, value, strict=True):
            self.b.store(part, place)

    def accumulate(self, vectors: Sequence[Any], address: Any) -> None:
        """Add the sum of the lanes of each vector to the numbers at an address."""
        n = self.n
        for first in range(0, len(vectors), n.lanes):
            group = list(vectors[first : first + n.lanes])
            size = len(group)
            group += [self.zero()] * ((1 << (size - 1).bit_length()) - size)
            made = self.reduced(group)
            done = 0
            while done < size:  # as powers of two
                part = 1 << ((size - done).bit_length() - 1)
                place = self.add(address, (first + done) * n.size)
                if part == 1:
                    value = self.b.extract_element(made, ir.Constant(I32, done))
                else:
                    value = self.shuffle(made, made, range(done, done + part))
                total = self.b.fadd(self.load(place, _of(n.scalar, part), n.size), value)
                self.store(total, place, n.size)
                done += part

    @contextmanager
    def claims(self, counter: Any, count: Any) -> Iterator[Any]:
        """Repeat the code within for each number below count that no other thread has claimed."""
        b = self.b
        claim, body, end = (b.append_basic_block(name) for name in ("claim", "body", "end"))
        b.branch(claim)
        b.position_at_end(claim)
        place = b.inttoptr(counter, POINTER)
        number = b.atomic_rmw("add", place, self.int(1), "monotonic")
        b.cbranch(self.less(number, count), body, end)
        b.position_at_end(body)
        yield number
        b.branch(claim)
        b.position_at_end(end)

    def transposed(self, rows: Sequence[Any]) -> list[Any]:
        """Return the columns of a square matrix, given its rows."""
        rows = list(rows)
        lanes = range(len(rows))
        stride = 1
        while stride < len(rows):
            low = [u & stride == 0 for u in lanes]
            for k in lanes:
                if low[k]:
                    a, c = rows[k], rows[k + stride]
                    rows[k], rows[k + stride] = (
                        self.shuffle(
                            a, c, [u if low[u] else len(rows) + u - stride for u in lanes]
                        ),
                        self.shuffle(
                            a, c, [u + stride if low[u] else len(rows) + u for u in lanes]
                        ),
                    )
            stride *= 2
        return rows

    def gathered(self, scalars: Sequence[Any]) -> Any:
        """Return the vector of these numbers."""
        made: Any = ir.Constant(self.n.vector, ir.Undefined)
        for k, scalar in enumerate(scalars):
            made = self.b.insert_element(made, scalar, ir.Constant(I32, k))
        return made

    def scattered(self, vector: Any) -> list[Any]:
        """Return the numbers of a vector."""
        return [self.b.extract_element(vector, ir.Constant(I32, k)) for k in range(self.n.lanes)]

    def reduced(self, vectors: Sequence[Any]) -> Any:
        """Return a vector whose lane l is the sum of the lanes of vector l mod n, n a power of 2."""
        lanes = self.n.lanes
        vectors = list(vectors)
        stride = 1
        while stride < lanes:
            low = [lane & stride == 0 for lane in range(lanes)]
            if len(vectors) == 1:
                pairs = [(vectors[0], vectors[0])]
            else:
                pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
            vectors = [
                self.b.fadd(
                    self.shuffle(a, c, [k if low[k] else lanes + k for k in range(lanes)]),
                    self.shuffle(
                        a, c, [k + stride if low[k] else lanes + k - stride for k in range(lanes)]
                    ),
                )
                for a, c in pairs
            ]
            stride *= 2
        (made,) = vectors
        return made


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

        def read(v: Any, j: Any, k: Any = k) -> Value:
            if saved:
                return w.row(c.kept(k, v, j), c.vector)
            return w.row(w.add(c.row(k, j, inputs), w.mul(v, c.vector)), c.stride)

        blocks, of_blocks = c.blocks(k, c.bases), c.blocks(k, sum_bases)
        if cell.size <= UNROLLED:
            _gradients(c, k, read, blocks, of_blocks, adjoint=adjoint)
        else:
            _large_gradient(c, k, read, of_blocks[0], adjoint=adjoint)
            with w.loop(c.vectors) as v:
                _large_product(c, k, v, blocks[0], adjoint=not adjoint, save=False)
    w.b.ret_void()


Read = Callable[[Any, Any], Value]  # the v-th vectors of the j-th input of a cell


def _gradients(
    c: _Cells,
    k: Any,
    read: Read,
    blocks: Sequence[Any],
    of_blocks: Sequence[Any],
    *,
    adjoint: bool,
) -> None:
    w, cell = c.w, c.cell
    rows = [c.row(k, j) for j in range(cell.size)]
    totals = [[w.zeros() for _ in range(len(wires) ** 2)] for wires in cell.switches]
    with w.loop(c.vectors) as v:
        places = [w.add(row, w.mul(v, c.vector)) for row in rows]
        values = [read(v, j) for j in range(cell.size)]
        _, before = _through(w, cell, blocks, values, adjoint=adjoint)
        g = [w.row(place, c.stride) for place in places]
        for q in _order(cell, adjoint=not adjoint):
            wires = cell.switches[q]
            slopes = [g[j] for j in wires]
            left, right = (before[q], slopes) if adjoint else (slopes, before[q])
            pairs = [(a, x) for a in left for x in right]
            for total, (a, x) in zip(totals[q], pairs, strict=True):
                w.set(total, w.add_outer(a, x, w.get(total)))
            results = _product(w, blocks[q], slopes, adjoint=not adjoint)
            for j, value in zip(wires, results, strict=True):
                g[j] = value
        for place, value in zip(places, g, strict=True):
            w.store_row(value, place, c.stride)
    for address, switch in zip(of_blocks, totals, strict=True):
        w.accumulate([part for total in switch for part in w.get(total)], address)


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


def _large_gradient(c: _Cells, k: Any, read: Read, sums: Any, *, adjoint: bool) -> None:
    """Write the gradient for a large block: squares of its entries, in a loop over the vectors."""
    w, r = c.w, c.cell.size

    def slopes(v: Any, j: Any) -> Value:
        return w.row(w.add(c.row(k, j), w.mul(v, c.vector)), c.stride)

    of_left, of_right = (read, slopes) if adjoint else (slopes, read)

    def square(i: Any, rows: int, j: Any, columns: int) -> None:
        totals = [[w.zeros() for _ in range(columns)] for _ in range(rows)]
        with w.loop(c.vectors) as v:
            left = [of_left(v, w.add(i, u)) for u in range(rows)]
            right = [of_right(v, w.add(j, u)) for u in range(columns)]
            for a, line in zip(left, totals, strict=True):
                for x, total in zip(right, line, strict=True):
                    w.set(total, w.add_outer(a, x, w.get(total)))
        for u, line in enumerate(totals):
            place = w.add(w.mul(w.add(i, u), r), j)
            flat = [part for total in line for part in w.get(total)]
            w.accumulate(flat, w.add(sums, w.mul(place, c.number)))

    def line(i: Any, rows: int) -> None:
        _in_groups(w, r, _SQUARE, lambda j, columns: square(i, rows, j, columns))

    _in_groups(w, r, _SQUARE, line)


def _in_groups(w: Writer, count: int, size: int, write: Callable[[Any, int], None]) -> None:
    """Write a loop over groups of numbers, and the code for the rest."""
    rest = count % size
    if count >= size:
        with w.loop(count - rest, size) as first:
            write(first, size)
    if rest:
        write(w.int(count - rest), rest)


# Drivers. `plan` is an array of 8-byte integers: real numbers in a vector, vectors in a row of a
# tile, number of segments, addresses of the row of each input and of each output, then for each
# segment: functions forward and backward, number of cells, addresses of wires, banks and offsets,
# and the row at which its inputs are saved.

APPLY_ARGUMENTS, GRADIENTS_ARGUMENTS = 10, 18
HEADER, SEGMENT = 5, 7


class _Callable:
    """A pointer to a function, as llvmlite's `call` expects it."""

    def __init__(self, pointer: Any, kind: ir.FunctionType) -> None:
        self.type, self.function_type, self.pointer = pointer.type, kind, pointer

    def get_reference(self) -> str:
        return str(self.pointer.get_reference())


class _Driver:
    """The code that both drivers share."""

    def __init__(self, w: Writer, plan: Any, tokens: Any, zeros: Any, stored: str) -> None:
        self.w, self.plan, self.tokens, self.zeros, self.stored = w, plan, tokens, zeros, stored
        self.columns, self.most, self.segments, self.input_rows, self.output_rows = (
            w.long(plan, k) for k in range(HEADER)
        )
        self.stride = w.mul(self.most, w.n.lanes * w.n.size)
        self.tile_bytes = w.mul(self.columns, self.stride)
        self.bytes = {"half": 2, "bfloat": 2, "float": 4, "double": 8}[stored]
        self.tiles = self.quotient(tokens, w.mul(self.most, w.n.lanes))

    def quotient(self, count: Any, size: Any) -> Any:
        """Return count / size, rounded up."""
        b, size = self.w.b, self.w.int(size)
        return b.sdiv(b.sub(b.add(count, size), self.w.int(1)), size)

    def extent(self, number: Any) -> tuple[Any, Any]:
        """Return the first token of a tile and the number of its vectors in a row."""
        w = self.w
        first = w.mul(number, w.mul(self.most, w.n.lanes))
        rest = self.quotient(w.b.sub(self.tokens, first), w.n.lanes)
        return first, w.least(self.most, rest)

    def segment(self, s: Any, k: int) -> Any:
        return self.w.long(self.plan, self.w.add(self.w.mul(s, SEGMENT), HEADER + k))

    def call(
        self, s: Any, k: int, tile: Any, count: Any, bases: Any, saved: Any, *more: Any
    ) -> None:
        """Call the function of a segment."""
        w = self.w
        cells, wires, banks, offsets = (self.segment(s, k) for k in (2, 3, 4, 5))
        given = [tile, self.stride, count, cells, wires, bases, banks, offsets, saved, *more]
        kind = ir.FunctionType(ir.VoidType(), [I64] * len(given))
        w.b.call(_Callable(w.b.inttoptr(self.segment(s, k), POINTER), kind), given)

    def in_squares(
        self,
        memory: Any,
        stride: Any,
        first: Any,
        count: Any,
        spare: Any,
        move: Callable[[list[Any], list[Any]], None],
        rows: Any,
        tile: Any,
    ) -> None:
        """Write code that calls `move` for squares of tokens and columns of a tile.

        `move` is given the addresses of the numbers of each token, and of the vector of each
        column. Tokens that do not exist have a spare vector.
        """
        w, lanes = self.w, self.w.n.lanes
        with w.loop(count) as v:
            at = w.mul(v, lanes * w.n.size)
            vectors = []
            for u in range(lanes):
                token = w.add(w.add(first, w.mul(v, lanes)), u)
                place = w.add(memory, w.mul(token, stride))
                if lanes > 1:
                    place = w.b.select(w.less(token, self.tokens), place, spare)
                vectors.append(place)

            def square(j: Any, columns: int) -> None:
                offset = w.mul(j, self.bytes)
                targets = []
                for u in range(columns):
                    row = w.mul(w.index(rows, w.add(j, u)), self.stride)
                    targets.append(w.add(w.add(tile, row), at))
                move([w.add(vector, offset) for vector in vectors], targets)

            if lanes == 1:
                with w.loop(self.columns) as j:
                    square(j, 1)
            else:
                with w.b.if_else(w.less(self.columns, lanes)) as (few, many):
                    with few, w.loop(self.columns) as j:
                        square(j, 1)
                    with many, w.loop(self.columns, lanes) as j:
                        last = w.b.sub(self.columns, w.int(lanes))
                        square(w.least(j, last), lanes)

    def read(
        self, memory: Any, stride: Any, first: Any, count: Any, rows: Any, tile: Any
    ) -> None:
        """Write code that transposes vectors into a tile."""
        w = self.w

        def move(places: list[Any], targets: list[Any]) -> None:
            made = [self.widened(place, len(targets)) for place in places]
            if len(targets) > 1:
                made = w.transposed(made)
            elif len(places) > 1:
                made = [w.gathered(made)]
            for vector, target in zip(made, targets, strict=True):
                w.store(vector, target, w.n.size)

        self.in_squares(memory, stride, first, count, self.zeros, move, rows, tile)

    def write(
        self, memory: Any, stride: Any, first: Any, count: Any, rows: Any, tile: Any, spare: Any
    ) -> None:
        """Write code that transposes a tile into vectors."""
        w = self.w

        def move(places: list[Any], targets: list[Any]) -> None:
            made = [w.load(target, w.n.vector, w.n.size) for target in targets]
            if len(targets) > 1:
                made = w.transposed(made)
            elif len(places) > 1:
                made = w.scattered(made[0])
            for vector, place in zip(made, places, strict=True):
                self.narrow(vector, place, len(targets))

        self.in_squares(memory, stride, first, count, spare, move, rows, tile)

    def widened(self, address: Any, size: int) -> Any:
        """Load stored numbers, in the type of the tile."""
        w, b = self.w, self.w.b
        if self.stored == w.n.name:
            return w.load(address, _of(w.n.scalar, size), self.bytes)
        bits = w.load(address, _of(ir.IntType(16), size), 2)
        if self.stored == "half":
            return b.fpext(b.bitcast(bits, _of(ir.HalfType(), size)), _of(w.n.scalar, size))
        whole = _of(I32, size)
        high = b.shl(b.zext(bits, whole), _filled(whole, 16))
        return b.bitcast(high, _of(w.n.scalar, size))

    def narrow(self, value: Any, address: Any, size: int) -> None:
        """Store numbers of the type of the tile, rounded to nearest even."""
        w, b = self.w, self.w.b
        if self.stored == w.n.name:
            w.store(value, address, self.bytes)
            return
        short, whole = _of(ir.IntType(16), size), _of(I32, size)
        if self.stored == "half":
            w.store(b.bitcast(b.fptrunc(value, _of(ir.HalfType(), size)), short), address, 2)
            return
        bits = b.bitcast(value, whole)
        odd = b.and_(b.lshr(bits, _filled(whole, 16)), _filled(whole, 1))
        even = b.add(bits, b.add(odd, _filled(whole, 0x7FFF)))
        quiet = b.or_(bits, _filled(whole, 0x400000))
        rounded = b.select(b.fcmp_unordered("uno", value, value), quiet, even)
        w.store(b.trunc(b.lshr(rounded, _filled(whole, 16)), short), address, 2)


def apply_driver(module: ir.Module, name: str, numbers: Numbers, stored: str) -> None:
    """Write the driver that applies all segments to the tiles that it claims.

    Its arguments: vectors and the bytes between them, results and the bytes between them, their
    number; addresses of the addresses of the blocks, of the counter, of scratch memory (a tile and
    a vector), of zeros (a vector), and of the plan.
    """
    w = Writer(module, name, APPLY_ARGUMENTS, numbers)
    x, x_stride, out, out_stride, tokens, bases, counter, scratch, zeros, plan = w.arguments
    d = _Driver(w, plan, tokens, zeros, stored)
    spare = w.add(scratch, d.tile_bytes)
    with w.claims(counter, d.tiles) as number:
        first, count = d.extent(number)
        d.read(x, x_stride, first, count, d.input_rows, scratch)
        with w.loop(d.segments) as s:
            d.call(s, 0, scratch, count, bases, w.int(0))
        d.write(out, out_stride, first, count, d.output_rows, scratch, spare)
    w.b.ret_void()


def gradients_driver(module: ir.Module, name: str, numbers: Numbers, stored: str) -> None:
    """Write the driver that computes the gradients of the chunks of tiles that it claims.

    Its arguments: vectors, gradients for results and (or 0) for vectors, each with the bytes
    between them; the number of vectors, the number of tiles in a chunk; addresses of the addresses
    of the blocks, of the sums of the first chunk, bytes of the sums of a chunk, address of the
    offset of the sums of each bank, number of banks; addresses of the counter, of scratch memory
    (two tiles, saved inputs, addresses, a vector), of zeros (a vector), of the plan, and the number
    of rows of saved inputs.
    """
    w = Writer(module, name, GRADIENTS_ARGUMENTS, numbers)
    x, x_stride, g, g_stride, out, out_stride, tokens, chunk = w.arguments[:8]
    bases, sums, sums_bytes, offsets, banks, counter, scratch, zeros, plan, saved_rows = (
        w.arguments[8:]
    )
    d = _Driver(w, plan, tokens, zeros, stored)
    slopes = w.add(scratch, d.tile_bytes)
    saved = w.add(slopes, d.tile_bytes)
    sum_bases = w.add(saved, w.mul(saved_rows, d.stride))
    spare = w.add(sum_bases, w.mul(banks, 8))
    with w.claims(counter, d.quotient(d.tiles, chunk)) as part:
        own = w.add(sums, w.mul(part, sums_bytes))
        with w.loop(banks) as k:
            w.store(w.add(own, w.long(offsets, k)), w.add(sum_bases, w.mul(k, 8)), 8)
        start = w.mul(part, chunk)
        with w.loop(w.least(chunk, w.b.sub(d.tiles, start))) as k:
            first, count = d.extent(w.add(start, k))
            d.read(x, x_stride, first, count, d.input_rows, scratch)
            d.read(g, g_stride, first, count, d.output_rows, slopes)
            with w.loop(d.segments) as s:
                with w.b.if_then(w.b.icmp_signed("!=", d.segment(s, 0), w.int(0))):
                    place = w.add(saved, w.mul(d.segment(s, 6), d.stride))
                    d.call(s, 0, scratch, count, bases, place)
            with w.loop(d.segments) as t:
                s = w.b.sub(w.b.sub(d.segments, w.int(1)), t)
                place = w.add(saved, w.mul(d.segment(s, 6), d.stride))
                d.call(s, 1, slopes, count, bases, place, scratch, sum_bases)
            with w.b.if_then(w.b.icmp_signed("!=", out, w.int(0))):
                d.write(out, out_stride, first, count, d.input_rows, slopes, spare)
    w.b.ret_void()
