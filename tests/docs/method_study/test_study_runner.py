"""The runner of the study: what is left to do, and records that survive interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

pytest.importorskip("peft")

from docs.method_study import json_lines, runner
from docs.method_study.single_run import Run

VOLATILE = ("step_seconds", "seconds")
PLAN = replace(
    runner.QUICK,
    tasks=("digits",),
    methods=("LoRA", "head only"),
    budgets=("parameters",),
    rates=(1e-3, 1e-2),
)


def stable(rows):
    return sorted(json.dumps({k: v for k, v in row.items() if k not in VOLATILE}) for row in rows)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "quick.jsonl"
    runner.work(runner.QUICK, path)
    return path


def test_the_quick_run_makes_every_run_once(record):
    rows = json_lines.read(record)
    runs = [Run.of(row) for row in rows if row["role"] != "timing"]
    assert len(set(runs)) == len(runs) == runner.expected(runner.QUICK)
    assert not list(runner.pending(runner.QUICK, rows))
    assert runner.timing(runner.QUICK, rows) == []
    names = {(row["task"], row["method"], row["budget"]) for row in rows}
    assert ("digits", "LoRA", "parameters") in names
    assert ("language", "mixing network", "time") in names
    assert ("language", "head only", "parameters") not in names


def test_the_rows_have_the_documented_fields(record):
    for row in json_lines.read(record):
        assert set(row) <= {name for name in row if f"`{name}`" in runner.__doc__}
        if row["role"] in ("study", "pilot"):
            assert {"test_loss", "test_ece", "test_brier", "forgotten", "change"} <= set(row)
            assert row["forgotten"] == pytest.approx(row["old_loss"] - row["old_loss_before"])
            assert set(row["change"]) == {"attention", "up", "down"}


def test_tuning_runs_have_no_test_results(record, monkeypatch):
    rows = [row for row in json_lines.read(record) if row["role"] == "tuning"]
    assert rows
    assert not [name for row in rows for name in row if name.startswith(("test", "old", "change"))]
    task = runner.tasks.task("digits", quick=True)
    parts = []
    judged = type(task).judged
    monkeypatch.setattr(
        type(task),
        "judged",
        lambda self, model, part, seed: (
            parts.append(part),
            judged(self, model, part, seed),
        )[1],
    )
    runner.perform(task, Run("digits", "LoRA", "tuning", "parameters", 1e-3, 1000, 2))
    assert set(parts) == {"valid"}


def test_tuning_and_study_have_different_seeds(record):
    rows = json_lines.read(record)
    seeds = {role: {r["seed"] for r in rows if r["role"] == role} for role in ("tuning", "study")}
    assert seeds == {"tuning": {1000}, "study": {0, 1}}


def test_the_selected_rate_has_the_lowest_validation_loss(record):
    rows = json_lines.read(record)
    for name in ("LoRA", "mixing network"):
        mine = [
            r
            for r in rows
            if (r["task"], r["method"], r["budget"]) == ("digits", name, "parameters")
        ]
        tried = {row["rate"]: row["valid_loss"] for row in mine if row["role"] == "tuning"}
        assert {r["rate"] for r in mine if r["role"] == "study"} == {min(tried, key=tried.get)}


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ({1e-3: [2.0, 2.0], 1e-2: [1.0, 2.0]}, 1e-2),
        ({1e-3: [2.0, 2.0], 1e-2: [1.0, None]}, 1e-3),
        ({1e-3: [2.0, 2.0], 1e-2: [2.0, 2.0]}, 1e-3),
        ({1e-3: [2.0], 1e-2: [1.0, 2.0]}, None),
    ],
)
def test_rates_are_selected_by_the_mean_when_all_runs_are_there(losses, best):
    def tuned(rate, seed):
        return Run("digits", "LoRA", "tuning", "parameters", rate, seed, 4)

    tried = [tuned(rate, seed) for rate in losses for seed in (1000, 1001)]
    rows = [
        {**vars(tuned(rate, 1000 + k)), "valid_loss": loss}
        for rate, found in losses.items()
        for k, loss in enumerate(found)
    ]
    assert runner.best_rate(tried, rows) == best


def test_equal_time_means_fewer_steps_for_slower_methods():
    rows = [
        {"role": "timing", "task": "digits", "method": name, "rounds": rounds}
        for name, rounds in {"LoRA": [1.0, 1.2, 1.0], "OFT": [2.0, 2.4, 2.0]}.items()
    ]
    full = runner.steps_of(PLAN, "digits", "LoRA", "parameters", rows)
    assert runner.steps_of(PLAN, "digits", "OFT", "time", rows) == full / 2
    assert runner.steps_of(PLAN, "digits", "HRA", "time", rows) is None


def test_a_record_with_an_incomplete_line_is_read_and_repaired(tmp_path):
    path = tmp_path / "rows.jsonl"
    json_lines.append(path, [{"a": 1}, {"a": float("nan")}])
    with path.open("a") as file:
        file.write('{"a": 3')
    assert json_lines.read(path) == [{"a": 1}, {"a": None}]
    json_lines.append(path, [{"a": 4}])
    assert json_lines.read(path) == [{"a": 1}, {"a": None}, {"a": 4}]


def test_an_interrupted_study_resumes_with_the_same_results(record, tmp_path):
    whole = json_lines.read(record)
    path = tmp_path / "part.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]) + lines[-3][:40])
    runner.work(runner.QUICK, path)
    again = json_lines.read(path)
    assert stable(again[:-3]) == stable(whole[:-3])
    assert {Run.of(r) for r in again[-3:]} == {Run.of(r) for r in whole[-3:]}
    for one in again[-3:]:
        [two] = [row for row in whole[-3:] if Run.of(row) == Run.of(one)]
        assert one["test_loss"] == pytest.approx(two["test_loss"], rel=1e-3)


def test_runs_of_another_setting_are_made_again(record, tmp_path):
    path = tmp_path / "old.jsonl"
    rows = json_lines.read(record)
    stale = [row for row in rows if row["method"] == "LoRA" and row["role"] == "study"]
    for row in stale:
        row["setting"] = {**row["setting"], "up": 99}
    json_lines.append(path, rows)
    before = len(rows)
    runner.work(runner.QUICK, path)
    assert len(json_lines.read(path)) == before + len(stale)


COMMAND = [sys.executable, "-m", "docs.method_study.runner", "--quick", "--task", "digits"]
COMMAND += ["--methods", "LoRA", "head only", "--budget", "parameters"]


def started(path, *more, **options):
    return subprocess.Popen(
        [*COMMAND, "--output", str(path), *more],
        cwd=runner.ROOT,
        env={**os.environ, "PYTHONPATH": str(runner.ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for_rows(path, count, process):
    for _ in range(1200):
        if len(json_lines.read(path)) >= count:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    raise AssertionError(f"{path} has fewer than {count} rows after two minutes")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_loses_only_its_run(tmp_path, how):
    path = tmp_path / "killed.jsonl"
    first = started(path, "--seeds", "40")
    wait_for_rows(path, 2, first)
    first.send_signal(how)
    _, said = first.communicate(timeout=60)
    assert first.returncode == (130 if how == signal.SIGINT else -how)
    assert ("interrupted; the same command resumes" in said) == (how == signal.SIGINT)
    kept = json_lines.read(path)
    plan = replace(PLAN, seeds=2)
    runner.work(plan, path)
    rows = json_lines.read(path)
    assert rows[: len(kept)] == kept
    assert not list(runner.pending(plan, rows))
    assert len({Run.of(row) for row in rows}) == len(rows)


@pytest.mark.slow
def test_two_processes_share_the_runs(tmp_path):
    path = tmp_path / "shared.jsonl"
    process = started(path, "--workers", "2")
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    rows = json_lines.read(path)
    runs = [Run.of(row) for row in rows]
    assert len(set(runs)) == len(runs) == runner.expected(PLAN)


def test_the_quick_run_needs_a_file():
    with pytest.raises(SystemExit, match="--quick needs --output"):
        runner.main(["--quick"])
