"""A cache of measured times by name, in memory and in a file for later processes.

The file only saves time: a file that is missing, damaged or not writable is ignored.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from structmat._util.files import cache_folder, make_directory, read_json, write_bytes
from structmat.errors import FileError, check_format

_FORMAT, _VERSION = "structmat.timings", 1
_MOST = sys.float_info.max  # an integer may be larger
_LONGEST = 2**22  # bytes of the file: thousands of networks; a longer file is replaced

Ends = tuple[int, ...]
Times = dict[Ends, float]  # seconds, by the ends of the fused runs of stages

_AGREE = 0.1  # a larger spread makes timings provisional
_ENOUGH = 128  # rounds after which timings are no longer provisional


@dataclass(frozen=True)
class Timings:
    """The shortest time of each plan in a number of rounds, and how much the rounds disagree.

    Attributes
    ----------
    seconds : dict
        The shortest time of each plan, by the ends of its fused runs of stages.
    rounds : int
        The number of times each plan was timed.
    spread : float
        The largest relative difference, over the plans, between the shortest times in the two
        halves of the rounds, or in the earlier rounds and those of the last process.
    """

    seconds: Times
    rounds: int
    spread: float

    @property
    def provisional(self) -> bool:
        """Whether the rounds disagree so much that a later process should measure again."""
        return self.spread > _AGREE and self.rounds < _ENOUGH

    def with_rounds(self, other: Timings) -> Timings:
        """Return the timings of all rounds; `other` has times of the same plans.

        Examples
        --------
        >>> first = Timings({(2,): 4.0, (1, 2): 3.0}, rounds=1, spread=0)
        >>> first.with_rounds(Timings({(2,): 2.0, (1, 2): 3.0}, rounds=2, spread=0))
        Timings(seconds={(2,): 2.0, (1, 2): 3.0}, rounds=3, spread=1.0)
        """
        pairs = {ends: (self.seconds[ends], seconds) for ends, seconds in other.seconds.items()}
        spread = max(max(pair) / min(pair) - 1 for pair in pairs.values())
        shortest = {ends: min(pair) for ends, pair in pairs.items()}
        return Timings(shortest, self.rounds + other.rounds, min(spread, _MOST))


_NONE = Timings({}, 0, 0.0)
_KNOWN: dict[tuple[Path | None, str], Timings] = {}


def file() -> Path | None:
    """Return the file for measured times, or None if there is no folder for cached files."""
    folder = cache_folder()
    return None if folder is None else folder / "timings.json"


def recall(name: str) -> Timings:
    """Return the timings cached under a name, or timings of no plan."""
    path = file()
    if (path, name) not in _KNOWN:
        _KNOWN[path, name] = _read(path).get(name, _NONE)
    return _KNOWN[path, name]


def remember(name: str, timings: Timings) -> None:
    """Cache timings under a name, in memory and in the file."""
    path = file()
    _KNOWN[path, name] = timings
    if path is None:
        return
    timed = {
        key: {
            "rounds": kept.rounds,
            "spread": kept.spread,
            "times": [{"ends": list(e), "seconds": s} for e, s in kept.seconds.items()],
        }
        for key, kept in (_read(path) | {name: timings}).items()
    }
    text = json.dumps({"format": _FORMAT, "version": _VERSION, "timings": timed}, indent=1)
    try:
        write_bytes(make_directory(path.parent) / path.name, text.encode())
    except (FileError, OSError):
        return  # the next process measures again


def forget() -> None:
    """Clear the cache in memory, so that the file is read again."""
    _KNOWN.clear()


def _read(path: Path | None) -> dict[str, Timings]:
    """Return the timings in a file, except damaged entries, which will be measured again."""
    data: Any = None if path is None else read_json(path, most=_LONGEST)
    try:
        check_format(data, what=str(path), form=_FORMAT, version=_VERSION, writer="remember")
    except FileError:
        return {}
    timed = data.get("timings")
    named = timed.items() if isinstance(timed, dict) else ()
    read = {name: _timings(given) for name, given in named}
    return {name: timings for name, timings in read.items() if timings.seconds}


def _timings(given: Any) -> Timings:
    """Return the timings under one name; none if any are invalid, since a subset could mislead."""
    times: Times = {}
    match given:
        case {"rounds": rounds, "spread": spread, "times": [*plans]} if (
            type(rounds) is int and rounds > 0 and _is_number(spread)
        ):
            for plan in plans:
                match plan:
                    case {"ends": [*ends], "seconds": seconds} if (
                        all(type(end) is int and end >= 0 for end in ends)
                        and _is_number(seconds)
                        and seconds > 0
                    ):
                        times[tuple(ends)] = float(seconds)
                    case _:
                        return _NONE
            return Timings(times, rounds, float(spread))
    return _NONE


def _is_number(value: Any) -> bool:
    """Return whether a value is a non-negative number in the range of a float."""
    return type(value) in (int, float) and 0 <= value <= _MOST
