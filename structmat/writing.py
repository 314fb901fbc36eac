"""Files that are there whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from structmat.errors import FileError


def make_directory(path: Path) -> Path:
    """Make a directory to write to, with its parents, and return it.

    Raises
    ------
    FileError
        When it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be made a directory ({error.strerror})") from None
    if not os.access(path, os.W_OK):
        raise FileError(f"{path}: cannot be written to; choose another directory")
    return path


LONGEST = 2**28  # bytes of a file of JSON: it takes some times as many in memory
_CHUNK = 2**24  # bytes read at once


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a file to write; what was written is `path` when all went well.

    The name has the ending of `path`, for an ending may name a format. A link stays one: the
    file is where it leads.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as new:
    ...         _ = new.write_text("whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    target = path.resolve()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".structmat-") as folder:
        new = Path(folder) / path.name
        yield new
        new.replace(target)


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file, which replaces any older one at once."""
    with replacing(path) as new:
        new.write_bytes(data)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text file, which replaces any older one at once."""
    # A name of a file that is not in UTF-8 comes with surrogates, which no encoding has.
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> Path:
    """Write a value as JSON; not-a-number becomes null, so that every reader reads it."""
    return write_text(path, json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n")


def read_bytes(path: Path, hint: str = "", *, most: int | None = LONGEST) -> bytes:
    """Return what a file holds, refusing one that is missing, or too long to be meant.

    Parameters
    ----------
    path : Path
    hint : str
        What is said after the reason, such as what was expected there.
    most : int or None
        How many bytes are read, also from devices and pipes; None for as many as a file has.

    Raises
    ------
    FileError

    Examples
    --------
    >>> read_bytes(Path("no.json"), "; expected what Network.to_json wrote")
    Traceback (most recent call last):
    ...
    structmat.errors.FileError: no.json: No such file or directory; expected what Network.to_json \
wrote
    """
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            limit = about.st_size if most is None else most
            chunks, size = [], about.st_size if stat.S_ISREG(about.st_mode) else 0
            while size <= limit and (chunk := file.read(_CHUNK)):
                chunks.append(chunk)
                size = max(size, sum(map(len, chunks)))
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        raise FileError(f"{path}: {getattr(error, 'strerror', None) or error}{hint}") from None
    if size > limit:
        raise FileError(f"{path}: more than {limit:,} bytes, the most that are read{hint}")
    return b"".join(chunks)


def parse_json(text: str | bytes, what: object, hint: str = "") -> Any:
    """Return the value of JSON text; memory is bounded by its length, and so is its nesting.

    Raises
    ------
    FileError
        For text that is cut or no JSON, for NaN and infinity, which JSON does not have, for
        integers of more digits than Python reads, and for lists inside lists beyond Python's limit.

    Examples
    --------
    >>> parse_json('{"width": NaN}', "a.json")
    Traceback (most recent call last):
    ...
    structmat.errors.FileError: a.json is cut or not JSON (NaN is no number of JSON)
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        reason = "nested too deeply"
    except (TypeError, ValueError) as error:  # also bytes that are not in UTF-8
        reason = str(error)
    raise FileError(f"{what} is cut or not JSON ({reason}){hint}")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def read_json(path: Path, *, most: int = LONGEST) -> Any:
    """Return the value of a JSON file, or None when there is none or it is damaged."""
    try:
        return parse_json(read_bytes(path, most=most), path)
    except FileError:
        return None


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Give a temporary directory to fill; it becomes `path` when all went well."""
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    temporary.chmod(0o755)  # mkdtemp makes directories for their owner only
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)  # no system renames onto a full directory
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def finite(value: Any) -> Any:
    """Return a value of JSON's kinds, with null for what is no finite number.

    Examples
    --------
    >>> finite({3: (1, float("nan"))})
    {'3': [1, None]}
    """
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value
