"""What the functions that compute blocks and their gradients have in common, as LLVM code.

Eight blocks are computed at a time in float64, one in each lane of a SIMD vector; generators,
blocks and gradients are stored in float32. No lane depends on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from structmat.nn.ops.backends.compiled.writer import I32, Numbers, Writer, of

LANES = 8
_STORED = 4  # bytes of a float32
_COLUMNS = 4  # number of entries of a product that are summed at the same time, in registers


class Matrix:
    """A matrix on the stack whose entries are SIMD vectors."""

    def __init__(self, w: Writer, rows: int, columns: int, address: Any = None) -> None:
        self.w, self.rows, self.columns = w, rows, columns
        self.address = w.memory(w.n.vector, rows * columns) if address is None else address

    def place(self, i: Any, j: Any) -> Any:
        """Return the index of entry (i, j)."""
        return self.w.add(self.w.mul(i, self.columns), j)

    def load(self, k: Any) -> Any:
        """Load the k-th entry."""
        return self.w.load(self._at(k), self.w.n.vector, LANES * self.w.n.size)

    def store(self, k: Any, value: Any) -> None:
        """Store the k-th entry."""
        self.w.store(value, self._at(k), LANES * self.w.n.size)

    def get(self, i: Any, j: Any) -> Any:
        """Load entry (i, j)."""
        return self.load(self.place(i, j))

    def set(self, i: Any, j: Any, value: Any) -> None:
        """Store entry (i, j)."""
        self.store(self.place(i, j), value)

    def _at(self, k: Any) -> Any:
        return self.w.add(self.address, self.w.mul(k, LANES * self.w.n.size))


class Above(Matrix):
    """The entries above the diagonal of a square matrix: its generators."""

    def __init__(self, w: Writer, radix: int) -> None:
        super().__init__(w, 1, radix * (radix - 1) // 2)
        self.radix = radix

    def place(self, i: Any, j: Any) -> Any:
        """Return the index of the generator for entry (i, j), i < j."""
        w = self.w
        before = w.b.sdiv(w.mul(i, w.b.sub(w.constant(2 * self.radix - 1), i)), w.constant(2))
        return w.add(before, w.b.sub(w.b.sub(j, i), w.constant(1)))


def write_blocks(
    module: ir.Module, name: str, radix: int, blocks: Callable[[Writer, Above], Matrix]
) -> None:
    """Write the function that computes blocks; `blocks` emits the code for a group of them.

    Its arguments are the addresses of the generators and of the blocks, the number of blocks, and
    the address of the counter from which threads claim groups of blocks.
    """
    w = _writer(module, name, 4)
    generators, out, count, counter = w.arguments
    with w.claims(counter, w.quotient(count, LANES)) as group:
        lanes = _lanes(w, group, count)
        _spread(blocks(w, _collected(Above(w, radix), generators, lanes)), out, lanes)
    w.b.ret_void()


def write_gradient(
    module: ir.Module, name: str, radix: int, gradient: Callable[[Writer, Above, Matrix], Above]
) -> None:
    """Write the function that computes the gradient for generators; `gradient` as `blocks` above.

    Its arguments are the addresses of the generators, of the gradient for blocks, and of the
    result, the number of blocks, and the address of the counter.
    """
    w = _writer(module, name, 5)
    generators, slopes, out, count, counter = w.arguments
    with w.claims(counter, w.quotient(count, LANES)) as group:
        lanes = _lanes(w, group, count)
        q = _collected(Above(w, radix), generators, lanes)
        g = _collected(Matrix(w, radix, radix), slopes, lanes)
        _spread(gradient(w, q, g), out, lanes)
    w.b.ret_void()


def number(w: Writer, value: float) -> Any:
    """Return a constant in all lanes."""
    return ir.Constant(w.n.vector, [value] * LANES)


def rest(w: Writer, radix: int, i: Any) -> Any:
    """Return the number of rows after row i."""
    return w.b.sub(w.constant(radix - 1), i)


def summed(w: Writer, count: Any, factors: Callable[[Any], tuple[Any, Any]]) -> Any:
    """Emit a loop that sums the products of the pairs `factors(k)`, k < count."""
    total = w.zeros()
    with w.loop(count) as k:
        a, b = factors(k)
        w.set(total, [w.intrinsic("fmuladd", a, b, *w.get(total))])
    return w.get(total)[0]


def add_product(w: Writer, out: Matrix, a: Matrix, b: Matrix) -> None:
    """Add the product of square matrices a and b to `out`."""
    module, name = w.function.module, "add_product"
    if name not in module.globals:
        _write_product(module, name, out.rows)
    w.b.call(module.globals[name], [m.address for m in (out, a, b)])


def _write_product(module: ir.Module, name: str, radix: int) -> None:
    """Write the function that adds a product, so that its code is compiled only once."""
    w = _writer(module, name, 3)
    w.function.linkage = "internal"
    w.function.attributes.add("noinline")
    out, a, b = (Matrix(w, radix, radix, address) for address in w.arguments)

    def add_columns(i: Any, first: Any, count: int) -> None:
        places = [out.place(i, w.add(first, j)) for j in range(count)]
        totals = [w.variables() for _ in places]
        for place, total in zip(places, totals, strict=True):
            w.set(total, [out.load(place)])
        with w.loop(radix) as k:
            entry = a.get(i, k)
            for j, total in enumerate(totals):
                other = b.get(k, w.add(first, j))
                w.set(total, [w.intrinsic("fmuladd", entry, other, *w.get(total))])
        for place, total in zip(places, totals, strict=True):
            out.store(place, *w.get(total))

    with w.loop(radix) as i:
        whole = radix - radix % _COLUMNS
        with w.loop(whole, _COLUMNS) as first:
            add_columns(i, first, _COLUMNS)
        add_columns(i, w.constant(whole), radix % _COLUMNS)
    w.b.ret_void()


def diagonal(w: Writer, radix: int, value: float) -> Matrix:
    """Return a multiple of the identity."""
    made = Matrix(w, radix, radix)
    fill(w, made, lambda _: w.zero())
    add_diagonal(w, made, value)
    return made


def fill(w: Writer, m: Matrix, entry: Callable[[Any], Any]) -> None:
    """Set the k-th entry to `entry(k)` for all k."""
    with w.loop(m.rows * m.columns) as k:
        m.store(k, entry(k))


def add_diagonal(w: Writer, m: Matrix, value: float) -> None:
    """Add a multiple of the identity."""
    with w.loop(m.rows) as i:
        m.set(i, i, w.b.fadd(m.get(i, i), number(w, value)))


def skew_part(w: Writer, m: Matrix, factor: float) -> Above:
    """Return the entries of factor·(m − mᵀ) above the diagonal."""
    made = Above(w, m.rows)
    with w.loop(m.rows) as i, w.loop(rest(w, m.rows, i)) as a:
        j = w.add(w.add(i, a), 1)
        difference = w.b.fsub(m.get(i, j), m.get(j, i))
        made.set(i, j, w.b.fmul(number(w, factor), difference))
    return made


def combined(w: Writer, v: Matrix, m: Matrix, i: Any) -> Matrix:
    """Return the row vᵀm, restricted to the rows and columns from i on."""
    made = Matrix(w, 1, m.columns)
    size = w.b.sub(w.constant(m.rows), i)
    with w.loop(size) as b:
        j = w.add(i, b)
        made.store(j, summed(w, size, lambda a: (v.load(w.add(i, a)), m.get(w.add(i, a), j))))
    return made


def reflection(w: Writer, v: Matrix, i: Any) -> Any:
    """Return −2/vᵀv, where v consists of the entries from i on."""
    size = w.b.sub(w.constant(v.columns), i)
    square = summed(w, size, lambda a: (v.load(w.add(i, a)),) * 2)
    return w.b.fdiv(number(w, -2.0), square)


def add_outer(w: Writer, m: Matrix, scale: Any, v: Matrix, row: Matrix, i: Any) -> None:
    """Add scale·v·row to the rows and columns of m from i on."""
    size = w.b.sub(w.constant(m.rows), i)
    with w.loop(size) as a:
        multiple = w.b.fmul(scale, v.load(w.add(i, a)))
        with w.loop(size) as b:
            k, j = m.place(w.add(i, a), w.add(i, b)), w.add(i, b)
            m.store(k, w.intrinsic("fmuladd", multiple, row.load(j), m.load(k)))


def _writer(module: ir.Module, name: str, arguments: int) -> Writer:
    return Writer(module, name, arguments, Numbers("double", is_complex=False, lanes=LANES))


def _lanes(w: Writer, group: Any, count: Any) -> list[Any]:
    """Return the index of the block in each lane; past the end, the last block is repeated."""
    last = w.b.sub(count, w.constant(1))
    return [w.least(w.add(w.mul(group, LANES), u), last) for u in range(LANES)]


def _places(m: Matrix, address: Any, lanes: Sequence[Any]) -> list[Any]:
    """Return the address of the stored matrix of each lane."""
    size = m.rows * m.columns * _STORED
    return [m.w.add(address, m.w.mul(lane, size)) for lane in lanes]


def _collected(made: Any, address: Any, lanes: Sequence[Any]) -> Any:
    """Load the matrices of the lanes, and return the one that now contains them."""
    w, places = made.w, _places(made, address, lanes)
    with w.loop(made.rows * made.columns) as k:
        entry: Any = ir.Constant(of(ir.FloatType(), LANES), ir.Undefined)
        for u, place in enumerate(places):
            one = w.load(w.add(place, w.mul(k, _STORED)), ir.FloatType(), _STORED)
            entry = w.b.insert_element(entry, one, ir.Constant(I32, u))
        made.store(k, w.b.fpext(entry, w.n.vector))
    return made


def _spread(m: Matrix, address: Any, lanes: Sequence[Any]) -> None:
    """Store the matrices of the lanes."""
    w, places = m.w, _places(m, address, lanes)
    with w.loop(m.rows * m.columns) as k:
        narrow = w.b.fptrunc(m.load(k), of(ir.FloatType(), LANES))
        for u, place in enumerate(places):
            one = w.b.extract_element(narrow, ir.Constant(I32, u))
            w.store(one, w.add(place, w.mul(k, _STORED)), _STORED)
