"""Times measured before, by name: in memory, and in a file for later processes.

The file only saves time: one that is missing, damaged or cannot be written is as good as none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from structmat.errors import FileError
from structmat.writing import make_directory, write_bytes

FOLDER = "STRUCTMAT_CACHE"  # the environment variable that names the file's folder
_FORMAT, _VERSION = "structmat.plans", 1

Ends = tuple[int, ...]
Times = dict[Ends, float]  # seconds, by where the merged runs of stages end

_KNOWN: dict[tuple[Path, str], Times] = {}


def file() -> Path:
    """Return the file that keeps times: in $STRUCTMAT_CACHE, or the user's cache folder."""
    folder = os.environ.get(FOLDER)
    if folder:
        return Path(folder) / "plans.json"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "structmat" / "plans.json"


def recall(name: str) -> Times:
    """Return the times kept under a name; none if there are none."""
    path = file()
    if (path, name) not in _KNOWN:
        _KNOWN[path, name] = _read(path).get(name, {})
    return _KNOWN[path, name]


def remember(name: str, times: Mapping[Ends, float]) -> None:
    """Keep times under a name, and all others as they are."""
    path = file()
    _KNOWN[path, name] = dict(times)
    plans = {
        key: [{"ends": list(ends), "seconds": seconds} for ends, seconds in kept.items()]
        for key, kept in (_read(path) | {name: dict(times)}).items()
    }
    text = json.dumps({"format": _FORMAT, "version": _VERSION, "plans": plans}, indent=1)
    try:
        write_bytes(make_directory(path.parent) / path.name, text.encode())
    except (FileError, OSError):
        return  # measured again in the next process


def forget() -> None:
    """Drop what is kept in memory; the file is read again."""
    _KNOWN.clear()


def _read(path: Path) -> dict[str, Times]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if (data["format"], data["version"]) != (_FORMAT, _VERSION):
            return {}
        return {
            str(name): {
                tuple(int(end) for end in way["ends"]): float(way["seconds"]) for way in ways
            }
            for name, ways in data["plans"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
