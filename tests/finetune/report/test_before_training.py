import json
import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.report.before_training import (
    FEWEST_STEPS,
    class_table,
    classes,
    selection_lines,
    truncation,
    warnings,
)
from structmat.finetune.task import Example, Selection, Task

RECORD = Path(__file__).parents[3] / "docs" / "results" / "finetune-full.json"


def task(train, test=600):
    parts = [tuple(Example(f"t{k}", k % 2) for k in range(n)) for n in (train, 4, test)]
    return Task("t", ("a", "b"), *parts)


def test_the_fewest_steps_follow_from_the_recorded_losses():
    """Half of the decrease in the loss, smoothed over three records, takes 18 to 39 steps."""
    halfway = []
    for row in json.loads(RECORD.read_text("utf-8"))["methods"]:
        steps, losses = zip(*row["loss_curve"], strict=True)
        smooth = [statistics.fmean(losses[k - 2 : k + 1]) for k in range(2, len(losses))]
        middle = (losses[0] + statistics.fmean(losses[-5:])) / 2
        halfway.append(next(s for s, v in zip(steps[2:], smooth, strict=True) if v <= middle))
    assert (min(halfway), max(halfway)) == (18, 39)
    assert max(halfway) < FEWEST_STEPS <= max(halfway) + 5


@given(st.integers(1, 3000), st.integers(1, 4), st.integers(1, 64), st.sampled_from([1, 2, 4]))
def test_too_few_steps_are_reported_with_options_that_lead_to_enough(texts, epochs, batch, many):
    given = Hyperparameters(epochs=epochs, batch=batch)
    steps = given.steps(texts, processes=many)
    found = warnings(given, task(texts), processes=many)
    assert (steps < FEWEST_STEPS) == bool(found)
    for line in found:
        assert re.match(rf"{steps} steps? may be too few", line)
        for option, value in re.findall(r"--(epochs|batch) (\d+)", line):
            other = replace(given, **{option: int(value)})
            assert other.steps(texts, processes=many) >= FEWEST_STEPS
            assert not warnings(other, task(texts), processes=many)


@pytest.mark.parametrize(("texts", "said"), [(20, "± 0.20"), (95, None)])
def test_a_small_test_part_is_reported_with_its_uncertainty(texts, said):
    found = warnings(Hyperparameters(batch=2), task(200, texts))
    assert len(found) == (said is not None)
    assert all(said in line for line in found)


def test_several_reasons_are_listed_with_their_numbers_aligned():
    drops = [
        {"rows": 1174, "reason": "near duplicates", "remedy": "--keep-duplicates keeps them"},
        {"rows": 6, "reason": "without text", "remedy": "fill in the column 'review'"},
    ]
    assert selection_lines("a.csv", {"rows": 3000, "dropped": drops}) == [
        "a.csv: 3,000 rows, 1,180 dropped:",
        "  1,174 near duplicates; --keep-duplicates keeps them",
        "      6 without text; fill in the column 'review'",
    ]
    assert selection_lines("a.csv", {"rows": 1, "dropped": []}) == ["a.csv: 1 row, all used"]
    assert selection_lines("a.csv", None) == []
    small = {"rows": 5, "reason": "in 1 class with few texts: 'x' (5)", "remedy": "add texts"}
    assert selection_lines("a.csv", {"rows": 9, "dropped": [small]}) == [
        "a.csv: 9 rows: 5 in 1 class with few texts dropped ('x' (5)); add texts"
    ]


def test_the_table_of_classes_has_the_rows_of_the_file_if_there_is_one():
    plain = task(7, 3)
    assert class_table(classes(plain)).splitlines()[:2] == [
        "class  train  validation  test",
        "a          4           2     2",
    ]
    read = replace(plain, selection=Selection(50, (20, 30), ()))
    assert class_table(classes(read)).splitlines() == [
        "class  rows  used  train  validation  test",
        "a        20     8      4           2     2",
        "b        30     6      3           2     1",
    ]


def test_the_table_of_many_classes_is_cut():
    parts = [tuple(Example(f"t{k}", k) for k in range(70))] * 3
    lines = class_table(classes(Task("t", tuple("x" * (k + 1) for k in range(70)), *parts)))
    assert len(lines.splitlines()) == 1 + 20 + 1
    assert lines.endswith("… and 50 classes")


@pytest.mark.parametrize(
    ("lengths", "most", "longest", "said"),
    [
        ([5, 9], 9, 512, None),
        ([5, 90], 64, None, "1 of 2 texts truncated to 64 tokens; --max-length 90 keeps"),
        ([5, 900], 64, 512, "--max-length 512, the most that the model supports, keeps more"),
        ([5, 900], 512, 512, "the model supports no more; shorten the texts"),
    ],
)
def test_truncated_texts_are_counted_with_the_remedy(lengths, most, longest, said):
    found = truncation(lengths, most, longest)
    assert found is said is None or said in found
