"""The runner of the study: pending runs, and records that survive interruption."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

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
    names = {(run.task, run.method, run.budget) for run in runs}
    assert ("digits", "LoRA", "parameters") in names
    assert ("language", "mixing network", "time") in names
    assert ("language", "head only", "parameters") in names  # the unadapted model
    assert not {("digits", "head only", "time"), ("digits", "LoRA", "time")} & names


def test_the_loss_of_every_test_item_is_stored(record):
    for row in json_lines.read(record):
        if row["role"] == "study":
            mean = sum(row["items"]) / len(row["items"])
            assert row["test_loss"] == pytest.approx(mean, rel=1e-3)
        else:
            assert "items" not in row


def test_the_unadapted_language_model_forgets_nothing(record):
    rows = [row for row in json_lines.read(record) if row["method"] == "head only"]
    for row in rows:
        if row["task"] == "language":
            assert (row["forgotten"], row["trained"], row["diverged"]) == (0, 0, False)


def test_the_rows_have_the_documented_fields(record):
    for row in json_lines.read(record):
        assert set(row) <= {name for name in row if f"`{name}`" in runner.__doc__}
        tested = {"test_loss", "test_ece", "test_brier", "items"}
        if row["budget"] == "time" and row["role"] == "study":
            assert tested <= set(row)
            assert not [name for name in row if name.startswith(("valid", "old", "change"))]
        elif row["role"] in ("study", "pilot"):
            assert tested | {"valid_loss", "forgotten", "change"} <= set(row)
            change = row["old_loss"] - row["old_loss_before"]
            assert row["forgotten"] == pytest.approx(change, abs=1e-5)  # rounded numbers
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
            if (r["task"], r["method"]) == ("digits", name) and r["role"] != "timing"
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
def test_rates_are_selected_by_the_mean_once_all_runs_are_recorded(losses, best):
    def tuned(rate, seed):
        return Run("digits", "LoRA", "tuning", "parameters", rate, seed, 4)

    tried = [tuned(rate, seed) for rate in losses for seed in (1000, 1001)]
    made = {
        tuned(rate, 1000 + k): loss
        for rate, found in losses.items()
        for k, loss in enumerate(found)
    }
    assert runner.best_rate(tried, made) == best


def tuned_rows(plan, best, rows=()):
    """Return the tuning rows of a plan in which each method has the given best rate."""
    return [
        {**vars(run), "valid_loss": abs(math.log(run.rate / best[name]))}
        for name, runs in runner.tuning(plan, "digits", rows).items()
        for run in runs
    ]


@pytest.mark.parametrize(
    ("best", "further"),
    [
        ({"LoRA": 1e-2, "OFT": 1e-2}, []),
        ({"LoRA": 1e-3, "OFT": 1e-2}, [1e-4]),
        ({"LoRA": 1e-1, "OFT": 1e-3}, [1e-4, 1.0]),
    ],
)
def test_the_grid_is_extended_once_for_all_methods_beyond_an_end_that_is_best(best, further):
    plan = replace(PLAN, methods=("LoRA", "OFT"), rates=(1e-3, 1e-2, 1e-1), further=(1e-4, 1.0))
    rows = tuned_rows(plan, best)
    assert len(rows) == 6
    assert not runner.selected(plan, "digits", rows[:-1])
    assert bool(runner.selected(plan, "digits", rows)) == (not further)
    added = [run for run in runner.pending(plan, rows) if run.role == "tuning"]
    assert sorted({run.rate for run in added}) == further
    assert len(added) == 2 * len(further)
    rows = tuned_rows(plan, best, rows)
    left = list(runner.pending(plan, rows))
    assert {run.role for run in left} == {"study"}
    assert {run.method: run.rate for run in left} == best
    assert len(rows) + len(left) == runner.expected(plan, rows)


def test_the_study_of_a_task_waits_for_the_rates_of_all_methods():
    plan = replace(PLAN, methods=("LoRA", "OFT", "head only"))
    rows = tuned_rows(plan, {"LoRA": 1e-2, "OFT": 1e-2})
    assert {run.role for run in runner.pending(plan, rows[:-1])} == {"tuning"}
    assert {run.method for run in runner.pending(plan, rows)} == {"LoRA", "OFT", "head only"}


def test_at_equal_time_the_rates_are_those_of_equal_parameters():
    plan = replace(PLAN, methods=("LoRA", "OFT"), budgets=("parameters", "time"))
    rows = tuned_rows(plan, {"LoRA": 1e-2, "OFT": 1e-3})
    rows += [
        {"role": "timing", "task": "digits", "method": name, "rounds": [seconds]}
        for name, seconds in {"LoRA": 1.0, "OFT": 2.0}.items()
    ]
    runs = list(runner.pending(plan, rows))
    assert {(r.method, r.budget, r.rate, r.steps) for r in runs} == {
        ("LoRA", "parameters", 1e-2, 4),
        ("OFT", "parameters", 1e-3, 4),
        ("OFT", "time", 1e-3, 2),
    }


def test_the_text_tasks_are_not_compared_at_equal_time(monkeypatch):
    plan = replace(PLAN, tasks=("errors",), budgets=("parameters", "time"), rates=(1e-3,))
    stand_in = runner.tasks.task("digits", quick=True)
    monkeypatch.setattr(runner.tasks, "task", lambda *_, **__: stand_in)
    assert runner.timing(plan, []) == []
    assert {run.budget for run in runner.pending(plan, [])} == {"parameters"}


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


def started(path, *more):
    return subprocess.Popen(
        [*COMMAND, "--output", str(path), *more],
        cwd=runner.ROOT,
        env={**os.environ, "PYTHONPATH": str(runner.ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background programs with this signal ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
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
