"""Draw the pictures of README and docs anew: `make pictures`."""

import json
import statistics
from pathlib import Path

import matplotlib as mpl
import networkx as nx
from matplotlib.figure import Figure

import structmat as sm
from structmat import plot

STATIC = Path(__file__).parent / "_static"


def spreading() -> Figure:
    """Show how one input spreads in a butterfly, in a shuffle and in a cubic graph."""
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
        plot.grid(net, inputs=5, ax=ax).set_title(title, fontsize=11, family="monospace")
    return figure


def fitting() -> Figure:
    """Show the errors of fits to random targets of width 512 against the parameters."""
    path = Path(__file__).parent / "results" / "fit-512.json"
    left_out = ("random, blocks of 4", "random, blocks of 16", "mixed radix, once")
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in json.loads(path.read_text("utf-8"))["networks"]:
        if row["topology"] not in left_out:
            point = (row["parameters"], statistics.median(row["error"]))
            curves.setdefault(row["topology"], []).append(point)
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    plot.curves(
        curves, x="trainable parameters", y="relative error, median of 10", ax=figure.add_subplot()
    )
    return figure


if __name__ == "__main__":
    mpl.rcParams["svg.hashsalt"] = "structmat"  # the same picture gives the same file
    STATIC.mkdir(exist_ok=True)
    for draw, name in ((spreading, "spreading"), (fitting, "fit-512")):
        draw().savefig(STATIC / f"{name}.svg", metadata={"Date": None})
