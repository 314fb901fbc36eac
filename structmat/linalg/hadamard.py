"""Hadamard matrices by the constructions of Sylvester and Paley and their Kronecker products."""

from __future__ import annotations

import itertools
from functools import cache, reduce

import numpy as np
import numpy.typing as npt

from structmat.errors import StructmatError, abbreviated, checked_integer
from structmat.families.number_theory import divisors, prime_factors

Array = npt.NDArray[np.int64]

_LARGEST = 2**13  # a matrix of this order takes half a gigabyte


def hadamard_matrix(order: int) -> Array:
    """Return a Hadamard matrix: entries ±1, and rows that are orthogonal to each other, H Hᵀ = n I.

    It is the Kronecker product of the matrices whose orders `hadamard_factors` returns: [[1, 1],
    [1, −1]] for each factor 2, so that the matrix of order 2^k is Sylvester's, as in
    `scipy.linalg.hadamard`; for any other factor c, Paley's first construction where c − 1 is a
    prime power, and otherwise his second. Every release returns the same matrix.

    Parameters
    ----------
    order : int
        1, 2, or a multiple of 4, at most 8,192. Below 1,000, 194 of the 249 multiples of 4 have
        such a factorization; the smallest that has none is 92.

    Returns
    -------
    (order, order) int64 array

    Raises
    ------
    StructmatError
        For an order that is not an integer, is not 1, 2 or a multiple of 4, is too large, or has
        none of these constructions.

    References
    ----------
    R. E. A. C. Paley, On orthogonal matrices, Journal of Mathematics and Physics 12, 1933.

    Examples
    --------
    >>> hadamard_matrix(4)
    array([[ 1,  1,  1,  1],
           [ 1, -1,  1, -1],
           [ 1,  1, -1, -1],
           [ 1, -1, -1,  1]])
    >>> h = hadamard_matrix(28)  # over the field of 27 elements
    >>> bool((h @ h.T == 28 * np.eye(28)).all())
    True
    >>> hadamard_matrix(92)
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: order=92: no product of Sylvester's and Paley's Hadamard \
matrices has this order; the nearest such orders are 88 and 96
    """
    checked = checked_integer(order, "order", 1)
    if checked > _LARGEST:
        raise StructmatError(f"order={abbreviated(checked)}: order must be at most {_LARGEST:,}")
    factors = hadamard_factors(checked)
    if factors is None:
        raise StructmatError(f"order={checked}: {nearest_orders(checked)}")
    return reduce(np.kron, map(_core, factors), np.ones((1, 1), np.int64))


def hadamard_factors(order: int) -> tuple[int, ...] | None:
    """Return the orders of the factors of `hadamard_matrix(order)`, or None if there is none.

    The factors are in ascending order. Among all products of Sylvester's and Paley's matrices that
    have this order, theirs has the smallest sum of factors, and therefore takes the fewest
    additions.

    Examples
    --------
    >>> hadamard_factors(8), hadamard_factors(28), hadamard_factors(240), hadamard_factors(92)
    ((2, 2, 2), (28,), (12, 20), None)
    """
    best: dict[int, tuple[int, ...]] = {1: ()}
    cores = [core for core in divisors(order)[1:] if core == 2 or _paley(core)]
    for whole in divisors(order)[1:]:
        made = [
            tuple(sorted((*best[whole // core], core)))
            for core in cores
            if whole % core == 0 and whole // core in best
        ]
        if made:
            best[whole] = min(made, key=lambda factors: (sum(factors), factors))
    return best.get(order)


def nearest_orders(order: int) -> str:
    """Return the rule violated by an order without a construction, and the nearest valid orders.

    Examples
    --------
    >>> nearest_orders(6)
    'the order of a Hadamard matrix is 1, 2 or a multiple of 4; the nearest such orders are 4 and 8'
    """
    rule = "the order of a Hadamard matrix is 1, 2 or a multiple of 4"
    if order % 4 == 0:
        rule = "no product of Sylvester's and Paley's Hadamard matrices has this order"
    below = next(n for n in itertools.count(order - 1, -1) if hadamard_factors(n) is not None)
    above = next(n for n in itertools.count(order + 1) if hadamard_factors(n) is not None)
    return f"{rule}; the nearest such orders are {below} and {above}"


@cache
def _paley(order: int) -> tuple[int, int, int] | None:
    """Return (1 or 2, p, k) for Paley's construction over the field of p^k elements, or None.

    The first needs order = q + 1 with q ≡ 3 (mod 4), the second order = 2(q + 1) with q ≡ 1.
    """
    if order % 4:
        return None
    for construction, size in ((1, order - 1), (2, order // 2 - 1)):
        primes = prime_factors(size)
        if len(set(primes)) == 1 and size % 4 == (3 if construction == 1 else 1):
            return construction, primes[0], len(primes)
    return None


def _core(order: int) -> Array:
    if order == 2:
        return np.array([[1, 1], [1, -1]])
    found = _paley(order)
    assert found is not None
    construction, prime, degree = found
    character = quadratic_characters(prime, degree)
    size = len(character)
    bordered = np.ones((size + 1, size + 1), np.int64)
    bordered[0, 0] = 0
    bordered[1:, 1:] = character
    one = np.eye(size + 1, dtype=np.int64)
    if construction == 1:  # the bordered matrix is made skew; its square is −q I
        bordered[1:, 0] = -1
        return bordered + one
    # It is symmetric, and its square is q I.
    return np.kron(bordered, [[1, 1], [1, -1]]) + np.kron(one, [[1, -1], [-1, -1]])


def quadratic_characters(prime: int, degree: int) -> Array:
    """Return χ(a − b) for all elements a, b of the finite field of prime^degree elements.

    χ is 1 for a non-zero square, −1 for a non-square, and 0 for zero. An element is a polynomial
    of degree below `degree` over the integers modulo `prime`; its number is the value of the
    polynomial at `prime`.

    Examples
    --------
    >>> quadratic_characters(5, 1)[0]
    array([ 0,  1, -1, -1,  1])
    """
    size = prime**degree
    values = np.zeros(size, np.int64)
    for exponent, element in enumerate(_powers_of_generator(prime, degree)):
        values[element] = -1 if exponent % 2 else 1  # the squares are the even powers
    elements = np.arange(size)
    place = prime ** np.arange(degree)
    digits = elements[:, None] // place % prime
    difference = np.zeros((size, size), np.int64)
    for k in range(degree):
        difference += (digits[:, None, k] - digits[None, :, k]) % prime * place[k]
    return values[difference]


def _powers_of_generator(prime: int, degree: int) -> list[int]:
    """Return the numbers of g⁰, g¹, …, g^(q−2), which are all non-zero elements of the field.

    For a prime q, g is the least primitive root. Otherwise g = x modulo the first monic polynomial
    of this degree for which the powers of x are all non-zero elements. That polynomial is then
    irreducible, and no table of polynomials is needed.
    """
    size = prime**degree
    high = size // prime  # the number of x^(degree−1)
    for tail in range(1, size):  # x^degree = Σ c_i x^i, where `tail` has the digits c_i
        coefficients = [tail // prime**i % prime for i in range(degree)]
        element, seen = 1, [1]
        while True:
            top, rest = divmod(element, high)
            shifted = rest * prime if degree > 1 else 0
            element = sum(
                (shifted // prime**i + top * c) % prime * prime**i
                for i, c in enumerate(coefficients)
            )
            if element in (0, 1) or len(seen) == size - 1:
                break
            seen.append(element)
        if element == 1 and len(seen) == size - 1:
            return seen
    raise AssertionError(f"no generator of the field of {prime}^{degree} elements")
