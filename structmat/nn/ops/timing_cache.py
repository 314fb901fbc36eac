"""A cache of measured times by name, in memory and in a file for later processes.

The file only saves time: a file that is missing, damaged or not writable is ignored.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from structmat._util.files import cache_folder, make_directory, read_json, write_bytes
from structmat.errors import FileError, check_format

_FORMAT, _VERSION = "structmat.plans", 1
_MOST = sys.float_info.max  # an integer may be larger
_LONGEST = 2**22  # bytes of the file: thousands of networks; a longer file is replaced

Ends = tuple[int, ...]
Times = dict[Ends, float]  # seconds, by the ends of the fused runs of stages

_KNOWN: dict[tuple[Path | None, str], Times] = {}


def file() -> Path | None:
    """Return the file for measured times, or None if there is no folder for cached files."""
    folder = cache_folder()
    return None if folder is None else folder / "plans.json"


def recall(name: str) -> Times:
    """Return the times cached under a name, or an empty dict."""
    path = file()
    if (path, name) not in _KNOWN:
        _KNOWN[path, name] = _read(path).get(name, {})
    return _KNOWN[path, name]


def remember(name: str, times: Mapping[Ends, float]) -> None:
    """Cache times under a name, in memory and in the file."""
    path = file()
    _KNOWN[path, name] = dict(times)
    if path is None:
        return
    plans = {
        key: [{"ends": list(ends), "seconds": seconds} for ends, seconds in kept.items()]
        for key, kept in (_read(path) | {name: dict(times)}).items()
    }
    text = json.dumps({"format": _FORMAT, "version": _VERSION, "plans": plans}, indent=1)
    try:
        write_bytes(make_directory(path.parent) / path.name, text.encode())
    except (FileError, OSError):
        return  # the next process measures again


def forget() -> None:
    """Clear the cache in memory, so that the file is read again."""
    _KNOWN.clear()


def _read(path: Path | None) -> dict[str, Times]:
    """Return the times in a file, except damaged entries, which will be measured again."""
    data: Any = None if path is None else read_json(path, most=_LONGEST)
    try:
        check_format(data, what=str(path), form=_FORMAT, version=_VERSION, writer="remember")
    except FileError:
        return {}
    plans = data.get("plans")
    named = plans.items() if isinstance(plans, dict) else ()
    read = {name: _times(given) for name, given in named}
    return {name: times for name, times in read.items() if times}


def _times(plans: Any) -> Times:
    """Return the times under one name, or none if any is invalid: a subset could mislead."""
    times: Times = {}
    for plan in plans if isinstance(plans, list) else ():
        match plan:
            case {"ends": [*ends], "seconds": float() | int() as seconds} if (
                all(type(end) is int and end >= 0 for end in ends)
                and type(seconds) is not bool
                and 0 < seconds <= _MOST
            ):
                times[tuple(ends)] = float(seconds)
            case _:
                return {}
    return times
