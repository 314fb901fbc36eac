"""Hadamard matrices are orthogonal, and the orders without one are those of the literature."""

import hashlib

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from structmat.errors import StructmatError
from structmat.linalg.hadamard import hadamard_factors, hadamard_matrix, quadratic_characters

# The orders up to 1,000 that Paley's and Sylvester's constructions do not give, as listed under
# "Paley construction" in encyclopedias.
MISSING = [
    *(92, 116, 156, 172, 184, 188, 232, 236, 260, 268, 292, 324, 356, 372, 376, 404, 412, 428),
    *(436, 452, 472, 476, 508, 520, 532, 536, 584, 596, 604, 612, 652, 668, 712, 716, 732, 756),
    *(764, 772, 808, 836, 852, 856, 872, 876, 892, 904, 932, 940, 944, 952, 956, 964, 980, 988),
    996,
]
ORDERS = [n for n in range(1, 1000) if hadamard_factors(n) is not None]


def is_prime(number):
    return number > 1 and all(number % k for k in range(2, number))


def test_rows_are_orthogonal_at_every_order_below_a_thousand():
    for order in ORDERS:
        h = hadamard_matrix(order)
        assert h.dtype == np.int64
        assert (abs(h) == 1).all()
        single = h.astype(np.float32)  # sums of at most 1,000 ones are exact
        assert (single @ single.T == order * np.eye(order)).all(), order


def test_the_missing_orders_are_the_published_ones():
    assert sorted({1, 2, *range(4, 1000, 4)} - set(ORDERS)) == MISSING
    assert set(ORDERS) <= {1, 2, *range(4, 1000, 4)}


@pytest.mark.parametrize("exponent", range(11))
def test_the_matrix_of_order_2_to_the_k_is_sylvesters(exponent):
    expected = scipy.linalg.hadamard(2**exponent)
    np.testing.assert_array_equal(hadamard_matrix(2**exponent), expected)


@given(st.sampled_from(ORDERS[1:]))
def test_the_matrix_is_the_kronecker_product_of_its_factors(order):
    factors = hadamard_factors(order)
    assert np.prod(factors) == order
    expected = np.ones((1, 1))
    for factor in factors:
        assert hadamard_factors(factor) == (factor,)
        expected = np.kron(expected, hadamard_matrix(factor))
    np.testing.assert_array_equal(hadamard_matrix(order), expected)


@pytest.mark.parametrize("prime", [p for p in range(3, 60) if is_prime(p)])
def test_characters_of_a_prime_field_are_legendre_symbols(prime):
    symbols = [0, *(1 if pow(a, prime // 2, prime) == 1 else -1 for a in range(1, prime))]
    expected = np.array(symbols)[np.subtract.outer(range(prime), range(prime)) % prime]
    np.testing.assert_array_equal(quadratic_characters(prime, 1), expected)


@pytest.mark.parametrize(
    ("prime", "degree"), [(3, 2), (3, 3), (3, 4), (3, 5), (5, 2), (5, 3), (7, 2), (7, 3), (13, 2)]
)
def test_characters_of_an_extension_field_satisfy_jacobsthals_identities(prime, degree):
    # These hold for the quadratic character of a field, and make Paley's matrices orthogonal.
    size = prime**degree
    q = quadratic_characters(prime, degree)
    sign = 1 if size % 4 == 1 else -1
    np.testing.assert_array_equal(q.T, sign * q)
    assert not q.sum(axis=0).any()
    exact = q.astype(float)
    assert (exact @ exact.T == size * np.eye(size) - np.ones((size, size))).all()


@pytest.mark.parametrize(
    ("order", "digest"),
    [
        (12, "db7478025ce74776"),
        (28, "3ec6c53133760a03"),
        (36, "1a7aed2f42a8c71d"),
        (52, "977a8d950dbfb40e"),
        (244, "30376ac95cbdb348"),
        (240, "d2e2b2cf461dd65e"),
    ],
)
def test_the_matrix_of_an_order_never_changes(order, digest):
    written = hadamard_matrix(order).astype(np.int8).tobytes()
    assert hashlib.sha256(written).hexdigest()[:16] == digest


@pytest.mark.parametrize("order", [3, 5, 6, 10, 18, 999, 1001])
def test_an_order_that_no_hadamard_matrix_has_is_refused(order):
    with pytest.raises(StructmatError, match="is 1, 2 or a multiple of 4; the nearest such orders"):
        hadamard_matrix(order)


@pytest.mark.parametrize(("order", "near"), [(92, "88 and 96"), (428, "424 and 432")])
def test_the_error_for_an_order_without_a_construction_names_the_nearest_valid_orders(order, near):
    with pytest.raises(StructmatError, match=f"order={order}: no product .* are {near}"):
        hadamard_matrix(order)


@pytest.mark.parametrize("order", [0, -4, 4.0, True, None, "8", float("nan")])
def test_an_order_must_be_a_positive_integer(order):
    with pytest.raises(StructmatError, match="order must be an integer ≥ 1"):
        hadamard_matrix(order)


@pytest.mark.parametrize("order", [2**13 + 4, 10**30])
def test_an_order_that_does_not_fit_into_memory_is_refused(order):
    with pytest.raises(StructmatError, match="order must be at most 8,192"):
        hadamard_matrix(order)
