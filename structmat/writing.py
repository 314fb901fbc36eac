"""Files that are there whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import shutil
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
        raise FileError(f"{path}: cannot be written to; choose another --output")
    return path


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
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Write a value as JSON; not-a-number becomes null, so that every reader reads it."""
    return write_text(path, json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the value of a JSON file, or None when there is none or it is damaged."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def new_directory(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give a temporary directory to fill; it becomes `path` when all went well.

    Parameters
    ----------
    path : Path
    replace : bool
        Whether a full directory there is replaced. Otherwise only an empty one is.

    Raises
    ------
    OSError
        When there is a full one that is not to be replaced.
    """
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    temporary.chmod(0o755)  # mkdtemp makes directories for their owner only
    try:
        yield temporary
        if replace:
            shutil.rmtree(path, ignore_errors=True)  # no system renames onto a full directory
        elif path.exists():
            path.rmdir()
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
