"""Text diagrams of networks: one line per wire, or a summary of the stages for wide networks."""

from __future__ import annotations

import shutil
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from structmat._util.text_table import counted
from structmat.errors import checked_integer
from structmat.families.resolution import checked
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage

_WIDEST = 64  # the maximum number of wires drawn individually
_NARROWEST = 24  # columns in which a name, a switch and an output fit
_MOST_LINES = 32  # lines of a summary
_WIRE, _JOIN, _PASS = "─", "●", "┼"

Column = list[str]  # one character per wire


def diagram(net: Network, *, columns: int | None = None) -> str:
    """Draw a network as text: one line per wire, with time from left to right.

    A switch is a vertical bar with a dot at each wire that it joins; a switch of radix 1 is a dot.
    The switches of a stage act simultaneously; those that would overlap are drawn in adjacent
    columns under the name of the stage. A network with permutations between its stages is drawn in
    straightened form, and the output that each wire becomes is shown at the right end. Wires are
    named by their labels, with non-printable characters escaped. Networks of more than 64 wires are
    summarised by stage.

    Parameters
    ----------
    net : Network
    columns : int, optional
        The maximum line length, at least 24; by default the width of the terminal. Longer diagrams
        are continued below.

    Returns
    -------
    str
        The diagram, without a trailing newline. The output device must support UTF-8.

    Raises
    ------
    StructmatError
        If `columns` is not an integer ≥ 24, or `net` is not a network.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> print(diagram(butterfly(4)))
        B1    B2
    0 ──●─────●─────
    1 ──●─────┼─●───
    2 ────●───●─┼───
    3 ────●─────●───
    >>> print(diagram(butterfly(1024, block=8, depth=3)))
    B1  128 switches of radix 8, stride 1
    B2  128 switches of radix 8, runs of 4, stride 8
    B3  128 switches of radix 8, runs of 4, stride 16
    """
    net = checked(net, "diagram")
    if columns is None:
        room = max(shutil.get_terminal_size().columns, _NARROWEST)
    else:
        room = checked_integer(columns, "columns", _NARROWEST)
    straight, _, outputs = net.straightened()
    if net.width > _WIDEST:
        lines = _summary(straight, room)
        caption = "permutations between stages; wires are numbered after straightening"
    else:
        names = _names(net, room // 4)
        ends = [] if net.is_straight else [names[k].strip() for k in np.argsort(outputs).tolist()]
        lines = _drawing(straight, names, ends, room)
        caption = "permutations between stages; drawn straightened, with the outputs at the right"
    if not net.is_straight:
        lines += ["", *textwrap.wrap(caption, room)]
    return "\n".join(lines)


# Every wire -----------------------------------------------------------------------------------


class _Segment(NamedTuple):
    """Adjacent columns of one stage, drawn under its name."""

    name: str
    columns: Sequence[Column]

    @property
    def size(self) -> int:
        """The number of characters per line, including the gap to the next stage."""
        return max(2 * len(self.columns), len(self.name)) + 2

    def row(self, wire: int) -> str:
        drawn = _WIRE.join(column[wire] for column in self.columns)
        return drawn.ljust(self.size, _WIRE)


def _drawing(net: Network, names: list[str], ends: list[str], room: int) -> list[str]:
    indent = _size(names[0]) + 3
    blocks = _blocks(net, room - indent - max((_size(end) + 1 for end in ends), default=0))
    lines: list[str] = []
    for number, block in enumerate(blocks, 1):
        lines += [""] * bool(lines)
        if block:
            heads = (segment.name.ljust(segment.size) for segment in block)
            lines.append((" " * indent + "".join(heads)).rstrip())
        for wire, name in enumerate(names):
            row = "".join(segment.row(wire) for segment in block)
            end = f" {ends[wire]}" if ends and number == len(blocks) else ""
            lines.append(f"{name} {_WIRE}{_WIRE}{row}{end}")
    return lines


def _names(net: Network, longest: int) -> list[str]:
    """Return the names of the wires, labels or numbers, padded to equal length."""
    if net.labels is None:
        digits = len(str(net.width - 1))
        return [str(wire).rjust(digits) for wire in range(net.width)]
    texts = [_shortened(_printable(label), longest) for label in net.labels]
    size = max(map(_size, texts))
    return [text + " " * (size - _size(text)) for text in texts]


def _printable(label: object) -> str:
    """Return a label on one line, with terminal control characters escaped."""
    text = " ".join(str(label).split())
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)


def _shortened(text: str, longest: int) -> str:
    if _size(text) <= longest:
        return text
    kept = ""
    for mark in text:
        if _size(kept + mark) >= longest:
            break
        kept += mark
    return f"{kept}…"


def _size(text: str) -> int:
    """Return the number of terminal columns that a text occupies."""
    marks = (mark for mark in text if unicodedata.category(mark) not in ("Mn", "Me"))
    return sum(2 if unicodedata.east_asian_width(mark) in "WF" else 1 for mark in marks)


def _blocks(net: Network, room: int) -> list[list[_Segment]]:
    """Break the stages into blocks that fit a line; a stage wider than a line is broken, too."""
    blocks: list[list[_Segment]] = [[]]
    left = room
    for number, stage in enumerate(net.stages, 1):
        columns = _columns(stage)
        step = max(1, (room - 2) // 2)
        for first in range(0, len(columns), step):
            segment = _Segment(f"B{number}", columns[first : first + step])
            if segment.size > left and blocks[-1]:
                blocks.append([])
                left = room
            blocks[-1].append(segment)
            left -= segment.size
    return blocks


def _columns(stage: Stage) -> list[Column]:
    """Draw the switches of a stage in as few columns as keep them distinguishable.

    Switches on neighbouring wires would look like one, so each column leaves a wire between them.
    """
    columns: list[Column] = []
    free: list[int] = []  # for each column, the first wire at which another switch may start
    switches = (row for bank in stage.banks for row in np.sort(bank.reads, axis=1).tolist())
    for switch in sorted(switches):
        place = next((k for k, wire in enumerate(free) if wire <= switch[0]), len(free))
        if place == len(free):
            columns.append([_WIRE] * stage.width)
            free.append(0)
        for wire in range(switch[0], switch[-1] + 1):
            columns[place][wire] = _PASS
        for wire in switch:
            columns[place][wire] = _JOIN
        free[place] = switch[-1] + 2
    return columns or [[_WIRE] * stage.width]


# More wires than lines ------------------------------------------------------------------------


def _summary(net: Network, room: int) -> list[str]:
    """Describe the switches of each stage, or in a deep network of each distinct kind of stage."""
    kinds: dict[str, list[int]] = {}
    for number, stage in enumerate(net.stages, 1):
        text = _described(stage)
        key = text if net.depth > _MOST_LINES else f"{number} {text}"
        kinds.setdefault(key, []).append(number)
    rows = [(_numbered(found), _described(net.stages[found[0] - 1])) for found in kinds.values()]
    if len(rows) > _MOST_LINES:
        half = _MOST_LINES // 2
        between = (f"… {counted(len(rows) - 2 * half, 'more kind')} of stage", "")
        rows = [*rows[:half], between, *rows[-half:]]
    indent = max((len(name) for name, text in rows if text), default=0) + 2
    lines = [name.ljust(indent) + text if text else name for name, text in rows]
    margin = " " * min(indent, room // 4)
    broken = [textwrap.wrap(line, room, subsequent_indent=margin) for line in lines]
    return [line for lines in broken for line in lines] or ["no stages: the identity"]


def _numbered(stages: list[int]) -> str:
    """Format stage numbers as B3, B3–B9, or B1, B3, … B9 with their count."""
    first, last = stages[0], stages[-1]
    if first == last:
        return f"B{first}"
    if last - first == len(stages) - 1:
        return f"B{first}–B{last}"
    if len(stages) == 2:
        return f"B{first}, B{last}"
    return f"B{first}, B{stages[1]}, … B{last} ({len(stages):,} stages)"


def _described(stage: Stage) -> str:
    parts = [
        f"{counted(bank.count, 'switch', 'switches')} of radix {bank.radix}"
        + (f", {_spacing(bank)}" if bank.radix > 1 else "")
        for bank in stage.banks
    ]
    idle = len(stage.idle)
    return "; ".join(parts + [counted(idle, "idle wire")] * bool(idle))


def _spacing(bank: Bank) -> str:
    """Describe the stride between the wires of each switch, or between runs of adjacent wires."""
    gaps = np.diff(np.sort(bank.reads, axis=1), axis=1)
    first = gaps[0]
    if (gaps != first).any():
        return "irregular"
    if (first == first[0]).all():
        return f"stride {first[0]:,}"
    run = int(np.argmax(first != 1)) + 1  # the number of wires before the first jump
    jumps = first[run - 1 :: run]
    inside = np.delete(first, np.s_[run - 1 :: run])
    if run == 1 or bank.radix % run or (inside != 1).any() or (jumps != jumps[0]).any():
        return "irregular"
    return f"runs of {run}, stride {int(jumps[0]) + run - 1:,}"
