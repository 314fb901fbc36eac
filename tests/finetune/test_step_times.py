"""The times in the finetuning tables can be measured again without other changes."""

import json
import shutil
from pathlib import Path

import pytest

import step_times
from structmat.finetune.methods import METHODS
from structmat.finetune.report import result_tables


def test_new_times_are_written_to_the_record_and_the_page(tmp_path, monkeypatch):
    record, page = (
        Path(shutil.copy(path, tmp_path))
        for path in (step_times.FULL, step_times.DOCS / "finetuning.md")
    )
    seconds = {method.name: [k + 1.0] * 3 for k, method in enumerate(METHODS)}
    monkeypatch.setattr(step_times, "seconds_a_step", lambda *_, **__: seconds)
    monkeypatch.setattr(step_times, "docstring_task", lambda: None)
    step_times.full(record, page)
    before = json.loads(step_times.FULL.read_text("utf-8"))
    after = json.loads(record.read_text("utf-8"))
    assert [row["relative_seconds"] for row in after["methods"]][:4] == [0.5, 1.0, 1.5, 2.0]
    assert [row["seconds_a_step"] for row in after["methods"]][:4] == [1.0, 2.0, 3.0, 4.0]
    text = page.read_text("utf-8")
    for line in step_times.shown(result_tables.results(after)[1]):
        assert text.count(line) == 1
    for found in (before, after):
        found.pop("timed", None)
        for row in found["methods"]:
            del row["seconds_a_step"], row["relative_seconds"], row["step_quartiles"]
    assert after == before
    assert len(text.splitlines()) == len(
        (step_times.DOCS / "finetuning.md").read_text().splitlines()
    )


def test_a_page_that_does_not_quote_the_record_is_unchanged(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("one\ntwo\n")
    with pytest.raises(SystemExit, match=r"page\.md does not contain\nthree"):
        step_times.quoted(page, ["one", "three"], ["1", "3"])
    assert page.read_text() == "one\ntwo\n"
