"""Flat blocks are orthogonal, flat, correctly rounded, and the same in every release."""

import hashlib
import math
from decimal import Context, localcontext

import mpmath
import numpy as np
import pytest
import scipy

from structmat.linalg.flat_blocks import flat_block, unevenness
from structmat.linalg.hadamard import hadamard_factors

ORDERS = [*range(2, 65), 97, 128, 210, 251]


def largest(block):
    return np.abs(block).max() * math.sqrt(len(block))


@pytest.mark.parametrize("field", ["real", "complex"])
def test_flat_blocks_are_orthogonal(field):
    for order in ORDERS:
        block = flat_block(order, field=field)
        gram = block @ block.conj().T
        assert np.abs(gram - np.eye(order)).max() <= (4 + order**0.5) * np.finfo(float).eps
        assert not block.flags.writeable
        assert block.dtype == (complex if field == "complex" else float)


def test_no_entry_exceeds_that_of_a_hartley_or_cosine_transform():
    for order in ORDERS:
        index = np.arange(order)
        angles = 2 * np.pi * np.outer(index, index) / order
        hartley = (np.cos(angles) + np.sin(angles)) / np.sqrt(order)
        cosine = scipy.fft.dct(np.eye(order), norm="ortho")
        found = largest(flat_block(order))
        assert found <= min(largest(hartley), largest(cosine)) * (1 + 1e-12)
        assert unevenness(order) == pytest.approx(2e12 * math.log(found), abs=10)
        assert (unevenness(order) == 0) == (hadamard_factors(order) is not None)
        complex_block = flat_block(order, field="complex")
        assert np.allclose(np.abs(complex_block), order**-0.5, rtol=1e-15, atol=0)
        assert unevenness(order, field="complex") == 0


def test_the_largest_entries_are_as_documented():
    found = [round(largest(flat_block(r)), 3) for r in (2, 3, 5, 7, 9, 11, 12, 13, 14, 15, 16)]
    assert found == [1, 1.155, 1.342, 1.18, 1.333, 1.172, 1, 1.164, 1.18, 1.162, 1]


def test_every_entry_is_the_nearest_float():
    with mpmath.workdps(60):
        for order in (17, 29):  # Hartley transforms
            for i in range(order):
                for j in range(order):
                    angle = 2 * mpmath.pi * i * j / order
                    exact = (mpmath.cos(angle) + mpmath.sin(angle)) / mpmath.sqrt(order)
                    assert float(exact) == flat_block(order)[i, j]
        for order in (3, 5, 16, 17):  # Fourier transforms
            primes = {16: [2, 2, 2, 2]}.get(order, [order])
            for i in range(order):
                for j in range(order):
                    turns, left, right = mpmath.mpf(0), i, j
                    for prime in reversed(primes):
                        turns += mpmath.mpf((left % prime) * (right % prime)) / prime
                        left, right = left // prime, right // prime
                    exact = mpmath.expjpi(-2 * turns) / mpmath.sqrt(order)
                    block = flat_block(order, field="complex")
                    assert complex(exact) == pytest.approx(block[i, j], rel=0, abs=1e-17)
        # Difference sets: the two values that make a matrix with k equal entries in each row
        # orthogonal, from the equations for its rows instead of the formula in the code.
        for order, k, both in ((7, 3, 1), (11, 5, 2), (13, 4, 1), (15, 7, 3)):
            values = sorted(set(flat_block(order).ravel().tolist()), key=abs)
            assert len(values) == 2
            counts = [int((flat_block(order)[0] == value).sum()) for value in values]
            assert sorted(counts) == sorted([k, order - k])
            u, v = values if counts[0] == k else values[::-1]
            only = order - 2 * k + both
            norm, product = k * u * u + (order - k) * v * v, both * u * u + only * v * v
            assert norm == pytest.approx(1, abs=1e-15)
            assert product + 2 * (k - both) * u * v == pytest.approx(0, abs=1e-15)


def test_the_callers_decimal_precision_has_no_effect():
    from structmat.linalg import flat_blocks

    kept = flat_block(19).copy()
    flat_blocks._real_block.cache_clear()
    flat_blocks._measured.cache_clear()
    with localcontext(Context(prec=5)):
        assert (flat_block(19) == kept).all()


def test_blocks_are_the_same_in_every_release():
    digest = hashlib.sha256()
    for order in range(2, 65):
        for field in ("real", "complex"):
            kind = "<c16" if field == "complex" else "<f8"
            digest.update(flat_block(order, field=field).astype(kind).tobytes())
    golden = "22ef7a9b310207e37e0ee023e3df170a122cc26c4b5cda1a9e3955fc8d251edb"
    assert digest.hexdigest() == golden
