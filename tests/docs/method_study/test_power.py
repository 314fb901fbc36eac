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
from docs.method_study.analysis import equivalence
from docs.method_study.differences import Components, estimated

variances = st.floats(0.01, 10)
parts_of_variance = st.builds(Components, variances, variances, variances)


def near(found, wanted, repetitions, *, extra=0.0):
    """Assert that a frequency is a probability, up to three standard errors."""
    assert abs(found - wanted) <= 3 * math.sqrt(wanted * (1 - wanted) / repetitions) + extra


@given(st.floats(0.05, 2), st.integers(2, 60), st.sampled_from([0.05, 0.01, 0.05 / 15]))
def test_power_for_one_number_a_run_is_that_of_the_noncentral_t(effect, seeds, level):
    limit = scipy.stats.t.isf(level / 2, seeds - 1)
    apart = effect * math.sqrt(seeds)
    wanted = scipy.stats.nct.sf(limit, seeds - 1, apart)
    opposite = scipy.stats.nct.cdf(-limit, seeds - 1, apart)  # NaN where it is negligible
    wanted += 0 if math.isnan(opposite) else opposite
    found = p.power(effect, Components(1.0), p.Design(seeds, level=level))
    assert found == pytest.approx(wanted, abs=2e-4)


def test_power_agrees_with_statsmodels():
    oracle = TTestPower().power(0.5, nobs=40, alpha=0.05)
    assert p.power(0.5, Components(1.0), p.Design(40)) == pytest.approx(oracle, abs=1e-4)


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
    design = p.Design(seeds, texts or math.inf, level)
    rng = np.random.default_rng(3)
    effect = p.detectable(parts, seeds=seeds, texts=design.texts, comparisons=5, target=0.8)
    significant, same = 0, 0
    for _ in range(repetitions):
        base, equal = p.simulated([0.0], parts, seeds=seeds, texts=texts, rng=rng)
        significant += estimated(equal + effect - base).p() < level
        same += equivalence(estimated(equal - base), effect) < level
    extra = 0 if texts is None else 0.02  # Satterthwaite is an approximation
    near(significant / repetitions, 0.8, repetitions, extra=extra)
    wanted = p.equivalence_power(effect, parts, design)
    near(same / repetitions, wanted, repetitions, extra=extra)


def test_the_bonferroni_level_is_the_worst_case_of_holm():
    seeds, methods, repetitions = 10, 6, 600
    parts = Components(1.0)
    effect = p.detectable(parts, seeds=seeds, comparisons=methods, target=0.8)
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
    from docs.method_study.analysis import holm

    repetitions, wrong = 1000, 0
    rng = np.random.default_rng(5)
    for _ in range(repetitions):
        base, *others = p.simulated([0.0] * 8, Components(1.0), seeds=6, texts=None, rng=rng)
        wrong += holm([estimated(other - base).p() for other in others]).min() < 0.05
    assert wrong / repetitions <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repetitions)
    assert wrong / repetitions >= 0.02  # and not by being far too cautious


@settings(max_examples=25)
@given(parts_of_variance, st.floats(0.1, 2), st.sampled_from([1, 8, 20]))
def test_the_number_of_seeds_is_the_least_that_reaches_both_aims(parts, difference, comparisons):
    texts = 400
    seeds = p.seeds_needed(difference, parts, comparisons=comparisons, texts=texts)

    def reached(number):
        design = p.Design(number, texts, 0.05 / comparisons)
        aims = p.power(difference, parts, design), p.equivalence_power(difference, parts, design)
        return min(aims) >= 0.9

    if seeds is None:
        assert not reached(1000)
    else:
        assert reached(seeds)
        assert seeds == 2 or not reached(seeds - 1)


def test_no_number_of_seeds_makes_up_for_too_few_texts():
    parts = Components(0.01, text=4.0, rest=1.0)
    assert p.seeds_needed(0.2, parts, comparisons=1, texts=100) is None
    assert p.seeds_needed(0.2, parts, comparisons=1, texts=10_000) is not None


@settings(max_examples=25)
@given(parts_of_variance, st.integers(2, 40), st.integers(2, 500))
def test_a_difference_that_is_detectable_has_the_target_power(parts, seeds, texts):
    least = p.detectable(parts, seeds=seeds, texts=texts, comparisons=4)
    design = p.Design(seeds, texts, 0.05 / 4)
    assert p.power(least, parts, design) == pytest.approx(0.9, abs=1e-6)
    more = p.detectable(parts, seeds=seeds + 1, texts=texts, comparisons=4)
    assert more < least


def test_without_any_variance_every_difference_is_detected():
    none = Components(0.0)
    assert p.power(1e-9, none, p.Design(2)) == 1
    assert p.power(0.0, none, p.Design(2)) == 0
    assert p.equivalence_power(1e-9, none, p.Design(2)) == 1
    assert p.detectable(none, seeds=2, comparisons=3) == 0
    assert p.seeds_needed(1e-9, none, comparisons=3) == 2


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
