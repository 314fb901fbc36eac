"""What the commands with --save share: where a picture may go, and how it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from structmat.errors import FileError
from structmat.writing import replacing

_ENDINGS = (".svg", ".png")


def check_target(path: Path) -> None:
    """Refuse a path that no picture can be written to, before any work is done."""
    if path.suffix.lower() not in _ENDINGS:
        raise FileError(f"--save {path}: the ending names the format, .svg or .png")
    if not path.parent.is_dir():
        raise FileError(f"--save {path}: there is no directory {path.parent}; make it first")


def write_picture(axes: Any, path: Path) -> None:
    """Save a picture, whole or not at all."""
    try:
        with replacing(path) as new:
            axes.figure.savefig(new, dpi=200)
    except OSError as error:
        raise FileError(f"--save {path}: cannot be written ({error.strerror})") from None
