"""Transforms equal those of scipy or their definition, and have the networks they should have."""

import copy
import math
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest
import scipy.fft
import scipy.stats
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError, WidthError
from structmat.families.number_theory import prime_factors
from structmat.linalg.hadamard import hadamard_factors, hadamard_matrix
from structmat.linalg.transforms.half_hartley import half_hartley
from structmat.linalg.transforms.roots_of_unity import cos_sin, root
from structmat.testing import assert_orthogonal, networks, seeds

t = sm.transforms
TYPES = (1, 2, 3, 4)
EXACT = 1e-13


def along(transform, x):
    """Return the transform of scipy of each vector along the last axis."""
    if transform == "dft":
        return scipy.fft.fft(x, norm="ortho")
    if transform == "idft":
        return scipy.fft.ifft(x, norm="ortho")
    if transform == "hartley":
        spectrum = scipy.fft.fft(x, norm="ortho")
        return spectrum.real - spectrum.imag
    name, kind = transform
    return getattr(scipy.fft, name)(x, type=kind, norm="ortho")


def made(transform, n):
    return (
        getattr(t, transform)(n)
        if isinstance(transform, str)
        else getattr(t, transform[0])(n, type=transform[1])
    )


REAL = ["hartley", *(("dct", kind) for kind in TYPES), *(("dst", kind) for kind in TYPES)]
ALL = ["dft", "idft", *REAL]


# Values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", ALL, ids=str)
def test_every_width_to_128_equals_scipy(transform):
    for n in range(2 if transform == ("dct", 1) else 1, 129):
        r = made(transform, n)
        expected = along(transform, np.eye(n)).T
        assert abs(r.matrix() - expected).max() < EXACT, n
        assert r.dtype == (complex if transform in ("dft", "idft") and n > 1 else float)


@settings(max_examples=25)
@given(st.sampled_from(ALL), st.integers(129, 4096), seeds())
@example("dft", 4096, 0)
@example(("dct", 2), 3600, 0)
@example(("dct", 1), 2188, 0)
@example(("dst", 1), 4095, 0)
@example(("dst", 4), 3375, 0)
def test_larger_widths_equal_scipy(transform, n, seed):
    intervals = n + {("dct", 1): -1, ("dst", 1): 1}.get(transform, 0)
    assume(prime_factors(intervals)[-1] < 100)  # a large prime is a single large switch
    x = np.random.default_rng(seed).standard_normal((2, n))
    assert abs(made(transform, n)(x) - along(transform, x)).max() < EXACT


@given(st.integers(1, 10**6), st.integers(-(10**9), 10**9))
def test_roots_of_unity_are_within_an_ulp_and_symmetric(n, k):
    cos, sin = cos_sin(k, n)
    angle = Fraction(k % n, n)
    near = min(angle, 1 - angle)
    assert abs(cos - math.cos(2 * math.pi * float(near))) <= 4e-16
    assert abs(abs(sin) - math.sin(2 * math.pi * float(min(near, Fraction(1, 2) - near)))) <= 4e-16
    assert (sin >= 0) == (angle <= Fraction(1, 2))
    other_cos, other_sin = cos_sin(-k, n)
    assert (other_cos, other_sin + 0.0) == (cos, 0.0 - sin)
    quarter_cos, quarter_sin = cos_sin(4 * k + n, 4 * n)  # a quarter further
    assert (quarter_cos, quarter_sin) == (0.0 - sin, cos)
    assert root(k, n) == complex(cos, 0.0 - sin)


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("n", [3, 9, 15, 45, 63, 75, 105, 121])
def test_half_of_a_hartley_transform_is_the_cosine_or_sine_matrix(n, odd):
    j = np.arange(int(odd), (n + 1) // 2)
    angle = 2 * np.pi * np.outer(j, j) / n
    expected = 2 / np.sqrt(n) * (np.sin(angle) if odd else np.cos(angle))
    if not odd:
        expected[0] /= np.sqrt(2)
        expected[:, 0] /= np.sqrt(2)
    r = sm.Rotation(*half_hartley(n, odd=odd)).matrix() if len(j) > 1 else np.ones((1, 1))
    assert abs(r - expected).max() < EXACT


@pytest.mark.parametrize("n", [n for n in range(1, 129) if hadamard_factors(n) is not None])
def test_the_hadamard_transform_is_the_scaled_hadamard_matrix(n):
    expected = hadamard_matrix(n) / np.sqrt(n)
    assert abs(t.hadamard(n).matrix() - expected).max() < EXACT


@pytest.mark.parametrize("levels", range(8))
def test_the_orderings_of_walsh_functions(levels):
    n = 2**levels
    natural = hadamard_matrix(n)
    changes = (np.diff(natural, axis=1) != 0).sum(axis=1)
    sequency = t.hadamard(n, "sequency").matrix()
    assert abs(sequency * np.sqrt(n) - natural[np.argsort(changes)]).max() < EXACT * n
    reverse = [int(f"{k:0{levels}b}"[::-1], 2) if levels else 0 for k in range(n)]
    dyadic = t.hadamard(n, "dyadic").matrix()
    assert abs(dyadic * np.sqrt(n) - natural[reverse]).max() < EXACT * n


def haar_matrix(n, levels):
    """Return the Haar matrix by its recursion in Kronecker products."""
    if levels == 0:
        return np.eye(n)
    half = np.eye(n // 2)
    coarse = haar_matrix(n // 2, levels - 1)
    return np.vstack([np.kron(coarse, [1, 1]), np.kron(half, [1, -1])]) / np.sqrt(2)


@pytest.mark.parametrize("n", [1, *range(2, 130, 2), 1000])
def test_haar_is_the_recursion_at_every_number_of_levels(n):
    most = (n & -n).bit_length() - 1
    assert abs(t.haar(n).matrix() - haar_matrix(n, most)).max() < EXACT
    for levels in range(1, most + 1):
        assert abs(t.haar(n, levels).matrix() - haar_matrix(n, levels)).max() < EXACT


@settings(max_examples=40)
@given(networks(max_width=5), networks(max_width=5), seeds(), st.booleans())
def test_the_kronecker_product_of_any_rotations(first, second, seed, shared):
    r, s = (sm.Rotation(net, sm.random_blocks(net, seed)) for net in (first, second))
    if shared:
        r = t.hadamard(4)
    product = t.kron(r, s)
    expected = np.kron(r.matrix(), s.matrix())
    assert abs(product.matrix() - expected).max() < EXACT
    assert product.network == r.network.product(s.network)


@given(st.integers(1, 40), st.integers(-100, 100))
def test_shifts_agree_with_numpy(n, steps):
    x = np.random.default_rng(n).standard_normal(n)
    np.testing.assert_array_equal(t.shift(n, steps) @ x, np.roll(x, steps))
    diagonal = t.shift(n, steps, diagonalised=True)
    assert abs(diagonal @ x - np.roll(x, steps)).max() < EXACT


@given(st.integers(1, 40), st.floats(-100, 100), st.floats(-100, 100))
def test_fractional_shifts_add_up_and_are_circulant(n, one, other):
    r, s, both = (t.shift(n, steps, diagonalised=True) for steps in (one, other, one + other))
    assert abs(r.matrix() @ s.matrix() - both.matrix()).max() < 1e-11
    column = both.matrix()[:, 0] if n > 1 else np.ones(1)
    expected = np.stack([np.roll(column, k) for k in range(n)], axis=1)
    assert abs(both.matrix() - expected).max() < EXACT


# Networks ----------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(2, 200))
@example(128)
def test_the_fourier_transform_is_mixed_radix_after_digit_reversal(n):
    r = t.dft(n)
    net = sm.mixed_radix(n)
    straight, _, outputs = r.network.straightened()
    assert straight == net.relabel(outputs)
    plain = sm.Rotation(net, r.blocks)  # the same blocks on the family's network
    x = np.random.default_rng(n).standard_normal(n)
    assert abs(plain(x[outputs]) - scipy.fft.fft(x, norm="ortho")).max() < EXACT
    assert sm.isomorphism(straight, net) is not None


@pytest.mark.parametrize("levels", range(1, 9))
def test_powers_of_two_are_butterflies(levels):
    n = 2**levels
    straight, _, outputs = t.dft(n).network.straightened()
    assert straight == sm.butterfly(n).relabel(outputs)
    assert outputs.tolist() == [int(f"{k:0{levels}b}"[::-1], 2) for k in range(n)]
    assert t.hadamard(n).network == sm.butterfly(n)
    assert len({b.tobytes() for bank in t.hadamard(n).blocks for b in bank}) == 1


@pytest.mark.parametrize("radices", [(4, 4), (2, 8), (16,), (4, 2, 2), [2, 2, 2, 2]])
def test_radices_are_the_stages_of_the_fourier_transform(radices):
    r = t.dft(16, radices=radices)
    assert [stage.banks[0].radix for stage in r.network.stages] == list(radices)
    assert abs(r.matrix() - scipy.fft.fft(np.eye(16), norm="ortho")).max() < EXACT
    assert abs(t.idft(16, radices=radices).matrix() - r.matrix().conj()).max() < EXACT


@pytest.mark.parametrize("transform", ALL, ids=str)
def test_a_prime_is_one_switch_and_powers_of_two_are_sparse(transform):
    width = {("dct", 1): 1, ("dst", 1): -1}.get(transform, 0)
    r = made(transform, 1024 + width)
    assert max(bank.radix for bank in r.network.banks) <= 4
    assert r.network.nonzeros <= 4 * r.network.width * 2 * 10
    assert r.operations.network < r.operations.dense / 15
    if transform not in (("dct", 1), ("dst", 1)):
        assert made(transform, 37).network.depth == 1


@pytest.mark.parametrize("transform", [*REAL, "dft"], ids=str)
def test_operations_are_counted_as_for_the_sparse_factors(transform):
    for n in (4, 12, 35):
        r = made(transform, n)
        each, row = (8, 2) if transform == "dft" else (2, 1)
        count = 0
        for factor in r.factors():
            switched = np.diff(factor.indptr) > 1
            factor.eliminate_zeros()
            count += (each * np.diff(factor.indptr) - row)[switched].sum()
        assert r.operations.network == count
        assert r.operations.dense == n * (each * n - row)


def operations_by_recursion(kind, n):
    """Count the operations of a type-I or type-III cosine transform split as in the code."""
    if kind == 3:
        return 2 * n * int(math.log2(n)) - n + 2
    if n == 2:
        return 2
    half = (n - 1) // 2
    return 2 * half + operations_by_recursion(1, half + 1) + operations_by_recursion(3, half)


def test_published_operation_counts_are_as_quoted():
    assert [t.dft(n).operations.published for n in (8, 16, 32)] == [56, 168, 456]  # Yavne
    counts = [t.dct(n).operations.published for n in (16, 32, 64, 128)]
    assert counts == [114, 290, 706, 1666]  # Table I of Shao and Johnson, "previous best"
    for n in (3, 5, 9, 17, 33):
        assert t.dct(n, 1).operations.published == operations_by_recursion(1, n)
    assert t.dft(12).operations.published is None
    assert "no formula" in str(t.dft(12).operations)


# Random transforms -------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(1, 4), seeds())
def test_householder_products_are_reflections(n, count, seed):
    r = t.householder(n, count, rng=seed)
    matrix = r.matrix()
    assert_orthogonal(matrix, ulps=200)
    values = np.linalg.svd(matrix - np.eye(n), compute_uv=False)
    assert (values > 1e-10).sum() <= count
    assert np.linalg.det(matrix) == pytest.approx((-1) ** count)
    assert r.network.depth == count * (2 * math.ceil(math.log2(n)) - 1)
    assert r.network.parameters == count * (2 * n - 3)
    np.testing.assert_array_equal(t.householder(n, count, rng=seed).matrix(), matrix)
    if count == 1:
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-14)


def test_the_reflected_vectors_are_uniform_on_the_sphere():
    source = np.random.default_rng(0)
    entries = [1 - t.householder(4, 1, rng=source).matrix()[0, 0] for _ in range(400)]
    squares = np.array(entries) / 2  # v_0², which has a beta distribution
    assert scipy.stats.kstest(squares, scipy.stats.beta(0.5, 1.5).cdf).pvalue > 1e-3


@given(st.integers(2, 30), st.integers(1, 200), seeds())
def test_a_walk_is_the_product_of_its_rotations_in_order(n, steps, seed):
    r = t.kac_walk(n, steps, rng=seed)
    source = np.random.default_rng(seed)
    first = source.integers(n, size=steps)
    second = (first + source.integers(1, n, size=steps)) % n
    expected = np.eye(n)
    for a, b, angle in zip(first, second, source.uniform(0, 2 * np.pi, size=steps), strict=True):
        pair = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        expected[[a, b]] = pair @ expected[[a, b]]
    assert abs(r.matrix() - expected).max() < EXACT
    assert r.network.parameters == steps
    assert all(bank.radix == 2 for bank in r.network.banks)


# Values of the class -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "r",
    [t.dft(12), t.dct(9, 4), t.hadamard(8, "sequency"), t.shift(5, 2), t.haar(12), t.dft(1)],
    ids=str,
)
def test_transforms_are_immutable_and_can_be_copied_pickled_and_saved(r, tmp_path):
    for again in (pickle.loads(pickle.dumps(r)), copy.deepcopy(r)):  # noqa: S301 (its own)
        assert type(again) is type(r)
        assert (repr(again), again.permutation, again.operations) == (
            repr(r),
            r.permutation,
            r.operations,
        )
        np.testing.assert_array_equal(again.matrix(), r.matrix())
    assert repr(r).startswith(f"{r.name}: Transform(width={r.network.width}, ")
    assert r.permutation in r._repr_html_()
    assert type(r.T) is sm.Rotation
    with pytest.raises(AttributeError, match="immutable"):
        r.name = "other"
    r.save(tmp_path / "r.safetensors")
    loaded = sm.Rotation.load(tmp_path / "r.safetensors")
    np.testing.assert_array_equal(loaded.matrix(), r.matrix())


@pytest.mark.parametrize(
    ("r", "words"),
    [
        (t.dft(8), "reads the inputs in bit-reversed order"),
        (t.dft(12), "digit-reversed order .radices 2, 2, 3., .* join those at distance 6$"),
        *((made(transform, 7), "none") for transform in ALL if transform[1:] != (1,)),
        (t.dct(9, 4), "in the order of 2j . 1 modulo n"),
        (t.dct(12, 4), "interleaves the outputs of two transforms of half the width"),
        (t.dst(12, 3), "writes the even outputs.*; the inputs are in reverse order"),
        (t.hadamard(16), "none"),
        (t.hadamard(16, "dyadic"), "outputs in bit-reversed order"),
        (t.hadamard(16, "sequency"), "Gray codes"),
        (t.dct(8), "even inputs in ascending, then the odd ones in descending order"),
        (t.shift(5, 7), "moves wire i to wire i . 7 modulo 5"),
    ],
)
def test_the_permutation_is_described_in_words(r, words):
    assert re.fullmatch(words if words == "none" else f".*{words}.*", r.permutation)


# Invalid input -----------------------------------------------------------------------------------

MAKERS = [
    t.dft,
    t.idft,
    t.hartley,
    t.dct,
    t.dst,
    t.hadamard,
    t.haar,
    t.shift,
    lambda n: t.householder(n, 1),
    lambda n: t.kac_walk(n, 1),
]


@pytest.mark.parametrize("n", [0, -3, 2.0, True, None, "8", float("nan"), [4]])
@pytest.mark.parametrize("maker", MAKERS)
def test_a_width_must_be_a_positive_integer(maker, n):
    with pytest.raises(StructmatError, match=r"n must be an integer ≥ [12]"):
        maker(n)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_width_has_an_upper_limit(maker):
    with pytest.raises(WidthError, match="n=65537: a transform has at most 65,536 wires"):
        maker(65537)


@pytest.mark.parametrize("kind", [0, 5, -1, 2.0, "II", None, True])
def test_an_unknown_type_is_refused(kind):
    with pytest.raises(StructmatError, match="the type of a dct is 1, 2, 3 or 4"):
        t.dct(8, type=kind)
    with pytest.raises(StructmatError, match="the type of a dst is 1, 2, 3 or 4"):
        t.dst(8, kind)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: t.dft(65521),
            "n=65521 has the prime factor 65521, which would be a single switch",
        ),
        (lambda: t.dct(65521), "choose a width with smaller prime factors"),
        (lambda: t.hartley(16382), "prime factor 8191"),
        (lambda: t.dct(65522, 1), "n - 1=65521 has the prime factor 65521"),
        (lambda: t.dst(65520, 1), "n . 1=65521 has the prime factor 65521"),
        (lambda: t.shift(65521, diagonalised=True), "prime factor 65521"),
        (lambda: t.dct(1, 1), "n=1: n must be an integer ≥ 2"),
        (lambda: t.hadamard(6), "n=6: the order of a Hadamard matrix is 1, 2 or a multiple of 4"),
        (lambda: t.hadamard(92), "n=92: no product .* the nearest such orders are 88 and 96"),
        (lambda: t.hadamard(8, "walsh"), "ordering='walsh': it must be one of natural, dyadic"),
        (lambda: t.hadamard(12, "sequency"), "only matrices of order 2.k can be reordered"),
        (lambda: t.haar(9), "n=9: 1 level of Haar wavelets needs a multiple of 2"),
        (lambda: t.haar(12, 3), "n=12: 3 levels of Haar wavelets need a multiple of 8"),
        (lambda: t.haar(12, 0), "levels must be an integer ≥ 1"),
        (lambda: t.dft(12, radices=(2, 3)), "the radices' product 6 must be the width"),
        (lambda: t.dft(12, radices=4), "radices must be a sequence such as"),
        (lambda: t.dft(12, radices=(12, 1)), "radix must be an integer ≥ 2"),
        (
            lambda: t.shift(4, 0.5),
            "steps=0.5: it must be an integer, below 2.53 in size; with diagonalised=True",
        ),
        (lambda: t.shift(4, float("nan"), diagonalised=True), "must be a finite real number"),
        (lambda: t.shift(4, 2**60), "below 2.53 in size"),
        (lambda: t.shift(4, float("inf")), "it must be an integer"),
        (lambda: t.shift(4, "1"), "steps='1': it must be an integer"),
        (lambda: t.shift(4, diagonalised=1), "diagonalised=1: it must be True or False"),
        (lambda: t.kron(np.eye(2), t.dft(2)), "kron takes two rotations"),
        (lambda: t.householder(1, 1), "n=1: n must be an integer ≥ 2"),
        (lambda: t.householder(4, 0), "count must be an integer ≥ 1"),
        (lambda: t.kac_walk(4, 0), "steps must be an integer ≥ 1"),
        (lambda: t.kac_walk(4, 1, rng=-1), "rng must be a Generator"),
        (lambda: t.householder(2**16, 10**6), "width × stages must be at most"),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(StructmatError, match=message):
        call()
