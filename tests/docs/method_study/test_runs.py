"""Runs of the study: selected, capped where they diverged, arranged for paired comparisons."""

from __future__ import annotations

import math
import re

import pytest

from docs.method_study import runs as r
from structmat.errors import StructmatError


def run(method, seed, **fields):
    return {"method": method, "seed": seed, "test_loss": 1.0, "items": [1.0, 2.0], **fields}


def test_outcomes_are_ordered_by_seed_whatever_the_order_of_the_runs():
    runs = [run(m, s, test_loss=10 * s + (m == "OFT")) for s in (3, 1) for m in ("OFT", "LoRA")]
    found = r.outcomes_of(runs, "test_loss", ["LoRA", "OFT"])
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "LoRA": [10, 30],
        "OFT": [11, 31],
    }
    assert r.outcomes_of(runs, "items", ["OFT"])["OFT"].shape == (2, 2)


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([run("LoRA", 0), run("LoRA", 1), run("OFT", 1)], "no run of OFT with seed 0"),
        ([run("LoRA", 0), run("OFT", 0), run("OFT", 0)], "two runs of OFT with seed 0"),
        (
            [run("LoRA", 0), run("OFT", 0, items=[1.0])],
            "different numbers of texts, [(1,), (2,)]",
        ),
    ],
)
def test_unbalanced_records_are_refused(runs, said):
    with pytest.raises(StructmatError, match=re.escape(said)):
        r.outcomes_of(runs, "items", ["LoRA", "OFT"])


@pytest.mark.parametrize("loss", [math.nan, math.inf, None, math.log(4) + 1e-6])
def test_a_diverged_run_counts_as_uniform_prediction(loss):
    good = run("LoRA", 0)
    bad = run("OFT", 0, test_loss=loss, test_accuracy=0.9, step_seconds=2)
    assert r.diverged(bad, 4)
    assert not r.diverged(good, 4)
    first, found = r.capped([good, bad], 4)
    assert first is good
    assert found["items"] == [math.log(4)] * 2
    assert (found["test_loss"], found["test_accuracy"]) == (math.log(4), 0.25)
    assert (found["test_ece"], found["test_brier"], found["step_seconds"]) == (0, 0.75, 2)
    assert bad["test_accuracy"] == 0.9


def test_a_run_whose_training_stopped_has_no_measures_but_those_of_uniform_prediction():
    stopped = {"method": "OFT", "seed": 1, "diverged": True}
    runs = r.capped([run("OFT", 0), stopped], 4)
    assert r.outcomes_of(runs, "items", ["OFT"])["OFT"].tolist() == [[1, 2], [math.log(4)] * 2]
    assert "items" not in r.capped([stopped], 4)[0]


def test_a_run_that_stopped_training_diverged_whatever_its_test_loss():
    assert r.diverged(run("OFT", 0, diverged=True), 4)
    assert not r.diverged(run("OFT", 0, diverged=False), 4)


def test_outcomes_that_are_not_finite_are_refused():
    with pytest.raises(StructmatError, match="test_loss of OFT is not finite"):
        r.outcomes_of([run("OFT", 0, test_loss=None)], "test_loss", ["OFT"])


def test_runs_of_other_roles_budgets_and_sizes_are_left_out():
    about = {"task": "digits", "method": "OFT", "role": "study", "budget": "parameters"}
    about |= {"sizes": "new"}
    others = [
        {**about, **other}
        for other in ({"sizes": "old"}, {"role": "pilot"}, {"budget": "time"}, {"task": "errors"})
    ]
    lora = {**about, "method": "LoRA", "sizes": "old"}  # LoRA's newest
    assert r.part([*others, lora, about], task="digits", role="study") == [lora, about]
    assert r.part([], task="digits", role="study") == []
