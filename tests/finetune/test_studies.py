"""What the studies of docs/ share."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

import studies

PLAN = studies.Plan(("base", "other"), "base", "head", 0.5)


@dataclass(frozen=True)
class Sizes:
    seeds: int = 3
    tuning: int = 2
    rates: tuple[float, ...] = (0.1, 0.2)


def row(name, rate, seed):
    """At 0.2 the accuracy is better for `other`; for `base` only the loss is."""
    valid = 0.5 + (0.1 if (name, rate) == ("other", 0.2) else 0.0)
    return {
        "method": name,
        "rate": rate,
        "seed": seed,
        "trained": 1000,
        "valid": valid,
        "valid_loss": 1 - rate if name == "base" else 1.0,
        "test": valid + 0.01 * seed,
        "forgotten": 0.25,
        "reached": 4 if seed else None,
    }


def studied(path, done, *, sizes=None, task="a"):
    def run(name, rate, seed):
        done.append((name, rate, seed))
        return row(name, rate, seed)

    return studies.studied(PLAN, sizes or Sizes(), {"task": task}, path, run)


def test_every_rate_is_tried_on_the_first_seeds_and_the_best_one_goes_on(tmp_path):
    done = []
    record = studied(tmp_path / "r.json", done)
    each = [("base", 0.1), ("base", 0.2), ("other", 0.1), ("other", 0.2), ("head", 0.5)]
    assert done[:10] == [(*pair, seed) for seed in (0, 1) for pair in each]
    assert done[10:] == [("base", 0.2, 2), ("other", 0.2, 2), ("head", 0.5, 2)]
    assert record["chosen"] == {"base": 0.2, "other": 0.2, "head": 0.5}
    assert [r["seed"] for r in studies.final(record, "other")] == [0, 1, 2]
    assert json.loads((tmp_path / "r.json").read_text("utf-8")) == record
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]


def test_the_choice_looks_at_the_tuning_seeds_alone():
    runs = [row("base", rate, seed) for rate in (0.1, 0.2) for seed in (0, 1)]
    late = row("base", 0.1, 2) | {"valid": 1.0}
    assert studies.chosen([*runs, late], "base", 2) == 0.2
    assert studies.chosen([*runs, late], "base", 3) == 0.1


@given(st.integers(0, 13))
def test_a_study_goes_on_where_it_was_stopped(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("study") / "r.json"
    whole = studied(path, [])
    path.write_text(json.dumps({**whole, "runs": whole["runs"][:cut], "seconds": 7}), "utf-8")
    done = []
    again = studied(path, done)
    assert again.pop("seconds") == 7  # what else the file holds stays
    assert again == whole
    assert len(done) == len(whole["runs"]) - cut


@pytest.mark.parametrize("other", [{"sizes": Sizes(seeds=4)}, {"task": "b"}])
def test_runs_of_another_study_do_not_count(tmp_path, other):
    path, done = tmp_path / "r.json", []
    studied(path, [])
    studied(path, done, **other)
    assert len(done) >= 13


def test_the_tables_say_what_was_found(tmp_path):
    record = studied(tmp_path / "r.json", [])
    table = studies.results(PLAN, record, target="50 %", cost="ms", spent=lambda name: name[0])
    assert table.splitlines()[2:] == [
        "| base | 1,000 | 0.2 | 51.0 ± 2.5 | 25.0 ± 0.0 | 4 (2 of 3) | b |",
        "| other | 1,000 | 0.2 | 61.0 ± 2.5 | 25.0 ± 0.0 | 4 (2 of 3) | o |",
        "| head | 1,000 | — | 51.0 ± 2.5 | 25.0 ± 0.0 | 4 (2 of 3) | h |",
    ]
    assert studies.against(PLAN, record).splitlines()[2:] == [
        "| other | +10.0 ± 0.0 | +0.0 ± 0.0 |",
        "| head | +0.0 ± 0.0 | +0.0 ± 0.0 |",
    ]
    assert studies.by_rate(PLAN, record).splitlines() == [
        "| method | 0.1 | 0.2 |",
        "| --- | ---: | ---: |",
        "| base | 50, 25 | **50, 25** |",
        "| other | 50, 25 | **60, 25** |",
    ]


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9), st.integers(1, 20))
def test_an_interval_is_that_of_scipy(values, comparisons):
    mean, half = studies.interval(values, comparisons=comparisons)
    theirs = scipy.stats.ttest_1samp(values, 0) if np.ptp(values) > 1e-3 else None
    if theirs is not None:
        low, high = theirs.confidence_interval(1 - 0.05 / comparisons)
        assert (mean - half, mean + half) == pytest.approx((low, high), abs=1e-9)
    assert half >= 0
