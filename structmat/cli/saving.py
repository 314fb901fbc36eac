"""What the commands with --save share: where a file may go, and how a picture is written."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from structmat.errors import FileError
from structmat.writing import replacing

_ENDINGS = (".svg", ".png")
_RULE = "the ending names the format, .svg or .png"


def check_target(path: Path, endings: Collection[str] = _ENDINGS, rule: str = _RULE) -> None:
    """Refuse a path that no picture or page can be written to, before any work is done."""
    if path.suffix.lower() not in endings:
        raise FileError(f"--save {path}: {rule}")
    if path.is_dir():
        raise FileError(f"--save {path}: is a directory; name a file in it")
    if not path.parent.is_dir():
        raise FileError(f"--save {path}: there is no directory {path.parent}; make it first")


def write_picture(axes: Any, path: Path) -> None:
    """Save a picture, whole or not at all."""
    try:
        with replacing(path) as new:
            axes.figure.savefig(new, dpi=200)
    except OSError as error:
        raise FileError(f"--save {path}: cannot be written ({error.strerror})") from None
