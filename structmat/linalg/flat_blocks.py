"""Flat blocks: orthogonal matrices whose entries all have about the same absolute value.

An orthogonal matrix of order r has an entry of at least 1/√r in absolute value; it is flat if none
is much larger. Entries are computed in decimal arithmetic with 50 digits and rounded once, so they
are the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.families.number_theory import divisors, prime_factors
from structmat.linalg.hadamard import hadamard_factors, hadamard_matrix

Array = npt.NDArray[Any]

_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
_UNIT = 10**12  # unevenness is measured in units of 10⁻¹²

# Difference sets: every non-zero residue is the difference of the same number of pairs of elements.
# For a prime n ≡ 3 (mod 4), the non-zero squares modulo n are such a set.
_DIFFERENCE_SETS: dict[int, tuple[int, ...]] = {
    5: (0,),
    13: (0, 1, 3, 9),
    15: (0, 1, 2, 4, 5, 8, 10),
}


def flat_block(order: int, *, field: str = "real") -> Array:
    """Return a flat orthogonal or unitary matrix of a given order, the same on every machine.

    A complex block is the Kronecker product of the discrete Fourier transforms of the prime factors
    of the order: all entries have the absolute value 1/√r. A real block is the flattest of the
    following matrices and of the Kronecker products of smaller blocks:

    - a Hadamard matrix over √r, whose entries are all ±1/√r;
    - (B − cJ)/√(k − λ), where B is the 0–1 circulant of a difference set of k residues, each
      difference of which occurs λ times, and c = (k ± √(k − λ))/r. It has two different entries.
      For k = 1, it is the reflection I − (2/r)J with its columns shifted cyclically;
    - the discrete Hartley transform, with the entries (cos + sin)(2πij/r)/√r, whose absolute values
      are below √(2/r) at odd orders. (The cosine transform DCT-II has entries of absolute value
      √(2/r) at odd orders.)

    Parameters
    ----------
    order : int
        At least 2.
    field : {"real", "complex"}

    Returns
    -------
    (order, order) float64 or complex128, read-only

    References
    ----------
    T. Banica, I. Nechita, K. Życzkowski, Almost Hadamard matrices: general theory and examples,
    Open Systems & Information Dynamics 19, 2012: the matrices of difference sets.

    Examples
    --------
    >>> flat_block(4)[0], flat_block(3)[0].round(3)
    (array([0.5, 0.5, 0.5, 0.5]), array([-0.667,  0.333, -0.667]))
    >>> [round(float(abs(flat_block(r)).max() * r**0.5), 3) for r in (5, 7, 11, 12, 13, 15, 17)]
    [1.342, 1.18, 1.172, 1.0, 1.164, 1.162, 1.413]
    """
    return _complex_block(order) if field == "complex" else _real_block(order)


def unevenness(order: int, *, field: str = "real") -> int:
    """Return 10¹² ln(r·m²), rounded, where m is the largest |entry| of `flat_block` of order r.

    It is 0 for a block whose entries are all equal in absolute value. As an integer, it can be
    added up and compared exactly.

    Examples
    --------
    >>> unevenness(12), unevenness(3) == round(10**12 * math.log(4 / 3))
    (0, True)
    """
    return 0 if field == "complex" else _measured(order)[0]


@cache
def _real_block(order: int) -> Array:
    with _decimals():
        return _frozen(_entries(order).astype(float))


@cache
def _complex_block(order: int) -> Array:
    primes = prime_factors(order)
    period = math.lcm(*primes)
    turns = np.zeros((1, 1), dtype=np.int64)  # the angle of each entry is −2π·turns/period
    for prime in primes:
        k = np.arange(prime)
        own = np.outer(k, k) * (period // prime)
        turns = (turns[:, None, :, None] + own[None, :, None, :]).reshape(2 * [len(turns) * prime])
    with _decimals():
        size = Decimal(order).sqrt()
        table = [
            complex(float(_cosine(k, period) / size), -float(_sine(k, period) / size))
            for k in range(period)
        ]
    return _frozen(np.array(table)[turns % period])


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


@contextmanager
def _decimals() -> Iterator[None]:
    with localcontext(Context(prec=50, rounding=ROUND_HALF_EVEN)):
        yield


@cache
def _measured(order: int) -> tuple[int, int]:
    """Return the unevenness of a real block, and its first factor, or its order if it has none."""
    with _decimals():
        largest = max(abs(entry) for entry in _core(order).flat)
        own = round((order * largest * largest).ln() * _UNIT)
    found = [(own, -order)]
    found += [
        (_measured(part)[0] + _measured(order // part)[0], -part) for part in divisors(order)[1:-1]
    ]
    best, part = min(found)
    return best, -part


def _entries(order: int) -> Array:
    """Return the entries of a real block as an array of Decimal objects."""
    _, part = _measured(order)
    if part == order:
        return _core(order)
    return np.kron(_entries(part), _entries(order // part))


def _core(order: int) -> Array:
    """Return a real flat block that is not a Kronecker product, except for Hadamard matrices."""
    if hadamard_factors(order) is not None:
        made: Array = hadamard_matrix(order).astype(object) / Decimal(order).sqrt()
        return made
    chosen = _difference_set(order)
    if chosen is None:
        return _hartley(order)
    size = len(chosen)
    root = (Decimal(size) - Decimal(size * (size - 1)) / (order - 1)).sqrt()
    shift = min(((size + s * root) / order for s in (-1, 1)), key=lambda c: max(c, abs(1 - c)))
    member = np.isin(np.arange(order), chosen)
    row = np.array([((1 if inside else 0) - shift) / root for inside in member.tolist()])
    index = np.arange(order)
    circulant: Array = row[(index[None, :] - index[:, None]) % order]
    return circulant


def _difference_set(order: int) -> tuple[int, ...] | None:
    if order % 4 == 3 and prime_factors(order) == [order]:
        return tuple(sorted({k * k % order for k in range(1, order)}))
    return _DIFFERENCE_SETS.get(order)


def _hartley(order: int) -> Array:
    size = Decimal(order).sqrt()
    row = np.array([(_cosine(k, order) + _sine(k, order)) / size for k in range(order)])
    index = np.arange(order)
    made: Array = row[np.outer(index, index) % order]
    return made


def _sine(part: int, whole: int) -> Decimal:
    return _cosine(4 * part - whole, 4 * whole)


def _cosine(part: int, whole: int) -> Decimal:
    """Return cos(2π·part/whole)."""
    part = min(part % whole, -part % whole)  # an angle of at most π
    if 4 * part > whole:
        return -_cosine(whole - 2 * part, 2 * whole)
    if 4 * part == whole:
        return Decimal(0)
    square = (2 * _PI * part / whole) ** 2
    term = total = Decimal(1)
    for k in range(1, 60, 2):
        term *= -square / (k * (k + 1))
        total += term
    return total
