"""Generators of LLVM code for the drivers, which move tiles of vectors through all cells.

A driver claims a tile from an atomic counter, transposes its vectors so that each wire is a row,
calls the functions of all cells, transposes the results back, and claims the next tile. Threads
that run the same driver therefore never wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from structmat.nn.ops.backends.compiled.writer import I32, I64, POINTER, Numbers, Writer, filled, of

# `plan` is an array of 8-byte integers. The header consists of the number of real numbers per
# vector, the number of SIMD vectors in a row of a tile, the number of segments, and the addresses
# of two arrays with the row of each input and of each output. Then follow, for each segment: the
# addresses of its forward and backward functions, the number of cells, the addresses of the arrays
# of wires, banks and offsets, and the row at which its inputs are saved.

APPLY_ARGUMENTS, GRADIENTS_ARGUMENTS = 10, 18
HEADER, SEGMENT = 5, 7


class _Callable:
    """A function pointer in the form that llvmlite's `call` expects."""

    def __init__(self, pointer: Any, kind: ir.FunctionType) -> None:
        self.type, self.function_type, self.pointer = pointer.type, kind, pointer

    def get_reference(self) -> str:
        return str(self.pointer.get_reference())


class _Driver:
    """Emits the code that both drivers share."""

    def __init__(self, w: Writer, plan: Any, tokens: Any, zeros: Any, stored: str) -> None:
        self.w, self.plan, self.tokens, self.zeros, self.stored = w, plan, tokens, zeros, stored
        self.columns, self.most, self.segments, self.input_rows, self.output_rows = (
            w.long(plan, k) for k in range(HEADER)
        )
        self.stride = w.mul(self.most, w.n.lanes * w.n.size)
        self.tile_bytes = w.mul(self.columns, self.stride)
        self.bytes = {"half": 2, "bfloat": 2, "float": 4, "double": 8}[stored]
        self.tiles = w.quotient(tokens, w.mul(self.most, w.n.lanes))

    def extent(self, number: Any) -> tuple[Any, Any]:
        """Return the first token of a tile and the number of SIMD vectors in its rows."""
        w = self.w
        first = w.mul(number, w.mul(self.most, w.n.lanes))
        rest = w.quotient(w.b.sub(self.tokens, first), w.n.lanes)
        return first, w.least(self.most, rest)

    def segment(self, s: Any, k: int) -> Any:
        return self.w.long(self.plan, self.w.add(self.w.mul(s, SEGMENT), HEADER + k))

    def given(self, address: Any) -> Any:
        """Return whether the address of something optional is given, that is, not 0."""
        return self.w.b.icmp_signed("!=", address, self.w.constant(0))

    def call(
        self, s: Any, k: int, tile: Any, count: Any, bases: Any, saved: Any, *more: Any
    ) -> None:
        """Emit a call of the k-th function of a segment, given the memory for all saved inputs."""
        w = self.w
        cells, wires, banks, offsets, row = (self.segment(s, part) for part in range(2, SEGMENT))
        own = w.add(saved, w.mul(row, self.stride))
        given = [tile, self.stride, count, cells, wires, bases, banks, offsets, own, *more]
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
        """Emit a loop over squares of tokens × columns, with a body that `move` emits.

        The arguments of `move` are the address of each token's numbers and, in the tile, that of
        each column's SIMD vector. Tokens past the end are replaced by the vector `spare`.
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
                        last = w.b.sub(self.columns, w.constant(lanes))
                        square(w.least(j, last), lanes)

    def read(self, memory: Any, stride: Any, first: Any, count: Any, rows: Any, tile: Any) -> None:
        """Emit code that transposes vectors into a tile."""
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
        """Emit code that transposes a tile back into vectors."""
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
        """Load stored numbers, converted to the type of the tile."""
        w, b = self.w, self.w.b
        if self.stored == w.n.name:
            return w.load(address, of(w.n.scalar, size), self.bytes)
        bits = w.load(address, of(ir.IntType(16), size), 2)
        if self.stored == "half":
            return b.fpext(b.bitcast(bits, of(ir.HalfType(), size)), of(w.n.scalar, size))
        whole = of(I32, size)
        high = b.shl(b.zext(bits, whole), filled(whole, 16))
        return b.bitcast(high, of(w.n.scalar, size))

    def narrow(self, value: Any, address: Any, size: int) -> None:
        """Store numbers of the tile's type, rounded to the nearest stored number, ties to even."""
        w, b = self.w, self.w.b
        if self.stored == w.n.name:
            w.store(value, address, self.bytes)
            return
        short, whole = of(ir.IntType(16), size), of(I32, size)
        if self.stored == "half":
            w.store(b.bitcast(b.fptrunc(value, of(ir.HalfType(), size)), short), address, 2)
            return
        bits = b.bitcast(value, whole)
        odd = b.and_(b.lshr(bits, filled(whole, 16)), filled(whole, 1))
        even = b.add(bits, b.add(odd, filled(whole, 0x7FFF)))
        quiet = b.or_(bits, filled(whole, 0x400000))
        rounded = b.select(b.fcmp_unordered("uno", value, value), quiet, even)
        w.store(b.trunc(b.lshr(rounded, filled(whole, 16)), short), address, 2)


def apply_driver(module: ir.Module, name: str, numbers: Numbers, stored: str) -> None:
    """Emit the driver that applies all segments to the tiles that it claims.

    Its arguments are the address and stride in bytes of the vectors, and those of the results; the
    number of vectors; and the addresses of the array of block addresses, of the counter, of scratch
    memory (a tile and a vector), of a vector of zeros, and of the plan.
    """
    w = Writer(module, name, APPLY_ARGUMENTS, numbers)
    x, x_stride, out, out_stride, tokens, bases, counter, scratch, zeros, plan = w.arguments
    d = _Driver(w, plan, tokens, zeros, stored)
    spare = w.add(scratch, d.tile_bytes)
    with w.claims(counter, d.tiles) as number:
        first, count = d.extent(number)
        d.read(x, x_stride, first, count, d.input_rows, scratch)
        with w.loop(d.segments) as s:
            d.call(s, 0, scratch, count, bases, w.constant(0))
        d.write(out, out_stride, first, count, d.output_rows, scratch, spare)
    w.b.ret_void()


def gradients_driver(module: ir.Module, name: str, numbers: Numbers, stored: str) -> None:
    """Emit the driver that computes the gradients for the chunks of tiles that it claims.

    Its arguments are the addresses and strides in bytes of the vectors, of the gradient with
    respect to the results, and of that with respect to the vectors (0 if it is not needed); the
    number of vectors and of tiles in a chunk; the address of the array of block addresses; the
    address of the first chunk's sums, the size of a chunk's sums in bytes, the address of the array
    of each bank's offset in them, and the number of banks; the addresses of the counter, of scratch
    memory (two tiles, saved inputs, addresses of sums, a vector), of a vector of zeros, and of the
    plan; and the number of rows of saved inputs.
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
    with w.claims(counter, w.quotient(d.tiles, chunk)) as part:
        own = w.add(sums, w.mul(part, sums_bytes))
        with w.loop(banks) as k:
            w.store(w.add(own, w.long(offsets, k)), w.add(sum_bases, w.mul(k, 8)), 8)
        start = w.mul(part, chunk)
        with w.loop(w.least(chunk, w.b.sub(d.tiles, start))) as k:
            first, count = d.extent(w.add(start, k))
            d.read(x, x_stride, first, count, d.input_rows, scratch)
            d.read(g, g_stride, first, count, d.output_rows, slopes)
            with w.loop(d.segments) as s, w.b.if_then(d.given(d.segment(s, 0))):
                d.call(s, 0, scratch, count, bases, saved)
            with w.loop(d.segments) as t:
                s = w.b.sub(w.b.sub(d.segments, w.constant(1)), t)
                d.call(s, 1, slopes, count, bases, saved, scratch, sum_bases)
            with w.b.if_then(d.given(out)):
                d.write(out, out_stride, first, count, d.input_rows, slopes, spare)
    w.b.ret_void()


def compare(module: ir.Module, name: str, size: int) -> None:  # noqa: ARG001 (one for all sizes)
    """Emit the function that compares arrays byte by byte.

    Its arguments are the addresses of three tables (the addresses of the first arrays, their sizes
    in bytes, and the addresses of the second arrays), the number of arrays, and the address of an
    integer that becomes non-zero if any bytes differ.
    """
    w = Writer(module, name, 5, Numbers("float", is_complex=False, lanes=16))
    first, sizes, second, count, result = w.arguments
    wide, step = ir.VectorType(I64, 8), 64
    with w.loop(count) as k:
        left, right, length = w.long(first, k), w.long(second, k), w.long(sizes, k)
        rest = w.b.srem(length, w.constant(step))

        def differ(at: Any, kind: Any, left: Any = left, right: Any = right) -> Any:
            return w.b.xor(w.load(w.add(left, at), kind, 1), w.load(w.add(right, at), kind, 1))

        with w.loop(w.b.sub(length, rest), step) as at:
            different = differ(at, wide)
            parts = [w.b.extract_element(different, ir.Constant(I32, u)) for u in range(8)]
            while len(parts) > 1:
                parts = [w.b.or_(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            w.store(w.b.or_(w.long(result), parts[0]), result, 8)
        with w.loop(rest) as at:
            place = w.add(w.b.sub(length, rest), at)
            byte = w.b.zext(differ(place, ir.IntType(8)), I64)
            w.store(w.b.or_(w.long(result), byte), result, 8)
    w.b.ret_void()
