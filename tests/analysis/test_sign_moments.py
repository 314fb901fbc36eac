"""Moments over random signs against all signs, and their maxima against a search."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from structmat.analysis.sign_moments import (
    fourth_moment,
    haar_fourth_moment,
    largest_fourth_moments,
)
from structmat.errors import StructmatError
from structmat.testing import seeds

fields = st.sampled_from(["real", "complex"])


def unit(rng, size, *, field="real"):
    x = rng.standard_normal(size) + (1j * rng.standard_normal(size) if field == "complex" else 0)
    return x / np.linalg.norm(x)


def energies(width, seed):
    """A row of energies with sum 1: even, concentrated, or with zeros."""
    rng = np.random.default_rng(seed)
    row = rng.random(width) ** rng.integers(0, 12)
    row[rng.random(width) < rng.choice([0.0, 0.5])] = 0
    row[rng.integers(width)] += 1e-3
    return row / row.sum()


@given(st.integers(1, 9), seeds())
def test_the_fourth_moment_is_the_mean_over_all_signs(width, seed):
    rng = np.random.default_rng(seed)
    row, x = unit(rng, width), unit(rng, width)
    signs = np.array(list(itertools.product([1, -1], repeat=width)))
    exact = ((signs @ (row * x)) ** 4).mean()
    assert fourth_moment(row**2, x) == pytest.approx(exact, rel=1e-12)


@given(st.integers(1, 4), seeds())
def test_the_fourth_moment_is_the_mean_over_all_phases(width, seed):
    """Third roots of unity have the same moments of these orders as uniform phases."""
    rng = np.random.default_rng(seed)
    row, x = unit(rng, width, field="complex"), unit(rng, width, field="complex")
    roots = np.exp(2j * np.pi * np.arange(3) / 3)
    phases = np.array(list(itertools.product(roots, repeat=width)))
    exact = (np.abs(phases @ (row * x)) ** 4).mean()
    assert fourth_moment(np.abs(row) ** 2, x, field="complex") == pytest.approx(exact, rel=1e-12)


@given(st.integers(1, 8), seeds(), fields)
@settings(max_examples=30)
def test_the_largest_fourth_moment_is_above_all_others_and_attained(width, seed, field):
    rng = np.random.default_rng(seed)
    row = energies(width, seed)
    (largest,) = largest_fourth_moments([row], field=field)

    def value(y):
        x = y / np.linalg.norm(y)
        return float(fourth_moment(row, x, field=field))

    starts = [unit(rng, width) for _ in range(4)]
    order = np.argsort(-row)
    for k in range(1, width + 1):
        x = np.full(width, 1e-3)
        x[order[:k]] = 1
        starts.append(x)
    found = max(-minimize(lambda y: -value(y), x, method="BFGS").fun for x in starts)
    assert found <= largest * (1 + 1e-12)
    assert found == pytest.approx(largest, rel=1e-4)


@given(st.integers(1, 40), fields)
def test_equal_energies_have_the_value_in_the_docstring(width, field):
    most = 2 if field == "complex" else 3
    (largest,) = largest_fourth_moments(np.full((1, width), 1 / width), field=field)
    assert largest == pytest.approx((most - (most - 1) / width) / width**2, rel=1e-12)


def test_the_moment_of_a_row_of_zeros_is_zero():
    assert largest_fourth_moments(np.zeros((2, 3))).tolist() == [0, 0]


@pytest.mark.parametrize("field", ["real", "complex"])
def test_the_haar_moment_agrees_with_samples(field):
    rng = np.random.default_rng(0)
    x = np.array([unit(rng, 5, field=field) for _ in range(20_000)])
    fourth = (np.abs(x) ** 4).mean(axis=1)
    error = fourth.std() / len(fourth) ** 0.5
    assert abs(fourth.mean() - haar_fourth_moment(5, field=field)) < 5 * error


def test_an_unknown_field_is_rejected():
    for function in (largest_fourth_moments, lambda _, field: haar_fourth_moment(4, field=field)):
        with pytest.raises(StructmatError, match="field='unitary': it must be"):
            function([[1.0]], field="unitary")
