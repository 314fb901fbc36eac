"""Tables as plain text and HTML, and counts with their nouns."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence

Row = Sequence[str]


def plain(
    header: Row, body: Iterable[Row], *, left: Collection[int] = (0,), rule: bool = False
) -> str:
    """Return a text table, with the columns in `left` aligned left and the others right.

    Examples
    --------
    >>> print(plain(("method", "n"), [("a", "10"), ("bcd", "2")]))
    method   n
    a       10
    bcd      2
    """
    lines = [header, *body]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if rule:
        lines.insert(1, ["-" * width for width in widths])

    def placed(column: int, cell: str) -> str:
        width = widths[column]
        return cell.ljust(width) if column in left else cell.rjust(width)

    return "\n".join(
        "  ".join(placed(k, cell) for k, cell in enumerate(line)).rstrip() for line in lines
    )


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
