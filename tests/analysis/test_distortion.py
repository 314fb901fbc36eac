"""Distortion bounds against all signs and all samples of outputs."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from structmat.analysis.distortion import distortion, rms_distortion
from structmat.errors import StructmatError
from structmat.linalg.blocks import random_blocks
from structmat.linalg.factors import matrix_of
from structmat.testing import networks, seeds


def deviations(r, x, outputs):
    """‖S R D x‖²·d/m − 1 for all samples S and signs D."""
    d = len(r)
    signs = np.array(list(itertools.product([1, -1], repeat=d)))
    energy = ((signs * x) @ r.T) ** 2
    samples = [list(s) for s in itertools.combinations(range(d), outputs)]
    return np.stack([energy[:, s].sum(axis=1) * d / outputs - 1 for s in samples])


@given(networks(max_width=7), seeds(), st.data())
@settings(max_examples=60)
def test_the_root_mean_square_is_at_most_the_bound(net, seed, data):
    outputs = data.draw(st.integers(1, net.width))
    r = matrix_of(net, random_blocks(net, rng=seed))
    quartic = float((r**4).sum(axis=0).max())
    bound = rms_distortion(net.width, outputs, quartic)
    rng = np.random.default_rng(seed)
    worst = np.eye(net.width)[(r**4).sum(axis=0).argmax()]
    for x in (worst, rng.standard_normal(net.width)):
        found = deviations(r, x / np.linalg.norm(x), outputs)
        assert math.sqrt((found**2).mean()) <= bound + 1e-12


@given(networks(max_width=7), seeds(), st.data())
@settings(max_examples=60)
def test_the_probability_of_a_larger_deviation_is_at_most_the_given_one(net, seed, data):
    outputs = data.draw(st.integers(1, net.width))
    failure = data.draw(st.sampled_from([0.5, 0.9, 0.99]))
    r = matrix_of(net, random_blocks(net, rng=seed))
    coherence = math.sqrt(net.width) * float(np.abs(r).max())
    bound = distortion(net.width, outputs, coherence, failure=failure)
    x = np.random.default_rng(seed).standard_normal(net.width)
    found = np.abs(deviations(r, x / np.linalg.norm(x), outputs))
    assert (found > bound + 1e-12).mean() <= failure


def test_the_mean_square_of_a_flat_matrix_is_exact_up_to_the_diagonal():
    """For x = (1, …, 1)/√d the mean square is (d−m)/((d−1)m)·(2 − 2/d), and the bound has 2."""
    from scipy.linalg import hadamard

    d, m = 8, 3
    found = deviations(hadamard(d) / math.sqrt(d), np.full(d, d**-0.5), m)
    factor = (d - m) / ((d - 1) * m)
    assert (found**2).mean() == pytest.approx(factor * (2 - 2 / d), rel=1e-12)
    assert rms_distortion(d, m, 1 / d) ** 2 == pytest.approx(2 * factor, rel=1e-12)


def test_the_bound_of_random_samples_holds_and_is_not_vacuous():
    """At d = 2^14 and m = 2^12, where the bound is below 1 even for 100 vectors."""
    d, m, count = 2**14, 2**12, 100
    bound = distortion(d, m, 1.0, vectors=count)
    assert 0.1 < bound < 0.5
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = np.zeros((count, d))
        x[np.arange(count), rng.integers(d, size=count)] = 1
        x[: count // 2] = rng.standard_normal((count // 2, d))
        x /= np.linalg.norm(x, axis=1)[:, None]
        y = walsh(x * rng.choice([-1, 1], d))[:, rng.choice(d, m, replace=False)]
        assert np.abs((y**2).sum(axis=1) * d / m - 1).max() <= bound


def walsh(x):
    count, d = x.shape
    for k in range(d.bit_length() - 1):
        pairs = x.reshape(count, -1, 2, 2**k)
        x = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        x = x.reshape(count, d)
    return x / math.sqrt(d)


@given(st.integers(2, 10**6), st.data())
def test_bounds_decrease_with_outputs_and_increase_with_everything_else(width, data):
    outputs = data.draw(st.integers(1, width - 1))
    coherence = data.draw(st.floats(1, math.sqrt(width)))
    bound = distortion(width, outputs, coherence)
    assert bound >= distortion(width, outputs + 1, coherence) >= 0
    assert bound <= distortion(width, outputs, min(2 * coherence, math.sqrt(width)))
    assert bound <= distortion(width, outputs, coherence, vectors=3)
    assert bound <= distortion(width, outputs, coherence, failure=0.001)
    assert rms_distortion(width, outputs, 1 / width) <= rms_distortion(width, outputs, 1.0)


@given(st.integers(1, 10**6), st.data())
def test_bounds_are_finite_and_never_exceed_what_always_holds(width, data):
    """The energy of the sample is between 0 and ‖x‖², so |Z − 1| is at most max(1, d/m − 1)."""
    outputs = data.draw(st.integers(1, width))
    coherence = data.draw(st.floats(1, math.sqrt(width)))
    failure = data.draw(st.sampled_from([5e-324, 1e-300, 0.01, np.float32(0.5), Fraction(1, 3)]))
    vectors = data.draw(st.sampled_from([1, 2**64 - 1]))
    bound = distortion(width, outputs, coherence, vectors=vectors, failure=failure)
    assert 0 <= bound <= max(1, width / outputs - 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": 0}, "outputs=0: outputs must be an integer ≥ 1"),
        ({"outputs": 9}, "outputs=9: it must be at most the width 8"),
        ({"outputs": 2.5}, "outputs=2.5"),
        ({"vectors": 0}, "vectors=0"),
        ({"vectors": 10**400}, r"vectors=.*: it must be at most 2\^64 − 1"),
        ({"failure": 0.0}, "failure=0.0: it must be a probability between 0 and 1"),
        ({"failure": float("nan")}, "failure=nan"),
        ({"failure": "1 %"}, "failure='1 %'"),
        ({"failure": Fraction(1, 10**400)}, "it must be a probability between 0 and 1"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, message):
    with pytest.raises(StructmatError, match=message):
        distortion(**({"width": 8, "outputs": 4, "coherence": 1.0} | arguments))
