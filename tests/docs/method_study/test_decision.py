"""The decision rule, condition by condition."""

from __future__ import annotations

import numpy as np
import pytest

from docs.method_study import decision as d
from docs.method_study.differences import Estimate
from docs.method_study.plan import CANDIDATES, DEFAULT, POINTS, TASKS

NAMES = (DEFAULT, *CANDIDATES)


def outcomes(effects, *, spread=0.1, rng=0):
    """Return outcomes of the default and the candidates, with effects in points, in each task."""
    rng = np.random.default_rng(rng)
    found = {}
    for task, planned in TASKS.items():
        unit = planned.margin / POINTS
        found[task] = {
            name: 1 + unit * (effects.get(name, {}).get(task, 0) + spread * rng.standard_normal(8))
            for name in NAMES
        }
    return found


def everywhere(points):
    return dict.fromkeys(TASKS, points)


def judged(parameters, time=None):
    return {c.name: c for c in d.candidates(outcomes(parameters), outcomes(time or {}, rng=1))}


def test_the_margin_of_every_task_is_two_points():
    rng = np.random.default_rng(0)
    for task, planned in TASKS.items():
        noise = 1e-6 * rng.standard_normal(5)
        estimate = d.in_points(np.full(5, -planned.margin) + noise, task)
        assert estimate.value == pytest.approx(-2, abs=1e-3)


def test_without_differences_the_default_stays():
    found = d.candidates(outcomes({}), outcomes({}, rng=1))
    assert [c.name for c in found] == list(CANDIDATES)
    assert not any(c.qualifies for c in found)
    assert d.decided(found) == DEFAULT


def test_a_candidate_that_is_lower_everywhere_becomes_the_default():
    found = judged({"shuffle": everywhere(-4.0)})
    assert found["shuffle"] == ("shuffle", True, True, True, pytest.approx(-4, abs=0.2))
    assert d.decided(list(found.values())) == "shuffle"


def test_of_two_qualifying_candidates_the_lower_one_becomes_the_default():
    found = judged({"shuffle": everywhere(-4.0), "mixed radix": everywhere(-5.0)})
    assert d.decided(list(found.values())) == "mixed radix"


def test_a_real_difference_within_the_margin_changes_nothing():
    found = judged({"shuffle": everywhere(-0.8)})
    assert not found["shuffle"].lower
    assert found["shuffle"].equal_time
    assert found["shuffle"].nowhere_worse


def test_a_candidate_that_is_worse_at_equal_time_does_not_qualify():
    found = judged({"shuffle": everywhere(-4.0)}, {"shuffle": everywhere(1.0)})
    assert found["shuffle"][1:4] == (True, False, True)
    assert d.decided(list(found.values())) == DEFAULT


def test_a_candidate_that_is_worse_in_one_task_does_not_qualify():
    effects = {"shuffle": {**everywhere(-6.0), "errors": 3.0}}
    found = judged(effects)
    assert found["shuffle"][1:4] == (True, True, False)
    assert d.decided(list(found.values())) == DEFAULT


def test_the_mean_over_tasks_weighs_them_equally():
    effects = {"shuffle": {"digits": -8.0}}
    [found] = d.over_tasks(outcomes(effects), ("shuffle",), DEFAULT)
    assert found.estimate.value == pytest.approx(-8 / len(TASKS), abs=0.2)


def test_methods_that_a_task_does_not_have_are_left_out_of_the_mean():
    made = outcomes({})
    del made["errors"]["shuffle"]
    found = d.over_tasks(made, NAMES, DEFAULT)
    assert [c.method for c in found] == [name for name in CANDIDATES if name != "shuffle"]


def test_the_difference_of_a_task_is_an_estimate_with_all_its_seeds():
    found = d.by_task(outcomes({"shuffle": everywhere(1.0)}), "shuffle", DEFAULT)
    assert list(found) == list(TASKS)
    for estimate in found.values():
        assert isinstance(estimate, Estimate)
        assert estimate.degrees == 7
