"""Make the table of the atlas page: HTML that is readable without scripts; one adds filters."""

from __future__ import annotations

import html
from collections.abc import Iterator

from structmat.search.atlas.lookup import summary
from structmat.search.atlas.questions import EVIDENCE
from structmat.search.atlas.record_file import Record, packaged

HEAD = ("purpose", "width", "block", "value", "bound", "", "stages", "topology", "holder", "basis")
UNDERSCORE = "\\_"  # escaped, so that it is not Markdown emphasis
STATES = {True: "met", False: "open", None: "no bound"}


def page() -> Iterator[str]:
    """Yield the counts of each purpose, the kinds of evidence, and the table of all records."""
    records = packaged()
    head = "| purpose | the record has | records | met | open | impossible |"
    counts = [
        f"| `{row['purpose']}` | {row['title'].replace('_', UNDERSCORE)} | {row['records']}"
        f" | {row['met']} | {row['open']} | {row['impossible']} |"
        for row in summary(records)
    ]
    yield "\n".join([head, "| --- | --- | --: | --: | --: | --: |", *counts])
    kinds = [f"| {name} | {text} |" for name, text in EVIDENCE.items()]
    yield "\n".join(["| basis |  |", "| --- | --- |", *kinds])
    yield f"```{{raw}} html\n{table(records)}\n```"


def table(records: tuple[Record, ...]) -> str:
    """Return the table as HTML, with one row for records that differ only by their block."""
    merged: dict[tuple[str, ...], tuple[Record, list[int]]] = {}
    for record in records:
        merged.setdefault(tuple(record.row()), (record, []))[1].append(record.block)
    head = "".join(
        f'<th scope="col">{name or "<span class=hidden>met</span>"}</th>' for name in HEAD
    )
    rows = [_row(record, blocks) for record, blocks in merged.values()]
    return "\n".join(
        [
            '<div id="atlas">',
            '<form hidden aria-label="Filters of the table"></form>',
            '<p role="status" hidden></p>',
            f"<table><thead><tr>{head}</tr></thead><tbody>",
            *rows,
            "</tbody></table></div>",
            '<script src="_static/atlas.js"></script>',
        ]
    )


def _row(record: Record, blocks: list[int]) -> str:
    name, width, *rest = record.row()
    state = "impossible" if record.value is None else STATES[record.meets]
    cells = [name, width, ", ".join(map(str, blocks)), *rest]
    cells[5] = state if state in ("met", "open") else ""
    if record.topology is not None:
        cells[7] = str(record.topology)
    code = {7} if record.topology is not None else set()
    shown = "".join(
        f"<td>{_code(cell) if k in code else html.escape(cell)}</td>"
        for k, cell in enumerate(cells)
    )
    listed = " ".join(map(str, blocks))
    return (
        f'<tr data-purpose="{record.purpose}" data-width="{record.width}" data-block="{listed}"'
        f' data-state="{state}">{shown}</tr>'
    )


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"
