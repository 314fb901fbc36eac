"""The selection of atlas records, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from structmat._util.text_table import Printed, Table, cell, in_html
from structmat.errors import StructmatError, abbreviated
from structmat.search.atlas.questions import BLOCKS, QUESTIONS, WIDTHS
from structmat.search.atlas.record_file import VERSION, Record, checked_purpose, packaged

_HEAD = ("purpose", "width", "block", "value", "bound", "", "stages", "topology", "holder", "basis")


@dataclass(frozen=True)
class Atlas(Printed):
    """Records of the atlas, displayed as a table: the result of `atlas`.

    Attributes
    ----------
    records : tuple of Record
        In the order of their purposes, widths and blocks.
    """

    records: tuple[Record, ...]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def best(self, purpose: str | None = None) -> Record:
        """Return the best record for a purpose, that of the smallest block if several are equal.

        Parameters
        ----------
        purpose : str, optional
            Not needed if the table has only one.

        Raises
        ------
        StructmatError
            If there is no such record, or if the table has several widths or purposes.

        Examples
        --------
        >>> record = atlas(64).best("mixing")
        >>> record.value, record.bound, record.meets, record.network
        (192, 192, True, Network(width=64, depth=6, parameters=192))
        """
        if purpose is not None:
            checked_purpose(purpose)
        found = [record for record in self.records if purpose in (None, record.purpose)]
        for name in ("width", "purpose"):
            several = sorted({getattr(record, name) for record in found}, key=str)
            if len(several) > 1:
                raise StructmatError(
                    f"best of {len(several)} {name}s: select one, as in"
                    f" atlas(64).best({next(iter(QUESTIONS))!r})"
                )
        able = [record for record in found if record.value is not None]
        if not able:
            known = f"{found[0].reason}" if found else "no record is in this selection of the atlas"
            raise StructmatError(f"{purpose or 'best'}: {known}")
        return min(able, key=attrgetter("key"))

    def to_dict(self) -> dict[str, Any]:
        """Return the records as a JSON-serialisable dict."""
        return {"version": VERSION, "records": [record.to_dict() for record in self.records]}

    def _rows(self) -> list[list[str]]:
        """Return the cells of the table, with one row for records that differ by their block."""
        rows: dict[tuple[str, ...], list[str]] = {}
        for record in self.records:
            rows.setdefault(tuple(record.row()), []).append(str(record.block))
        return [[*row[:2], ", ".join(blocks), *row[2:]] for row, blocks in rows.items()]

    def _parts(self) -> list[object]:
        return [Table(_HEAD, self._rows(), left=(0, 2, 5, 7, 8, 9))]

    def _repr_html_(self) -> str:
        rows = ["".join(cell("th", text) for text in _HEAD)]
        rows += ["".join(cell("td", text) for text in row) for row in self._rows()]
        return in_html(rows)


def atlas(width: int | None = None, block: int | None = None, purpose: str | None = None) -> Atlas:
    """Return the best known topology for each purpose, with proved bounds, as a table.

    The atlas has the widths 2 to 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048 and 4096,
    and the largest radices 2, 4, 8 and 16. A record that meets its bound cannot be improved; the
    others are open questions. The records come from all families and from searches; the data file
    is a part of the package, and every record can be computed again (`structmat atlas
    --recompute`).

    Parameters
    ----------
    width : int, optional
        Only the records of this width.
    block : int, optional
        Only those of this largest radix.
    purpose : str, optional
        Only those of this purpose: "dense", "dense-depth", "mixing", "mixing-depth",
        "half-dimension", "full-dimension", "universal", "full-dimension-depth", "universal-depth",
        "dimension", "fit" or "conditioning". The last two are measured, at small widths only. A
        network has full dimension if it represents a set of the dimension of SO(d); it is universal
        only if it is proved to represent all of SO(d).

    Returns
    -------
    Atlas
        Its method `best` returns a record, whose attribute `network` is the network.

    Raises
    ------
    StructmatError
        If the width, the block or the purpose is not in the atlas.
    FileError
        If the data file is damaged.

    Examples
    --------
    >>> print(atlas(6, block=2, purpose="universal"))
    purpose    width  block  value  bound       stages  topology   holder  basis
    universal      6  2         15     15  met       6  brickwall  family  closed form
    >>> atlas(64, purpose="dense").best().network
    Network(width=64, depth=10, parameters=124)
    >>> atlas(65)
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: width=65: the atlas has the widths 2 to 64 and some up to \
4,096; nearest are 64 and 96. dense_networks(65) lists dense networks of any width
    """
    return Atlas(selected(packaged(), width, block, purpose))


def selected(
    records: Iterable[Record],
    width: int | None = None,
    block: int | None = None,
    purpose: str | None = None,
) -> tuple[Record, ...]:
    """Return the records of a width, a block and a purpose; each may be None, for all.

    Raises
    ------
    StructmatError
        As for `atlas`.

    Examples
    --------
    >>> len(selected(packaged(), 64, 4, "mixing"))
    1
    """
    if width is not None and width not in WIDTHS:
        raise StructmatError(f"width={abbreviated(width)}: {_nearest(width)}")
    if block is not None and block not in BLOCKS:
        raise StructmatError(
            f"block={abbreviated(block)}: the atlas has the largest radices 2, 4, 8 and 16"
        )
    if purpose is not None:
        checked_purpose(purpose)
    wanted = {"width": width, "block": block, "purpose": purpose}
    return tuple(
        record
        for record in records
        if all(value in (None, getattr(record, name)) for name, value in wanted.items())
    )


def _nearest(width: Any) -> str:
    scope = f"the atlas has the widths 2 to 64 and some up to {WIDTHS[-1]:,}"
    if not isinstance(width, int) or width < WIDTHS[0]:
        return scope
    near = [*[w for w in WIDTHS if w < width][-1:], *[w for w in WIDTHS if w > width][:1]]
    named = " and ".join(f"{w:,}" for w in near)
    return (
        f"{scope}; nearest {'is' if len(near) == 1 else 'are'} {named}."
        f" dense_networks({width}) lists dense networks of any width"
    )


def summary(records: Sequence[Record]) -> list[Mapping[str, Any]]:
    """Return, for each purpose, how many records there are, and how many are met, open, impossible.

    Examples
    --------
    >>> summary(selected(packaged(), 64, purpose="dense"))[0]["met"]
    4
    """
    found: list[Mapping[str, Any]] = []
    for name, purpose in QUESTIONS.items():
        own = [record for record in records if record.purpose == name]
        if own:
            counts = {
                "records": len(own),
                "met": sum(record.meets is True for record in own),
                "open": sum(record.meets is False for record in own),
                "impossible": sum(record.value is None for record in own),
            }
            found.append({"purpose": name, **counts, "title": purpose.title})
    return found
