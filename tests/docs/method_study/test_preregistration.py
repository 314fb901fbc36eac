"""The page of the study agrees with its programs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("peft")

from docs.method_study import methods, plan, report, runner, sample_size, tasks
from docs.method_study.json_lines import read

PAGE = Path(__file__).parents[3] / "docs" / "method-study.md"
TEXT = PAGE.read_text("utf-8").replace("\n", " ")


def table(title):
    """Return the rows of the first table after a heading."""
    lines = PAGE.read_text("utf-8").partition(f"# {title}\n")[2].splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("|"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return found
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def test_the_plan_has_the_methods_that_are_run():
    for task, planned in plan.TASKS.items():
        assert planned.methods == methods.of_task(task)
    assert (plan.BASELINE, plan.FROZEN) == (methods.BASELINE, methods.HEAD_ONLY)
    assert tuple(plan.TASKS) == tasks.NAMES


def test_the_candidates_are_topologies_that_every_task_has():
    for name in (plan.DEFAULT, *plan.CANDIDATES):
        assert methods.METHODS[name].kind == "rotation"
        assert set(methods.METHODS[name].values) == set(tasks.NAMES)
    rotations = {name for name, about in methods.METHODS.items() if about.kind == "rotation"}
    assert rotations - {plan.DEFAULT, *plan.CANDIDATES} == {plan.DENSE}


def test_the_page_names_every_method():
    for name in plan.METHODS:
        assert name in TEXT


def test_the_page_states_the_rates():
    rates = [f"{rate:g}" if rate > 1e-3 else f"{rate:.4f}".rstrip("0") for rate in runner.RATES]
    assert f"{', '.join(rates[:-1])} and {rates[-1]}" in TEXT


def test_the_page_states_the_steps():
    classes = {
        "digits": "docs.method_study.digits_task.DigitsTask",
        "language": "docs.method_study.language_task.LanguageTask",
        "docstrings": "docs.method_study.text_tasks.DocstringsTask",
        "errors": "docs.method_study.text_tasks.ErrorsTask",
    }
    rows = {row[0]: row[-1] for row in table("Tasks")}
    for task, place in classes.items():
        module, _, name = place.rpartition(".")
        made = getattr(__import__(module, fromlist=[name]), name)
        assert rows[plan.TASKS[task].title] == f"{made.steps} × {made.batch}"


def test_the_page_states_the_planned_seeds_and_margins():
    rows = {row[0]: row[1:] for row in table("Planned seeds and margins")}
    for planned in plan.TASKS.values():
        assert rows[planned.title] == [str(planned.seeds), f"{planned.margin:g}"]


@pytest.fixture(scope="module")
def pilots():
    return sample_size.pilots(read(sample_size.PATH))


def test_the_planned_margins_are_those_of_the_pilot(pilots):
    found = sample_size.margins({task: pilot.scale for task, pilot in pilots.items()})
    assert "digits" in found
    for task, margin in found.items():
        assert plan.TASKS[task].margin == pytest.approx(margin, rel=0.02)  # rounded


def test_the_study_begins_only_after_the_plan_agrees_with_a_complete_pilot(pilots):
    """Before the study begins, the pilot must be complete and agree with the plan."""
    begun = [row for row in read(report.PATH) if row["role"] == "study"]
    if begun:
        margins = sample_size.margins({task: pilot.scale for task, pilot in pilots.items()})
        assert list(margins) == list(plan.TASKS)
        seeds = sample_size.planned_seeds(pilots, margins)
        assert {planned.seeds for planned in plan.TASKS.values()} == {seeds}
