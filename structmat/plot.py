"""Pictures of networks and of training: every function returns matplotlib Axes and takes `ax=`.

Without `ax` a figure of its own is made, which pyplot does not know: nothing has to be closed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from structmat import permutation
from structmat.errors import StructmatError, WiringError, require
from structmat.network import Network
from structmat.permutation import Index
from structmat.reachability import reach
from structmat.stage import Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008): told apart by colour-blind readers; black and yellow left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK, _BARE, _QUIET, _FAINT = "#333333", "#888888", "#BBBBBB", "#D4D4D4"
_WIDEST = 64  # wires that a grid graph can show apart
_CELLS = 256  # matrix rows and columns that a picture can show apart


def _axes(ax: Axes | None, width: float, height: float) -> Any:
    """Return `ax`, or the axes of a new figure of this size in inches."""
    if ax is not None:
        return ax
    figures = require("matplotlib.figure", "plot")
    return figures.Figure(figsize=(width, height), layout="constrained").add_subplot()


# The grid graph ------------------------------------------------------------------------------


def grid(
    net: Network, *, inputs: int | Iterable[int] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the grid graph: a column of wires before and after each stage, switches in colour.

    Wire 0 is at the top and the first stage at the left. The edges of one switch share a colour,
    bare wires are grey. With `inputs`, only the edges that carry something of those inputs are
    coloured and the wires that have heard of them are filled, stage by stage; the number above
    each column counts them.

    Parameters
    ----------
    net : Network
        At most 64 wires wide: more cannot be told apart. For a wider network draw a narrower
        one of its family, or `sparsity`.
    inputs : int or iterable of int, optional
        The wires whose spreading is shown.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        With two line collections, labelled "reached" and "quiet": one line for each edge.

    Raises
    ------
    StructmatError
        For a network wider than 64.
    WiringError
        For inputs that are no wires of the network.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> ax = grid(butterfly(8), inputs=0)
    >>> [text.get_text() for text in ax.texts]
    ['1', '2', '4', '8']
    >>> ax.figure.savefig("butterfly.svg")  # doctest: +SKIP
    """
    if net.width > _WIDEST:
        raise StructmatError(
            f"width {net.width}: a grid graph can be read up to {_WIDEST} wires; draw a narrower"
            " network of the family, or sparsity(net)"
        )
    chosen = None if inputs is None else _inputs(net, inputs)
    ax = _axes(ax, min(1.1 + 1.5 * max(net.depth, 1), 14), min(0.9 + 0.28 * net.width, 9))
    edges = [_edges(stage) for stage in net.stages]
    heard = _heard(net, edges, chosen)
    crowd = max(net.width / 16, 1)  # the more wires, the thinner their lines
    _lines(ax, edges, heard, thickness=1.5 / crowd**0.5)
    column, wire = np.divmod(np.arange(heard.size), net.width)
    ax.scatter(
        column,
        wire,
        s=30 / crowd,
        linewidths=0.8,
        zorder=3,
        label="wires",
        facecolors=np.where(heard.ravel(), _INK, "white").tolist(),
        edgecolors=np.where(heard.ravel(), _INK, _QUIET).tolist(),
    )
    _grid_frame(ax, net, None if chosen is None else heard)
    return ax


def _inputs(net: Network, inputs: int | Iterable[int]) -> Index:
    try:
        listed = [inputs] if isinstance(inputs, (int, np.integer)) else list(inputs)
    except TypeError:
        raise WiringError(f"inputs={inputs!r}: give a wire or several wires") from None
    wires = permutation.indices(listed, "inputs").reshape(-1)
    wrong = wires[(wires < 0) | (wires >= net.width)]
    if len(wrong):
        raise WiringError(
            f"input {wrong[0]}: a network of width {net.width} has wires 0 to {net.width - 1}"
        )
    return wires


def _edges(stage: Stage) -> tuple[Index, Index, Index]:
    """Return the edges of a stage as (from, to, switch) arrays; switch −1 is a bare wire."""
    start, end = stage.passing
    starts, ends, switches = [start], [end], [np.full(len(start), -1)]
    number = 0
    for bank in stage.banks:
        shape = (bank.count, bank.radix, bank.radix)
        starts.append(np.broadcast_to(bank.reads[:, None, :], shape).ravel())
        ends.append(np.broadcast_to(bank.writes[:, :, None], shape).ravel())
        switches.append(np.repeat(np.arange(number, number + bank.count), bank.radix**2))
        number += bank.count
    return np.concatenate(starts), np.concatenate(ends), np.concatenate(switches)


def _heard(
    net: Network, edges: list[tuple[Index, Index, Index]], inputs: Index | None
) -> npt.NDArray[np.bool_]:
    """Return (depth + 1, width): which wires of each column have heard of the inputs."""
    heard = np.zeros((net.depth + 1, net.width), dtype=bool)
    heard[0, slice(None) if inputs is None else inputs] = True
    for t, (start, end, _) in enumerate(edges):
        heard[t + 1, end[heard[t, start]]] = True
    return heard


def _lines(
    ax: Any,
    edges: list[tuple[Index, Index, Index]],
    heard: npt.NDArray[np.bool_],
    thickness: float,
) -> None:
    """Add the edges as two collections: those that carry something, and the quiet ones below."""
    lines, loud, colours = [np.zeros((0, 2, 2))], [np.zeros(0, bool)], [np.zeros(0, int)]
    for t, (start, end, switch) in enumerate(edges):
        left, right = np.full(len(start), t), np.full(len(start), t + 1)
        lines.append(np.stack([left, start, right, end], axis=1).reshape(-1, 2, 2))
        loud.append(heard[t, start])
        colours.append(np.where(switch < 0, -1, switch % len(COLOURS)))
    line, carries = np.concatenate(lines), np.concatenate(loud)
    colour = np.array([*COLOURS, _BARE])[np.concatenate(colours)]
    collection = require("matplotlib.collections", "plot").LineCollection
    for label, part, paint, width in (
        ("quiet", ~carries, _FAINT, thickness / 2),
        ("reached", carries, colour[carries], thickness),
    ):
        ax.add_collection(
            collection(line[part], colors=paint, linewidths=width, label=label, zorder=1 + width)
        )


def _grid_frame(ax: Any, net: Network, heard: npt.NDArray[np.bool_] | None) -> None:
    """Name the stages below and the wires at the left, count what is heard above."""
    ax.set_xlim(-0.3, net.depth + 0.3)
    ax.set_ylim(net.width - 0.4, -0.6 if heard is None else -1.0 - net.width / 24)
    named = range(0, net.depth, -(-net.depth // 32) or 1)
    ax.set_xticks([t + 0.5 for t in named], [f"$B_{{{t + 1}}}$" for t in named])
    step = max(1, 2 ** math.ceil(math.log2(net.width / 16)))
    wires = np.arange(0, net.width, step)
    ax.set_yticks(wires, None if net.labels is None else [str(net.labels[i]) for i in wires])
    ax.set_ylabel("wire", color=_INK)
    _bare(ax)
    if heard is not None:
        for t, number in enumerate(heard.sum(axis=1)):
            ax.text(t, -0.7, str(number), ha="center", va="bottom", fontsize=9, color=_INK)


def _bare(ax: Any) -> None:
    """Leave the tick labels, without ticks and frame."""
    ax.tick_params(length=0, labelsize=9, labelcolor=_INK)
    for spine in ax.spines.values():
        spine.set_visible(False)


# Patterns of matrices ------------------------------------------------------------------------


def sparsity(net: Network, *, ax: Axes | None = None) -> Axes:
    """Draw where the factors, and below them their products, are free to be non-zero.

    Panel t of the upper row is the factor B_t; below it stands the product B_t ⋯ B_1 with the
    share of its entries that is filled, and the last product is `reach(net)`. A network wider
    than 256 is drawn in cells of several entries, each as dark as it is full.

    Parameters
    ----------
    net : Network
        Of any width d, but the pattern takes d² bytes.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        With two images for each stage, the factor first.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> ax = sparsity(butterfly(8))
    >>> [text.get_text() for text in ax.texts]
    ['25%', '50%', '100%']
    """
    gap = 0.12  # between panels of side 1
    ax = _axes(ax, min(1.0 + 1.4 * max(net.depth, 1), 14), 3.4)
    centres = np.arange(net.depth) * (1 + gap) + 0.5
    for t, centre in enumerate(centres.tolist()):
        product = reach(net[: t + 1])
        _panel(ax, _stage_pattern(net.stages[t]), (centre, 1.5 + gap), COLOURS[0])
        _panel(ax, product, (centre, 0.5), _INK)
        ax.text(centre, -gap / 2, _percent(product), ha="center", va="top", fontsize=9, color=_INK)
    ax.set_xlim(-gap, max(net.depth, 1) * (1 + gap))
    ax.set_ylim(-0.35, 2 + 2 * gap)
    ax.set_xticks(centres, [f"$B_{{{t + 1}}}$" for t in range(net.depth)])
    ax.set_yticks([0.5, 1.5 + gap], ["product so far", "factor"])
    _bare(ax)
    ax.xaxis.tick_top()
    return ax


def _stage_pattern(stage: Stage) -> npt.NDArray[np.bool_]:
    start, end, _ = _edges(stage)
    pattern = np.zeros((stage.width, stage.width), dtype=bool)
    pattern[end, start] = True
    return pattern


def _panel(
    ax: Any, pattern: npt.NDArray[np.bool_], centre: tuple[float, float], colour: str
) -> None:
    """Show a pattern as a unit square: white where zero, the deeper the fuller the cell."""
    rgb = np.array(require("matplotlib.colors", "plot").to_rgb(colour))
    (x, y), half = centre, 0.5
    ax.imshow(
        1 - _cells(pattern)[:, :, None] * (1 - rgb),
        extent=(x - half, x + half, y - half, y + half),
        interpolation="nearest",
    )
    edges = (
        [x - half, x + half, x + half, x - half, x - half],
        [y - half, y - half, y + half, y + half, y - half],
    )
    ax.plot(*edges, color=_QUIET, linewidth=0.8)


def _cells(pattern: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return how full the cells of a pattern are, of at most 256 rows and columns."""
    size = -(-len(pattern) // _CELLS)
    first = np.arange(0, len(pattern), size)
    entries = np.diff(np.append(first, len(pattern)))
    counts = np.add.reduceat(np.add.reduceat(pattern, first, 0, dtype=float), first, 1)
    return np.asarray(counts / np.outer(entries, entries))


def _percent(pattern: npt.NDArray[np.bool_]) -> str:
    """Return the filled share, never rounded up to all."""
    return "100%" if pattern.all() else f"{min(100 * pattern.mean(), 99.9):.3g}%"


# Bars and curves -------------------------------------------------------------------------------


def bars(
    values: Mapping[str, float], *, x: str, mark: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw one horizontal bar for each value, the first at the top, with the number at its end.

    Parameters
    ----------
    values : mapping from label to a number
    x : str
        The name of the axis, with units.
    mark : float, optional
        Where a dashed line is drawn to compare with.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    StructmatError
        For no values at all, or one that is no finite number.

    Examples
    --------
    >>> ax = bars({"LoRA": 1.0, "monarch": 1.25}, x="step, by LoRA's", mark=1)
    >>> [text.get_text() for text in ax.texts]
    ['1', '1.25']
    """
    if not values:
        raise StructmatError("no values: there must be at least one bar to draw")
    for label, value in values.items():
        if not math.isfinite(value):
            raise StructmatError(f"bar {label!r} is {value}: it must be a finite number")
    ax = _axes(ax, 6.4, 1.0 + 0.3 * len(values))
    drawn = ax.barh(list(values), list(values.values()), height=0.6, color=COLOURS[0])
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # over the dashed line
    ax.bar_label(drawn, fmt="%.3g", padding=4, fontsize=9, color=_INK, bbox=paper)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    if mark is not None:
        ax.axvline(mark, color=_BARE, linestyle="--", linewidth=1)
    ax.set_xlabel(x)
    _bare(ax)
    return ax


def curves(
    histories: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x: str,
    y: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw one labelled curve for each history, told apart by colour, dashes and marker.

    Parameters
    ----------
    histories : mapping from label to a sequence of (x, y) pairs
    x, y : str
        The names of the axes, with units.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    StructmatError
        For no history at all, or one that is not made of pairs of numbers.

    Examples
    --------
    >>> ax = curves({"BOFT": [(0, 2.0), (10, 0.5)]}, x="step", y="loss")
    >>> ax.get_xlabel(), [line.get_label() for line in ax.lines]
    ('step', ['BOFT'])
    """
    if not histories:
        raise StructmatError("no histories: there must be at least one curve to draw")
    series = {label: _pairs(label, pairs) for label, pairs in histories.items()}
    ax = _axes(ax, 6.4, 4.0)
    dashes, markers = ("-", "--", ":", "-."), "osD^vX"
    for k, (label, points) in enumerate(series.items()):
        ax.plot(
            *points.T,
            label=label,
            color=COLOURS[k % len(COLOURS)],
            linestyle=dashes[k // len(COLOURS) % len(dashes)],
            marker=markers[k % len(markers)],
            markevery=max(1, len(points) // 8),
            markersize=4,
            linewidth=1.5,
        )
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(color="#EEEEEE")
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    # above the axes, where it covers no curve
    ax.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return ax


def _pairs(label: str, pairs: Sequence[tuple[float, float]]) -> npt.NDArray[np.float64]:
    try:
        points = np.asarray(pairs, dtype=float)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2:
        raise StructmatError(f"history {label!r}: it must be a sequence of (x, y) pairs of numbers")
    return points
