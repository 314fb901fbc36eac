"""Shared elements of the plots: axes, labels, legends, and reproducible files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from structmat._util.files import replacing
from structmat.errors import FileError, StructmatError, require
from structmat.networks.network import Network
from structmat.viz.palette import INK
from structmat.viz.svg import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "axes",
    "bare",
    "cells",
    "checked_axes",
    "labelled",
    "legend",
    "name_wires",
    "room",
    "ruled",
    "save",
    "thousands",
    "wire_names",
    "write",
    "written",
]

CELLS = 256  # maximum number of matrix rows and columns drawn individually

_ENDINGS = (".svg", ".png")
_LETTERS = 24  # maximum length of the name of a wire


def axes(ax: Axes | None, width: float, height: float) -> Any:
    """Return `ax`, or the axes of a new figure of this size in inches."""
    if ax is not None:
        return checked_axes(ax, "ax")
    require("matplotlib", "plot")
    from structmat.viz.notebook_axes import shown  # deferred: it needs matplotlib

    return shown(width, height)


def checked_axes(ax: Any, name: str) -> Any:
    """Return `ax` if it is a matplotlib Axes object, else raise an error that says what to pass.

    Raises
    ------
    StructmatError

    Examples
    --------
    >>> checked_axes("left", "ax")
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: ax of type str: pass matplotlib Axes, such as \
plt.subplots()[1] or the result of viz.grid(net); if there are several, pass one, such as axes[0]
    """
    if not isinstance(ax, require("matplotlib.axes", "plot").Axes):
        raise StructmatError(
            f"{name} of type {type(ax).__name__}: pass matplotlib Axes, such as"
            " plt.subplots()[1] or the result of viz.grid(net); if there are several, pass one,"
            " such as axes[0]"
        )
    return ax


def labelled(given: Any, name: str, example: str) -> Mapping[Any, Any]:
    """Return `given` if it is a mapping from labels, else raise an error with an example.

    Raises
    ------
    StructmatError

    Examples
    --------
    >>> labelled([1, 2], "values", '{"LoRA": 1.0}')
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: values of type list: pass a mapping from labels, \
such as {"LoRA": 1.0}
    """
    if not isinstance(given, Mapping):
        raise StructmatError(
            f"{name} of type {type(given).__name__}: pass a mapping from labels, such as {example}"
        )
    return given


def bare(ax: Any) -> None:
    """Hide ticks and frame, but keep the tick labels."""
    ax.tick_params(length=0, labelsize=9, labelcolor=INK)
    for spine in ax.spines.values():
        spine.set_visible(False)


def wire_names(net: Network) -> list[str]:
    """Return the names of the wires: their labels, abbreviated if long, or their numbers.

    Examples
    --------
    >>> wire_names(Network(2)), wire_names(Network(2, labels=["a", 30 * "b"]))
    (['0', '1'], ['a', 'bbbbbbbbbbbbbbbbbbbbbbb…'])
    """
    return [shortened(str(name), _LETTERS) for name in (net.labels or range(net.width))]


def room(names: Sequence[str]) -> float:
    """Return the additional space in inches that the longest of these names needs.

    Examples
    --------
    >>> room(["0", "12"]), round(room(["Tornabuoni"]), 9)
    (0.0, 0.45)
    """
    return 0.075 * max(0, max(map(len, names), default=0) - 4)


def name_wires(axis: Any, places: npt.ArrayLike, names: Sequence[str]) -> None:
    """Label ticks literally, including dollar signs; long labels below an axis are vertical."""
    upright = axis.axis_name == "x" and max(map(len, names), default=0) > 3
    axis.set_ticks(places, names, parse_math=False, rotation=90 if upright else 0)


def written(value: float) -> str:
    """Format a number with three significant digits, or all digits of its integer part if more.

    Examples
    --------
    >>> [written(value) for value in (24576, 1234567.8, 0.123456, 1.0, 1e30)]
    ['24,576', '1,234,568', '0.123', '1', '1e+30']
    """
    return f"{round(value):,}" if 1000 <= abs(value) < 1e15 else f"{value:.3g}"


def thousands(axis: Any) -> None:
    """Format the numbers along a linear axis in full if it spans a thousand or more."""
    low, high = axis.get_view_interval()
    locator = axis.get_major_locator()
    linear = isinstance(locator, require("matplotlib.ticker", "plot").MaxNLocator)
    if linear and abs(high - low) >= 1000:
        axis.set_major_formatter(lambda tick, _: written(tick).replace("-", "−"))
        locator.set_params(nbins=6)  # keeps long numbers apart


def ruled(ax: Any) -> None:
    """Add a faint grid to the axes of a chart, and remove the top and right spines."""
    ax.grid(color="#EEEEEE")
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def legend(ax: Any, **options: Any) -> Any:
    """Add a legend above the axes, in as many columns as fit."""
    handles = options.pop("handles", None) or ax.get_legend_handles_labels()[0]
    longest = max(len(handle.get_label()) for handle in handles)
    letters = 15 * ax.get_position().width * ax.figure.get_size_inches()[0]  # in a line
    columns = int(min(3, max(1, letters // (longest + 7))))
    above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": columns}
    return ax.legend(handles=handles, frameon=False, fontsize=9, **above | options)


def cells(
    values: npt.NDArray[Any], gather: np.ufunc = np.add
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Aggregate a matrix into at most 256 rows and columns of cells, with the entries in each.

    Examples
    --------
    >>> gathered, entries = cells(np.ones((512, 512)))
    >>> gathered.shape, gathered[0, 0] == entries[0, 0] == 4
    ((256, 256), np.True_)
    """
    size = -(-len(values) // CELLS)
    first = np.arange(0, len(values), size)
    counts = np.diff(np.append(first, len(values)))
    rows = gather.reduceat(values, first, 0)
    return gather.reduceat(rows, first, 1), np.outer(counts, counts)


def write(figure: Figure, target: Path | io.BytesIO, ending: str, *, dpi: int = 200) -> None:
    """Write a figure as "svg" or "png", the same bytes each time: without a date or random ids."""
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type")) if ending == "svg" else {}
    with require("matplotlib", "plot").rc_context({"svg.hashsalt": "structmat"}):
        figure.savefig(target, format=ending, dpi=dpi, metadata=metadata)


def save(ax: Axes | Figure, path: str | Path, *, dpi: int = 200) -> Path:
    """Save the figure of some axes as SVG or PNG, atomically.

    A figure is always written as the same SVG, byte for byte, so the file can be kept under version
    control.

    Parameters
    ----------
    ax : matplotlib Axes or Figure
    path : str or Path
        Its suffix determines the format, .svg or .png.
    dpi : int
        Resolution of a PNG in dots per inch.

    Returns
    -------
    Path

    Raises
    ------
    StructmatError
        If `ax` is neither Axes nor a Figure.
    FileError
        If the suffix is another one, or the file cannot be written.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> from structmat.viz import grid
    >>> save(grid(butterfly(8)), "butterfly.pdf")
    Traceback (most recent call last):
    ...
    structmat.errors.FileError: butterfly.pdf: the suffix must be .svg or .png
    """
    figure: Any = ax
    if not isinstance(ax, require("matplotlib.figure", "plot").Figure):
        figure = checked_axes(ax, "plot").figure
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in _ENDINGS:
        raise FileError(f"{target}: the suffix must be .svg or .png")
    if not target.parent.is_dir():
        raise FileError(f"{target}: there is no directory {target.parent}; create it first")
    try:
        with replacing(target) as new:
            write(figure, new, ending[1:], dpi=dpi)
    except OSError as error:
        raise FileError(f"{target}: cannot be written ({error.strerror})") from None
    return target
