"""Draw the figures of the README and the documentation: `make pictures`."""

import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import structmat as sm
from structmat import viz

HERE = Path(__file__).parent
STATIC = HERE / "_static"
sys.path[:0] = [str(HERE)]  # for tests, which load this file by its path
import scaling  # noqa: E402


def spreading() -> Figure:
    """Plot how one input spreads in a butterfly, in a shuffle and in a cubic graph."""
    networks = {
        "butterfly(16)": sm.butterfly(16),
        "shuffle(16, block=4)": sm.shuffle(16, block=4),
        "from_graph(Möbius–Kantor graph, repeat=2)": sm.from_graph(
            nx.moebius_kantor_graph(), repeat=2
        ),
    }
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, len(networks), width_ratios=[n.depth for n in networks.values()])
    for ax, (title, net) in zip(axes, networks.items(), strict=True):
        viz.grid(net, inputs=5, ax=ax).set_title(title, fontsize=11, family="monospace")
    return figure


def fitting() -> Figure:
    """Plot the errors of fits to random targets of width 512 against the number of parameters."""
    path = HERE / "results" / "fit-512.json"
    left_out = ("random, blocks of 4", "random, blocks of 16", "mixed radix, once")
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in json.loads(path.read_text("utf-8"))["networks"]:
        if row["topology"] not in left_out:
            point = (row["parameters"], statistics.median(row["error"]))
            curves.setdefault(row["topology"], []).append(point)
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    viz.curves(
        curves,
        x="number of parameters",
        y="relative error (median of 10 targets)",
        ax=figure.add_subplot(),
    )
    return figure


KINDS = {"forward": "forward pass", "step": "training step"}
QUIET = {"fontsize": 8, "color": "#666666", "textcoords": "offset points"}


def growth() -> Figure:
    """Plot the time of a rotation against the width and against the number of tokens."""
    figure = timings(
        {"width": "width d ({tokens:,} tokens)", "tokens": "tokens per batch (width {width:,})"}
    )
    shared = figure.axes[0].get_legend_handles_labels()
    figure.legend(*shared, loc="outside upper center", ncols=5, frameon=False)
    for ax in figure.axes:
        ax.get_legend().remove()
    return figure


def stages() -> Figure:
    """Plot the time against the number of stages and against the largest radix."""
    return timings(
        {
            "depth": "number of stages (width {width:,}, {tokens:,} tokens)",
            "radix": "largest radix (width {width:,}, {tokens:,} tokens)",
        }
    )


def timings(names: Mapping[str, str]) -> Figure:
    """Plot medians of a forward pass and, below, of a training step, with references in grey."""
    record = json.loads(scaling.PATH.read_text("utf-8"))
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, len(names), sharey="row")
    for row, kind in zip(axes, KINDS, strict=True):
        for ax, (axis, name) in zip(row, names.items(), strict=True):
            rows = scaling.curves(record, axis)
            timed(rows, kind, ax)
            ax.set_xlabel(name.format(**record["axes"][axis][0]))
            ax.set_ylabel(f"{KINDS[kind]} (ms)" if ax is row[0] else "")
            first = next(iter(rows.values()))
            if axis != "radix":
                reference(ax, "linear", float, first, kind, above=True)
            if axis == "width":
                reference(ax, "d·log d", lambda d: d * math.log2(d), first, kind, above=False)
            if scaling.DENSE not in rows:
                level = 1e3 * scaling.level(record, axis)[kind]["median"]
                ax.axhline(level, color="#888888", linewidth=1)
                at = {"xycoords": ("axes fraction", "data"), "ha": "right"}
                ax.annotate(scaling.DENSE, (1, level), (0, 3), **at, **QUIET)
    return figure


def timed(rows: Mapping[str, Mapping[int, Mapping[str, Any]]], kind: str, ax: Axes) -> None:
    """Plot medians in milliseconds, with a band between the quartiles."""
    medians = {
        curve: [(place, 1e3 * row[kind]["median"]) for place, row in sorted(points.items())]
        for curve, points in rows.items()
    }
    viz.curves(medians, x="", y="", ax=ax)
    ax.set_yscale("log")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    for line, points in zip(ax.lines, rows.values(), strict=True):
        places = sorted(points)
        low, high = ([1e3 * points[p][kind][q] for p in places] for q in ("low", "high"))
        ax.fill_between(places, low, high, color=line.get_color(), alpha=0.25, linewidth=0)


def reference(
    ax: Axes,
    name: str,
    law: Callable[[int], float],
    points: Mapping[int, Mapping[str, Any]],
    kind: str,
    *,
    above: bool,
) -> None:
    """Plot a growth law through the last point, down to half the smallest value on the axes."""
    last = max(points)
    scale = 1e3 * points[last][kind]["median"] / law(last)
    lowest = min(line.get_ydata().min() for line in ax.lines) / 2
    x = [place for place in sorted(points) if scale * law(place) >= lowest]
    ax.plot(x, [scale * law(p) for p in x], color="#888888", linewidth=1, linestyle="--")
    at = x[0], scale * law(x[0])
    ax.annotate(name, at, (0, 5 if above else -6), va="bottom" if above else "top", **QUIET)


RATES = {  # columns of the figure: model, optimiser, axis and title
    ("layers", "Adam", "block"): "two layers, Adam, block size",
    ("layers", "Adam", "depth"): "two layers, Adam, depth",
    ("digits", "Adam", "block"): "digits, Adam, block size",
    ("layers", "SGD", "block"): "two layers, SGD, block size",
}
WORST = 1.5  # largest loss shown, relative to the lowest loss of the same network


def best_rates() -> Figure:
    """Plot losses against the learning rate, for plain generators and, below, for scaled ones."""
    import learning_rates_study  # which needs PEFT, unlike the other figures

    record = json.loads(learning_rates_study.PATH.read_text("utf-8"))
    every = learning_rates_study.curves(record)
    figure = Figure(figsize=(13, 6.5), layout="constrained")
    axes = figure.subplots(2, len(RATES), sharey=True)
    for column, (place, title) in zip(axes.T, RATES.items(), strict=True):
        some = [c for c in every if (c.case.model, c.case.optimiser, c.case.axis) == place]
        for ax, scaled in zip(column, (False, True), strict=True):
            against_rate(some, ax, scaled=scaled)
            ax.get_legend().remove()
        column[0].set_title(title, fontsize=11)
        column[0].legend(ncols=3, fontsize=8, loc="upper center", frameon=False)
        column[0].set_xlabel("")
    for ax, name in zip(axes[:, 0], ("plain generators", "scaled generators"), strict=True):
        ax.set_ylabel(f"{name}\nloss / lowest loss")
    return figure


def against_rate(some: Sequence[Any], ax: Axes, *, scaled: bool) -> None:
    """Plot the loss of each network against its rate, and mark the interpolated minimum."""
    drawn = {}
    for c in some:
        pairs = zip(c.scaled if scaled else c.plain, c.losses, strict=True)
        low = min(c.losses)
        drawn[str(c.case.value)] = [(rate, x / low) for rate, x in pairs if x < WORST * low]
    viz.curves(drawn, x="learning rate", y="", log="x", ax=ax)
    ax.set_ylim(0.98, WORST + 0.12)  # with space for a legend
    for line, c in zip(ax.lines, some, strict=True):
        if c.best is not None:
            best = (c.case.scaled if scaled else c.case.plain)(c.best)
            ax.plot([best], [0.99], marker="^", color=line.get_color(), clip_on=False)


if __name__ == "__main__":
    mpl.rcParams["svg.hashsalt"] = "structmat"  # the same picture gives the same file
    STATIC.mkdir(exist_ok=True)
    for draw, name in (
        (spreading, "spreading"),
        (fitting, "fit-512"),
        (best_rates, "learning-rates"),
        (growth, "scaling"),
        (stages, "stages"),
    ):
        draw().savefig(STATIC / f"{name}.svg", metadata={"Date": None})
