"""Draw the pictures of README and docs anew: `make pictures`."""

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


if __name__ == "__main__":
    mpl.rcParams["svg.hashsalt"] = "structmat"  # the same picture gives the same file
    STATIC.mkdir(exist_ok=True)
    spreading().savefig(STATIC / "spreading.svg", metadata={"Date": None})
