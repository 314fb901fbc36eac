"""SVG drawings of networks for web pages and notebooks, without further dependencies."""

from __future__ import annotations

import html
import math
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from structmat._util.text_table import counted
from structmat.networks.stage import Stage
from structmat.viz.palette import COLOURS

_WIDEST = 64  # maximum number of wires drawn
_MOST_LINES = 4000  # maximum number of lines in a picture
_WIDE_SWITCH = 6  # switches with more wires are drawn as stars instead of all their edges
_MOST_ROWS = 12  # maximum number of rows of a summary
_SIDE, _TOP = 34, 10  # margins at the sides, and above the first wire
_GAP = 7  # distance between a name and its dot


def drawn(width: int, stages: Sequence[Stage], labels: tuple[Hashable, ...] | None) -> str:
    """Return the grid graph as one `<svg>` element, or as a table if it would be illegible.

    Time runs from left to right, wire 0 is at the top, and the edges of a switch share a colour. A
    switch of more than 6 wires is drawn as a star. Wires outside switches and text have the
    colour of the surrounding text. Only the first stages of a deep network are drawn.

    Examples
    --------
    >>> svg = drawn(4, [Stage.of(4, [[0, 1], [2, 3]])], None)
    >>> svg.count("<path"), svg.count("<circle"), svg.startswith("<svg")
    (2, 8, True)
    >>> drawn(99, [Stage.of(99, [[0, 1, 2]])], None).startswith("<table>")
    True
    """
    if width > _WIDEST or not stages:
        return _table(stages)
    return _picture(width, _fitting(stages), len(stages), labels)


def _fitting(stages: Sequence[Stage]) -> Sequence[Stage]:
    """Return as many of the first stages as fit into a picture, at least one."""
    lines = np.cumsum([_lines(stage) for stage in stages])
    return stages[: max(1, int(np.searchsorted(lines, _MOST_LINES, side="right")))]


def _lines(stage: Stage) -> int:
    switches = sum(
        bank.count * (2 * bank.radix if bank.radix > _WIDE_SWITCH else bank.radix**2)
        for bank in stage.banks
    )
    return switches + len(stage.passing[0])


def _picture(
    width: int, stages: Sequence[Stage], depth: int, labels: tuple[Hashable, ...] | None
) -> str:
    row = 15 if width <= 32 else 9
    gap = max(24, min(90, 840 // len(stages)))
    names = _names(width, row, labels)
    side = max(_SIDE, _GAP + 3 + max(map(_length, names.values())))  # plus space for the names
    size = side + gap * len(stages) + _SIDE, 2 * _TOP + row * (width - 1) + 18
    y = _TOP + row * np.arange(width)
    parts: list[str] = []
    for t, stage in enumerate(stages):
        left = side + gap * t
        parts += _stage(stage, left, left + gap, y)
    radius = 2.6 if width <= 32 else 1.8
    for t in range(len(stages) + 1):
        x = side + gap * t
        parts += [f'<circle cx="{x}" cy="{at}" r="{radius}"/>' for at in y.tolist()]
    for wire, name in names.items():
        parts.append(_text(side - _GAP, int(y[wire]) + 3.5, shortened(name), "end", name))
    named = math.ceil(len(stages) * 20 / 840)
    for t in range(0, len(stages), named):
        parts.append(_text(side + gap * (t + 0.5), size[1] - 4, f"B{t + 1}", "middle"))
    if len(stages) < depth:
        parts.append(_text(size[0] - 4, size[1] - 4, f"… B{depth}", "end"))
    about = html.escape(f"The grid graph of {counted(width, 'wire')} and {counted(depth, 'stage')}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{about}"'
        f' viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}"'
        ' style="max-width:100%;height:auto" fill="currentColor" stroke="none"'
        f' font-family="sans-serif" font-size="10">\n{chr(10).join(parts)}\n</svg>'
    )


def _stage(stage: Stage, left: int, right: int, y: npt.NDArray[np.int_]) -> Iterator[str]:
    """Yield a path for the wires in no switch, and one per switch, which is its edges or a star."""
    start, end = (y[wires].tolist() for wires in stage.passing)
    if start:
        bare = "".join(f"M{left} {a}L{right} {b}" for a, b in zip(start, end, strict=True))
        yield f'<path d="{bare}" fill="none" stroke="currentColor" stroke-opacity=".3"/>'
    number = 0
    hubs = _hubs(stage, y)
    for bank in stage.banks:
        for reads, writes in zip(y[bank.reads].tolist(), y[bank.writes].tolist(), strict=True):
            if bank.radix > _WIDE_SWITCH:
                x = (left + right) / 2
                middle = hubs[number]
                ends = [(left, a) for a in reads] + [(right, b) for b in writes]
                edges = "".join(f"M{at} {a}L{x:g} {middle:g}" for at, a in ends)
            else:
                edges = "".join(f"M{left} {a}L{right} {b}" for a in reads for b in writes)
            colour = COLOURS[number % len(COLOURS)]
            yield f'<path d="{edges}" fill="none" stroke="{colour}"/>'
            number += 1


def _hubs(stage: Stage, y: npt.NDArray[np.int_]) -> list[float]:
    """Return the heights of the centres of the switches, in order and evenly spaced."""
    sides = [np.concatenate([bank.reads, bank.writes], axis=1) for bank in stage.banks]
    middles = np.concatenate([np.zeros(0), *(y[wires].mean(axis=1) for wires in sides)])
    rank = np.argsort(np.argsort(middles, kind="stable"))
    height = (y[-1] - y[0]) * len(y) / max(len(y) - 1, 1)  # half a row of margin at each end
    places = y.mean() + height * ((rank + 0.5) / max(len(rank), 1) - 0.5)
    return [float(place) for place in places]


def _names(width: int, row: int, labels: tuple[Hashable, ...] | None) -> dict[int, str]:
    """Return the names of the wires, or only those that can be drawn without overlap."""
    return {
        wire: str(wire if labels is None else labels[wire])
        for wire in range(0, width, -(-12 // row))
    }


def _length(name: str) -> int:
    """Return the approximate length of a name drawn in any sans-serif font."""
    return sum(
        10
        if mark in "MWmw@%…" or unicodedata.east_asian_width(mark) in "WF"
        else 8
        if mark.isupper()
        else 6
        for mark in shortened(name)
    )


def shortened(name: str, most: int = 16) -> str:
    """Return a name of at most `most` characters, with an ellipsis at the end if it is cut.

    Examples
    --------
    >>> shortened("Medici"), shortened("Medici", 5)
    ('Medici', 'Medi…')
    """
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _text(x: float, y: float, text: str, anchor: str, full: str = "") -> str:
    """Return a text element, which shows the full text on hover if the text is cut."""
    title = f"<title>{html.escape(full)}</title>" if full not in ("", text) else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{title}{html.escape(text)}</text>'


# Networks too wide to draw ------------------------------------------------------------------


def _table(stages: Sequence[Stage]) -> str:
    """Return a table with a row for each run of stages with the same switches."""
    runs = [(text, len(list(run))) for text, run in groupby(map(_described, stages))]
    rows, first = [], 1
    for text, count in runs:
        last = first + count - 1
        name = f"B{first}" if count == 1 else f"B{first}–B{last}"
        rows.append(f"<tr><th>{name}</th><td>{text}</td></tr>")
        first += count
    if len(rows) > _MOST_ROWS:
        more = counted(len(rows) - _MOST_ROWS + 1, "more kind")
        rows[_MOST_ROWS - 1 :] = [f"<tr><th>…</th><td>{more} of stage</td></tr>"]
    rows = rows or ["<tr><td>no stages: the identity</td></tr>"]
    return "\n".join(["<table>", *rows, "</table>"])


def _described(stage: Stage) -> str:
    """Describe the number of switches of each radix in a stage."""
    counts = Counter[int]()
    for bank in stage.banks:
        counts[bank.radix] += bank.count
    parts = [
        f"{counted(count, 'switch', 'switches')} of radix {radix:,}"
        for radix, count in sorted(counts.items())
    ]
    idle = len(stage.idle)
    if idle or not parts:
        parts.append(counted(idle, "idle wire"))
    return ", ".join(parts)
