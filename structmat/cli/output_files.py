"""The check of the path of an output file, shared by several commands."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from structmat.errors import FileError

_ENDINGS = (".svg", ".png")
_RULE = "the suffix must be .svg or .png"


def check_target(
    path: Path, endings: Collection[str] = _ENDINGS, rule: str = _RULE, *, option: str = "--save"
) -> None:
    """Raise an error for a path that cannot be written to, before any work is done.

    Raises
    ------
    FileError
        If the suffix is none of `endings`, where there are any; the path is a directory, a device
        or a pipe; or its parent directory does not exist.
    """
    if endings and path.suffix.lower() not in endings:
        raise FileError(f"{option} {path}: {rule}")
    if path.is_dir():
        raise FileError(f"{option} {path}: is a directory; give a file in it")
    if path.exists() and not path.is_file():
        raise FileError(f"{option} {path}: is not a regular file; give the name of a file")
    if not path.parent.is_dir():
        raise FileError(f"{option} {path}: there is no directory {path.parent}; create it first")
