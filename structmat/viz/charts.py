"""Bar charts and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from structmat.errors import StructmatError, abbreviated, is_sequence, require
from structmat.viz.palette import BARE, COLOURS, INK
from structmat.viz.style import axes, bare, labelled, legend, ruled, thousands, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = Sequence[tuple[float, float]]
Points = npt.NDArray[np.float64]

_DASHES, _MARKERS = ("-", "--", ":", "-."), "osD^vX"


def bars(
    values: Mapping[str, float], *, x: str, mark: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw one horizontal bar per value, the first at the top, with the number at its end.

    Parameters
    ----------
    values : mapping from label to a number
    x : str
        The label of the axis, with units.
    mark : float, optional
        The value at which a dashed reference line is drawn.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    StructmatError
        If there are no values, or one of them is not a finite number.

    Examples
    --------
    >>> ax = bars({"LoRA": 1.0, "monarch": 1.25}, x="step relative to LoRA", mark=1)
    >>> [text.get_text() for text in ax.texts]
    ['1', '1.25']
    """
    if not labelled(values, "values", '{"LoRA": 1.0}'):
        raise StructmatError("no values: there must be at least one bar to draw")
    for label, value in values.items():
        if not _is_finite(value):
            raise StructmatError(
                f"bar {abbreviated(label)} is {abbreviated(value)}: it must be a finite number"
            )
    ax = axes(ax, 6.4, 1.0 + 0.3 * len(values))
    drawn = ax.barh(list(values), list(values.values()), height=0.6, color=COLOURS[0])
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # drawn over the dashed line
    ax.bar_label(drawn, fmt=written, padding=4, fontsize=9, color=INK, bbox=paper)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    if mark is not None:
        ax.axvline(mark, color=BARE, linestyle="--", linewidth=1)
    thousands(ax.xaxis)
    ax.set_xlabel(x)
    bare(ax)
    return ax


def curves(
    histories: Mapping[str, Series | Sequence[float]],
    *,
    x: str,
    y: str,
    log: str = "",
    bands: Mapping[str, Series] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one labelled curve per history, distinguished by colour, dashes and marker.

    Parameters
    ----------
    histories : mapping from label to a sequence of (x, y) pairs, or of numbers
        For numbers, x counts from 0.
    x, y : str
        The labels of the axes, with units.
    log : "", "x", "y" or "xy"
        Which axes are logarithmic.
    bands : mapping from label to a sequence of (low, high) pairs, optional
        The limits of a band around each point of a history, for example the quartiles over several
        seeds. Not every history needs a band.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    StructmatError
        If there is no history, one does not consist of pairs of numbers, a band does not have a
        pair for each point of a history, or `log` is invalid.

    Examples
    --------
    >>> ax = curves({"BOFT": [(0, 2.0), (10, 0.5)]}, x="step", y="loss")
    >>> ax.get_xlabel(), [line.get_label() for line in ax.lines]
    ('step', ['BOFT'])
    """
    if not labelled(histories, "histories", '{"LoRA": [(0, 2.0), (10, 0.5)]}'):
        raise StructmatError("no histories: there must be at least one curve to draw")
    if log not in ("", "x", "y", "xy"):
        raise StructmatError(f'log={abbreviated(log)}: it must be "", "x", "y" or "xy"')
    drawn = {label: points(label, numbered(pairs)) for label, pairs in histories.items()}
    some = labelled(bands or {}, "bands", '{"LoRA": [(1.5, 2.5), (0.4, 0.6)]}')
    between = {label: points(label, pairs) for label, pairs in some.items()}
    for label, band in between.items():
        if label not in drawn or len(band) != len(drawn[label]):
            raise StructmatError(
                f"band {abbreviated(label)}: it must belong to a history, with one (low, high) pair"
                " per point"
            )
    ax = axes(ax, 6.4, 4.0)
    for k, (label, pairs) in enumerate(drawn.items()):
        ax.plot(*pairs.T, label=label, markevery=max(1, len(pairs) // 8), **look(k))
        if label in between:
            low, high = between[label].T
            colour = look(k)["color"]
            ax.fill_between(pairs[:, 0], low, high, color=colour, alpha=0.25, linewidth=0)
    if "x" in log:
        ax.set_xscale("log")
    elif all((pairs[:, 0] % 1 == 0).all() for pairs in drawn.values()):
        locator = ax.xaxis.get_major_locator()
        if isinstance(locator, require("matplotlib.ticker", "plot").MaxNLocator):
            locator.set_params(integer=True)  # whole numbers, because there is no stage 2.5
    if "y" in log:
        ax.set_yscale("log")
    thousands(ax.xaxis)
    thousands(ax.yaxis)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ruled(ax)
    legend(ax)
    return ax


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except TypeError:
        return False


def numbered(values: Any) -> Any:
    """Return numbers as pairs with x from 0, and anything else unchanged.

    Examples
    --------
    >>> numbered([0.5, 0.25]), numbered([(1, 2)])
    ([(0, 0.5), (1, 0.25)], [(1, 2)])
    """
    if is_sequence(values) and all(np.ndim(value) == 0 for value in values):
        return list(enumerate(values))
    return values


def look(k: int) -> dict[str, Any]:
    """Return the style of curve k: its colour, dashes and marker.

    Examples
    --------
    >>> look(0)["color"], look(6)["linestyle"]
    ('#0072B2', '--')
    """
    return {
        "color": COLOURS[k % len(COLOURS)],
        "linestyle": _DASHES[k // len(COLOURS) % len(_DASHES)],
        "marker": _MARKERS[k % len(_MARKERS)],
        "markersize": 4,
        "linewidth": 1.5,
    }


def points(label: str, pairs: Series) -> Points:
    """Return a sequence of (x, y) pairs as an (n, 2) array.

    Raises
    ------
    StructmatError
        If it is anything else; the message contains the label.

    Examples
    --------
    >>> points("a", [(0, 1)])
    array([[0., 1.]])
    """
    try:
        found = np.asarray(pairs, dtype=float)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 2 or found.shape[1] != 2:
        raise StructmatError(
            f"history {abbreviated(label)}: it must be a sequence of (x, y) pairs of numbers"
        )
    return found
