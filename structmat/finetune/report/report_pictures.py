"""The pictures of the report: SVG whose colours follow the page, in light and dark mode."""

from __future__ import annotations

import html
import io
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from structmat.errors import require
from structmat.networks.network import Network
from structmat.viz import COLOURS, curves, grid
from structmat.viz.charts import Series, look
from structmat.viz.style import ruled, thousands, write

_INK = 0x33  # the darkest grey of the drawings

# Consecutive paths with the same attributes, which are joined to keep the page small.
_EQUAL_PATHS = re.compile(r'<path d="[^"]*"([^>]*)/>(?:\s*<path d="[^"]*"\1/>)+')
_DECIMALS = re.compile(r"(\.\d\d)\d+|\s*\n")

# Marker shapes of `look` around the origin, for the key.
_SHAPES = {
    "o": '<circle r="3.6"/>',
    "s": '<path d="M-3-3H3V3H-3Z"/>',
    "D": '<path d="M0-4.2 4.2 0 0 4.2-4.2 0Z"/>',
    "^": '<path d="M0-4 4 3.4H-4Z"/>',
    "v": '<path d="M0 4 4-3.4H-4Z"/>',
    "X": '<path d="M-4-2-2-4 0-2 2-4 4-2 2 0 4 2 2 4 0 2-2 4-4 2-2 0Z"/>',
}
_DASHES = {"-": "", "--": "5 3", ":": "1.5 2.5", "-.": "6 2 1.5 2"}


def svg(axes: Any, *, name: str, about: str, width: int | None = None) -> str:
    """Return a picture as an SVG element whose colours are variables of the page.

    Parameters
    ----------
    axes : matplotlib Axes
    name : str
        A prefix that makes the identifiers unique in a page.
    about : str
        The description for screen readers.
    width : int, optional
        The width in CSS pixels; by default that of the figure.
    """
    written = io.BytesIO()
    axes.figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    with require("matplotlib", "plot").rc_context({"svg.fonttype": "none"}):
        write(axes.figure, written, "svg")
    text = written.getvalue().decode()
    text = text[text.index("<svg") :]
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="([^"]*)"', head)
    if box is None:
        raise AssertionError("matplotlib wrote no viewBox")
    size = float(box[1].split()[2]) * 4 / 3 if width is None else width  # points to pixels
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"(?<= d=\")[^\"]*", lambda path: _DECIMALS.sub(r"\1", path[0]), body)
    body = _EQUAL_PATHS.sub(_joined, body)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"\b(fill|stroke): (#[0-9a-f]{6})\b", _themed, body)
    body = re.sub(r"(font: [^;\"]*?[\d.]+px)[^;\"]*", r"\1 system-ui, sans-serif", body)
    return (
        f'<svg viewBox="{box[1]}" width="{size:.0f}" role="img" aria-label="{html.escape(about)}">'
        f"{body}"
    )


def accuracy_chart(rows: Sequence[Mapping[str, Any]], x: str, label: str) -> Any:
    """Return axes with the accuracies and their confidence intervals against another number.

    Parameters
    ----------
    rows : sequence of mappings
        The methods of a record.
    x : "trainable" or "seconds_a_step"
        The times are shown in milliseconds, with their quartiles.
    label : str
        The label of the horizontal axis.
    """
    ax = _axes()
    values = [row[x] for row in rows]
    for k, row in enumerate(rows):
        style = look(k) | {"linestyle": "none", "markersize": 6}
        place, accuracy = row[x], row["accuracy"]
        errors: dict[str, Any] = {"yerr": _around(accuracy, row["interval"])}
        if x == "seconds_a_step":
            place = 1000 * place
            if row["step_quartiles"] is not None:
                errors["xerr"] = _around(place, [1000 * value for value in row["step_quartiles"]])
        ax.errorbar(place, accuracy, **errors, **style, elinewidth=1, capsize=2.5)
    if max(values) > 20 * statistics.median(values):
        ax.set_xscale("log")
    ax.margins(x=0.1)
    thousands(ax.xaxis)
    ax.set_xlabel(label)
    ax.set_ylabel("test accuracy")
    ruled(ax)
    return ax


def network_drawing(net: Network) -> Any:
    """Return axes with the grid graph of a network and the wires that wire 0 influences."""
    rows = min(net.width, 32)
    return grid(net, inputs=0, ax=_axes(1.2 + 0.85 * net.depth, 1 + 0.14 * rows))


def history_chart(
    histories: Mapping[str, Series], *, order: Sequence[str], x: str, y: str, log: str = ""
) -> Any:
    """Return axes with curves in the styles of the key, whose labels are `order`."""
    ax: Any = curves(histories, x=x, y=y, log=log, ax=_axes())
    for line, label in zip(ax.lines, histories, strict=True):
        line.set(**look(order.index(label)))
    ax.get_legend().remove()
    return ax


def key(labels: Sequence[str]) -> str:
    """Return the key to the charts as an HTML list: the colour, dashes and marker of each method.

    Examples
    --------
    >>> key(["LoRA"]).count("<li>")
    1
    """
    return f'<ul class="key">{"".join(_entry(k, label) for k, label in enumerate(labels))}</ul>'


def _entry(k: int, label: str) -> str:
    style = look(k)
    colour = _variable(style["color"])
    return (
        f'<li><svg width="30" height="12" viewBox="-15 -6 30 12" aria-hidden="true"'
        f' style="fill: {colour}; stroke: {colour}">'
        f'<path d="M-14 0H14" style="fill: none" stroke-dasharray="{_DASHES[style["linestyle"]]}"/>'
        f"{_SHAPES[style['marker']]}</svg>{html.escape(label)}</li>"
    )


def _axes(width: float = 3.9, height: float = 2.9) -> Any:
    """Return axes of a size in inches; small, so that text is still legible on a telephone."""
    figure = require("matplotlib.figure", "plot").Figure((width, height), layout="constrained")
    return figure.subplots()


def _joined(paths: re.Match[str]) -> str:
    together = " ".join(re.findall(r' d="([^"]*)"', paths[0]))
    return f'<path d="{together}"{paths[1]}/>'


def _around(value: float, limits: Sequence[float]) -> list[list[float]]:
    return [[max(0.0, value - limits[0])], [max(0.0, limits[1] - value)]]


def _variable(colour: str) -> str:
    return f"var(--c{COLOURS.index(colour.upper()) + 1})"


def _themed(match: re.Match[str]) -> str:
    """Return a declaration whose colour follows the page; greys mix its ink and card colours."""
    what, colour = match.groups()
    if colour.upper() in COLOURS:
        return f"{what}: {_variable(colour)}"
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    if not red == green == blue:
        return match[0]
    ink = int(np.clip(round(100 * (255 - red) / (255 - _INK)), 0, 100))
    return f"{what}: {colour}; {what}: color-mix(in srgb, var(--ink) {ink}%, var(--card))"
