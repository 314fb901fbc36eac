"""Tables of results, as plain text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

HEADER = (
    "method",
    "test accuracy",
    "trainable",
    "time per step",
    "orthogonality error",
    "merged − unmerged",
)

Row = Sequence[str]


def rows(found: Mapping[str, Any]) -> list[Row]:
    """Return the rows of a record of results as text, under `HEADER`."""
    return [
        (
            row["label"],
            f"{row['accuracy']:.3f}" + ("" if row["spread"] is None else f" ± {row['spread']:.3f}"),
            f"{row['trainable']:,}",
            _or_dash(row["relative_seconds"], "{:.2f}×"),
            _or_dash(row["orthogonality_error"], "{:.0e}"),
            _or_dash(row["merge_difference"], "{:.0e}"),
        )
        for row in found["methods"]
    ]


def as_html(header: Row, body: Sequence[Row]) -> str:
    """Return a table as HTML.

    Examples
    --------
    >>> as_html(("<",), [("1",)])
    '<table><thead><tr><th>&lt;</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in body
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _or_dash(value: float | None, form: str) -> str:
    return "—" if value is None else form.format(value)
