"""Fingerprints estimate the difference of weights, and tolerate rounding to narrower dtypes."""

import base64
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from structmat.adapters.base_fingerprint import (
    PROJECTIONS,
    Fingerprint,
    fingerprint,
    read_fingerprints,
    sampled_rows,
)
from structmat.errors import FileError
from structmat.testing import seeds

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
SHAPES = st.lists(st.integers(1, 12), min_size=2, max_size=5).map(tuple) | st.tuples(
    st.integers(1, 300), st.integers(1, 300)
)


def weight(shape, seed, size=1.0):
    """Return Gaussian entries, some of them much smaller or larger than the others."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape) * np.exp(rng.normal(size=shape))
    return torch.from_numpy(size * values)


@given(SHAPES, seeds(), st.integers(-12, 6), st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_copies_in_any_dtypes_have_no_difference(shape, seed, exponent, one, other):
    made = weight(shape, seed, 2.0**exponent)
    first = fingerprint(made.to(one))
    assert first.difference(fingerprint(made.to(other))) is None
    assert first.difference(fingerprint(made.to(other).to(torch.float32))) is None
    assert fingerprint(made.to(one).to(other)).difference(first) is None
    if made.numel() > 64:  # so that few of the entries change by more than the first rounding
        assert first.difference(fingerprint(made.to(other).to(one))) is None


@given(st.integers(1, 64), st.integers(1, 64), seeds(), st.floats(1e-4, 10))
def test_the_distance_estimates_the_relative_error(rows, columns, seed, size):
    """Every entry of such a weight is sampled; the bounds are quantiles of χ² for 10⁻⁹."""
    a = weight((rows, columns), seed)
    change = size * weight((rows, columns), seed + 1)
    one, other = fingerprint(a), fingerprint(a + change)
    exact = float(change.norm() / max(a.norm(), (a + change).norm()))
    low, high = chi2.ppf([1e-9, 1 - 1e-9], PROJECTIONS) / PROJECTIONS
    assert low**0.5 <= one.distance(other) / exact <= high**0.5
    assert one.distance(other) == other.distance(one)


def test_the_documented_probabilities_are_those_of_chi_squared_variables():
    k = PROJECTIONS
    assert math.exp(-k / 2 * (4 - 1 - math.log(4))) == pytest.approx(6e-12, rel=0.03)
    assert chi2.sf(4 * k, k) < 6e-12
    assert chi2.cdf(k / 4, k) == pytest.approx(5e-6, rel=0.03)
    assert chi2.cdf(k / 9, k) == pytest.approx(1e-10, rel=0.2)


def test_estimates_have_the_spread_of_chi_squared_variables():
    """Over random differences, the mean square is exact, and its variance is that of χ²/k."""
    a = torch.zeros(64, 64)
    ones = fingerprint(torch.ones(64, 64)).norm
    squares = []
    for seed in range(400):
        change = torch.from_numpy(np.random.default_rng(seed).normal(size=(64, 64)))
        found = fingerprint(change)
        squares.append((math.dist(found.sketch, fingerprint(a).sketch) / found.norm) ** 2)
    assert ones == 64
    assert np.mean(squares) == pytest.approx(1, abs=5 * (2 / PROJECTIONS / 400) ** 0.5)
    assert np.var(squares) == pytest.approx(2 / PROJECTIONS, rel=0.35)


@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_the_smallest_detected_difference_follows_the_precision(dtype):
    a, b = weight((128, 96), 0), weight((128, 96), 1)
    roundoff = {torch.bfloat16: 2**-8, torch.float16: 2**-11, torch.float32: 5e-6}[dtype]
    one = fingerprint(a.to(dtype))
    for size, differs in ((0.3 * roundoff, False), (6 * roundoff, True)):
        other = fingerprint((a + size * b).to(dtype))
        assert (one.difference(other) is not None) == differs
    wider = fingerprint((a + 12 * roundoff * b).to(torch.float32))
    assert one.difference(wider) is not None


@given(st.integers(1, 200), st.integers(1, 40), seeds())
def test_added_rows_are_ignored(rows, more, seed):
    a = weight((rows + more, 24), seed)
    before = fingerprint(a[:rows])
    assert before.fits(a.shape)
    assert fingerprint(a, before.shape) == before
    assert not fingerprint(a).fits(a[:rows].shape)
    assert not before.fits((rows, 25))
    assert not before.fits((rows, 24, 1))


@given(SHAPES, seeds())
def test_fingerprints_round_trip_through_json(shape, seed):
    one = fingerprint(weight(shape, seed).to(torch.bfloat16))
    assert Fingerprint.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert len(json.dumps(one.to_dict())) < 280


def test_the_sketch_does_not_depend_on_the_memory_layout_or_on_shards():
    a = weight((96, 80), 0).float()
    assert fingerprint(a.T.contiguous().T) == fingerprint(a)
    images = weight((16, 4, 3, 3), 0).float()
    assert fingerprint(images.to(memory_format=torch.channels_last)) == fingerprint(images)
    assert fingerprint(torch.cat([a[:50], a[50:]])) == fingerprint(a)


def test_the_sketch_is_the_same_in_every_version():
    """Files contain sketches, so the random numbers must never change."""
    found = fingerprint(torch.arange(12.0).reshape(3, 4) - 5)
    assert found.precision == "bfloat16"
    assert found.norm == pytest.approx(146**0.5)
    np.testing.assert_allclose(found.sketch[:4], np.array([-4, 0, 10, -8]) / 32**0.5, rtol=1e-6)
    assert sampled_rows((1000, 3))[:4] == [9, 25, 45, 55]


def test_complex_and_zero_weights_have_fingerprints():
    a = torch.complex(weight((20, 12), 0), weight((20, 12), 1))
    one = fingerprint(a)
    assert one.norm == pytest.approx(float(a.abs().square().sum().sqrt()))
    assert one.difference(fingerprint(a.to(torch.complex64))) is None
    assert one.difference(fingerprint(a.conj())) > 0.1
    zero = fingerprint(torch.zeros(3, 4))
    assert zero.difference(zero) is None
    assert zero.difference(fingerprint(torch.ones(3, 4))) > 0.1


def test_weights_that_are_not_finite_are_marked():
    assert not fingerprint(torch.tensor([[1.0, math.inf]])).is_finite
    assert not fingerprint(torch.tensor([[math.nan, 0.0]])).is_finite
    assert not fingerprint(torch.tensor([[1e300]], dtype=torch.float64)).is_finite


@pytest.mark.parametrize(
    "change",
    [
        {"sketch": "AAAA"},
        {"sketch": "!"},
        {"sketch": None},
        {"precision": "int8"},
        {"shape": [0, 2]},
        {"shape": []},
        {"shape": "a"},
        {"shape": [math.inf, 2]},
        {"sketch": base64.b64encode(np.full(33, np.nan, "<f4").tobytes()).decode()},
        {"sketch": base64.b64encode(np.full(33, -1.0, "<f4").tobytes()).decode()},
    ],
)
def test_damaged_fingerprints_are_rejected(change):
    data = fingerprint(torch.ones(3, 4)).to_dict()
    with pytest.raises(FileError, match="the fingerprint of a base weight is invalid"):
        read_fingerprints({"up": data | change})
    with pytest.raises(FileError, match="they must be a JSON object with the names of layers"):
        read_fingerprints([data])
