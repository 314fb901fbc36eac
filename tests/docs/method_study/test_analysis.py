"""Comparisons with a baseline: against brute force, other programs, and simulated truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.weightstats import ttost_paired

from docs.method_study import analysis as a
from docs.method_study.differences import Components, Estimate, components, estimated
from docs.method_study.power import simulated
from structmat.errors import StructmatError

numbers = st.integers(0, 2**32 - 1).map(np.random.default_rng)
probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def named(tables):
    return dict(zip(["LoRA", *"abcdefghijklmnopqrst"], tables, strict=False))


@given(probabilities)
def test_holm_is_closed_testing_with_bonferroni(p):
    """A hypothesis is rejected if Bonferroni rejects every set of hypotheses that contains it."""
    sets = [
        subset
        for size in range(1, len(p) + 1)
        for subset in itertools.combinations(range(len(p)), size)
    ]
    wanted = [
        max(min(1, len(s) * min(p[k] for k in s)) for s in sets if i in s) for i in range(len(p))
    ]
    np.testing.assert_allclose(a.holm(p), wanted, rtol=1e-12)


def test_holm_accepts_an_empty_list():
    assert a.holm([]).tolist() == []


@given(numbers, st.integers(3, 12), st.floats(0.1, 3))
def test_equivalence_is_two_one_sided_tests(rng, seeds, margin):
    one, other = rng.standard_normal((2, seeds))
    oracle, _, _ = ttost_paired(one, other, -margin, margin)
    found = estimated(one - other)
    assert a.equivalence(found, margin) == pytest.approx(oracle, abs=1e-12)
    inside = abs(found.value) + found.half(0.1) < margin  # the interval at 90 %
    assert inside == (a.equivalence(found, margin) < 0.05)


def test_differences_at_the_margin_are_called_equivalent_in_five_percent_of_studies():
    rng, repetitions, margin = np.random.default_rng(0), 3000, 2.0
    rows = margin + rng.standard_normal((repetitions, 10))
    wrong = np.mean([a.equivalence(estimated(row), margin) < 0.05 for row in rows])
    assert abs(wrong - 0.05) <= 3 * math.sqrt(0.05 * 0.95 / repetitions)


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (-1.0, 0.01, "lower"),
        (1.0, 0.01, "higher"),
        (-0.1, 0.01, "lower, within the margin"),
        (0.0, 0.01, "equivalent"),
        (0.0, 1.0, "undecided"),
        (0.0, 0.0, "equivalent"),  # ties in every run
    ],
)
def test_verdicts(value, error, verdict):
    [found] = a.family(["OFT"], [Estimate(value, error, 20)], margin=0.5)
    assert found.verdict == verdict


@given(numbers, st.integers(1, 6), st.booleans())
def test_a_simultaneous_interval_excludes_zero_only_if_the_test_rejects(rng, methods, with_texts):
    shape = (methods + 1, 4, 5) if with_texts else (methods + 1, 4)
    found = a.compared(named(rng.standard_normal(shape)), "LoRA", margin=0.1)
    for comparison in found:
        low, high = comparison.interval
        if low > 0 or high < 0:  # Holm's test rejects whenever Bonferroni's does
            assert comparison.p < 0.05 * (1 + 1e-9)
        assert comparison.estimate.value == pytest.approx((low + high) / 2)


def test_simultaneous_intervals_all_cover_in_at_least_95_percent_of_studies():
    rng, repetitions = np.random.default_rng(1), 800
    truth = [0.0, 0.3, -0.5, 1.0, 0.0, 2.0]
    bonferroni = dunnett = 0
    quantile = a.dunnett_quantile(6, 6 * 7)
    for _ in range(repetitions):
        tables = simulated(truth, Components(1.0), seeds=8, texts=None, rng=rng)
        found = a.compared(named(tables), "LoRA", margin=1.0)
        errors = [abs(c.estimate.value - t) for c, t in zip(found, truth, strict=True)]
        bonferroni += all(e <= c.half for c, e in zip(found, errors, strict=True))
        dunnett += max(errors) <= quantile * common_error(tables)
    error = math.sqrt(0.95 * 0.05 / repetitions)
    assert bonferroni / repetitions >= 0.95 - 3 * error
    assert abs(dunnett / repetitions - 0.95) <= 3 * error  # exact where the variances are equal


def common_error(tables):
    """Return the standard error of a difference, from the residual of methods and seeds."""
    rest = tables - tables.mean(0) - tables.mean(1, keepdims=True) + tables.mean()
    many, seeds = tables.shape
    return math.sqrt(2 * np.square(rest).sum() / ((many - 1) * (seeds - 1)) / seeds)


def test_unequal_shapes_and_single_seeds_are_refused():
    with pytest.raises(StructmatError, match="need the same seeds and texts"):
        a.compared({"LoRA": np.zeros(3), "OFT": np.zeros(4)}, "LoRA", 0.1)
    with pytest.raises(StructmatError, match="one seed"):
        a.compared({"LoRA": np.zeros(1), "OFT": np.zeros(1)}, "LoRA", 0.1)


# The model of all methods -----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_mixed_model_has_its_closed_form_on_complete_data(seed):
    rng = np.random.default_rng(seed)
    tables = 1e-3 * (rng.standard_normal((5, 9)) + 2 * rng.standard_normal((1, 9))) + 4
    found = a.mixed_model(named(tables), "LoRA")
    assert list(found) == list("abcd")
    for estimate, table in zip(found.values(), tables[1:], strict=True):
        assert estimate.value == pytest.approx((table - tables[0]).mean(), abs=1e-9)
        assert estimate.error == pytest.approx(common_error(tables), rel=1e-4)
        assert estimate.degrees == 4 * 8


def test_texts_are_averaged_for_the_mixed_model():
    tables = np.random.default_rng(5).standard_normal((3, 6, 7))
    tables += 3 * np.arange(6)[:, None]
    found = a.mixed_model(named(tables), "LoRA")
    assert found["a"].error == pytest.approx(common_error(tables.mean(2)), rel=1e-3)


def test_a_variance_between_seeds_of_zero_is_no_error():
    tables = np.random.default_rng(6).standard_normal((4, 6))
    tables -= tables.mean(0)  # the mean of a seed varies less than by chance
    found = a.mixed_model(named(tables), "LoRA")
    within = np.square(tables - tables.mean(1, keepdims=True)).sum() / (4 * 5)
    assert found["a"].error == pytest.approx(math.sqrt(2 * within / 6), rel=1e-3)


@pytest.mark.parametrize(("comparisons", "degrees"), [(1, 4), (2, 6), (5, 12), (12, 99)])
def test_dunnetts_quantile_is_that_of_a_multivariate_t(comparisons, degrees):
    limit = a.dunnett_quantile(comparisons, degrees)
    shape = np.full((comparisons, comparisons), 0.5) + 0.5 * np.eye(comparisons)
    inside = scipy.stats.multivariate_t.cdf(
        np.full(comparisons, limit),
        shape=shape,
        df=degrees,
        lower_limit=np.full(comparisons, -limit),
        random_state=np.random.default_rng(0),
    )
    assert inside == pytest.approx(0.95, abs=1e-3)
    low, high = (scipy.stats.t.isf(0.025 / n, degrees) for n in (1, comparisons))
    assert low - 1e-3 <= limit <= high + 1e-3  # between one comparison and Bonferroni


# Bootstrap and ranks ----------------------------------------------------------------------


@pytest.mark.parametrize("texts", [None, 60])
def test_the_bootstrap_agrees_with_the_model(texts):
    rng = np.random.default_rng(7)
    parts = Components(1.0, 8.0, 20.0) if texts else Components(1.0)
    outcomes = named(simulated([0.5, -1.0], parts, seeds=40, texts=texts, rng=rng))
    found = a.bootstrap(outcomes, "LoRA", draws=4000, rng=np.random.default_rng(8))
    for comparison in a.compared(outcomes, "LoRA", margin=1.0):
        low, high = found[comparison.method]
        value, half = comparison.estimate.value, comparison.estimate.half()
        assert (low, high) == pytest.approx((value - half, value + half), abs=0.2 * half)


def test_resampling_keeps_the_pairs():
    rng = np.random.default_rng(9)
    base = 100 * rng.standard_normal(12)
    outcomes = {"LoRA": base, "OFT": base + 1 + 1e-3 * rng.standard_normal(12)}
    low, high = a.bootstrap(outcomes, "LoRA", draws=500, rng=rng)["OFT"]
    assert 0.99 < low < high < 1.01


def test_ranks_are_certain_for_distant_methods_and_uncertain_for_close_ones():
    rng = np.random.default_rng(10)
    noise = rng.standard_normal((4, 20))
    outcomes = {"near": noise[0], "close": noise[1] + 0.05, "far": noise[2] + 9, "c": noise[3] - 9}
    found = a.ranks(outcomes, draws=2000, rng=rng)
    assert found["c"] == a.Rank(1, 1, 1, 1)
    assert (found["far"].low, found["far"].high) == (4, 4)
    assert {found[n].low for n in ("near", "close")} == {2}
    assert {found[n].high for n in ("near", "close")} == {3}
    assert sum(rank.best for rank in found.values()) == pytest.approx(1)


def test_equal_methods_share_a_rank():
    found = a.ranks(dict.fromkeys("abc", np.arange(5.0)), draws=50, rng=np.random.default_rng(0))
    for rank in found.values():
        assert rank == pytest.approx((2, 2, 2, 1 / 3))


# Several tasks ----------------------------------------------------------------------------

estimates = st.lists(
    st.builds(Estimate, st.floats(-3, 3), st.floats(0.1, 1), st.floats(3, 30)),
    min_size=2,
    max_size=6,
)


@settings(max_examples=50)
@given(estimates)
def test_random_effects_are_those_of_statsmodels(found):
    values = np.array([e.value for e in found])
    assume(np.ptp(values) > 1e-3)  # statsmodels divides by Cochran's Q
    oracle = combine_effects(
        values, np.array([e.error**2 for e in found]), method_re="iterated", use_t=True
    )
    half = scipy.stats.t.isf(0.025, len(values) - 1) * oracle.sd_eff_w_re_hksj
    pooled = a.random_effects(found)
    # statsmodels solves the equation only to within 1e-5.
    assert pooled.spread == pytest.approx(math.sqrt(max(0, oracle.tau2)), abs=5e-3)
    wanted = oracle.mean_effect_re, oracle.mean_effect_re - half, oracle.mean_effect_re + half
    assert pooled[:3] == pytest.approx(wanted, abs=1e-3)
    assert pooled.heterogeneity == pytest.approx(max(0, oracle.i2), abs=1e-9)


@given(estimates)
def test_the_spread_between_tasks_solves_the_equation_of_paule_and_mandel(found):
    values = np.array([e.value for e in found])
    pooled = a.random_effects(found)
    weights = 1 / (np.array([e.error**2 for e in found]) + pooled.spread**2)
    assert pooled.value == pytest.approx(weights @ values / weights.sum(), abs=1e-9)
    apart = weights @ np.square(values - pooled.value)
    freedom = len(values) - 1
    assert apart == pytest.approx(freedom, rel=1e-6) if pooled.spread else apart <= freedom


def test_the_interval_over_tasks_covers_the_mean_of_their_population():
    rng, repetitions, covered = np.random.default_rng(11), 800, 0
    for _ in range(repetitions):
        centres = 0.4 + 0.5 * rng.standard_normal(4)
        values = centres + 0.2 * rng.standard_normal(4)
        found = a.random_effects([Estimate(v, 0.2, 30) for v in values])
        covered += found.low <= 0.4 <= found.high
    assert abs(covered / repetitions - 0.95) <= 3 * math.sqrt(0.95 * 0.05 / repetitions) + 0.01


@given(estimates)
def test_the_mean_of_tasks_has_the_variance_of_a_mean(found):
    mean = a.mean_of_tasks(found)
    assert mean.value == pytest.approx(np.mean([e.value for e in found]), abs=1e-12)
    assert mean.error == pytest.approx(
        math.sqrt(sum(e.error**2 for e in found)) / len(found), rel=1e-9
    )
    assert min(e.degrees for e in found) * (1 - 1e-9) <= mean.degrees
    assert mean.degrees <= sum(e.degrees for e in found) * (1 + 1e-9)


def test_random_effects_need_two_tasks():
    with pytest.raises(StructmatError, match="one task"):
        a.random_effects([Estimate(0.0, 1.0, 3)])


def test_texts_contribute_to_the_uncertainty_of_a_comparison():
    rng = np.random.default_rng(12)
    tables = simulated([0.0], Components(0.01, 5.0, 0.1), seeds=20, texts=30, rng=rng)
    [with_texts] = a.compared(named(tables), "LoRA", 1.0)
    [without] = a.compared(named(tables.mean(2)), "LoRA", 1.0)
    assert with_texts.estimate.value == pytest.approx(without.estimate.value)
    assert with_texts.estimate.error > 5 * without.estimate.error
    assert components(tables[1] - tables[0]).text > 1
