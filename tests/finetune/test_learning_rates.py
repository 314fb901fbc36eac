import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat.finetune import learning_rates
from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.learning_rates import best_rate, rates, record_at, search
from structmat.finetune.methods import METHODS, named
from structmat.finetune.models import pretrained

RECORD = Path(__file__).parents[2] / "docs" / "results" / "tuning.json"


def test_default_rates_are_the_recorded_ones_and_rotations_have_that_of_lora():
    """The record precedes the scaling of generators, so its rates for rotations are not used."""
    found = rates(json.loads(RECORD.read_text("utf-8")))
    assert found.keys() == {method.name for method in METHODS}
    for method in METHODS:
        wanted = found["lora" if method.kind == "rotation" else method.name]
        assert method.rate == wanted


def test_every_method_has_the_same_search_in_the_record():
    record = json.loads(RECORD.read_text("utf-8"))
    assert record["grid"] == list(learning_rates.GRID)
    assert record["hyperparameters"] == asdict(learning_rates.HYPERPARAMETERS)
    assert record["task"]["sizes"]["train"] == learning_rates.TEXTS
    for entry in record["methods"].values():
        assert [float(rate) for rate in entry["accuracy"]] == record["grid"]
        assert entry["selected_rate"] == best_rate(entry["accuracy"])


@given(st.dictionaries(st.sampled_from([1e-3, 3e-3, 1e-2, 3e-2]), st.floats(0, 1), min_size=1))
def test_the_selected_rate_is_the_smallest_of_the_best(accuracy):
    rate = best_rate({f"{key:g}": value for key, value in accuracy.items()})
    best = max(accuracy.values())
    assert rate == min(key for key, value in accuracy.items() if value == best)


@pytest.fixture
def small_search(tiny_model, task, tmp_path):
    trials, path = [], tmp_path / "tuning.json"

    def run(key="k", stop_after=None):
        def note(method, rate):
            if stop_after is not None and len(trials) == stop_after:
                raise KeyboardInterrupt("stop")
            trials.append((method.name, rate))

        steps = []
        hyperparameters = Hyperparameters(epochs=1, batch=16, evaluations=1)
        record = search(
            [named("head"), named("boft")],
            pretrained(str(tiny_model)),
            task,
            path,
            record_at(path, key=key, about={}, hyperparameters=hyperparameters, grid=(1e-3, 1e-2)),
            on_step=lambda: steps.append(1),
            on_trial=note,
        )
        return record, steps

    return run


def test_an_interrupted_search_resumes(small_search, tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stop"):
        small_search(stop_after=3)
    begun = json.loads((tmp_path / "tuning.json").read_text())
    assert list(begun["methods"]["boft"]["accuracy"]) == ["0.001"]
    record, steps = small_search()
    assert len(steps) == 3  # one trial of three steps was left
    assert set(rates(record)) == {"head", "boft"}
    assert record == json.loads((tmp_path / "tuning.json").read_text())


def test_a_search_with_other_settings_starts_over(small_search):
    small_search()
    _, steps = small_search(key="other")
    assert len(steps) == 4 * 3
