"""The intervals and tests, against scipy, enumeration, and simulated studies."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from structmat.finetune.report.significance import LEVEL, accuracy_interval, holm, paired, wilson

answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


@given(st.lists(st.booleans(), min_size=2, max_size=200))
def test_the_interval_of_one_seed_is_wilsons(right):
    expected = stats.binomtest(sum(right), len(right)).proportion_ci(1 - LEVEL, "wilson")
    found = accuracy_interval(np.array([right]), range(len(right)))
    assert found == pytest.approx(tuple(expected), abs=1e-12)


@given(answers)
def test_the_test_of_one_seed_is_mcnemars(pairs):
    first, second = np.array(pairs).T
    found = paired(first[None], second[None], range(len(pairs)))
    alone = int((first & ~second).sum()), int((second & ~first).sum())
    assert (found.first_only, found.second_only) == alone
    expected = stats.binomtest(alone[0], sum(alone)).pvalue if sum(alone) else 1.0
    assert found.p == pytest.approx(expected, abs=1e-12)
    assert found.low <= (alone[0] - alone[1]) / (len(pairs) + 2) <= found.high


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=2, max_size=40)
)
def test_the_test_of_groups_counts_all_exchanges_of_whole_groups(rows):
    first, second, groups = (np.array(column) for column in zip(*rows, strict=True))
    change = first.astype(int) - second
    sums = [int(change[groups == group].sum()) for group in sorted(set(groups.tolist()))]
    signs = product((1, -1), repeat=len(sums))
    totals = [abs(sum(s * v for s, v in zip(sign, sums, strict=True))) for sign in signs]
    expected = np.mean([total >= abs(sum(sums)) for total in totals])
    assert paired(first[None], second[None], groups).p == pytest.approx(expected, abs=1e-12)


@given(answers, st.integers(2, 5))
def test_repeated_texts_do_not_narrow_an_interval(pairs, copies):
    """Copies of every text, in groups, carry no more information than the texts."""
    first, second = np.array(pairs).T
    places = np.tile(np.arange(len(pairs)), copies)
    one = accuracy_interval(first[None], range(len(pairs)))
    assert accuracy_interval(first[None, places], places) == pytest.approx(one, abs=1e-9)
    once, many = (
        paired(first[None, k], second[None, k], k) for k in (np.arange(len(pairs)), places)
    )
    assert many.p == pytest.approx(once.p, abs=1e-12)
    assert (many.low, many.high) == pytest.approx((once.low, once.high), abs=1e-9)


@given(st.integers(2, 4), st.integers(2, 30), st.integers(0, 99))
def test_the_interval_of_several_seeds_contains_the_accuracy_and_is_no_narrower(seeds, texts, seed):
    """The variance is at least that of a binomial proportion of all answers."""
    right = np.random.default_rng(seed).uniform(size=(seeds, texts)) < 0.6
    low, high = accuracy_interval(right, range(texts))
    narrowest = wilson(right.mean(), right.size)
    assert 0 <= low <= narrowest[0] <= right.mean() <= narrowest[1] <= high <= 1


def simulated(rng, *, seeds, texts, difference=0.0):
    """Return the answers of two methods; texts, seeds and runs vary independently."""
    ease = rng.normal(size=texts)
    right = []
    for shift in (0.0, difference):
        run = rng.normal(0, 0.15, size=(seeds, 1))
        right.append(ease + shift + run + rng.normal(0, 0.7, (seeds, texts)) > 0)
    return right


@pytest.mark.parametrize(("seeds", "texts"), [(1, 60), (3, 120), (5, 40)])
def test_intervals_and_tests_have_their_nominal_rates_of_error(seeds, texts):
    """The true accuracy is 1/2, and the true difference 0.

    With one seed, the variation between runs is not covered, so there is none to be covered: the
    accuracy of the run is the target. 400 studies have a standard error of about 0.011.
    """
    rng = np.random.default_rng(seeds)
    covered, rejected = [], []
    for _ in range(400):
        if seeds == 1:
            first, second = rng.uniform(size=(2, 1, texts)) < 0.5
        else:
            first, second = simulated(rng, seeds=seeds, texts=texts)
        low, high = accuracy_interval(first, range(texts))
        covered.append(low <= 0.5 <= high)
        rejected.append(paired(first, second, range(texts)).p <= LEVEL)
    assert 0.91 <= np.mean(covered) <= 0.995
    assert np.mean(rejected) <= LEVEL + 0.03


def test_a_true_difference_is_significant():
    rng = np.random.default_rng(0)
    found = [
        paired(*reversed(simulated(rng, seeds=3, texts=300, difference=1.0)), range(300))
        for _ in range(20)
    ]
    assert sum(each.p < LEVEL and each.low > 0 for each in found) >= 18
    assert all(each.difference > 0.1 for each in found)


def test_intervals_of_extreme_accuracies_are_neither_empty_nor_outside():
    for right in (np.ones((3, 20), bool), np.zeros((3, 20), bool), np.ones((1, 20), bool)):
        low, high = accuracy_interval(right, range(20))
        assert 0 <= low < high <= 1
    low, high = wilson(1.0, 20)
    assert high == pytest.approx(1, abs=1e-12)
    assert low == pytest.approx(1 / (1 + stats.norm.isf(0.025) ** 2 / 20))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holms_adjusted_values_reject_as_the_sequential_procedure(p, level):
    rejected = set()
    for rank, place in enumerate(sorted(range(len(p)), key=lambda k: p[k])):
        if p[place] * (len(p) - rank) > level:
            break
        rejected.add(place)
    assert {k for k, value in enumerate(holm(p)) if value <= level} == rejected
