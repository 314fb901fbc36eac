"""LLVM code for the exponential by scaling and squaring, and for its gradient.

The algorithm is that of `structmat.nn.parametrizations.matrix_exponential` for float32. How often a
matrix is halved depends on its own norm only: lanes that need no further squaring are masked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from llvmlite import ir

from structmat.nn.ops.backends.compiled.writer import Writer, filled
from structmat.nn.parametrizations.block_code import (
    LANES,
    Above,
    Matrix,
    add_diagonal,
    add_product,
    diagonal,
    fill,
    number,
    rest,
    skew_part,
    summed,
)

_DEGREE, _KEPT, _NORM = 9, 3, 0.4  # as in `matrix_exponential`
_SQUARINGS = 8  # sufficient for the largest norm for which these functions are called

Pair = list[Matrix]  # [A], or [A, E] for [[A, E], [0, A]]


def blocks(w: Writer, q: Above) -> Matrix:
    """Emit the code for blocks."""
    return _exponential(w, q, 1.0)[0]


def gradient(w: Writer, q: Above, g: Matrix) -> Above:
    """Emit the code for the gradient for generators, from the derivative at −Q."""
    return skew_part(w, _exponential(w, q, -1.0, g)[1], 1.0)


def _exponential(w: Writer, q: Above, sign: float, direction: Matrix | None = None) -> Pair:
    """Return [exp(±Q)], with its derivative in a direction if there is one."""
    square = summed(w, q.columns, lambda k: (q.load(k),) * 2)
    scale = number(w, sign)
    for k in range(_SQUARINGS):
        beyond = w.b.fcmp_ordered(">", square, number(w, _NORM**2 * 4**k))
        scale = w.b.select(beyond, number(w, sign * 0.5 ** (k + 1)), scale)
    x = [_skew(w, q, scale)]
    if direction is not None:
        size = w.intrinsic("fabs", scale)
        fill(w, direction, lambda k: w.b.fmul(direction.load(k), size))
        x.append(direction)
    made, spare = _taylor(w, x)
    limit = w.variables()
    w.set(limit, [number(w, _NORM**2)])
    with w.loop(_SQUARINGS):
        (bound,) = w.get(limit)
        w.set(limit, [w.b.fmul(bound, number(w, 4.0))])
        beyond = w.b.fcmp_ordered(">", square, bound)
        mask = w.b.bitcast(beyond, ir.IntType(LANES))
        with w.b.if_then(w.b.icmp_unsigned("!=", mask, filled(mask.type, 0))):
            _set_product(w, spare, made, made)
            for old, new in zip(made, spare, strict=True):
                fill(w, old, partial(_either, w, beyond, new, old))
    return made


def _either(w: Writer, mask: Any, a: Matrix, b: Matrix, k: Any) -> Any:
    """Return the k-th entry of a in the lanes of a mask, and of b in the others."""
    return w.b.select(mask, a.load(k), b.load(k))


def _skew(w: Writer, q: Above, scale: Any) -> Matrix:
    made = diagonal(w, q.radix, 0.0)
    with w.loop(q.radix) as i, w.loop(rest(w, q.radix, i)) as a:
        j = w.add(w.add(i, a), 1)
        entry = w.b.fmul(scale, q.get(i, j))
        made.set(i, j, entry)
        made.set(j, i, w.b.fneg(entry))
    return made


def _taylor(w: Writer, x: Pair) -> tuple[Pair, Pair]:
    """Return Σ xᵏ/k! by the scheme of Paterson and Stockmeyer, and memory for another pair."""
    powers = [x]
    while len(powers) < _KEPT:
        powers.append(_like(w, x))
        _set_product(w, powers[-1], powers[-2], x)
    made, spare = _like(w, x), _like(w, x)
    first = _DEGREE - _KEPT
    _set_terms(w, made, powers, first)
    while first:
        first -= _KEPT
        _set_terms(w, spare, powers[:-1], first)
        _add_product(w, spare, made, powers[-1])
        made, spare = spare, made
    return made, spare


def _set_terms(w: Writer, out: Pair, powers: Sequence[Pair], first: int) -> None:
    """Set `out` to the sum of xᵏ/(first+k)! over 0 and the exponents k of the powers of x."""
    factors = [number(w, 1 / math.factorial(first + k + 1)) for k in range(len(powers))]
    for n, part in enumerate(out):

        def entry(k: Any, n: int = n) -> Any:
            total = w.zero()
            for factor, power in zip(factors, powers, strict=True):
                total = w.intrinsic("fmuladd", factor, power[n].load(k), total)
            return total

        fill(w, part, entry)
    add_diagonal(w, out[0], 1 / math.factorial(first))


def _set_product(w: Writer, out: Pair, a: Pair, b: Pair) -> None:
    for part in out:
        fill(w, part, lambda _: w.zero())
    _add_product(w, out, a, b)


def _add_product(w: Writer, out: Pair, a: Pair, b: Pair) -> None:
    for n, part in enumerate(out):
        for k in range(n + 1):
            add_product(w, part, a[k], b[n - k])


def _like(w: Writer, x: Pair) -> Pair:
    return [Matrix(w, part.rows, part.columns) for part in x]
