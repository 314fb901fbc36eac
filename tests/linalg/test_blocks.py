"""Generators and blocks: exact oracles, inverses and moments."""

import itertools

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import structmat as sm
from structmat.errors import BlockError, StructmatError
from structmat.linalg.blocks import (
    PARAMETRIZATIONS,
    adjoint_blocks,
    cayley,
    exponential,
    generators_per_block,
    skew,
)
from structmat.testing import assert_orthogonal, networks, seeds

radices = st.integers(1, 6)
fields = st.sampled_from(["real", "complex"])


@st.composite
def generators(draw, bound=4.0, dtype=np.float64):
    """Draw a radix and generators of a few blocks of it, real or unitary."""
    radix, field = draw(radices), draw(fields)
    shape = (draw(st.integers(1, 3)), generators_per_block(radix, field=field))
    width = 8 * np.dtype(dtype).itemsize
    numbers = st.floats(-bound, bound, width=width, allow_subnormal=False)
    return radix, draw(hnp.arrays(dtype, shape, elements=numbers))


@given(generators())
def test_skew_matrices_are_skew_and_contain_the_generators(case):
    radix, g = case
    q = skew(g, radix)
    assert np.array_equal(q, -np.conj(np.swapaxes(q, 1, 2)))
    rows, columns = np.triu_indices(radix, 1)
    upper, pairs = q[:, rows, columns], len(rows)
    assert np.array_equal(upper.real, g[:, :pairs])
    if np.iscomplexobj(q):
        assert np.array_equal(upper.imag, g[:, pairs : 2 * pairs])
        assert np.array_equal(np.diagonal(q, axis1=1, axis2=2).imag, g[:, 2 * pairs :])


def norm(g, radix):
    return np.linalg.norm(skew(g, radix), ord=2, axis=(1, 2)).max()


@given(
    st.sampled_from(sorted(PARAMETRIZATIONS.keys() - {"cayley_neumann"})),
    st.data(),
    st.sampled_from([np.float32, np.float64]),
)
def test_blocks_are_rotations_or_unitary(kind, data, dtype):
    radix, g = data.draw(generators(dtype=dtype))
    blocks = PARAMETRIZATIONS[kind](g, radix)
    assert blocks.dtype == (dtype if blocks.dtype.kind == "f" else np.result_type(dtype, 1j))
    worse = 1 + norm(g, radix) if kind == "cayley" else 1  # the condition of I−Q
    for block in blocks:
        assert_orthogonal(block, ulps=16 * radix * worse)
    if blocks.dtype.kind == "f":
        assert (np.linalg.det(blocks) > 0).all()
    assert np.array_equal(PARAMETRIZATIONS[kind](np.zeros_like(g), radix)[0], np.eye(radix))


def unreflected(block):
    """Return the skew matrix of a product of reflections, column by column."""
    radix = len(block)
    q = np.zeros_like(block)
    for i in range(radix):
        s = 2 / (1 + block[i, i])
        b = s / 2 * block[i + 1 :, i]
        q[i + 1 :, i], q[i, i + 1 :], q[i, i] = b, -b.conj(), -1j * s.imag if s.imag else 0
        v = np.array([1, *b])[:, None]
        block[i:, i:] -= np.conj(2 / s) * v @ (v.conj().T @ block[i:, i:])
    return q


def unrotated(block):
    """Return the skew matrix of a product of plane rotations, by Givens' elimination."""
    radix = len(block)
    q = np.zeros_like(block)
    for i in range(radix):
        for j in range(i + 1, radix):
            upper, lower = block[i].copy(), block[j].copy()
            if np.isrealobj(block):
                q[i, j] = np.arctan2(-lower[i], upper[i])
            else:
                ratio = -np.conj(lower[i] / upper[i])
                q[i, j] = ratio / abs(ratio) * np.arctan(abs(ratio))
            c, s = np.cos(abs(q[i, j])), q[i, j] * np.sinc(abs(q[i, j]) / np.pi)
            block[i], block[j] = c * upper - s * lower, c * lower + np.conj(s) * upper
            q[j, i] = -np.conj(q[i, j])
        if np.iscomplexobj(block):
            q[i, i] = 1j * np.angle(block[i, i])
            block[i] *= np.exp(-q[i, i])
    assert np.allclose(block, np.eye(radix))
    return q


@pytest.mark.parametrize(("kind", "undone"), [("householder", unreflected), ("givens", unrotated)])
@given(data=st.data())
def test_every_rotation_is_a_product_of_rotations_or_of_reflections(kind, undone, data):
    radix, unitary = data.draw(radices), data.draw(st.booleans())
    dtype = complex if unitary else float
    net = sm.Network.of(radix, [[range(radix)]])
    (wanted,) = sm.random_blocks(net, rng=data.draw(seeds()), dtype=dtype)
    q = undone(wanted[0].copy())
    above = q[np.triu_indices(radix, 1)]
    g = [above.real, above.imag, np.diagonal(q).imag] if unitary else [above]
    made = PARAMETRIZATIONS[kind](np.concatenate(g), radix)
    assert np.abs(made - wanted[0]).max() < 1e-8  # a pivot near −1 may cost digits


@given(generators(bound=2.0))
def test_the_error_of_five_terms_is_of_fourth_order(case):
    radix, g = case
    q, exact = skew(g, radix), cayley(g, radix)
    made = PARAMETRIZATIONS["cayley_neumann"](g, radix)
    assert np.allclose(
        exact - made, exact @ np.linalg.matrix_power(q, 4), atol=1e-12 * 16 * radix**4
    )
    values = np.linalg.svd(made, compute_uv=False)
    eigenvalues = np.abs(np.linalg.eigvalsh(1j * q))
    wanted = np.sort(np.abs(1 - eigenvalues**4))
    assert np.allclose(np.sort(values), wanted, rtol=1e-9, atol=1e-9)


@given(generators(bound=1e6))
def test_exp_is_orthogonal_at_any_size(case):
    radix, g = case
    for block in exponential(g, radix):
        assert_orthogonal(block, ulps=16 * radix)


@given(st.integers(2, 4), st.data())
def test_cayley_agrees_with_exact_rational_arithmetic(radix, data):
    pairs = radix * (radix - 1) // 2
    g = data.draw(st.lists(st.fractions(-2, 2, max_denominator=8), min_size=pairs, max_size=pairs))
    q = sympy.zeros(radix, radix)
    for (i, j), value in zip(itertools.combinations(range(radix), 2), g, strict=True):
        q[i, j], q[j, i] = sympy.Rational(value), -sympy.Rational(value)
    one = sympy.eye(radix)
    exact = (one + q) * (one - q).inv()
    assert exact.T * exact == one
    error = np.abs(cayley([float(v) for v in g], radix) - np.array(exact, dtype=float))
    assert error.max() <= 32 * radix**2 * np.finfo(float).eps


@given(generators())
def test_cayley_is_inverted_by_its_own_formula(case):
    radix, g = case
    r, one = cayley(g, radix), np.eye(radix)
    q = np.linalg.solve(np.swapaxes(r + one, 1, 2), np.swapaxes(r - one, 1, 2))  # of transposes
    size = 1 + norm(g, radix)
    limit = 64 * radix * size**3 * np.finfo(float).eps  # I+R has condition about ‖Q‖
    np.testing.assert_allclose(np.swapaxes(q, 1, 2), skew(g, radix), rtol=0, atol=limit)


@given(generators())
def test_exp_is_the_sum_of_its_series(case):
    """Scaling and squaring of the series in extended precision."""
    radix, g = case
    halvings = 2 + int(np.ceil(np.log2(1 + norm(g, radix))))
    q = skew(g, radix)
    q = q.astype(np.result_type(q, np.longdouble)) / 2**halvings
    expected = term = np.broadcast_to(np.eye(radix), q.shape)
    for k in range(1, 20):
        term = term @ q / k
        expected = expected + term
    for _ in range(halvings):
        expected = expected @ expected
    limit = 64 * radix * (1 + norm(g, radix)) * np.finfo(float).eps
    np.testing.assert_allclose(exponential(g, radix), expected, rtol=0, atol=limit)


@given(st.floats(-3, 3))
def test_blocks_of_radix_two_rotate_by_the_angle(angle):
    rotation = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    limit = 16 * (1 + np.tan(angle / 2) ** 2) * np.finfo(float).eps
    np.testing.assert_allclose(exponential([angle], 2), rotation, rtol=0, atol=limit)
    np.testing.assert_allclose(cayley([np.tan(angle / 2)], 2), rotation, rtol=0, atol=limit)


def test_half_precision_and_integers_are_promoted():
    assert cayley(np.zeros(1, dtype=np.float16), 2).dtype == np.float32
    assert cayley([1], 2).dtype == np.float64
    assert skew(np.zeros((2, 0, 3)), 3).shape == (2, 0, 3, 3)


@pytest.mark.parametrize(
    ("values", "radix", "message"),
    [
        ([1.0, 2.0], 3, "radix 3 needs 3 numbers, or 9 when unitary"),
        (1.0, 2, r"shape \(\)"),
        ([], 2, "radix 2 needs 1 numbers"),
        ([1j], 2, "finite real numbers"),
        ([np.nan], 2, "finite real numbers"),
        ([np.inf], 2, "finite real numbers"),
        (["a"], 2, "finite real numbers"),
        ([None], 2, "finite real numbers"),
    ],
)
@pytest.mark.parametrize("function", [skew, cayley, exponential])
def test_invalid_generators_are_rejected(function, values, radix, message):
    with pytest.raises(BlockError, match=message):
        function(values, radix)


def near(samples, expected):
    """Compare a mean with its expectation, within five standard errors."""
    spread = samples.std() / np.sqrt(len(samples))
    assert abs(samples.mean() - expected) <= 5 * spread


@pytest.mark.parametrize("radix", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["rotation", "orthogonal", "unitary"])
def test_random_blocks_have_the_moments_of_haar(radix, kind):
    count = 20_000
    wires = np.arange(count * radix).reshape(count, radix)
    net = sm.Network(count * radix, [sm.Stage(count * radix, [sm.Bank(wires)])])
    dtype = complex if kind == "unitary" else float
    (r,) = sm.random_blocks(net, rng=12345, dtype=dtype, special=kind == "rotation")
    trace = np.trace(r, axis1=1, axis2=2)
    fourth = 2 / (radix * (radix + 1)) if kind == "unitary" else 3 / (radix * (radix + 2))
    for i, j in itertools.product(range(radix), repeat=2):
        near(r[:, i, j].real, 0)
        near(np.abs(r[:, i, j]) ** 2, 1 / radix)
        near(np.abs(r[:, i, j]) ** 4, fourth)
    near(trace.real, 0)
    # ∫|tr|² counts the irreducible parts of the defining representation: SO(2) has two.
    near(np.abs(trace) ** 2, 2 if kind == "rotation" and radix == 2 else 1)
    det = np.linalg.det(r)
    if kind == "rotation":
        assert (det > 0).all()
    elif kind == "orthogonal":
        near(np.sign(det), 0)
    else:
        near(det.real, 0)
        near(det.imag, 0)


@given(networks(), seeds())
def test_random_blocks_are_reproducible_and_independent(net, seed):
    first, again = sm.random_blocks(net, seed), sm.random_blocks(net, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    every = [block.tobytes() for bank in first for block in bank]
    assert len(set(every)) == len(every)


@given(networks(), seeds())
def test_taking_adjoint_blocks_twice_restores_the_blocks(net, seed):
    blocks = sm.random_blocks(net, seed, complex)
    back = adjoint_blocks(net.inverse(), adjoint_blocks(net, blocks))
    assert all(np.array_equal(a, b) for a, b in zip(blocks, back, strict=True))


def test_invalid_seeds_and_dtypes_are_rejected():
    net = sm.butterfly(4)
    with pytest.raises(BlockError, match="dtype=int64"):
        sm.random_blocks(net, 0, int)
    for bad in (-1, "x", 2.5):
        with pytest.raises(StructmatError, match=f"rng={bad!r}: rng must be a Generator"):
            sm.random_blocks(net, bad)
