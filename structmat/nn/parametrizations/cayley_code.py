"""LLVM code for the Cayley transform by reflections, and for its gradient.

See `structmat.nn.parametrizations.cayley_transform`.
"""

from __future__ import annotations

from structmat.nn.ops.backends.compiled.writer import Writer
from structmat.nn.parametrizations.block_code import (
    Above,
    Matrix,
    add_diagonal,
    add_outer,
    add_product,
    combined,
    diagonal,
    number,
    reflection,
    rest,
    skew_part,
    summed,
)


def blocks(w: Writer, q: Above) -> Matrix:
    """Emit the code for blocks."""
    r, v = diagonal(w, q.radix, -1.0), Matrix(w, 1, q.radix)
    with w.loop(q.radix) as after:
        i = rest(w, q.radix, after)
        first = w.add(i, 1)
        v.store(i, number(w, -2.0))  # −2 times the v of `cayley_transform`
        with w.loop(after) as a:
            row = w.add(first, a)
            total = summed(
                w, after, lambda b: (r.get(row, w.add(first, b)), q.get(i, w.add(first, b)))
            )
            v.store(row, w.b.fadd(total, q.get(i, row)))
        add_outer(w, r, reflection(w, v, i), v, combined(w, v, r, i), i)
    return r


def gradient(w: Writer, q: Above, g: Matrix) -> Above:
    """Emit the code for the gradient 2 Mᵀ G Mᵀ for Q, since dR = 2 M dQ M."""
    radix = q.radix
    m = blocks(w, q)
    add_diagonal(w, m, 1.0)  # 2M = R + I
    back, left, made = (diagonal(w, radix, 0.0) for _ in range(3))
    with w.loop(radix) as i, w.loop(radix) as j:
        back.set(i, j, m.get(j, i))
    add_product(w, left, back, g)
    add_product(w, made, left, back)
    return skew_part(w, made, 0.5)
