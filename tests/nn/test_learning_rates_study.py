"""The study of learning rates: its optimum, its record, and a short run."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("peft")
pytest.importorskip("sklearn")

import learning_rates_study as study


@pytest.fixture(scope="module")
def record():
    return json.loads(study.PATH.read_text("utf-8"))


@given(
    st.floats(1e-3, 1e3),
    st.floats(0.01, 10),
    st.integers(3, 9),
    st.floats(1.2, 4),
    st.floats(0.05, 0.95),
)
def test_optimum_of_a_parabola_is_found(first, curvature, count, ratio, place):
    """The optimum in log rate and log loss is exact, wherever it lies inside the grid."""
    rates = [first * ratio**k for k in range(count)]
    best = rates[0] * ratio ** (place * (count - 1))
    losses = [math.exp(curvature * math.log(r / best) ** 2 - 1) for r in rates]
    found = study.optimum(rates, losses)
    if 0 < np.argmin(losses) < count - 1:
        assert found == pytest.approx(best, rel=1e-6)
    else:
        assert found is None


def test_optimum_beside_a_diverged_run_is_on_the_grid():
    assert study.optimum([1, 2, 4], [3.0, 1.0, math.inf]) == 2


def test_the_record_contains_exactly_the_runs(record):
    sizes = study.Sizes()
    assert record["sizes"] == json.loads(json.dumps(vars(sizes)))
    expected = [
        (model, optimiser, case.axis, case.value, rate, seed)
        for model, optimiser, seed in sizes.parts
        for case in study.cases(model, optimiser)
        for rate in sizes.rates(case)
    ]
    keys = ("model", "optimiser", "axis", "value", "rate", "seed")
    assert sorted(map(str, expected)) == sorted(
        str(tuple(row[key] for key in keys)) for row in record["runs"]
    )


def test_the_ratios_of_best_rates_are_those_on_the_page(record):
    """Without a factor, best rates differ far more."""
    every = study.curves(record)
    plain, *_, geometric, _ = study.RULES.values()

    def ratio(model, optimiser, axis, rule):
        place = (model, optimiser, axis)
        some = [c for c in every if (c.case.model, c.case.optimiser, c.case.axis) == place]
        assert all(c.best is not None for c in some)
        return study.ratio(some, rule)

    assert ratio("layers", "Adam", "block", geometric) < 2 < ratio("layers", "Adam", "block", plain)
    assert ratio("layers", "Adam", "depth", geometric) < 2 < ratio("layers", "Adam", "depth", plain)
    assert ratio("layers", "Adam", "parametrization", geometric) < 1.1
    assert ratio("digits", "Adam", "depth", geometric) < 2 < ratio("digits", "Adam", "depth", plain)


def test_a_short_run_prints_the_tables(tmp_path, capsys):
    path = tmp_path / "record.json"
    study.main(["--quick", "--output", str(path)])
    printed = capsys.readouterr().out
    assert "| layers, Adam | `shuffle(block=2, depth=2)`, width 384 | 2 | 2 |" in printed
    before = path.read_text("utf-8")
    study.main(["--quick", "--output", str(path)])  # nothing is left to run
    assert path.read_text("utf-8") == before
