"""Draw the figures of the method study: `python -m docs.method_study.figures`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from docs.method_study import decision
from docs.method_study.analysis import Comparison, compared
from docs.method_study.differences import Estimate, estimated
from docs.method_study.json_lines import read
from docs.method_study.plan import (
    BASELINE,
    CANDIDATES,
    DEFAULT,
    DENSE,
    FROZEN,
    METHODS,
    POINTS,
    TASKS,
    tasks_of,
)
from docs.method_study.report import (
    BUDGETS,
    CHANGES,
    PATH,
    by_seed,
    changes,
    losses,
    reportable,
    step_times,
    studied,
    tables,
)
from docs.method_study.runs import Run, part
from structmat import viz
from structmat.errors import StructmatError
from structmat.viz.charts import look
from structmat.viz.palette import BARE, INK, QUIET
from structmat.viz.style import ruled

STATIC = Path(__file__).parents[1] / "_static"
VERDICTS = {  # colours of the conclusions
    "lower": viz.COLOURS[0],
    "higher": viz.COLOURS[1],
    "equivalent": viz.COLOURS[2],
    "undecided": BARE,
}
ADAPTERS = tuple(name for name in METHODS if name != FROZEN)
GROUPS = {  # one colour each
    viz.COLOURS[0]: (BASELINE, "rsLoRA", "DoRA", "MiSS"),  # additive
    viz.COLOURS[2]: ("OFT", "HRA", "RoAd", "PSOFT"),  # PEFT's orthogonal or nearly orthogonal ones
    viz.COLOURS[1]: (*CANDIDATES, DEFAULT, DENSE),  # structmat's rotations
}
STYLES = {
    name: {"color": colour, "marker": marker}
    for colour, names in GROUPS.items()
    for name, marker in zip(names, "osD^vXP", strict=False)
}


def forest(runs: Sequence[Run], budget: str = "parameters") -> Figure:
    """Plot the differences from the baseline in each task, and their means, with intervals.

    Thick lines are intervals for each comparison alone, thin lines are simultaneous intervals. The
    band is the margin within which a difference does not matter.
    """
    outcomes = {task: losses(runs, task, budget) for task in tasks_of(budget)}
    panels: dict[str, tuple[Mapping[str, Comparison], float]] = {}
    for task in outcomes:
        title, margin = TASKS[task].title, TASKS[task].margin
        found = compared(outcomes[task], BASELINE, margin)
        panels[f"{title}\n(nats)"] = {c.method: c for c in found}, margin
    mean = decision.over_tasks(outcomes, METHODS, BASELINE)
    panels["mean of the tasks\n(points)"] = {c.method: c for c in mean}, POINTS
    names = [name for name in ADAPTERS if name != BASELINE]
    figure = Figure(figsize=(11, 1.6 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True)
    for ax, (title, (comparisons, margin)) in zip(axes, panels.items(), strict=True):
        rows(ax, [comparisons.get(name) for name in names], margin)
        ax.set_title(title, fontsize=10)
    axes[0].set_yticks(range(len(names)), names, fontsize=9)
    axes[0].invert_yaxis()
    figure.supxlabel(
        f"difference from {BASELINE} in test loss, {BUDGETS[budget]} (negative is better)",
        fontsize=10,
    )
    handles = [
        mpl.lines.Line2D([], [], color=colour, marker="o", linewidth=3, label=verdict)
        for verdict, colour in VERDICTS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def rows(ax: Axes, comparisons: Sequence[Comparison | None], margin: float) -> None:
    """Plot one comparison a row, with the band of the margin."""
    ax.axvspan(-margin, margin, color=QUIET, alpha=0.3, linewidth=0)
    ax.axvline(0, color=INK, linewidth=0.8)
    for row, comparison in enumerate(comparisons):
        if comparison is not None:
            colour = VERDICTS[comparison.verdict.partition(",")[0]]
            value, half = comparison.estimate.value, comparison.estimate.half()
            ax.plot(comparison.interval, [row, row], color=colour, linewidth=1)
            ax.plot([value - half, value + half], [row, row], color=colour, linewidth=3)
            ax.plot(value, row, color=colour, marker="o", markersize=5)
    ruled(ax)
    ax.tick_params(labelsize=8)


def costs(runs: Sequence[Run]) -> Figure:
    """Plot differences in test loss against the number of parameters and the time of a step.

    Steps are timed only in the tasks that are compared at equal time.
    """
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, len(TASKS), sharey="col")
    for column, (task, planned) in zip(axes.T, TASKS.items(), strict=True):
        own, outcomes, times = studied(runs, task), losses(runs, task), step_times(runs, task)
        size = {run["method"]: run["trained"] for run in own}
        for name, values in outcomes.items():
            estimate = estimated(values - outcomes[BASELINE])
            for ax, at in zip(column, (size, times), strict=True):
                if name in at:
                    point(ax, name, Estimate(at[name], 0, 1), estimate)
        column[0].set_title(planned.title, fontsize=10)
        column[0].set_xlabel("trained parameters")
        column[0].xaxis.set_major_formatter("{x:,.0f}")
        column[0].tick_params(axis="x", rotation=30)
        column[1].set_xlabel(f"time per step, relative to {BASELINE}")
        column[1].set_visible(bool(times))
    for ax in axes.flat:
        ax.axhline(0, color=QUIET, linewidth=0.8, zorder=0)
        ax.locator_params(axis="x", nbins=5)
    for ax in axes[:, 0]:
        ax.set_ylabel(f"difference from {BASELINE}\nin test loss (nats)")
    shared_legend(figure, axes[0, 1])
    return figure


def forgetting(runs: Sequence[Run]) -> Figure:
    """Plot the loss added on the task of pretraining against the gain on the new task."""

    def estimates(own: Sequence[Run], name: str) -> tuple[Estimate, Estimate]:
        frozen, loss = by_seed(own, FROZEN, "test_loss"), by_seed(own, name, "test_loss")
        gains = [frozen[seed] - loss[seed] for seed in sorted(frozen.keys() & loss.keys())]
        forgotten = list(by_seed(own, name, "forgotten").values())
        return estimated(np.array(gains)), estimated(np.array(forgotten))

    return scattered(
        runs,
        estimates,
        x="gain: test loss saved by adaptation (nats)",
        y="forgotten: loss added on\nthe task of pretraining (nats)",
    )


def calibration(runs: Sequence[Run]) -> Figure:
    """Plot the calibration error against the accuracy."""

    def estimates(own: Sequence[Run], name: str) -> tuple[Estimate, Estimate]:
        accuracy, error = (
            100 * np.array(list(by_seed(own, name, key).values()))
            for key in ("test_accuracy", "test_ece")
        )
        return estimated(accuracy), estimated(error)

    return scattered(runs, estimates, x="accuracy (%)", y="expected calibration error (%)")


def scattered(
    runs: Sequence[Run],
    estimates: Callable[[Sequence[Run], str], tuple[Estimate, Estimate]],
    *,
    x: str,
    y: str,
) -> Figure:
    """Plot two measures of each adapter, one panel a task."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    axes = figure.subplots(1, len(TASKS))
    for ax, (task, planned) in zip(axes, TASKS.items(), strict=True):
        own = studied(runs, task)
        for name in planned.methods:
            if name != FROZEN:
                point(ax, name, *estimates(own, name))
        ax.set_title(planned.title, fontsize=10)
    axes[0].set_ylabel(y)
    figure.supxlabel(x, fontsize=10)
    shared_legend(figure, axes[1])
    return figure


def weights(runs: Sequence[Run]) -> Figure:
    """Plot how each adapter changed the weights: one panel a measure, one marker a task."""
    figure = Figure(figsize=(11, 1.6 + 0.28 * len(ADAPTERS)), layout="constrained")
    axes = figure.subplots(1, len(CHANGES), sharey=True)
    for k, (task, planned) in enumerate(TASKS.items()):
        own = part(runs, task=task, role="study")
        for row, name in enumerate(ADAPTERS):
            if name in planned.methods:
                for ax, value in zip(axes, changes(own, name).values(), strict=True):
                    style = look(k) | {"linestyle": "", "markersize": 5}
                    ax.plot(value, row, label=planned.title if row == 0 else None, **style)
    for ax, title in zip(axes, CHANGES, strict=True):
        ax.set_title(title, fontsize=10)
        ruled(ax)
        ax.tick_params(labelsize=8)
        ax.locator_params(axis="x", nbins=4)
    axes[0].set_yticks(range(len(ADAPTERS)), ADAPTERS, fontsize=9)
    axes[0].invert_yaxis()
    shared_legend(figure, axes[0])
    return figure


def point(ax: Axes, name: str, x: Estimate, y: Estimate) -> None:
    """Plot the mean of a method with its 95 % intervals, in the colour and marker of the method."""
    style = STYLES[name] | {"linestyle": "", "markersize": 5}
    intervals = {"xerr": x.half() or None, "yerr": y.half() or None}
    ax.errorbar(x.value, y.value, label=name, elinewidth=1, **intervals, **style)
    ruled(ax)
    ax.tick_params(labelsize=8)


def shared_legend(figure: Figure, ax: Axes) -> None:
    """Add one legend for all axes, above them."""
    handles, labels = ax.get_legend_handles_labels()
    columns = min(5, len(labels))
    figure.legend(
        handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=9
    )


class Picture(NamedTuple):
    """A figure with a description for readers who do not see it, and its caption."""

    draw: Callable[[Sequence[Run]], Figure]
    shown: str
    caption: str


FIGURES = {
    "forest": Picture(
        forest,
        "Differences of each method from LoRA in test loss, with intervals, one panel a task",
        "Differences in test loss at equal numbers of parameters. Thick lines: 95 % intervals for"
        " each comparison alone; thin lines: simultaneous intervals; grey: the margin.",
    ),
    "forest-time": Picture(
        partial(forest, budget="time"),
        "The same differences when every method trains for the same time",
        "Differences in test loss at equal training time.",
    ),
    "costs": Picture(
        costs,
        "Differences in test loss against the number of parameters and the time of a step",
        "Differences in test loss, with 95 % intervals, against the number of trained parameters"
        " and the time of a training step.",
    ),
    "forgetting": Picture(
        forgetting,
        "Forgetting of each method against its gain, one panel a task",
        "Forgetting against gain, with 95 % intervals for the means. Blue: LoRA and its relatives;"
        " green: other methods of PEFT; orange: rotations of structmat.",
    ),
    "calibration": Picture(
        calibration,
        "Calibration error of each method against its accuracy, one panel a task",
        "Calibration error against accuracy, with 95 % intervals for the means.",
    ),
    "weights": Picture(
        weights,
        "Five measures of the change in the weights, for each adapter and task",
        "The change in the adapted weights, as means over layers and seeds.",
    ),
}


def drawn(runs: Sequence[Run], folder: Path = STATIC) -> dict[str, Path]:
    """Write every figure of the study, and return their paths.

    Raises
    ------
    StructmatError
        If planned seeds are missing.
    """
    if not reportable(runs):
        raise StructmatError("planned seeds are missing: run the study first")
    folder.mkdir(parents=True, exist_ok=True)
    return {
        name: viz.save(picture.draw(runs), folder / f"method-study-{name}.svg")
        for name, picture in FIGURES.items()
    }


def sections(runs: Sequence[Run], folder: Path, address: str) -> Iterator[str]:
    """Yield the results of the study in Markdown; figures are written to a folder.

    `address` is the path of the folder relative to the page.
    """
    if reportable(runs):
        yield "### Figures"
        for name, path in drawn(runs, folder).items():
            picture = FIGURES[name]
            options = f":alt: {picture.shown}\n:width: 100%"
            yield f"```{{image}} {address}/{path.name}\n{options}\n```"
            yield f"*{picture.caption}*"
    yield from tables(runs)


if __name__ == "__main__":
    drawn(read(PATH))
