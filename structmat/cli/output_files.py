"""Checks of the path that commands with --save share."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from structmat.errors import FileError

_ENDINGS = (".svg", ".png")
_RULE = "the suffix must be .svg or .png"


def check_target(path: Path, endings: Collection[str] = _ENDINGS, rule: str = _RULE) -> None:
    """Raise an error for a path that cannot be written to, before any work is done."""
    if path.suffix.lower() not in endings:
        raise FileError(f"--save {path}: {rule}")
    if path.is_dir():
        raise FileError(f"--save {path}: is a directory; give a file in it")
    if not path.parent.is_dir():
        raise FileError(f"--save {path}: there is no directory {path.parent}; create it first")
