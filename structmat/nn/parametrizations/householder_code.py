"""LLVM code for products of reflections, and for their gradient.

With H = I − (2/s)vvᵀ, v = (1, −q₁, …, −qᵣ₋₁) and s = vᵀv, a block is R = H·diag(−1, R′), where R′
is the block of the other generators. If G is the gradient for R, that for v is (2/s)(G Rᵀ − R Gᵀ)v,
and that for diag(−1, R′) is H G. As diag(−1, R′) = H R, the gradient needs R only.
"""

from __future__ import annotations

from typing import Any

from structmat.nn.ops.backends.compiled.writer import Writer
from structmat.nn.parametrizations.block_code import (
    Above,
    Matrix,
    add_outer,
    combined,
    diagonal,
    number,
    reflection,
    rest,
    summed,
)


def _set_normal(w: Writer, q: Above, v: Matrix, i: Any) -> Any:
    """Set the entries from i on to v = (1, −qᵢ), and return −2/vᵀv."""
    v.store(i, number(w, 1.0))
    with w.loop(rest(w, q.radix, i)) as a:
        j = w.add(w.add(i, a), 1)
        v.store(j, w.b.fneg(q.get(i, j)))
    return reflection(w, v, i)


def blocks(w: Writer, q: Above) -> Matrix:
    """Emit the code for blocks."""
    r, v = diagonal(w, q.radix, -1.0), Matrix(w, 1, q.radix)
    with w.loop(q.radix) as after:
        i = rest(w, q.radix, after)
        scale = _set_normal(w, q, v, i)
        add_outer(w, r, scale, v, combined(w, v, r, i), i)
    return r


def gradient(w: Writer, q: Above, g: Matrix) -> Above:
    """Emit the code for the gradient for generators."""
    radix = q.radix
    r, v, made = blocks(w, q), Matrix(w, 1, radix), Above(w, radix)
    with w.loop(radix) as i:
        scale = _set_normal(w, q, v, i)
        of_r, of_g = combined(w, v, r, i), combined(w, v, g, i)  # vᵀR and vᵀG
        first, after = w.add(i, 1), rest(w, radix, i)
        size = w.add(after, 1)
        with w.loop(after) as a:
            j = w.add(first, a)
            right = summed(w, size, lambda b: (r.get(j, w.add(i, b)), of_g.load(w.add(i, b))))
            left = summed(w, size, lambda b: (g.get(j, w.add(i, b)), of_r.load(w.add(i, b))))
            made.set(i, j, w.b.fmul(scale, w.b.fsub(left, right)))
        add_outer(w, r, scale, v, of_r, i)
        add_outer(w, g, scale, v, of_g, i)
    return made
