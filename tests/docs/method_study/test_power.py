"""The power analysis: closed forms against Monte Carlo simulation and other programs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.power import TTestPower

from docs.method_study import power as p
from docs.method_study.analysis import equivalence, holm, mean_of_tasks
from docs.method_study.differences import Components, estimated

variances = st.floats(0.01, 10)
parts_of_variance = st.builds(Components, variances, variances, variances)


def near(found, wanted, repetitions, *, extra=0.0):
    """Assert that a frequency agrees with a probability, within three standard errors."""
    assert abs(found - wanted) <= 3 * math.sqrt(wanted * (1 - wanted) / repetitions) + extra


@given(st.floats(0.05, 2), st.integers(2, 60), st.sampled_from([0.05, 0.01, 0.05 / 15]))
def test_power_for_one_number_a_run_is_that_of_the_noncentral_t(effect, seeds, level):
    limit = scipy.stats.t.isf(level / 2, seeds - 1)
    apart = effect * math.sqrt(seeds)
    wanted = scipy.stats.nct.sf(limit, seeds - 1, apart)
    opposite = scipy.stats.nct.cdf(-limit, seeds - 1, apart)  # NaN where it is negligible
    wanted += 0 if math.isnan(opposite) else opposite
    found = p.power(effect, p.expected(Components(1.0), seeds), level)
    assert found == pytest.approx(wanted, abs=2e-4)


def test_power_agrees_with_statsmodels():
    oracle = TTestPower().power(0.5, nobs=40, alpha=0.05)
    assert p.power(0.5, p.expected(Components(1.0), 40)) == pytest.approx(oracle, abs=1e-4)


@pytest.mark.parametrize(
    ("parts", "seeds", "texts"),
    [
        (Components(1.0), 12, None),
        (Components(1.0, 2.0, 30.0), 8, 60),
        (Components(0.3, 10.0, 40.0), 6, 80),
    ],
)
def test_closed_forms_agree_with_simulated_studies(parts, seeds, texts):
    repetitions, level = 1500, 0.01
    planned = p.expected(parts, seeds, texts or math.inf)
    rng = np.random.default_rng(3)
    effect = p.detectable(planned, level, target=0.8)
    significant, same = 0, 0
    for _ in range(repetitions):
        base, equal = p.simulated([0.0], parts, seeds=seeds, texts=texts, rng=rng)
        significant += estimated(equal + effect - base).p() < level
        same += equivalence(estimated(equal - base), effect) < level
    extra = 0 if texts is None else 0.02  # Satterthwaite is an approximation
    near(significant / repetitions, 0.8, repetitions, extra=extra)
    wanted = p.equivalence_power(effect, planned, level)
    near(same / repetitions, wanted, repetitions, extra=extra)


def test_the_bonferroni_level_is_the_worst_case_of_holm():
    seeds, methods, repetitions = 10, 6, 600
    parts = Components(1.0)
    effect = p.detectable(p.expected(parts, seeds), 0.05 / methods, target=0.8)
    rng = np.random.default_rng(4)

    def frequency(differences):
        return p.simulated_power(
            differences, parts, seeds=seeds, texts=None, repetitions=repetitions, rng=rng
        )[0]

    alone = frequency([effect] + [0.0] * (methods - 1))
    near(alone, 0.8, repetitions, extra=0.01)  # a little more if another one is rejected, too
    beside_others = frequency([effect] * methods)
    assert beside_others > alone + 0.03


def test_holm_keeps_the_family_wise_level_although_the_comparisons_share_a_baseline():
    repetitions, wrong = 1000, 0
    rng = np.random.default_rng(5)
    for _ in range(repetitions):
        base, *others = p.simulated([0.0] * 8, Components(1.0), seeds=6, texts=None, rng=rng)
        wrong += holm([estimated(other - base).p() for other in others]).min() < 0.05
    assert wrong / repetitions <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repetitions)
    assert wrong / repetitions >= 0.02  # the procedure is not far too cautious


@settings(max_examples=25)
@given(parts_of_variance, st.floats(0.1, 2), st.sampled_from([1, 8, 20]))
def test_the_number_of_seeds_is_the_least_that_reaches_both_aims(parts, difference, comparisons):
    texts = 400
    level = 0.05 / comparisons

    def at(number):
        return p.expected(parts, number, texts)

    def reached(number):
        found = p.power(difference, at(number), level)
        return min(found, p.equivalence_power(difference, at(number), level)) >= 0.9

    seeds = p.seeds_needed(difference, at, comparisons=comparisons)

    if seeds is None:
        assert not reached(1000)
    else:
        assert reached(seeds)
        assert seeds == 2 or not reached(seeds - 1)


def test_no_number_of_seeds_makes_up_for_too_few_texts():
    parts = Components(0.01, text=4.0, rest=1.0)

    def needed(texts):
        return p.seeds_needed(0.2, lambda n: p.expected(parts, n, texts), comparisons=1)

    assert needed(100) is None
    assert needed(10_000) is not None


@settings(max_examples=25)
@given(parts_of_variance, st.integers(2, 40), st.integers(100, 500))
def test_a_difference_that_is_detectable_has_the_target_power(parts, seeds, texts):
    estimate = p.expected(parts, seeds, texts)
    least = p.detectable(estimate, 0.01)
    assert p.power(least, estimate, 0.01) == pytest.approx(0.9, abs=1e-6)
    assert p.detectable(p.expected(parts, seeds + 1, texts), 0.01) < least


def test_without_any_variance_every_difference_is_detected():
    none = p.expected(Components(0.0), 2)
    assert p.power(1e-9, none) == 1
    assert p.power(0.0, none) == 0
    assert p.equivalence_power(1e-9, none) == 1
    assert p.detectable(none) == 0
    assert p.seeds_needed(1e-9, lambda _: none, comparisons=3) == 2


def test_simulated_differences_have_the_given_variances():
    parts, seeds, texts = Components(1.0, 2.0, 5.0), 5, 8
    rng = np.random.default_rng(6)
    means = []
    for _ in range(4000):
        base, other = p.simulated([3.0], parts, seeds=seeds, texts=texts, rng=rng)
        means.append((other - base).mean())
    wanted = parts.variance(seeds, texts)
    assert np.mean(means) == pytest.approx(3, abs=4 * math.sqrt(wanted / 4000))
    assert np.var(means) == pytest.approx(wanted, rel=4 * math.sqrt(2 / 4000))


def test_power_for_a_mean_over_tasks_agrees_with_simulated_studies():
    repetitions, level, seeds = 1500, 0.01, 8
    tasks = [Components(1.0), Components(0.2), Components(4.0)]
    planned = mean_of_tasks([p.expected(parts, seeds) for parts in tasks])
    effect = p.detectable(planned, level, target=0.8)
    rng, significant = np.random.default_rng(9), 0
    for _ in range(repetitions):
        pairs = [p.simulated([effect], c, seeds=seeds, texts=None, rng=rng) for c in tasks]
        mean = mean_of_tasks([estimated(other - base) for base, other in pairs])
        significant += mean.p() < level
    near(significant / repetitions, 0.8, repetitions, extra=0.02)  # an approximation
