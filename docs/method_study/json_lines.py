"""The record of the study: JSON Lines to which several processes append."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import filelock

from structmat._util.files import finite

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the rows of a record; none if there is no file.

    The last line is left out if it is incomplete because a process was killed while writing it.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


def append(path: Path, rows: Iterable[Row]) -> None:
    """Append rows, after removing an incomplete last line."""
    data = "".join(
        json.dumps(finite(row), ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows
    )
    with filelock.FileLock(f"{path}.lock"), path.open("a+b") as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.seek(whole)
        file.write(data.encode())
