"""Records of the atlas, and the data file that holds them."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from structmat._util.files import parse_json, read_bytes, write_text
from structmat.errors import FileError, StructmatError, abbreviated, check_format, suggest
from structmat.networks.network import Network
from structmat.search.atlas.questions import BLOCKS, EVIDENCE, QUESTIONS, Question
from structmat.search.atlas.stored_topology import Topology

fcntl: Any
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

PATH = Path(__file__).with_name("atlas.json")
FORMAT, VERSION = "structmat.atlas", 1
HOLDERS = ("family", "construction", "search")

_COLUMNS = (
    "purpose", "width", "blocks", "value", "parameters", "depth", "topology", "holder", "evidence",
    "interval",
)  # fmt: skip
_LONGEST = 2**22  # bytes of a data file
_TOPOLOGY = 48  # characters of a topology in a table
_WRITER = "structmat atlas --recompute --write"


@dataclass(frozen=True)
class Record:
    """The best known network for a purpose, at one width and block size.

    Attributes
    ----------
    purpose : str
        A name in `QUESTIONS`.
    width : int
    block : int
        The largest radix that the network may have.
    value : int, float or None
        The number of parameters or stages, the dimension, the error or the ratio; None if it is
        proved that no network serves the purpose.
    parameters, depth : int or None
        The size of the network.
    topology : Topology or None
    holder : str
        "family", "construction" (such as a part of a family's network) or "search".
    evidence : str or None
        How the value is known; a key of `EVIDENCE`.
    interval : (float, float) or None
        For a median of random draws, its confidence interval.
    """

    purpose: str
    width: int
    block: int
    value: float | None
    parameters: int | None = None
    depth: int | None = None
    topology: Topology | None = None
    holder: str = "family"
    evidence: str | None = None
    interval: tuple[float, float] | None = None

    @property
    def question(self) -> Question:
        """The purpose, with its bound and its measure."""
        return QUESTIONS[self.purpose]

    @property
    def place(self) -> tuple[str, int, int]:
        """The purpose, the width and the block, for which the atlas has one record."""
        return self.purpose, self.width, self.block

    @property
    def key(self) -> tuple[float, int, int]:
        """The key by which the records for one question are ordered, best first.

        Examples
        --------
        >>> Record("dense", 8, 2, 12, 12, 3).key
        (12, 12, 3)
        """
        return self.question.key(self.value or 0, self.parameters or 0, self.depth or 0)

    @property
    def bound(self) -> int | None:
        """The proved bound on the value, lower or, where the value is maximised, upper."""
        if self.value is None:
            return None
        return self.question.bound(self.width, self.block)

    @property
    def meets(self) -> bool | None:
        """Whether the value meets the bound, so that no network is better; None without a bound."""
        return None if self.bound is None else self.value == self.bound

    @property
    def reason(self) -> str | None:
        """Why no network serves the purpose; None if one may."""
        return self.question.obstacle(self.width, self.block)

    @property
    def network(self) -> Network:
        """The network of the record.

        Raises
        ------
        StructmatError
            If no network serves the purpose.
        """
        if self.topology is None:
            raise StructmatError(f"{self.purpose} at width {self.width}: {self.reason}")
        return self.topology.network

    @property
    def command(self) -> str:
        """The command that computes the record again."""
        return (
            f"structmat atlas --recompute --width {self.width} --block {self.block} --purpose"
            f" {self.purpose}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the values of the record by name, as a JSON-serialisable dict."""
        return {
            "purpose": self.purpose,
            "title": self.question.title,
            "width": self.width,
            "block": self.block,
            "value": self.value,
            "bound": self.bound,
            "bound_source": self.question.source,
            "meets": self.meets,
            "reason": self.reason,
            "parameters": self.parameters,
            "depth": self.depth,
            "topology": None if self.topology is None else self.topology.written(),
            "holder": self.holder,
            "evidence": self.evidence and EVIDENCE[self.evidence],
            "interval": None if self.interval is None else list(self.interval),
            "command": self.command,
        }

    def row(self) -> list[str]:
        """Return the cells of a table row, without the block."""
        if self.topology is None:
            return [self.purpose, f"{self.width:,}", "none", "", "", "", "", "", f"{self.reason}"]
        name = str(self.topology)
        return [
            self.purpose,
            f"{self.width:,}",
            _number(self.value),
            "–" if self.bound is None else _number(self.bound),
            {None: "", True: "met", False: "open"}[self.meets],
            f"{self.depth:,}",
            name if len(name) <= _TOPOLOGY else f"{name[: _TOPOLOGY - 1]}…",
            self.holder,
            f"{self.evidence}",
        ]


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def checked_purpose(purpose: Any) -> str:
    """Return the name of a purpose.

    Raises
    ------
    StructmatError
        If there is no such purpose; the message suggests similar names.
    """
    if not isinstance(purpose, str) or purpose not in QUESTIONS:
        every = f"it must be one of {', '.join(QUESTIONS)}"
        raise StructmatError(
            f"purpose={abbreviated(purpose)}: unknown{suggest(str(purpose), QUESTIONS, every)}"
        )
    return purpose


# The data file ----------------------------------------------------------------------------------


@functools.cache
def packaged() -> tuple[Record, ...]:
    """Return the records of the data file in the package.

    Raises
    ------
    FileError
        If it is damaged.
    """
    return read(PATH)


def read(path: Path) -> tuple[Record, ...]:
    """Return the records of a data file, and check them: types, names, and bounds.

    Networks are not built; `structmat.search.atlas.verification.mismatch` computes a record again.

    Raises
    ------
    FileError
        If the file is missing or damaged, or has another version, or a record is invalid or better
        than its proved bound.
    """
    hint = f"; restore it, or compute it again by {_WRITER}"
    data = parse_json(read_bytes(path, hint, most=_LONGEST), path, hint)
    check_format(data, what=str(path), form=FORMAT, version=VERSION, writer=_WRITER)
    rows = data.get("records")
    if data.get("columns") != list(_COLUMNS) or not isinstance(rows, list):
        raise FileError(f"{path}: its columns must be {', '.join(_COLUMNS)}{hint}")
    records = []
    for number, row in enumerate(rows):
        try:
            records += _records(row)
        except (StructmatError, ValueError, TypeError, KeyError) as error:
            raise FileError(f"{path}: record {number}: {abbreviated_error(error)}{hint}") from None
    if len({record.place for record in records}) < len(records):
        raise FileError(f"{path}: two records for one purpose, width and block{hint}")
    return tuple(sorted(records, key=_rank))


def abbreviated_error(error: Exception) -> str:
    """Return the message of an error, which may contain a value from a file."""
    return str(error) if isinstance(error, StructmatError) else f"invalid ({abbreviated(error)})"


def _records(row: Any) -> list[Record]:
    """Return the records of a row of the file, one for each of its blocks."""
    values = dict(zip(_COLUMNS, row, strict=True))
    purpose = QUESTIONS[checked_purpose(values["purpose"])]
    width, blocks = values["width"], values["blocks"]
    if width not in purpose.widths:
        raise FileError(f"width={abbreviated(width)}: not a width of {purpose.name}")
    if not isinstance(blocks, list) or not blocks or not set(blocks) <= set(BLOCKS):
        raise FileError(f"blocks={abbreviated(blocks)}: they must be among 2, 4, 8 and 16")
    if values["value"] is None:
        return [_impossible(purpose, width, block) for block in blocks]
    if values["holder"] not in HOLDERS or values["evidence"] not in EVIDENCE:
        raise FileError(
            f"{abbreviated(values['holder'])}, {abbreviated(values['evidence'])}: the holder must"
            f" be one of {', '.join(HOLDERS)}, the evidence one of {', '.join(EVIDENCE)}"
        )
    numbers = [values["value"], values["parameters"], values["depth"]]
    if any(type(number) not in (int, float) or number < 0 for number in numbers):
        raise FileError(f"{abbreviated(numbers)}: value, parameters and depth must be numbers ≥ 0")
    topology = Topology.read(width, values["topology"])
    interval = values["interval"] and tuple(float(end) for end in values["interval"])
    found = []
    for block in blocks:
        if not purpose.respects(values["value"], width, block):
            raise FileError(
                f"{purpose.name} at width {width}, block {block}: {values['value']:,} is better"
                f" than the proved bound {purpose.bound(width, block):,}, by {purpose.source}"
            )
        found.append(
            Record(
                purpose.name,
                width,
                block,
                values["value"],
                values["parameters"],
                values["depth"],
                topology,
                values["holder"],
                values["evidence"],
                interval,
            )
        )
    return found


def _impossible(purpose: Question, width: int, block: int) -> Record:
    if purpose.obstacle(width, block) is None:
        raise FileError(
            f"{purpose.name} at width {width}, block {block}: the value is missing, though networks"
            " exist"
        )
    return Record(purpose.name, width, block, None)


def _rank(record: Record) -> tuple[int, int, int]:
    return list(QUESTIONS).index(record.purpose), record.width, record.block


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let other processes wait that also lock the data file, which `write` replaces.

    The lock is on the folder, so that no file of its own remains. Windows has no such lock.

    Raises
    ------
    FileError
        If the folder cannot be read.
    """
    if fcntl is None:
        yield
        return
    try:
        folder = os.open(path.resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)  # releases the lock


def write(records: Collection[Record], path: Path = PATH) -> Path:
    """Write a data file, with one row for records that differ only by their block.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    rows: dict[str, list[Any]] = {}
    for record in sorted(records, key=_rank):
        topology = None if record.topology is None else record.topology.written()
        holder = None if record.topology is None else record.holder
        row: list[Any] = [
            record.purpose, record.width, [], record.value, record.parameters, record.depth,
            topology, holder, record.evidence, record.interval,
        ]  # fmt: skip
        rows.setdefault(json.dumps(row), row)[2].append(record.block)
    head = {"format": FORMAT, "version": VERSION, "columns": _COLUMNS, "records": []}
    lines = ",\n".join(
        json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows.values()
    )
    text = json.dumps(head, separators=(",", ":"))
    try:
        write_text(path, f"{text[:-2]}\n{lines}\n]}}\n")
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror})") from None
    packaged.cache_clear()
    return path
