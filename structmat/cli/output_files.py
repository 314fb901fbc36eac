"""Output files: checks of their paths, and consent to replacing existing ones."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path

from structmat.errors import FileError

_ENDINGS = (".svg", ".png")
_RULE = "the suffix must be .svg or .png"


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add the option that permits replacing existing output."""
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace existing output; otherwise the command asks first if it runs in a terminal,"
        " and fails if it does not",
    )


def check_target(
    path: Path,
    endings: Collection[str] = _ENDINGS,
    rule: str = _RULE,
    *,
    option: str = "--save",
    force: bool,
) -> None:
    """Raise an error for a path that cannot or must not be written, before any work is done.

    Raises
    ------
    FileError
        If the suffix is none of `endings`, where there are any; the path is a directory, a device
        or a pipe; its parent directory does not exist; or the file exists and must be kept.
    """
    if endings and path.suffix.lower() not in endings:
        raise FileError(f"{option} {path}: {rule}")
    if path.is_dir():
        raise FileError(f"{option} {path}: is a directory; give a file in it")
    if path.exists() and not path.is_file():
        raise FileError(f"{option} {path}: is not a regular file; give the name of a file")
    if not path.parent.is_dir():
        raise FileError(f"{option} {path}: there is no directory {path.parent}; create it first")
    if path.exists():
        check_consent(f"{option} {path}", force=force)


def check_consent(what: str, *, force: bool) -> None:
    """Ask whether existing output may be replaced, unless `force` permits it.

    Raises
    ------
    FileError
        If it must be kept, or nobody can be asked because the command does not run in a terminal.
    """
    if force:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise FileError(f"{what}: it exists already; add --force to replace it")
    print(f"{what}: it exists already. Replace it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise FileError(f"{what}: it exists already, and is kept; give another name")
