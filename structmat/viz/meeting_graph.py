"""The graph whose edges join wires that share a switch, coloured by stage."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from structmat.errors import StructmatError, abbreviated, require
from structmat.families.resolution import checked
from structmat.networks.network import Network
from structmat.viz.palette import COLOURS, INK, in_steps
from structmat.viz.style import axes, labelled, legend, room, wire_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMED = 32  # maximum number of named wires around a circle
_AWAY = 7  # points from a dot to its name
_MOST = 50_000  # maximum number of lines


def meetings(
    net: Network,
    *,
    layout: Mapping[Hashable, tuple[float, float]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw each wire as a point, and a line between two that share a switch, coloured by stage.

    For `from_graph(graph)` the drawing shows the graph with its proper edge colouring. If two wires
    share switches in several stages, the line has the colour of the first of these stages.

    Parameters
    ----------
    net : Network
        If it is not straight, wires are numbered as in its straight form.
    layout : mapping from a wire to its position, optional
        The keys are the labels of the network if it has any, else wire numbers, as in networkx
        layouts. By default the wires lie on a circle, clockwise from the top, and up to 32 of them
        are named.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        Axes with one line collection, labelled "stage 1" and so on, for each stage that joins two
        wires for the first time.

    Raises
    ------
    StructmatError
        If the layout omits a wire or has an invalid position, or if there are more than 50,000
        lines, which would be illegible.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> ax = meetings(butterfly(8))
    >>> [(some.get_label(), len(some.get_segments())) for some in ax.collections[:3]]
    [('stage 1', 4), ('stage 2', 4), ('stage 3', 4)]
    """
    net = checked(net, "meetings")
    straight = net.straightened().network
    places = _places(straight, layout)
    met: set[tuple[int, int]] = set()
    names = wire_names(straight) if net.width <= _NAMED else []
    ax = axes(ax, 5.2 + 2 * room(names), 4.8)
    ax.set_aspect("equal")
    fresh = []
    for stage in straight.stages:
        now = {
            pair
            for bank in stage.banks
            for switch in np.sort(bank.reads, axis=1).tolist()
            for pair in combinations(switch, 2)
        }
        fresh.append(sorted(now - met))
        met |= now
        if len(met) > _MOST:
            raise StructmatError(
                f"width {net.width}: more than {_MOST:,} pairs share a switch; draw a narrower"
                " network of the family, or use reach(net)"
            )
    meeting = [t for t, pairs in enumerate(fresh) if pairs]
    few = len(meeting) <= len(COLOURS)
    colours = COLOURS if few else in_steps(len(meeting))
    collection = require("matplotlib.collections", "plot").LineCollection
    thickness = min(2.0, 60 / max(len(met), 1) ** 0.5 / 4)
    for t, colour in zip(meeting, colours, strict=False):
        lines = places[np.array(fresh[t])]
        label = f"stage {t + 1}"
        ax.add_collection(collection(lines, colors=[colour], linewidths=thickness, label=label))
    size = min(40, 1200 / net.width)
    ax.scatter(places[:, 0], places[:, 1], s=size, color=INK, zorder=3, label="wires")
    _named(ax, names, places, met if layout is not None else set())
    ax.margins(0.08)
    ax.update_datalim(_room(places))
    ax.autoscale_view()
    ax.axis("off")
    handles = ax.collections[:-1]
    if len(handles) > 2 * len(COLOURS):  # label only some wires, as a scale
        some = np.linspace(0, len(handles) - 1, len(COLOURS)).round().astype(int)
        handles = [handles[k] for k in some]
    if handles:
        for line in legend(ax, handles=handles).get_lines():
            line.set_linewidth(
                max(thickness, 1.5)
            )  # the colour of thinner lines would be invisible
    return ax


def _places(net: Network, layout: Mapping[Hashable, tuple[float, float]] | None) -> Any:
    """Return the positions of the wires, (width, 2)."""
    if layout is None:
        angle = 2 * np.pi * np.arange(net.width) / net.width
        return np.stack([np.sin(angle), np.cos(angle)], axis=1)
    names = range(net.width) if net.labels is None else net.labels
    for name in names:
        if name not in labelled(layout, "layout", "{0: (0.0, 1.0), 1: (1.0, 0.0)}"):
            raise StructmatError(
                f"layout has no position for wire {abbreviated(name)}; give one for each wire"
            )
    try:
        places = np.array([layout[name] for name in names], dtype=float)
    except (TypeError, ValueError):
        places = np.empty(0)
    if places.shape != (net.width, 2) or not np.isfinite(places).all():
        raise StructmatError("layout: the position of a wire must be two finite numbers, (x, y)")
    return places


def _room(places: Any) -> Any:
    """Return two opposite corners of a box around the positions, of positive width and height."""
    low, high = places.min(axis=0), places.max(axis=0)
    half = np.maximum(
        (high - low) / 2, (high - low).max() / 4 or 1
    )  # equal scales need a positive span
    return np.stack([(low + high) / 2 - half, (low + high) / 2 + half])


def _named(ax: Any, names: Sequence[str], places: Any, met: set[tuple[int, int]]) -> None:
    """Write each name next to its dot, on the side away from its lines."""
    effects = require("matplotlib.patheffects", "plot")
    halo = [effects.withStroke(linewidth=2, foreground="white")]
    centre = places.mean(axis=0)
    lines: list[list[int]] = [[] for _ in places]
    for a, b in met:
        lines[a].append(b)
        lines[b].append(a)
    for wire, (name, place) in enumerate(zip(names, places, strict=False)):
        toward = places[lines[wire]] - place if lines[wire] else (centre - place)[None]
        x, y = _free(np.arctan2(toward[:, 1], toward[:, 0]))
        ax.annotate(
            name,
            place,
            (_AWAY * x, _AWAY * y),
            textcoords="offset points",
            ha="center" if abs(x) < 0.3 else "left" if x > 0 else "right",
            va="center" if abs(y) < 0.3 else "bottom" if y > 0 else "top",
            fontsize=8,
            color=INK,
            parse_math=False,
            path_effects=halo,
        )


def _free(taken: Any) -> tuple[float, float]:
    """Return the direction in the middle of the largest gap between these angles.

    Examples
    --------
    >>> [round(float(part), 9) for part in _free(np.array([-np.pi / 4, np.pi / 4]))]
    [-1.0, 0.0]
    """
    angles = np.sort(taken)
    gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
    middle = angles[gaps.argmax()] + gaps.max() / 2
    return float(np.cos(middle)), float(np.sin(middle))
