"""The table of results, as plain text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from structmat._util.text_table import Row
from structmat.finetune.report.method_ranking import plus_minus, verdict

HEADER = (
    "method",
    "test accuracy",
    "result",
    "trainable",
    "time/step",
    "rate",
    "orthogonality",
    "merging",
)


def results(found: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Return the header and the rows of the table of results, without columns that are empty."""
    rows = [
        (
            row["label"],
            plus_minus(row),
            verdict(found["ranking"], row["method"]) or "—",
            f"{row['trainable']:,}",
            _or_dash(row["relative_seconds"], "{:.2f}×"),
            f"{row['rate']:g}",
            _or_dash(row["orthogonality_error"], "{:.0e}"),
            _or_dash(row["merge_difference"], "{:.0e}"),
        )
        for row in found["methods"]
    ]
    kept = [k for k in range(len(HEADER)) if any(row[k] != "—" for row in rows)]
    return [HEADER[k] for k in kept], [[row[k] for k in kept] for row in rows]


def as_html(header: Row, body: Sequence[Row], *, caption: str) -> str:
    """Return a table with a caption as HTML; only the table scrolls if the page is too narrow.

    The first cell of each row is its header.

    Examples
    --------
    >>> page = as_html(("method", "<"), [("a", "1")], caption="Numbers")
    >>> "<figcaption>Numbers</figcaption>" in page, '<th scope="col">&lt;</th>' in page
    (True, True)
    """
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    lines = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>'
        f"{''.join(f'<td>{html.escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in body
    )
    title = html.escape(caption)
    return (
        f'<figure class="table"><figcaption>{title}</figcaption>'
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0">'
        f'<table aria-label="{title}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div></figure>"
    )


def _or_dash(value: float | None, form: str) -> str:
    return "—" if value is None else form.format(value)
