"""Patterns of matrices: sparse factors and their products, reachability, and path counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from structmat.analysis.reachability import path_counts
from structmat.analysis.reachability import reach as reached
from structmat.errors import require
from structmat.families.resolution import checked
from structmat.networks.network import Network
from structmat.networks.stage import Stage
from structmat.viz.network_drawing import edges_of
from structmat.viz.palette import COLOURS, INK, QUIET, in_steps
from structmat.viz.style import axes, bare, cells, name_wires, room, wire_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NUMBERED = 16  # largest width at which each entry is labelled with its number
_MOST_WIRES = 24  # maximum number of named wires along a side
_MOST_NAMED = 12  # maximum number of labelled colour steps
_NEVER = "#F2F2F2"
_GAP = 0.12  # between panels of side 1
_BAND = 2.6 + _GAP  # height of two rows with their labels
_ABREAST = 14  # panels per row
_PAIRS_OF_ROWS = 6  # number of pairs of rows above which panels shrink


def sparsity(net: Network, *, ax: Axes | None = None) -> Axes:
    """Draw the sparsity patterns of the factors, and below them the patterns of their products.

    Panel t of the upper row is the factor B_t, and the panel below it is the product B_t ⋯ B_1 with
    its density; the last product is `reach(net)`. More than 14 stages are broken into several such
    pairs of rows. For widths above 256, a cell represents several entries, and its shade shows
    their density.

    Parameters
    ----------
    net : Network
        Of any width d; the pattern takes d² bytes.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        Axes with two images per stage, the factor and the product; without stages, with one image
        of the identity.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> ax = sparsity(butterfly(8))
    >>> [text.get_text() for text in ax.texts if "%" in text.get_text()]
    ['25%', '50%', '100%']
    """
    net = checked(net, "sparsity")
    depth = max(net.depth, 1)
    most = max(_ABREAST, round((_ABREAST * depth / _PAIRS_OF_ROWS) ** 0.5))
    columns = -(-depth // -(-depth // most))
    rows = -(-depth // columns)
    side = min(1.2, 13 / columns)  # of a panel, in inches
    high = rows * _BAND if net.depth else 1.2
    ax = axes(ax, 1.0 + side * columns * (1 + _GAP), 0.2 + side * high)
    ax.set_anchor("W")  # if narrower than its place, leave room for the labels
    every = math.ceil(0.6 / side)  # the distance between labelled columns
    for t in range(net.depth):
        row, column = divmod(t, columns)
        centre, foot = (column + 0.5) * (1 + _GAP), -row * _BAND
        product = reached(net[: t + 1])
        _panel(ax, _stage_pattern(net.stages[t]), (centre, foot + 1.5 + _GAP), COLOURS[0])
        _panel(ax, product, (centre, foot + 0.5), INK)
        if column % every == 0 or t == net.depth - 1:
            _caption(ax, centre, foot - _GAP / 2, _percent(product), "top")
            _caption(ax, centre, foot + 2 + 1.5 * _GAP, f"$B_{{{t + 1}}}$", "bottom")
    feet = -_BAND * np.arange(rows)
    if net.depth:
        ax.set_yticks(
            np.concatenate([feet + 0.5, feet + 1.5 + _GAP]),
            ["product\nso far"] * rows + ["factor"] * rows,
        )
    else:
        _panel(ax, np.eye(net.width, dtype=bool), (0.5 + _GAP / 2, 0.5), INK)
        ax.set_yticks([0.5], ["no stages:\nthe identity"])
    ax.set_xticks([])
    ax.set_xlim(0, columns * (1 + _GAP))
    ax.set_ylim(feet[-1] - 0.3 if net.depth else -_GAP, 2.3 + _GAP if net.depth else 1 + _GAP)
    bare(ax)
    return ax


def _caption(ax: Any, x: float, y: float, text: str, side: str) -> None:
    ax.text(x, y, text, ha="center", va=side, fontsize=9, color=INK)


def reach(net: Network, *, ax: Axes | None = None) -> Axes:
    """Draw reachability by stage: the number of stages after which input j influences output i.

    Rows are outputs and columns are inputs, as in the matrix R; labels are written at the sides as
    far as there is room. Pale entries are zero in R for all blocks. For widths above 256, a cell
    shows the largest number among its entries.

    Parameters
    ----------
    net : Network
        Of any width d; d² numbers are stored. If it is not straight, the stages are straightened,
        and the outputs are those of the original network.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        Axes with one image: the number of stages, masked where there is no path.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> reach(butterfly(4)).images[0].get_array().astype(int).data
    array([[0, 1, 2, 2],
           [1, 0, 2, 2],
           [2, 2, 0, 1],
           [2, 2, 1, 0]])
    """
    net = checked(net, "reach")
    never = net.depth + 1
    straight, _, outputs = net.straightened()
    first = np.full((net.width, net.width), never, dtype=np.int32)
    for t in range(net.depth, -1, -1):  # in a straight network, influenced wires stay influenced
        first[reached(straight[:t])] = t
    latest, _ = cells(first[outputs], np.maximum)
    ax = axes(ax, 5.2 + room(wire_names(net)), 4.4 + room(wire_names(net)))
    steps = in_steps(net.depth + 1)
    colours = require("matplotlib.colors", "plot")
    scale = colours.ListedColormap(steps).with_extremes(bad=_NEVER)
    image = ax.imshow(
        np.ma.masked_equal(latest, never),
        cmap=scale,
        vmin=-0.5,
        vmax=net.depth + 0.5,
        extent=_extent(net.width),
        interpolation="nearest",
    )
    if net.width <= _NUMBERED:
        _number(ax, latest, never)
    named = np.arange(0, never, -(-never // _MOST_NAMED))
    ax.figure.colorbar(image, ax=ax, ticks=named, label="stages until reached")
    _matrix(ax, net)
    return ax


def paths(net: Network, *, ax: Axes | None = None) -> Axes:
    """Draw the number of paths from each input to each output.

    Rows are outputs and columns are inputs, named as in `reach`. Colours are logarithmic; entries
    without a path are pale. For widths above 256, a cell shows the largest number among its
    entries.

    Parameters
    ----------
    net : Network
        Of any width d; d² numbers are stored.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        Axes with one image: log₁₀ of the number of paths, masked where there is none.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> ax = paths(butterfly(4).repeat(2))
    >>> sorted({text.get_text() for text in ax.texts})
    ['4']
    """
    net = checked(net, "paths")
    counts = path_counts(net)
    most, _ = cells(counts, np.maximum)
    ax = axes(ax, 5.2 + room(wire_names(net)), 4.4 + room(wire_names(net)))
    logs = [[math.log10(count) if count else -1 for count in row] for row in most.tolist()]
    shown = np.ma.masked_less(np.array(logs), 0)
    maps = require("matplotlib", "plot").colormaps
    top = max(float(shown.max()) if shown.count() else 0.0, math.log10(2))
    image = ax.imshow(
        shown,
        cmap=maps["viridis"].with_extremes(bad=_NEVER),
        vmin=0,
        vmax=top,
        extent=_extent(net.width),
        interpolation="nearest",
    )
    if net.width <= _NUMBERED and int(most.max()) < 10_000:
        _number(ax, most, 0)
    bar = ax.figure.colorbar(image, ax=ax, label="paths")
    ticks = _decades(top)
    bar.set_ticks(ticks, labels=[_power(tick) for tick in ticks])
    _matrix(ax, net)
    return ax


def _decades(top: float) -> list[float]:
    """Return the ticks of a logarithmic scale from 0 to `top`, at whole numbers if possible.

    Examples
    --------
    >>> _decades(3.2), [round(10**tick) for tick in _decades(1.302)]
    ([0, 1, 2, 3], [1, 2, 3, 5, 10, 20])
    """
    if top >= 2:
        return list(range(0, math.floor(top) + 1, -(-math.floor(top) // 6)))
    return [
        math.log10(count) for count in (1, 2, 3, 5, 10, 20, 50) if math.log10(count) <= top + 1e-9
    ]


def _power(tick: float) -> str:
    return f"{round(10**tick):,}" if tick < 4 else f"$10^{{{tick:.0f}}}$"


def _extent(width: int) -> tuple[float, float, float, float]:
    """Return the limits of a matrix, so that entries lie at their indices, row 0 at the top."""
    return -0.5, width - 0.5, width - 0.5, -0.5


def _number(ax: Any, values: npt.NDArray[Any], left_out: int) -> None:
    """Write the number of each entry into it, white on the darker half of the scale."""
    [image] = ax.images
    for (i, j), value in np.ndenumerate(values):
        if value != left_out:
            shade = image.norm(image.get_array()[i, j])
            paint = "white" if shade < 0.6 else INK
            ax.text(j, i, f"{value}", ha="center", va="center", fontsize=7, color=paint)


def _matrix(ax: Any, net: Network) -> None:
    """Label the axes of a matrix: a column for each input, with the labels of the wires."""
    ax.set_xlabel("input", color=INK)
    ax.set_ylabel("output", color=INK)
    if net.width <= _NUMBERED or net.labels is not None:
        named = range(0, net.width, -(-net.width // _MOST_WIRES))
        names = wire_names(net)
        for axis in (ax.xaxis, ax.yaxis):
            name_wires(axis, named, [names[wire] for wire in named])
    bare(ax)


def _stage_pattern(stage: Stage) -> npt.NDArray[np.bool_]:
    start, end, _ = edges_of(stage)
    pattern = np.zeros((stage.width, stage.width), dtype=bool)
    pattern[end, start] = True
    return pattern


def _panel(
    ax: Any, pattern: npt.NDArray[np.bool_], centre: tuple[float, float], colour: str
) -> None:
    """Draw a pattern as a unit square: white for zero, darker for denser cells."""
    rgb = np.array(require("matplotlib.colors", "plot").to_rgb(colour))
    (x, y), half = centre, 0.5
    filled, entries = cells(pattern.astype(float))
    ax.imshow(
        1 - (filled / entries)[:, :, None] * (1 - rgb),
        extent=(x - half, x + half, y - half, y + half),
        interpolation="nearest",
    )
    edges = (
        [x - half, x + half, x + half, x - half, x - half],
        [y - half, y - half, y + half, y + half, y - half],
    )
    ax.plot(*edges, color=QUIET, linewidth=0.8)


def _percent(pattern: npt.NDArray[np.bool_]) -> str:
    """Return the density in per cent, never rounded up to 100."""
    return "100%" if pattern.all() else f"{min(100 * pattern.mean(), 99.9):.3g}%"
