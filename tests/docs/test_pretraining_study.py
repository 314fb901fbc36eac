"""The study of pretraining by rotations: its statistics, and its page."""

import json
import math
import statistics

import pytest
import scipy

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from docs import pretraining_study as study

PAGE = study.PATH.parents[1] / "pretraining.md"


def record():
    return json.loads(study.PATH.read_text("utf-8"))


def test_the_page_shows_the_table_of_the_record():
    assert study.table(record()) in PAGE.read_text("utf-8")


def test_every_method_has_the_same_number_of_rates_and_seeds():
    found = record()
    for name, method in study.METHODS.items():
        frozen = isinstance(method, study.Weights) and method.frozen
        tried = {r["rate"] for r in found["runs"] if r["method"] == name and r["seed"] >= 100}
        assert len(tried) == (1 if frozen else 3)
        assert study.best_rate(found["runs"], name) == found["selected_rates"][name]
        assert len(study.finals(found, name)) == len(study.finals(found, study.ADAMW)) > 1


def test_differences_are_paired_by_seed():
    runs = [
        {"method": name, "seed": seed, "final": float(seed) + shift * (seed + 1)}
        for seed in (2, 0, 1)
        for shift, name in enumerate(study.METHODS)
    ]
    one, other = list(study.METHODS)[:2]
    mean, half = study.difference({"runs": runs}, other, one)
    differences = [1.0, 2.0, 3.0]
    low, high = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert mean == pytest.approx(statistics.fmean(differences))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    runs.pop()  # a seed that is incomplete does not count
    assert len(study.finals({"runs": runs}, one)) == 2


def test_the_rate_with_the_lowest_loss_is_selected():
    rows = [(0.1, 100, 2.0), (0.2, 100, 1.0), (0.3, 100, None), (0.1, 0, 0.5)]
    runs = [{"method": "a", "rate": r, "seed": s, "final": f} for r, s, f in rows]
    assert study.best_rate(runs, "a") == 0.2
    assert math.isfinite(study.best_rate(runs, "a"))
