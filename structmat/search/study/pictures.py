"""Pictures of a search: the Pareto front of two objectives, or the progress of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from structmat.viz.palette import BARE, COLOURS
from structmat.viz.style import axes, legend, ruled, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from structmat.search.study.result import SearchResult


def drawn(result: SearchResult, ax: Axes | None = None) -> Axes:
    """Draw the front of the first two objectives, or the best value so far of a single one.

    With more than two objectives, the Pareto front is that of all of them, so the points that are
    drawn need not form a staircase.

    Examples
    --------
    >>> from structmat.search.study.engine import search
    >>> result = search(8, ["parameters", "mixing"], trials=5, proposals="families", progress=False)
    >>> [line.get_label() for line in drawn(result).lines]
    ['trials', 'Pareto front']
    """
    ax = axes(ax, 6.4, 4.4)
    if len(result.goals) == 1:
        _progress(result, ax)
    else:
        _front(result, ax)
    for axis in (ax.xaxis, ax.yaxis):
        thousands(axis)
    ruled(ax)
    legend(ax)
    return ax


def _front(result: SearchResult, ax: Axes) -> None:
    names = [goal.name for goal in result.goals[:2]]
    every, front = (
        np.array([[trial.values[name] for name in names] for trial in trials])
        for trials in (result.ranking, result.front)
    )
    ax.plot(*every.T, "o", color=BARE, markersize=4, label="trials")
    steps = "steps-post" if len(result.goals) == 2 else "default"
    line = "-" if len(result.goals) == 2 else "none"
    ax.plot(
        *front.T,
        marker="o",
        linestyle=line,
        drawstyle=steps,
        color=COLOURS[0],
        label="Pareto front",
    )
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])


def _progress(result: SearchResult, ax: Axes) -> None:
    [goal] = result.goals
    feasible = [trial for trial in result.trials if trial.state == "feasible"]
    values = np.array([trial.values[goal.name] for trial in feasible])
    numbers = [trial.number for trial in feasible]
    best = goal.sign * np.minimum.accumulate(goal.sign * values)
    ax.plot(numbers, values, "o", color=BARE, markersize=4, label="trials")
    ax.plot(numbers, best, drawstyle="steps-post", color=COLOURS[0], label="best so far")
    ax.set_xlabel("trial")
    ax.set_ylabel(goal.name)
