"""The tables and figures of the study, on simulated records."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from docs.method_study import figures, plan
from docs.method_study import report as r
from docs.method_study.analysis import compared
from structmat.errors import StructmatError
from tests.docs.method_study.simulated_runs import whole_study

SEEDS = 6


@pytest.fixture(autouse=True)
def _few_seeds(monkeypatch):
    for task, planned in plan.TASKS.items():
        monkeypatch.setitem(plan.TASKS, task, planned._replace(seeds=SEEDS))


@pytest.fixture(scope="module")
def runs():
    return whole_study({"shuffle": -0.5, "OFT": 0.5, plan.DEFAULT: -0.2}, seeds=SEEDS)


def cells(table):
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def number(text):
    return float(text.partition(" ")[0].replace("−", "-").replace("+", ""))


def test_a_study_that_has_not_begun_has_no_results():
    progress = list(r.tables([]))
    assert [row[2:] for row in cells(progress[1])] == [["0", "0"]] * 2 + [["0", "—"]] * 2
    assert progress[-1] == "*The results are reported when all planned seeds are complete.*"


def test_nothing_is_reported_before_the_last_run(runs):
    fewer = [run for run in runs if (run["method"], run.get("seed")) != ("HRA", 2)]
    assert len(list(r.tables(fewer))) == 3
    with pytest.raises(StructmatError, match="planned seeds are missing"):
        figures.drawn(fewer)


def test_incomplete_seeds_are_left_out(runs):
    fewer = [run for run in runs if (run["method"], run.get("seed")) != ("HRA", 2)]
    assert r.seeds_of(runs, "digits", "parameters") == SEEDS
    assert {run["seed"] for run in r.studied(fewer, "digits")} == {0, 1, 3, 4, 5}
    assert len(r.losses(fewer, "digits")["LoRA"]) == SEEDS - 1


def test_seeds_that_were_not_planned_are_left_out(runs, monkeypatch):
    monkeypatch.setitem(plan.TASKS, "digits", plan.TASKS["digits"]._replace(seeds=4))
    assert r.seeds_of(runs, "digits", "parameters") == 4


def test_at_equal_time_the_baseline_is_that_of_equal_parameters(runs):
    for task in plan.EQUAL_TIME:
        equal, timed = (r.losses(runs, task, budget) for budget in r.BUDGETS)
        np.testing.assert_array_equal(equal[plan.BASELINE], timed[plan.BASELINE])
        assert list(timed) == [name for name in plan.TASKS[task].methods if name != plan.FROZEN]


def test_the_report_has_its_sections_in_order(runs):
    text = "\n\n".join(r.tables(runs))
    titles = re.findall(r"^### (.+)", text, re.M)
    means = [f"Means over the tasks, {title}" for title in r.BUDGETS.values()]
    assert titles[:3] == [*means, "The default"]
    assert titles[3:-1] == [f"Task: {planned.title}" for planned in plan.TASKS.values()]
    assert "By the rule, the default" in text
    assert "nan" not in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") > 2


def test_the_table_of_a_task_quotes_the_analysis(runs):
    outcomes = r.losses(runs, "docstrings")
    margin = plan.TASKS["docstrings"].margin
    rows = cells(r.comparison_table(outcomes, "docstrings"))
    found = compared(outcomes, plan.BASELINE, margin)
    assert [row[0] for row in rows] == [c.method for c in found]
    for row, c in zip(rows, found, strict=True):
        assert number(row[1]) == pytest.approx(c.estimate.value, abs=6e-4)
        assert float(row[2].removeprefix("± ")) == pytest.approx(c.half, abs=6e-4)
        assert row[-1] == c.verdict
    verdicts = {row[0]: row[-1] for row in rows}
    assert (verdicts["shuffle"], verdicts["OFT"]) == ("lower", "higher")


def test_the_table_over_tasks_omits_methods_that_some_task_lacks(runs):
    outcomes = {task: r.losses(runs, task) for task in plan.TASKS}
    names = [row[0] for row in cells(r.over_tasks_table(outcomes))]
    left_out = (plan.BASELINE, plan.FROZEN, plan.DENSE)
    assert names == [name for name in plan.METHODS if name not in left_out]


def test_the_table_of_methods_has_parameters_means_and_times(runs):
    rows = {row[0]: row for row in cells(r.methods_table(runs, "digits"))}
    assert list(rows) == list(plan.TASKS["digits"].methods)
    mean = np.mean(
        [run["test_loss"] for run in r.studied(runs, "digits") if run["method"] == "OFT"]
    )
    assert number(rows["OFT"][3]) == pytest.approx(mean, abs=6e-4)
    assert rows["OFT"][-1] == f"{1.5 / 1.1:.2f}×"
    assert rows[plan.BASELINE][-1] == "1.00×"
    assert rows[plan.FROZEN][-1] == "—"


def test_diverged_runs_are_counted_and_have_no_measure_of_forgetting(runs):
    kept = ("task", "method", "role", "budget", "seed", "rate", "steps", "sizes", "trained")
    broken = [
        {key: run[key] for key in kept} | {"diverged": True}
        if (run["task"], run["method"], run["budget"], run.get("seed"))
        == ("digits", "HRA", "parameters", 1)
        else run
        for run in runs
    ]
    assert cells(r.diverged_table(broken)) == [["digits", "equal parameters", "HRA", "1 of 6"]]
    assert r.diverged_table(runs) == "No run diverged."
    losses = r.losses(broken, "digits")["HRA"]
    np.testing.assert_array_equal(losses[1], math.log(5))
    own = r.studied(broken, "digits")
    assert sorted(r.by_seed(own, "HRA", "forgotten")) == [0, 2, 3, 4, 5]
    assert sorted(r.by_seed(own, "HRA", "test_accuracy")) == list(range(6))
    assert "nan" not in r.secondary_table(broken, "digits") + r.change_table(broken, "digits")


# Figures ------------------------------------------------------------------------------------


def test_the_page_shows_every_figure_with_a_description(runs, tmp_path):
    text = "\n\n".join(figures.sections(runs, tmp_path / "new", "generated/study"))
    for name, picture in figures.FIGURES.items():
        path = tmp_path / "new" / f"method-study-{name}.svg"
        assert path.stat().st_size > 5000
        assert f"```{{image}} generated/study/{path.name}\n:alt: {picture.shown}" in text
        assert f"*{picture.caption}*" in text
    assert text.endswith("\n\n".join(r.tables(runs)))


def test_before_the_study_the_page_has_no_figures(tmp_path):
    assert list(figures.sections([], tmp_path / "new", "new")) == list(r.tables([]))
    assert not (tmp_path / "new").exists()


def test_the_forest_shows_every_comparison_with_its_conclusion(runs):
    figure = figures.forest(runs)
    assert len(figure.axes) == len(plan.TASKS) + 1
    for ax, (task, planned) in zip(figure.axes, plan.TASKS.items(), strict=False):
        found = compared(r.losses(runs, task), plan.BASELINE, planned.margin)
        points = [line for line in ax.lines if line.get_marker() == "o"]
        assert [float(line.get_xdata()[0]) for line in points] == [c.estimate.value for c in found]
        colours = [figures.VERDICTS[c.verdict.partition(",")[0]] for c in found]
        assert [line.get_color() for line in points] == colours


def test_every_adapter_has_a_style_of_its_own():
    styles = {(style["color"], style["marker"]) for style in figures.STYLES.values()}
    assert set(figures.STYLES) == set(figures.ADAPTERS)
    assert len(styles) == len(figures.ADAPTERS)
