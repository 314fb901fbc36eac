"""A layer over llvmlite's IR builder, for integers and for real or complex numbers in registers.

A number has one part if it is real and two if it is complex; a `Value` is a SIMD vector for each
part. Addresses are integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

I32, I64, POINTER = ir.IntType(32), ir.IntType(64), ir.PointerType()


@dataclass(frozen=True)
class Numbers:
    """The type of the numbers in blocks and tiles, and the number of tokens in a SIMD vector."""

    name: str  # LLVM's name of the real type
    is_complex: bool
    lanes: int

    def __str__(self) -> str:
        kind = f"complex {self.name}" if self.is_complex else self.name
        return f"{kind} in {self.lanes} lane{'s' if self.lanes > 1 else ''}"

    @property
    def size(self) -> int:
        """The size of a real number in bytes."""
        return {"float": 4, "double": 8}[self.name]

    @property
    def parts(self) -> int:
        """The number of real numbers that make up one number."""
        return 2 if self.is_complex else 1

    @property
    def scalar(self) -> Any:
        """The LLVM type of a real number."""
        return {"float": ir.FloatType(), "double": ir.DoubleType()}[self.name]

    @property
    def vector(self) -> Any:
        """The LLVM type of one part of one wire for a few tokens."""
        return self.scalar if self.lanes == 1 else ir.VectorType(self.scalar, self.lanes)


def of(scalar: Any, size: int) -> Any:
    """Return the type of a SIMD vector with `size` lanes, or the scalar type if `size` is 1."""
    return scalar if size == 1 else ir.VectorType(scalar, size)


def filled(kind: Any, value: int) -> Any:
    """Return a constant of an integer type, repeated in all lanes if the type is a vector."""
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [value] * kind.count)
    return ir.Constant(kind, value)


Value = list[Any]  # a SIMD vector, or a scalar, for each part


class Writer:
    """Emits the code of one function."""

    def __init__(self, module: ir.Module, name: str, arguments: int, numbers: Numbers) -> None:
        kind = ir.FunctionType(ir.VoidType(), [I64] * arguments)
        self.function = ir.Function(module, kind, name)
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.n = numbers
        self.arguments = self.function.args

    # integers and pointers

    def constant(self, value: Any) -> Any:
        """Convert a Python integer to a constant; return any other value unchanged."""
        return ir.Constant(I64, value) if isinstance(value, int) else value

    def add(self, a: Any, b: Any) -> Any:
        """Return a + b."""
        return self.b.add(self.constant(a), self.constant(b))

    def mul(self, a: Any, b: Any) -> Any:
        """Return a·b."""
        return self.b.mul(self.constant(a), self.constant(b))

    def less(self, a: Any, b: Any) -> Any:
        """Return whether a < b."""
        return self.b.icmp_signed("<", self.constant(a), self.constant(b))

    def least(self, a: Any, b: Any) -> Any:
        """Return the smaller of two integers."""
        a, b = self.constant(a), self.constant(b)
        return self.b.select(self.less(a, b), a, b)

    def quotient(self, a: Any, b: Any) -> Any:
        """Return a / b, rounded up."""
        b = self.constant(b)
        return self.b.sdiv(self.b.sub(self.b.add(a, b), self.constant(1)), b)

    def load(self, address: Any, kind: Any, align: int | None = None) -> Any:
        """Load a value of a type."""
        return self.b.load(self.b.inttoptr(address, POINTER), typ=kind, align=align)

    def store(self, value: Any, address: Any, align: int | None = None) -> None:
        """Store a value."""
        self.b.store(value, self.b.inttoptr(address, POINTER), align=align)

    def long(self, address: Any, k: Any = 0) -> Any:
        """Load the k-th 8-byte integer."""
        return self.load(self.add(address, self.mul(k, 8)), I64, 8)

    def index(self, address: Any, k: Any) -> Any:
        """Load the k-th 4-byte integer."""
        return self.b.sext(self.load(self.add(address, self.mul(k, 4)), I32, 4), I64)

    @contextmanager
    def loop(self, count: Any, step: int = 1) -> Iterator[Any]:
        """Emit a loop over 0, step, 2·step, … below count, around the code emitted within."""
        b = self.b
        before = b.block
        head, body, end = (b.append_basic_block(name) for name in ("head", "body", "end"))
        b.branch(head)
        b.position_at_end(head)
        k = b.phi(I64)
        k.add_incoming(self.constant(0), before)
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
        """Call an LLVM intrinsic for floating-point numbers."""
        kind = given[0].type
        suffix = f"f{8 * self.n.size}"
        if isinstance(kind, ir.VectorType):
            suffix = f"v{kind.count}{suffix}"
        full, module = f"llvm.{name}.{suffix}", self.function.module
        if full not in module.globals:
            ir.Function(module, ir.FunctionType(kind, [kind] * len(given)), full)
        return self.b.call(module.globals[full], given)

    def zero(self) -> Any:
        """Return a vector of zeros."""
        return ir.Constant(self.n.vector, None if self.n.lanes > 1 else 0.0)

    def splat(self, scalar: Any, lanes: int | None = None) -> Any:
        """Copy a number to all lanes of a vector."""
        lanes = self.n.lanes if lanes is None else lanes
        if lanes == 1:
            return scalar
        undefined = ir.Constant(of(self.n.scalar, lanes), ir.Undefined)
        first = self.b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.shuffle(first, undefined, [0] * lanes)

    def shuffle(self, a: Any, b: Any, lanes: Sequence[int]) -> Any:
        """Select lanes of a and b, where those of b are numbered after those of a."""
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
        """Load an entry of a block into all lanes."""
        n = self.n
        parts = [
            self.splat(self.load(self.add(address, part * n.size), n.scalar, n.size))
            for part in range(n.parts)
        ]
        if conjugate and n.is_complex:
            parts[1] = self.b.fneg(parts[1])
        return parts

    def multiply_add(self, a: Value, x: Value, total: Value | None) -> Value:
        """Return total + a x; to use ā, the caller negates the imaginary part of a."""
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
        """Allocate a variable for each part, which LLVM keeps in a register if possible."""
        with self.b.goto_entry_block():
            return [self.b.alloca(self.n.vector) for _ in range(self.n.parts)]

    def zeros(self) -> list[Any]:
        """Allocate variables and set them to zero."""
        places = self.variables()
        self.set(places, [self.zero()] * self.n.parts)
        return places

    def get(self, places: Sequence[Any]) -> Value:
        """Return the values of variables."""
        return [self.b.load(place, typ=self.n.vector) for place in places]

    def set(self, places: Sequence[Any], value: Value) -> None:
        """Set variables."""
        for place, part in zip(places, value, strict=True):
            self.b.store(part, place)

    def accumulate(self, vectors: Sequence[Any], address: Any) -> None:
        """Add the sum of the lanes of the k-th vector to the k-th real number at an address."""
        n = self.n
        for first in range(0, len(vectors), n.lanes):
            group = list(vectors[first : first + n.lanes])
            size = len(group)
            group += [self.zero()] * ((1 << (size - 1).bit_length()) - size)
            self._add(self.reduced(group), size, self.add(address, first * n.size))

    def add_to(self, value: Value, count: int, address: Any) -> None:
        """Add the first `count` lanes to the numbers at an address, whose parts alternate."""
        if len(value) == 1:
            self._add(value[0], count, address)
            return
        lanes = value[0].type.count
        order = [part * lanes + k for k in range(lanes) for part in range(2)]
        self._add(self.shuffle(value[0], value[1], order), 2 * count, address)

    def _add(self, vector: Any, count: int, address: Any) -> None:
        """Add the first `count` lanes of a vector to the real numbers at an address."""
        n, done = self.n, 0
        while done < count:  # in powers of two
            part = 1 << ((count - done).bit_length() - 1)
            place = self.add(address, done * n.size)
            if part == 1:
                value = self.b.extract_element(vector, ir.Constant(I32, done))
            else:
                value = self.shuffle(vector, vector, range(done, done + part))
            total = self.b.fadd(self.load(place, of(n.scalar, part), n.size), value)
            self.store(total, place, n.size)
            done += part

    def transposed_in_groups(self, rows: Sequence[Any], size: int) -> list[Any]:
        """Transpose up to `size` rows; each column is a vector of this size, padded with zeros."""
        rows = [*rows, *[self.zero()] * (size - len(rows))]
        columns: list[Any] = []
        for first in range(0, self.n.lanes, size):
            lanes = range(first, first + size)
            columns += self.transposed([self.shuffle(row, row, lanes) for row in rows])
        return columns

    @contextmanager
    def claims(self, counter: Any, count: Any) -> Iterator[Any]:
        """Emit a loop over the numbers below count that this thread claims from the counter."""
        b = self.b
        claim, body, end = (b.append_basic_block(name) for name in ("claim", "body", "end"))
        b.branch(claim)
        b.position_at_end(claim)
        place = b.inttoptr(counter, POINTER)
        number = b.atomic_rmw("add", place, self.constant(1), "monotonic")
        b.cbranch(self.less(number, count), body, end)
        b.position_at_end(body)
        yield number
        b.branch(claim)
        b.position_at_end(end)

    def transposed(self, rows: Sequence[Any]) -> list[Any]:
        """Transpose a square matrix: return its columns, given its rows."""
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
        """Combine scalars into a vector."""
        made: Any = ir.Constant(of(self.n.scalar, len(scalars)), ir.Undefined)
        for k, scalar in enumerate(scalars):
            made = self.b.insert_element(made, scalar, ir.Constant(I32, k))
        return made

    def scattered(self, vector: Any) -> list[Any]:
        """Extract the lanes of a vector as scalars."""
        lanes = range(vector.type.count)
        return [self.b.extract_element(vector, ir.Constant(I32, k)) for k in lanes]

    def reduced(self, vectors: Sequence[Any]) -> Any:
        """Sum the lanes of n vectors, n a power of 2: lane k is the sum of vector k mod n."""
        lanes = vectors[0].type.count
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
