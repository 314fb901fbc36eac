"""Tables and paragraphs as plain text, with rich and as HTML, and counts with their nouns."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Row = Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table that prints as plain text or, with rich, fitted to the terminal.

    Attributes
    ----------
    header : sequence of str
    rows : sequence of sequences of str
    left : collection of int
        The columns that are aligned left; the others are aligned right.
    rule : bool
        Whether the plain text has a rule below the header.

    Examples
    --------
    >>> print(Table(("method", "n"), [("a", "10"), ("bcd", "2")]))
    method   n
    a       10
    bcd      2
    """

    header: Row
    rows: Sequence[Row]
    left: Collection[int] = (0,)
    rule: bool = False

    def __str__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        if self.rule:
            lines.insert(1, ["-" * width for width in widths])

        def placed(column: int, cell: str) -> str:
            width = widths[column]
            return cell.ljust(width) if column in self.left else cell.rjust(width)

        return "\n".join(
            "  ".join(placed(k, cell) for k, cell in enumerate(line)).rstrip() for line in lines
        )

    def __rich__(self) -> Any:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable
        from rich.text import Text

        made = RichTable(
            box=SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            header_style="bold",
        )
        for k, title in enumerate(self.header):
            justify: Any = "left" if k in self.left else "right"
            style = "cyan" if k == 0 else ""
            made.add_column(Text(title), justify=justify, style=style, overflow="fold")
        for row in self.rows:
            made.add_row(*map(Text, row))
        return made


@dataclass(frozen=True)
class Paragraph:
    """A text that is wrapped at 96 characters or, with rich, at the width of the terminal.

    Examples
    --------
    >>> print(Paragraph(25 * "text ", indent="  "))
    text text text text text text text text text text text text text text text text text text text
      text text text text text text
    """

    text: str
    indent: str = ""

    def __str__(self) -> str:
        return self._filled(96)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        yield Text(self._filled(options.max_width))

    def _filled(self, width: int) -> str:
        return textwrap.fill(
            self.text,
            width,
            subsequent_indent=self.indent,
            break_long_words=False,
            break_on_hyphens=False,
        )


class Printed:
    """A base class for results that print as plain text or, with rich, in colour."""

    def _parts(self) -> Iterable[object]:
        """Return lines, which may be empty, paragraphs, tables and other results, in order."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(map(str, self._parts()))

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        for part in self._parts():
            yield Text(part) if isinstance(part, str) else part


def spaced(parts: Iterable[object]) -> list[object]:
    """Return parts with an empty line between them.

    Examples
    --------
    >>> spaced(["a", "b"])
    ['a', '', 'b']
    """
    return [item for part in parts for item in ("", part)][1:]


def counted(number: int, one: str, many: str = "") -> str:
    """Return a count with its noun in the singular or plural: 1 stage, 2,048 stages.

    Examples
    --------
    >>> counted(1, "stage"), counted(2048, "stage"), counted(3, "switch", "switches")
    ('1 stage', '2,048 stages', '3 switches')
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return names separated by commas, with the number of those beyond a maximum, or "none".

    Examples
    --------
    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], 2), listed([])
    ('a, b, c', 'a, b and 1 more', 'none')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"


def cell(tag: str, text: str, attributes: str = "") -> str:
    """Return one cell of an HTML table.

    Examples
    --------
    >>> cell("td", "a < b")
    '<td>a &lt; b</td>'
    """
    return f"<{tag}{attributes}>{html.escape(text)}</{tag}>"


def left(tag: str, text: str) -> str:
    """Return a left-aligned table cell; notebooks right-align cells by default.

    Examples
    --------
    >>> left("td", "multiply")
    '<td style="text-align:left">multiply</td>'
    """
    return cell(tag, text, ' style="text-align:left"')


def in_html(rows: Iterable[str]) -> str:
    """Return an HTML table of rows, each given as its joined cells.

    Examples
    --------
    >>> print(in_html([cell("th", "depth") + cell("td", "3")]))
    <table>
    <tr><th>depth</th><td>3</td></tr>
    </table>
    """
    return "\n".join(["<table>", *(f"<tr>{cells}</tr>" for cells in rows), "</table>"])
