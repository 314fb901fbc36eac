"""What the commands with --save share: where a picture may go, and how it is written."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from structmat.errors import FileError

_ENDINGS = (".svg", ".png")


def check_target(path: Path) -> None:
    """Refuse a path that no picture can be written to, before any work is done."""
    if path.suffix.lower() not in _ENDINGS:
        raise FileError(f"--save {path}: the ending names the format, .svg or .png")
    if not path.parent.is_dir():
        raise FileError(f"--save {path}: there is no directory {path.parent}; make it first")


def write_picture(axes: Any, path: Path) -> None:
    """Save a picture under a temporary name, then rename it: it is there whole or not at all.

    A link stays one: the picture is where it leads.
    """
    try:
        target = path.resolve()
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".structmat-") as folder:
            drawn = Path(folder) / path.name
            axes.figure.savefig(drawn, dpi=200)
            drawn.replace(target)
    except OSError as error:
        raise FileError(f"--save {path}: cannot be written ({error.strerror})") from None
