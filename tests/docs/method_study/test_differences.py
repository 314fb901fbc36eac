"""Paired differences: closed forms against other programs, coverage, and errors."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.regression.mixed_linear_model import MixedLM

from docs.method_study import differences as d

numbers = st.integers(0, 2**32 - 1).map(np.random.default_rng)
shapes = st.tuples(st.integers(2, 7), st.integers(2, 9))


def crossed(rng, parts, seeds, texts, mean=0.0):
    """Draw paired differences (seeds, texts) from the model."""
    a, c = rng.standard_normal((seeds, 1)), rng.standard_normal((1, texts))
    e = rng.standard_normal((seeds, texts))
    return mean + math.sqrt(parts.seed) * a + math.sqrt(parts.text) * c + math.sqrt(parts.rest) * e


@given(numbers, shapes)
def test_mean_squares_are_those_of_projections_onto_seeds_texts_and_the_rest(rng, shape):
    table = rng.standard_normal(shape)
    by_seed, by_text = (np.eye(n) - 1 / n for n in shape)  # deviations from the mean of an axis
    mean_of = [np.full((n, n), 1 / n) for n in shape]
    parts = [by_seed @ table @ mean_of[1], mean_of[0] @ table @ by_text, by_seed @ table @ by_text]
    freedom = [shape[0] - 1, shape[1] - 1, (shape[0] - 1) * (shape[1] - 1)]
    wanted = [np.square(part).sum() / df for part, df in zip(parts, freedom, strict=True)]
    np.testing.assert_allclose(d.mean_squares(table), wanted, rtol=1e-9)


@given(numbers, st.integers(2, 12))
def test_with_one_number_a_run_the_test_is_the_paired_t_test(rng, seeds):
    one, other = rng.standard_normal((2, seeds))
    found, oracle = d.estimated(one - other), scipy.stats.ttest_rel(one, other)
    low, high = oracle.confidence_interval(0.95)
    assert found.p() == pytest.approx(oracle.pvalue)
    assert (found.value - found.half(), found.value + found.half()) == pytest.approx((low, high))


@given(numbers, st.floats(-2, 2), st.integers(1, 30), st.floats(0.1, 3))
def test_the_two_sided_p_value_is_the_level_at_which_the_interval_ends_at_the_null(
    rng, value, df, error
):
    found = d.Estimate(value, error, df)
    p = found.p(null=0.5)
    assert found.half(p) == pytest.approx(abs(value - 0.5), abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_crossed_estimates_are_those_of_a_mixed_model_fitted_by_reml(seed):
    seeds, texts = 6, 12
    parts = d.Components(seed=1.0, text=2.0, rest=1.0)
    table = crossed(np.random.default_rng(seed), parts, seeds, texts, mean=3.0)
    data = pd.DataFrame(
        {
            "y": table.ravel(),
            "seed": np.repeat(np.arange(seeds), texts),
            "text": np.tile(np.arange(texts), seeds),
            "all": 0,
        }
    )
    model = MixedLM.from_formula(
        "y ~ 1",
        data,
        groups="all",
        re_formula="0",
        vc_formula={"seed": "0 + C(seed)", "text": "0 + C(text)"},
    )
    fitted = model.fit(reml=True)
    found = d.components(table)
    assert min(found) > 0
    wanted = [*fitted.vcomp, fitted.scale]
    np.testing.assert_allclose(found, wanted, rtol=2e-3)  # the optimiser's tolerance
    estimate = d.estimated(table)
    assert estimate.value == pytest.approx(fitted.fe_params["Intercept"], abs=1e-6)
    assert estimate.error == pytest.approx(fitted.bse_fe["Intercept"], rel=2e-3)
    assert estimate.error**2 == pytest.approx(found.variance(seeds, texts), rel=1e-9)


@given(numbers, shapes)
def test_the_variance_is_at_least_that_of_the_seeds_or_of_the_texts_alone(rng, shape):
    table = rng.standard_normal(shape)
    by_seed, by_text, _ = d.mean_squares(table)
    found = d.estimated(table)
    assert found.error**2 * table.size >= max(by_seed, by_text) * (1 - 1e-12)


@pytest.mark.parametrize(
    ("parts", "seeds", "texts"),
    [
        (d.Components(1.0), 5, None),
        (d.Components(1.0, 1.0, 1.0), 6, 12),
        (d.Components(0.2, 6.0, 20.0), 8, 40),
        (d.Components(2.0, 0.5, 5.0), 5, 60),
    ],
)
def test_intervals_cover_the_truth_as_often_as_they_should(parts, seeds, texts):
    rng, repetitions, covered = np.random.default_rng(1), 2000, 0
    for _ in range(repetitions):
        made = crossed(rng, parts, seeds, texts or 1, mean=0.7)
        found = d.estimated(made[:, 0] if texts is None else made)
        covered += abs(found.value - 0.7) <= found.half()
    error = math.sqrt(0.95 * 0.05 / repetitions)
    allowed = 3 * error if texts is None else 3 * error + 0.01  # Satterthwaite is an approximation
    assert abs(covered / repetitions - 0.95) <= allowed


def test_estimated_components_are_unbiased_where_none_is_near_zero():
    rng, parts = np.random.default_rng(2), d.Components(2.0, 3.0, 1.0)
    found = [d.components(crossed(rng, parts, 6, 10)) for _ in range(2000)]
    error = np.std(found, axis=0) / math.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - parts) <= 4 * error).all()


def test_equal_outcomes_have_a_p_value_of_one_and_constant_differences_of_zero():
    for shape in ((4,), (4, 5)):
        assert d.estimated(np.zeros(shape)).p() == 1
        assert d.estimated(np.full(shape, 0.5)).p() == 0
        assert d.estimated(np.zeros(shape)).half() == 0
