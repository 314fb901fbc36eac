"""Generators of LLVM code for the Cayley transform by reflections, and for its gradient.

Eight blocks are computed at a time in float64, one in each lane of a SIMD vector; generators,
blocks and gradients are stored in float32. See `structmat.nn.parametrizations.cayley_transform`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from structmat.nn.ops.backends.compiled.writer import I32, Numbers, Writer, of

LANES = 8
_STORED = 4  # bytes of a float32


def blocks(module: ir.Module, name: str, radix: int) -> None:
    """Emit the function that computes blocks.

    Its arguments are the addresses of the generators and of the blocks, the number of blocks, and
    the address of the counter from which threads claim groups of blocks.
    """
    w = _writer(module, name, 4)
    generators, out, count, counter = w.arguments
    with w.claims(counter, w.quotient(count, LANES)) as group:
        lanes = _lanes(w, group, count)
        r = _reflections(w, [_at(w, generators, lane, _pairs(radix)) for lane in lanes], radix)
        places = [_at(w, out, lane, radix**2) for lane in lanes]
        with w.loop(radix**2) as k:
            _spread(w, r.get(0, k), places, k)
    w.b.ret_void()


def gradient(module: ir.Module, name: str, radix: int) -> None:
    """Emit the function that computes the gradient for generators.

    Its arguments are the addresses of the generators, of the gradient for blocks, and of the
    result, the number of blocks, and the address of the counter.
    """
    w = _writer(module, name, 5)
    generators, slopes, out, count, counter = w.arguments
    with w.claims(counter, w.quotient(count, LANES)) as group:
        lanes = _lanes(w, group, count)
        m = _reflections(w, [_at(w, generators, lane, _pairs(radix)) for lane in lanes], radix)
        half = w.splat(ir.Constant(w.n.scalar, 0.5))
        with w.loop(radix) as i:  # M = (R + I)/2
            m.set(i, i, w.b.fadd(m.get(i, i), w.splat(ir.Constant(w.n.scalar, 1.0))))
        with w.loop(radix**2) as k:
            m.set(0, k, w.b.fmul(m.get(0, k), half))
        given = [_at(w, slopes, lane, radix**2) for lane in lanes]
        g, left, made = (_Matrix(w, radix, radix) for _ in range(3))
        with w.loop(radix**2) as k:
            g.set(0, k, _collected(w, given, k))
        # dR = 2 M dQ M, so the gradient for Q is 2 Mᵀ G Mᵀ.
        with w.loop(radix) as i, w.loop(radix) as j:
            left.set(i, j, _sum(w, radix, lambda k: (m.get(k, i), g.get(k, j))))
        with w.loop(radix) as i, w.loop(radix) as j:
            made.set(i, j, _sum(w, radix, lambda k: (left.get(i, k), m.get(j, k))))
        places = [_at(w, out, lane, _pairs(radix)) for lane in lanes]
        two = w.splat(ir.Constant(w.n.scalar, 2.0))
        with w.loop(radix) as i, w.loop(_rest(w, radix, i)) as a:
            j = w.add(w.add(i, a), 1)
            value = w.b.fmul(two, w.b.fsub(made.get(i, j), made.get(j, i)))
            _spread(w, value, places, _place(w, radix, i, j))
    w.b.ret_void()


class _Matrix:
    """A matrix on the stack whose entries are SIMD vectors."""

    def __init__(self, w: Writer, rows: int, columns: int) -> None:
        self.w, self.columns = w, columns
        self._address = w.memory(w.n.vector, rows * columns)

    def _at(self, i: Any, j: Any) -> Any:
        w = self.w
        entry = w.add(w.mul(i, self.columns), j)
        return w.add(self._address, w.mul(entry, LANES * w.n.size))

    def get(self, i: Any, j: Any) -> Any:
        return self.w.load(self._at(i, j), self.w.n.vector, LANES * self.w.n.size)

    def set(self, i: Any, j: Any, value: Any) -> None:
        self.w.store(value, self._at(i, j), LANES * self.w.n.size)


def _reflections(w: Writer, generators: Sequence[Any], radix: int) -> _Matrix:
    """Emit code that computes blocks as products of reflections."""
    r = _Matrix(w, radix, radix)
    q = _Matrix(w, 1, _pairs(radix))
    v, y = _Matrix(w, 1, radix), _Matrix(w, 1, radix)
    with w.loop(_pairs(radix)) as k:
        q.set(0, k, _collected(w, generators, k))
    with w.loop(radix**2) as k:
        r.set(0, k, w.zero())
    with w.loop(radix) as i:
        r.set(i, i, w.splat(ir.Constant(w.n.scalar, -1.0)))
    minus_two = w.splat(ir.Constant(w.n.scalar, -2.0))
    with w.loop(radix) as rest:
        i = w.b.sub(w.constant(radix - 1), rest)
        size = w.add(rest, 1)

        def entry(j: Any, i: Any = i) -> Any:
            return q.get(0, _place(w, radix, i, j))

        v.set(0, i, minus_two)
        with w.loop(rest) as a:
            row = w.add(w.add(i, a), 1)
            first = w.add(i, 1)
            total = _sum(w, rest, lambda b: (r.get(row, w.add(first, b)), entry(w.add(first, b))))
            v.set(0, row, w.b.fadd(total, entry(row)))
        square = _sum(w, size, lambda a: (v.get(0, w.add(i, a)),) * 2)
        scale = w.b.fdiv(minus_two, square)
        with w.loop(size) as b:
            column = w.add(i, b)
            total = _sum(w, size, lambda a: (v.get(0, w.add(i, a)), r.get(w.add(i, a), column)))
            y.set(0, column, w.b.fmul(total, scale))
        with w.loop(size) as a, w.loop(size) as b:
            row, column = w.add(i, a), w.add(i, b)
            change = w.intrinsic("fmuladd", v.get(0, row), y.get(0, column), r.get(row, column))
            r.set(row, column, change)
    return r


def _writer(module: ir.Module, name: str, arguments: int) -> Writer:
    return Writer(module, name, arguments, Numbers("double", is_complex=False, lanes=LANES))


def _pairs(radix: int) -> int:
    return radix * (radix - 1) // 2


def _rest(w: Writer, radix: int, i: Any) -> Any:
    return w.b.sub(w.constant(radix - 1), i)


def _place(w: Writer, radix: int, i: Any, j: Any) -> Any:
    """Return the index of the generator for entry (i, j), i < j."""
    before = w.b.sdiv(w.mul(i, w.b.sub(w.constant(2 * radix - 1), i)), w.constant(2))
    return w.add(before, w.b.sub(w.b.sub(j, i), w.constant(1)))


def _lanes(w: Writer, group: Any, count: Any) -> list[Any]:
    """Return the index of the block in each lane; past the end, the last block is repeated."""
    last = w.b.sub(count, w.constant(1))
    return [w.least(w.add(w.mul(group, LANES), u), last) for u in range(LANES)]


def _at(w: Writer, address: Any, block: Any, size: int) -> Any:
    return w.add(address, w.mul(block, size * _STORED))


def _collected(w: Writer, places: Sequence[Any], k: Any) -> Any:
    """Load the k-th float32 number after each address into the lanes of a vector."""
    offset = w.mul(k, _STORED)
    kind = of(ir.FloatType(), LANES)
    made: Any = ir.Constant(kind, ir.Undefined)
    for u, place in enumerate(places):
        number = w.load(w.add(place, offset), ir.FloatType(), _STORED)
        made = w.b.insert_element(made, number, ir.Constant(I32, u))
    return w.b.fpext(made, w.n.vector)


def _spread(w: Writer, vector: Any, places: Sequence[Any], k: Any) -> None:
    """Store each lane of a vector as the k-th float32 number after its address."""
    narrow = w.b.fptrunc(vector, of(ir.FloatType(), LANES))
    offset = w.mul(k, _STORED)
    for u, place in enumerate(places):
        w.store(w.b.extract_element(narrow, ir.Constant(I32, u)), w.add(place, offset), _STORED)


def _sum(w: Writer, count: Any, factors: Any) -> Any:
    """Emit a loop that sums the products of the pairs `factors(k)`, k < count."""
    total = w.zeros()
    with w.loop(count) as k:
        a, b = factors(k)
        w.set(total, [w.intrinsic("fmuladd", a, b, *w.get(total))])
    return w.get(total)[0]
