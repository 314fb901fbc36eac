"""LLVM code for products of plane rotations, and for their gradient.

A block is the product of a rotation of each plane (i, j), each of which replaces rows x and y by
c x + s y and c y − s x. To compute the gradient, the rotations are undone one by one, in R and in
the gradient G for R: with rows x, y of R and X, Y of G after a rotation, the gradient for its angle
is X·y − Y·x, so no block has to be stored. Sines and cosines are computed here rather than by calls
of the C library, whose functions take one number at a time.
"""

from __future__ import annotations

import math
from typing import Any

from structmat.nn.ops.backends.compiled.writer import I64, Writer, filled, of
from structmat.nn.parametrizations.block_code import (
    LANES,
    Above,
    Matrix,
    diagonal,
    number,
    rest,
)

# π/2 = _HIGH + _LOW. The first number has 33 bits, so its multiples are exact up to 2²⁰; the cosine
# is the rounding error of the floating-point number π/2.
_HIGH = math.floor(math.pi / 2 * 2**32) / 2**32
_LOW = math.pi / 2 - _HIGH + math.cos(math.pi / 2)
_ROUNDING = 1.5 * 2**52  # adding this number to a smaller one rounds that to an integer
_TERMS = 9  # of the series of sine and cosine up to π/4: the error is below an ulp of float64


def blocks(w: Writer, q: Above) -> Matrix:
    """Emit the code for blocks."""
    return _rotated(w, q)[0]


def _rotated(w: Writer, q: Above) -> tuple[Matrix, Above, Above]:
    """Return the blocks, and the cosines and sines of the angles."""
    radix = q.radix
    r, cosines, sines = diagonal(w, radix, 1.0), Above(w, radix), Above(w, radix)
    with w.loop(q.columns) as k:
        c, s = _cos_and_sin(w, q.load(k))
        cosines.store(k, c)
        sines.store(k, s)
    with w.loop(radix) as after:
        i = rest(w, radix, after)
        with w.loop(after) as before:
            j = rest(w, radix, before)
            c, s = cosines.get(i, j), sines.get(i, j)
            with w.loop(w.add(after, 1)) as b:
                _rotate(w, r, i, j, w.add(i, b), c, s)
    return r, cosines, sines


def gradient(w: Writer, q: Above, g: Matrix) -> Above:
    """Emit the code for the gradient for generators."""
    radix = q.radix
    r, cosines, sines = _rotated(w, q)
    made = Above(w, radix)
    with w.loop(radix) as i:
        after = rest(w, radix, i)
        with w.loop(after) as a:
            j = w.add(w.add(i, a), 1)
            c, s = cosines.get(i, j), w.b.fneg(sines.get(i, j))
            total = w.zeros()
            with w.loop(w.add(after, 1)) as b:  # in columns before i, these rows of R are zero
                column = w.add(i, b)
                x, y = _rotate(w, r, i, j, column, c, s)
                of_x, of_y = _rotate(w, g, i, j, column, c, s)
                w.set(total, [_fma(w, of_x, y, _fma(w, w.b.fneg(of_y), x, *w.get(total)))])
            made.set(i, j, *w.get(total))
    return made


def _rotate(w: Writer, m: Matrix, i: Any, j: Any, column: Any, c: Any, s: Any) -> tuple[Any, Any]:
    """Rotate entries x, y of rows i and j, and return their former values."""
    x, y = m.get(i, column), m.get(j, column)
    m.set(i, column, _fma(w, s, y, w.b.fmul(c, x)))
    m.set(j, column, _fma(w, w.b.fneg(s), x, w.b.fmul(c, y)))
    return x, y


def _cos_and_sin(w: Writer, angle: Any) -> tuple[Any, Any]:
    """Return the cosine and the sine, by the series for the distance from a multiple of π/2."""
    b, rounding = w.b, number(w, _ROUNDING)
    shifted = _fma(w, angle, number(w, 2 / math.pi), rounding)
    count = b.fsub(shifted, rounding)
    near = _fma(w, count, number(w, -_LOW), _fma(w, count, number(w, -_HIGH), angle))
    square = b.fmul(near, near)
    cosine = quotient = w.zero()
    for k in reversed(range(_TERMS)):
        cosine = _fma(w, cosine, square, number(w, (-1) ** k / math.factorial(2 * k)))
        quotient = _fma(w, quotient, square, number(w, (-1) ** k / math.factorial(2 * k + 1)))
    sine = b.fmul(near, quotient)
    whole = of(I64, LANES)
    quarters = b.bitcast(shifted, whole)  # the last bits count quarters of a rotation

    def has(bit: int, value: Any) -> Any:
        return b.icmp_unsigned("!=", b.and_(value, filled(whole, bit)), filled(whole, 0))

    odd = has(1, quarters)
    cosine, sine = b.select(odd, sine, cosine), b.select(odd, cosine, sine)
    negative = has(2, b.add(quarters, filled(whole, 1)))
    cosine = b.select(negative, b.fneg(cosine), cosine)
    return cosine, b.select(has(2, quarters), b.fneg(sine), sine)


def _fma(w: Writer, a: Any, x: Any, total: Any) -> Any:
    return w.intrinsic("fmuladd", a, x, total)
