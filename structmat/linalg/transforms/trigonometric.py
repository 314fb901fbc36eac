"""Orthonormal discrete cosine and sine transforms of types I to IV, at every width.

All are formed from real orthogonal factors:

- Types II and III by Makhoul's reordering: a Hartley transform of the same width, whose last stage
  also rotates each pair of frequencies k and n − k. No case distinction by the factors of n is
  needed.
- Type IV at even widths by transforms of type II of half the width between two stages of
  rotations (Plonka and Tasche); at odd widths by a Hartley transform whose inputs and outputs are
  permuted and given signs (Heideman).
- Type I by splitting inputs into symmetric and antisymmetric parts until the number of intervals is
  odd, then by the even or odd part of a Hartley transform.
"""

from __future__ import annotations

import math

import numpy as np

from structmat.linalg.transforms.assembly import (
    Array,
    Factored,
    Part,
    beside,
    chained,
    permuted,
    placed,
    signed,
    single,
    staged,
    transposed,
)
from structmat.linalg.transforms.fourier import (
    hartley_stages,
    real_radices,
)
from structmat.linalg.transforms.half_hartley import half_hartley
from structmat.linalg.transforms.roots_of_unity import cos_sin
from structmat.linalg.transforms.transform import (
    Transform,
    check_prime,
    checked_size,
    checked_type,
    named,
)
from structmat.networks.permutation import Index, digit_reversal

_HALF = math.sqrt(0.5)


def dct(n: int, type: int = 2) -> Transform:  # noqa: A002 (as scipy calls it)
    """Return the orthonormal discrete cosine transform of n points.

    Parameters
    ----------
    n : int
        From 1 to 65,536; at least 2 for type 1.
    type : 1, 2, 3 or 4
        The matrices of types 1 and 4 are symmetric, and type 3 is the transpose of type 2.

    Returns
    -------
    Transform
        With real blocks, equal to `scipy.fft.dct` with this type and `norm="ortho"`, for which
        `orthogonalize=True` is the default.

    Raises
    ------
    StructmatError
        If n is not an integer, or out of range; for any other type.

    References
    ----------
    J. Makhoul, A fast cosine transform in one and two dimensions, 1980 (types 2 and 3).
    M. T. Heideman, Computation of an odd-length DCT from a real-valued DFT of the same length, 1992
    (type 4, odd widths). The published operation counts, for n = 2^k, and n − 1 = 2^k for type 1:
    X. Shao and S. G. Johnson, Type-II/III DCT/DST algorithms with reduced number of arithmetic
    operations, arXiv cs/0703150, who quote the best earlier counts.

    Examples
    --------
    >>> import scipy.fft
    >>> x = np.arange(12.0)
    >>> bool(np.allclose(dct(12) @ x, scipy.fft.dct(x, norm="ortho")))
    True
    >>> [int(factor.nnz) for factor in dct(12).factors()]     # the dense matrix has 144
    [24, 36, 40]
    """
    kind = checked_type(type, "dct")
    width = checked_size(n, 2 if kind == 1 else 1)
    if kind == 1:
        check_prime(width - 1, "n - 1")
    else:
        check_prime(width)
    made = _COSINE[kind](width)
    return named(made, f"dct({width}, type={kind})", _ends(width, kind), _published(width, kind))


def dst(n: int, type: int = 2) -> Transform:  # noqa: A002 (as scipy calls it)
    """Return the orthonormal discrete sine transform of n points.

    Types 2 to 4 are cosine transforms with alternating signs and reversed inputs or outputs.

    Parameters
    ----------
    n : int
        From 1 to 65,536.
    type : 1, 2, 3 or 4
        The matrices of types 1 and 4 are symmetric, and type 3 is the transpose of type 2.

    Returns
    -------
    Transform
        With real blocks, equal to `scipy.fft.dst` with this type and `norm="ortho"`, for which
        `orthogonalize=True` is the default.

    Raises
    ------
    StructmatError
        If n is not an integer, or out of range; for any other type.

    Examples
    --------
    >>> import scipy.fft
    >>> x = np.arange(9.0)
    >>> bool(np.allclose(dst(9, type=1) @ x, scipy.fft.dst(x, type=1, norm="ortho")))
    True
    """
    kind = checked_type(type, "dst")
    width = checked_size(n)
    if kind == 1:
        check_prime(width + 1, "n + 1")
    else:
        check_prime(width)
    made = _SINE[kind](width)
    published = None if kind == 1 else _published(width, kind)
    return named(made, f"dst({width}, type={kind})", _ends(width, kind, sine=True), published)


def _published(n: int, kind: int) -> int | None:
    """Return the published number of operations for n = 2^k, or n − 1 = 2^k for type 1.

    The count for type 1 follows from that for type 3 by the recursion of `_cosine_one`.
    """
    size = n - 1 if kind == 1 else n
    levels = size.bit_length() - 1
    if n == 1 or size != 1 << levels:
        return None
    rest = {1: -3 * size + 2 * levels + 5, 2: 2 - size, 3: 2 - size, 4: size}[kind]
    return 2 * size * levels + rest


# Types II and III --------------------------------------------------------------------------------


def _cosine_two(n: int) -> Factored:
    cos, sin = cos_sin(2 * np.arange(n) + n, 8 * n)
    cos[0], sin[0] = 1, 0
    order = _even_then_odd(n)[digit_reversal(real_radices(n))]
    return permuted(hartley_stages(n, mixed=(cos, sin)), inputs=order)


def _even_then_odd(n: int) -> Index:
    """Return the even wires in order, then the odd wires in reverse order."""
    return np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)[::-1]])


def _cosine_three(n: int) -> Factored:
    return transposed(_cosine_two(n))


def _sine_two(n: int) -> Factored:
    alternating = 1 - 2 * (np.arange(n) % 2)
    return permuted(signed(_cosine_two(n), inputs=alternating), outputs=np.arange(n)[::-1])


def _sine_three(n: int) -> Factored:
    return transposed(_sine_two(n))


# Type IV -----------------------------------------------------------------------------------------


def _cosine_four(n: int) -> Factored:
    return _odd_cosine_four(n) if n % 2 else _even_four(n, sign=1)


def _sine_four(n: int) -> Factored:
    backwards = np.arange(n)[::-1]
    if n % 2 == 0:
        return permuted(_even_four(n, sign=-1), inputs=backwards)
    alternating = 1 - 2 * (np.arange(n) % 2)
    return signed(permuted(_odd_cosine_four(n), inputs=backwards), outputs=alternating)


def _even_four(n: int, *, sign: int) -> Factored:
    """Return the type-IV cosine transform of even width, its odd outputs multiplied by `sign`."""
    half = n // 2
    low = np.arange(half)
    cos, sin = cos_sin(2 * low + 1, 8 * n)
    rotations = np.stack([cos, sin, sign * sin, -sign * cos], axis=1).reshape(-1, 2, 2)
    made = _split(n, rotations, _cosine_two(half), _sine_two(half))
    # Outputs 2l and 2l − 1 are difference and sum of outputs of the two halves, except at the ends.
    inner = low[1:]
    difference = np.array([[_HALF, -sign * _HALF], [sign * _HALF, _HALF]])
    pairs = Part(
        np.stack([inner, n - inner], axis=1),
        np.broadcast_to(difference, (half - 1, 2, 2)),
    )
    if half > 1:
        made = chained(made, staged(n, [[pairs]]))
    outputs = np.concatenate([[0], np.stack([n - inner, inner], axis=1).ravel(), [half]])
    return permuted(made, outputs=outputs)


def _odd_cosine_four(n: int) -> Factored:
    """Return the transform as a Hartley transform with permutations and signs at both ends.

    The angle is 2πpq/8n with p = 2j + 1, q = 2k + 1. By the Chinese remainder theorem 1/8n is a/8 +
    b/n, up to an integer, and the cosine and sine of 2πapq/8 are √½ times the real characters χ₈
    and χ₋₈, which are products of their values at a, p and q. They agree at 1 and 5, and are
    opposite at 3 and 7, modulo 8.
    """
    chi = np.array([0, 1, 0, -1, 0, -1, 0, 1])  # χ₈
    a, b = pow(n, -1, 8), pow(8, -1, n) if n > 1 else 0
    p = 2 * np.arange(n) + 1
    mirrored = p % 4 == 3  # input j takes the place of its mirror image n − 1 − j
    order, signs = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    source = np.where(mirrored, n - 1 - np.arange(n), np.arange(n))
    order[p % n] = source
    signs[p % n] = chi[(2 * source + 1) % 8]
    m = a * p % 8
    outputs = b * p % n
    outputs = np.where(m % 4 == 3, outputs, -outputs % n)
    reversal = digit_reversal(real_radices(n))
    stages = signed(hartley_stages(n), inputs=signs[reversal])
    made = permuted(stages, inputs=order[reversal], outputs=outputs)
    return signed(made, outputs=chi[m])


# Type I ------------------------------------------------------------------------------------------


def _cosine_one(n: int) -> Factored:
    last, low = n - 1, np.arange(n // 2)
    blocks = _sums(len(low))
    if last % 2:  # sums and differences are multiplied by the same matrix
        blocks[1::2, 1] *= -1  # the even wire minus the odd one
        made = _split(n, blocks, half_hartley(last), half_hartley(last))
        order = np.concatenate([2 * low, (last - 2 * low)[::-1]])
    else:
        half = last // 2
        made = _split(n, blocks, _cosine_one(half + 1), _cosine_three(half))
        order = np.concatenate([2 * np.arange(half + 1), (2 * low + 1)[::-1]])
    return permuted(made, outputs=np.argsort(order))


def _sine_one(n: int) -> Factored:
    if n == 1:
        return single(np.eye(1))
    low = np.arange(n // 2)
    blocks = _sums(len(low))
    if n % 2:
        half = (n + 1) // 2
        made = _split(n, blocks, _sine_three(half), _sine_one(half - 1))
        order = np.concatenate([2 * np.arange(half), (2 * low + 1)[::-1]])
    else:
        blocks[1::2, 0] *= -1
        part = half_hartley(n + 1, odd=True)
        made = _split(n, blocks, part, part)
        order = np.concatenate([n - 2 - 2 * low, (2 * low + 1)[::-1]])
    return permuted(made, outputs=np.argsort(order))


def _sums(count: int) -> Array:
    """Return blocks for the sum and the difference, divided by √2, of pairs of wires."""
    return np.tile([[_HALF, _HALF], [_HALF, -_HALF]], (count, 1, 1))


def _split(n: int, blocks: Array, first: Factored, second: Factored) -> Factored:
    """Join wires j and n − 1 − j, then transform the lower wires, and the upper ones in reverse.

    A wire in the middle belongs to the lower ones.
    """
    low, high = np.arange(n // 2), n - 1 - np.arange(n // 2)
    pairs = Part(np.stack([low, high], axis=1), blocks)
    wires = np.concatenate([np.arange((n + 1) // 2), high])
    return chained(staged(n, [[pairs]]), placed(beside(first, second), wires))


_COSINE = {1: _cosine_one, 2: _cosine_two, 3: _cosine_three, 4: _cosine_four}
_SINE = {1: _sine_one, 2: _sine_two, 3: _sine_three, 4: _sine_four}
_HALVES = "the last stage interleaves the outputs of two transforms of half the width, whose inputs"
_ENDS = {
    1: f"{_HALVES} or outputs are digit-reversed",
    2: "the first stage reads the even inputs in ascending, then the odd ones in descending order,"
    " digit-reversed",
    3: "the last stage writes the even outputs in ascending, then the odd ones in descending order,"
    " digit-reversed",
    4: f"{_HALVES} are digit-reversed",
}


def _ends(n: int, kind: int, *, sine: bool = False) -> str:
    """Describe the permutations at the ends in words."""
    if n <= 2:
        return "none"
    if kind == 4 and n % 2:
        return (
            "inputs and outputs are in the order of 2j + 1 modulo n, up to constant factors,"
            " and the inputs are then digit-reversed"
        )
    reverse = {1: "", 2: "; the outputs are in reverse order"}
    return _ENDS[kind] + (reverse.get(kind, "; the inputs are in reverse order") if sine else "")
