"""Exact linear algebra modulo a prime below 2³¹, in floating-point arithmetic.

Residues modulo p are stored as float64 integers from 0 to p − 1. Because the product of two of them
does not fit into the 53-bit significand, each factor is split into halves of 16 bits: sums of up to
2¹⁸ products of halves are then exact, and are computed by BLAS.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Residues: TypeAlias = npt.NDArray[np.float64]

MERSENNE = 2**31 - 1

_HALF = 65_536.0
_ROWS = 8  # up to this number of rows, elimination proceeds row by row


def reduced(x: Residues, prime: int) -> Residues:
    """Return x mod p for integers from 0 to 2⁵²; x is overwritten.

    Examples
    --------
    >>> reduced(np.array([7.0, 2.0**50]), 5)
    array([2., 4.])
    """
    quotient = x * ((1 - 2.0**-51) / prime)  # never too large, and too small by less than one
    np.floor(quotient, out=quotient)
    quotient *= prime
    x -= quotient
    if x.size and x.max() >= prime:
        np.subtract(x, prime, out=x, where=x >= prime)
    return x


def _halves(a: Residues) -> tuple[Residues, Residues]:
    high = np.floor(a * (1 / _HALF))
    return high, a - high * _HALF


def product(a: Residues, b: Residues, prime: int) -> Residues:
    """Return the matrix product a b mod p, broadcasting stacks of matrices as `@` does.

    Examples
    --------
    >>> product(np.array([[2.0**30, 3.0]]), np.array([[2.0**30], [1.0]]), MERSENNE).astype(int)
    array([[536870915]])
    """
    (a1, a0), (b1, b0) = _halves(a), _halves(b)
    high, low = a1 @ b1, a0 @ b0
    middle = (a1 + a0) @ (b1 + b0) - high - low  # Karatsuba: three products instead of four
    result = reduced(high, prime)
    for part in (middle, low):
        result *= _HALF
        result += part
        result = reduced(result, prime)
    return result


def times(a: Residues, b: Residues, prime: int) -> Residues:
    """Return the elementwise product mod p, with broadcasting.

    Examples
    --------
    >>> times(np.array([2.0**30]), np.array([4.0]), MERSENNE)
    array([2.])
    """
    b1, b0 = _halves(b)
    return reduced(reduced(a * b1, prime) * _HALF + a * b0, prime)


def inverse(number: int, prime: int) -> float:
    """Return the inverse of a number mod p.

    Examples
    --------
    >>> inverse(3, 7)
    5.0
    """
    return float(pow(int(number), -1, prime))


def echelon(rows: Residues, prime: int) -> tuple[Residues, npt.NDArray[np.int64]]:
    """Return a basis of the row space in reduced echelon form, and its pivot columns.

    The rows are halved recursively, so that nearly all work is in matrix products.

    Parameters
    ----------
    rows : (n, k)

    Returns
    -------
    basis : (r, k)
    pivots : (r,) int
        `basis[:, pivots]` is the identity; r is the rank.

    Examples
    --------
    >>> basis, pivots = echelon(np.array([[0.0, 2.0, 4.0], [0.0, 3.0, 6.0]]), 7)
    >>> basis, pivots
    (array([[0., 1., 2.]]), array([1]))
    """
    if len(rows) <= _ROWS:
        return _by_rows(rows.copy(), prime)
    half = len(rows) // 2
    upper, first = echelon(rows[:half], prime)
    free = np.setdiff1d(np.arange(rows.shape[1]), first, assume_unique=True)
    # columns to the right of the first pivots, where these rows become zero
    lower = _minus(rows[half:, free], rows[half:, first], upper[:, free], prime)
    below, second = echelon(lower, prime)
    rest = np.zeros((len(below), rows.shape[1]))
    rest[:, free] = below
    pivots = free[second]
    upper = _minus(upper, upper[:, pivots], rest, prime)
    return np.concatenate([upper, rest]), np.concatenate([first, pivots])


def _minus(a: Residues, b: Residues, c: Residues, prime: int) -> Residues:
    """Return a − b c mod p."""
    if b.shape[1] == 0:
        return a
    result = a - product(b, c, prime)
    result += (result < 0) * float(prime)
    return result


def _by_rows(rows: Residues, prime: int) -> tuple[Residues, npt.NDArray[np.int64]]:
    kept: list[int] = []
    pivots: list[int] = []
    for i in range(len(rows)):
        places = np.flatnonzero(rows[i])
        if len(places) == 0:
            continue
        j = int(places[0])
        unit = np.array([inverse(int(rows[i, j]), prime)])
        rows[i] = times(rows[i], unit, prime)
        others = np.flatnonzero(rows[:, j])
        others = others[others != i]
        change = times(rows[others, j][:, None], rows[i][None], prime)
        rows[others] -= change
        rows[others] += (rows[others] < 0) * float(prime)
        kept.append(i)
        pivots.append(j)
    return rows[kept], np.array(pivots, dtype=np.int64)


def rank(rows: Residues, prime: int, enough: int | None = None) -> int:
    """Return the rank mod p; stop once it reaches `enough`.

    Examples
    --------
    >>> rank(np.array([[1.0, 2.0], [3.0, 6.0]]), 7), rank(np.array([[1.0, 2.0], [3.0, 5.0]]), 7)
    (1, 2)
    """
    limit = min(rows.shape) if enough is None else min(enough, *rows.shape)
    found = 0
    while len(rows) and found < limit:
        take = max(_ROWS, min(len(rows) // 2, limit - found))
        upper, pivots = echelon(rows[:take], prime)
        found += len(pivots)
        free = np.setdiff1d(np.arange(rows.shape[1]), pivots, assume_unique=True)
        rows = _minus(rows[take:, free], rows[take:, pivots], upper[:, free], prime)
    return int(min(found, limit))


def power(x: Residues, exponent: int, prime: int) -> Residues:
    """Return the entries raised to a power, mod p.

    Examples
    --------
    >>> power(np.array([2.0, 3.0]), 3, 7)
    array([1., 6.])
    """
    result, square = np.ones_like(x), x
    while exponent:
        if exponent & 1:
            result = times(result, square, prime)
        square = times(square, square, prime)
        exponent >>= 1
    return result


def cayley(skew: Residues, prime: int) -> Residues | None:
    """Return the blocks (I + Q)(I − Q)⁻¹ mod p of skew-symmetric matrices, if all of them exist.

    Returns
    -------
    (n, r, r), or None if elimination meets a pivot divisible by p

    Examples
    --------
    >>> cayley(np.array([[[0.0, 2.0], [5.0, 0.0]]]), 7)     # orthogonal: 5² + 3² = 34 = 6 mod 7
    array([[[5., 5.],
            [2., 5.]]])
    """
    one = np.eye(skew.shape[1])
    left = reduced(one - skew + prime, prime)
    right = reduced(one + skew, prime)  # (I − Q)⁻¹ and I + Q commute
    for k in range(skew.shape[1]):
        if not left[:, k, k].all():
            return None
        unit = power(left[:, k, k], prime - 2, prime)[:, None]
        for side in (left, right):
            side[:, k] = times(side[:, k], unit, prime)
        factor = left[:, :, k].copy()
        factor[:, k] = 0
        for side in (left, right):
            side -= times(factor[:, :, None], side[:, k][:, None], prime)
            side += (side < 0) * float(prime)
    return right
