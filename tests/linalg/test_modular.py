"""Arithmetic modulo primes agrees with Python's integers and flint."""

import flint
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from structmat.linalg import modular
from structmat.linalg.modular import MERSENNE

PRIMES = st.sampled_from([3, 5, 7, 101, 65_537, 2**31 - 19, MERSENNE])


def matrix(rng, rows, columns, prime):
    return rng.integers(0, prime, (rows, columns)).astype(float)


def integers(array):
    return array.astype(np.int64).astype(object)


def flint_rank(a, prime):
    return flint.nmod_mat(*a.shape, [int(x) for x in a.ravel()], prime).rank()


@given(PRIMES, st.integers(1, 40), st.integers(0, 99))
def test_products_are_exact(prime, size, seed):
    rng = np.random.default_rng(seed)
    a, b = matrix(rng, 3, size, prime), matrix(rng, size, 4, prime)
    assert (integers(modular.product(a, b, prime)) == integers(a) @ integers(b) % prime).all()
    x, y = matrix(rng, 5, size, prime), matrix(rng, 1, size, prime)
    assert (integers(modular.times(x, y, prime)) == integers(x) * integers(y) % prime).all()
    powers = [pow(int(k), 12_345, prime) for k in x.ravel()]
    assert modular.power(x, 12_345, prime).ravel().tolist() == powers


def test_sums_at_the_overflow_limit_are_exact():
    """Every half at its maximum, over more terms than width 128 needs."""
    size = 8_192
    full = np.full((2, size), MERSENNE - 1.0)
    exact = (MERSENNE - 1) ** 2 * size % MERSENNE
    assert (modular.product(full, full.T, MERSENNE) == exact).all()


@given(st.integers(0, 2**52), PRIMES)
def test_remainders_are_exact(number, prime):
    assert modular.reduced(np.array([float(number)]), prime)[0] == number % prime


@given(PRIMES, st.integers(0, 2**21), st.integers(-2, 2))
def test_remainders_next_to_multiples_are_exact(prime, times, apart):
    """Near multiples of the prime, the rounded quotient may be too large by one."""
    near = np.array([float(max(0, k * prime + apart)) for k in range(times, times + 50)])
    assert modular.reduced(near.copy(), prime).tolist() == [int(x) % prime for x in near]


@given(PRIMES, st.integers(0, 40), st.integers(1, 40), st.integers(0, 40), st.integers(0, 999))
def test_ranks_and_echelon_forms_agree_with_flint(prime, rows, columns, inner, seed):
    rng = np.random.default_rng(seed)
    a = modular.product(matrix(rng, rows, inner, prime), matrix(rng, inner, columns, prime), prime)
    basis, pivots = modular.echelon(a, prime)
    rank = flint_rank(a, prime) if rows else 0
    assert len(basis) == len(pivots) == rank == modular.rank(a, prime)
    assert np.array_equal(basis[:, pivots], np.eye(rank))
    both = np.concatenate([a, basis])
    assert (flint_rank(both, prime) if len(both) else 0) == rank  # the same space
    for enough in (0, rank // 2, rank, rank + 1):
        assert modular.rank(a, prime, enough) == min(rank, enough)


@given(PRIMES, st.integers(1, 6), st.integers(0, 999))
def test_cayley_transforms_are_orthogonal(prime, radix, seed):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.integers(0, prime, (4, radix, radix)), 1)
    skew = ((upper - upper.swapaxes(1, 2)) % prime).astype(float)
    blocks = modular.cayley(skew.copy(), prime)
    if blocks is None:  # p divides a pivot
        assert prime < 200
        return
    one = np.eye(radix)
    for q, b in zip(skew, blocks, strict=True):
        assert (integers(b).T @ integers(b) % prime == integers(one)).all()
        assert (
            (integers(one) - integers(q)) @ integers(b) % prime
            == (integers(one) + integers(q)) % prime
        ).all()
