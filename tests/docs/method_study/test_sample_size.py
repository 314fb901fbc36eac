"""The sample size that follows from a pilot."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy

from docs.method_study import plan
from docs.method_study import sample_size as p
from docs.method_study.differences import Components
from docs.method_study.power import expected, power
from structmat.errors import StructmatError
from tests.docs.method_study.simulated_runs import PARTS, simulated_runs, whole_record

# Variances and margins ----------------------------------------------------------------------


def test_the_pooled_variance_has_the_stated_degrees_of_freedom():
    methods, seeds, repetitions = 6, 5, 2000
    rng = np.random.default_rng(7)
    found = []
    for _ in range(repetitions):
        rows = rng.standard_normal((methods + 1, seeds))
        parts, df = p.pooled(dict(enumerate(rows)), 0)
        found.append(parts.seed)
    assert df == pytest.approx(methods / (1 + (methods - 1) / 4) * (seeds - 1))
    assert np.mean(found) == pytest.approx(2, rel=0.03)  # the variance of a difference
    assert np.var(found) == pytest.approx(2 * 2**2 / df, rel=0.15)


def test_cautious_variances_are_large_enough_in_four_of_five_pilots():
    repetitions, df = 4000, 12
    drawn = np.random.default_rng(8).chisquare(df, repetitions) / df
    enough = np.mean([p.cautious(Components(v), df).seed >= 1 for v in drawn])
    assert abs(enough - 0.8) <= 3 * math.sqrt(0.8 * 0.2 / repetitions)
    assert p.cautious(Components(1.0, 2.0, 3.0), df)[1:] == (2.0, 3.0)


def test_cautious_variances_between_seeds_are_positive_even_if_the_estimate_is_zero():
    parts, texts = Components(0.0, 2.0, 30.0), 100
    found = p.cautious(parts, 4, texts)
    assert found.seed > 0
    ratio = (found.seed + 0.3) / 0.3  # of mean squares
    assert ratio == pytest.approx(4 / scipy.stats.chi2.ppf(0.2, 4))


def test_margins_are_two_points_of_accuracy_expressed_as_a_loss():
    scales = {
        "first": p.Scale((2.0, 1.0), (0.5, 0.9)),
        "second": p.Scale((1.0, 0.6), (0.7, 0.8)),
        "language": p.Scale((4.0, 3.5), None),
    }
    found = p.margins(scales)
    assert found == pytest.approx({"first": 0.05, "second": 0.08, "language": 0.025})


def test_margins_need_a_task_in_which_accuracy_rises():
    with pytest.raises(StructmatError, match="no task in which adaptation gains accuracy"):
        p.margins({"language": p.Scale((4.0, 3.5), None)})


def test_a_pilot_of_the_baseline_alone_is_refused():
    with pytest.raises(StructmatError, match="no method besides LoRA"):
        p.pooled({"LoRA": np.zeros(3)}, "LoRA")


# The runs of the pilot ----------------------------------------------------------------------

EFFECTS = {"OFT": 0.0, "shuffle": -0.05, "DoRA": 0.02}


def pilot(**options):
    return whole_record(EFFECTS, **{"seeds": 8, "role": "pilot"} | options)


def test_the_components_of_a_simulated_pilot_are_recovered():
    found = p.pilots(pilot(seeds=40, texts=200))
    assert list(found) == list(plan.TASKS)
    parts = np.mean([one.parts()[0] for one in found.values()], axis=0)
    np.testing.assert_allclose(parts, PARTS, rtol=0.25)
    for one in found.values():
        assert one.texts == 200
        assert one.scale.gain == pytest.approx(0.55, abs=0.05)  # that of shuffle
    assert found["language"].scale.accuracy is None
    assert found["digits"].scale.fraction == pytest.approx(2 / 21, rel=0.1)


def test_a_pilot_without_items_has_no_variance_between_texts():
    runs = [{k: v for k, v in run.items() if k != "items"} for run in pilot()]
    for one in p.pilots(runs).values():
        assert one.texts == math.inf
        assert one.parts()[0].text == 0


@pytest.mark.parametrize("missing", [plan.BASELINE, plan.FROZEN])
def test_a_pilot_needs_the_baseline_and_the_frozen_model(missing):
    runs = [run for run in pilot() if run["method"] != missing]
    with pytest.raises(StructmatError, match=f"no run of {missing} in the pilot of digits"):
        p.pilots(runs)


def test_incomplete_seeds_of_a_pilot_are_left_out():
    runs = [run for run in pilot() if (run["method"], run["seed"]) != ("OFT", 7)]
    for one in p.pilots(runs).values():
        assert {rows.shape[0] for rows in one.outcomes.values()} == {7}


def test_diverged_runs_of_a_pilot_count_as_uniform_prediction():
    runs = pilot()
    runs[9] |= {"test_loss": None, "diverged": True}
    found = p.pilots(runs)["digits"]
    assert (found.outcomes["OFT"] == math.log(5)).all(axis=1).sum() == 1


def test_after_fewer_steps_the_gain_and_the_margin_are_smaller():
    one = p.pilots(pilot())["digits"]
    rows = p.by_steps(one, 0.05, comparisons=3)
    assert [row.steps for row in rows] == [10, 20, 30, 40]
    assert [row.gain for row in rows] == sorted(row.gain for row in rows)
    assert rows[-1].gain == pytest.approx(one.scale.gain)
    assert rows[0].seeds > rows[-1].seeds


def cells(table):
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_the_tables_state_the_power():
    runs = pilot()
    scale, variance, seeds, steps = p.tables(runs)
    assert len(cells(scale)) == len(cells(variance)) == 4
    assert len(cells(steps)) == 16
    found = p.pilots(runs)
    margin = p.margins({task: one.scale for task, one in found.items()})
    parts = p.cautious(*found["digits"].parts(), 40)
    level = 0.05 / plan.TASKS["digits"].comparisons
    chance = power(margin["digits"], expected(parts, 10, 40), level)
    rows = cells(seeds)
    assert [row[1] for row in rows[:3]] == ["the same", "40", "160"]
    assert rows[1][4].startswith(f"{100 * chance:.0f} %")
    assert rows[-1][0] == "mean of the tasks"
    least = [float(row[4].partition(", ")[2]) for row in (rows[-1], *rows[1:-1:3])]
    assert least[0] < np.mean(least[1:])  # a mean is more precise


def test_the_planned_seeds_are_enough_for_the_mean_of_the_tasks():
    found = p.pilots(pilot())
    margin = p.margins({task: one.scale for task, one in found.items()})
    seeds = p.planned_seeds(found, margin)
    at = p.expected_mean(found, margin)
    level = 0.05 / 13  # the methods that all tasks have
    assert p.shared_comparisons(found) == 13
    assert seeds % 5 == 0
    assert power(2.0, at(seeds), level) >= 0.9
    assert power(2.0, at(max(2, seeds - 5)), level) < power(2.0, at(seeds), level)


def test_without_a_pilot_the_page_states_that_there_is_none():
    assert list(p.tables([])) == ["*The pilot has not been run.*"]
    assert list(p.tables(simulated_runs("digits", EFFECTS, seeds=2))) == [
        "*The pilot has not been run.*"
    ]
