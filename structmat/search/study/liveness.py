"""The processes that take part in a search: who they are, and which of them have ended."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

INTERVAL = 15.0  # seconds between the heartbeats of a trial
GRACE = 90.0  # seconds without a heartbeat after which a process on another machine is lost

WORKER, BEAT = "worker", "beat"  # user attributes of a trial

_active: set[tuple[str, int]] = set()  # the study and number of the trials that this process runs


@contextmanager
def working(trial: Trial) -> Iterator[None]:
    """Mark a trial as run by this process, and record heartbeats while the context lasts."""
    mine = trial.study.study_name, trial.number
    stop = Event()
    beats = Thread(target=_beat, args=(trial, stop), daemon=True)
    _active.add(mine)  # before other threads of this process can see that the trial is its own
    try:
        trial.set_user_attr(WORKER, _this_process())
        beats.start()
        yield
    finally:
        _active.discard(mine)
        stop.set()
        if beats.ident is not None:
            beats.join()


def _beat(trial: Trial, stop: Event) -> None:
    count = 0
    while not stop.wait(INTERVAL):
        count += 1
        try:
            trial.set_user_attr(BEAT, count)
        except Exception:  # the storage cannot be reached, or the trial has been given up
            continue


class Watch:
    """Observe the trials of other processes, and detect the processes that have ended.

    A process on this machine has ended if the operating system no longer knows it. One on another
    machine is assumed to have ended if its heartbeat has not changed for `GRACE` seconds. These are
    measured by the clock of the observer, so the clocks of the machines need not agree.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, float]] = {}

    def has_lost(self, trial: FrozenTrial, study: str) -> bool:
        """Return whether the process that runs this trial has ended."""
        worker = trial.user_attrs.get(WORKER)
        mine = _this_process()
        if worker is not None and worker["host"] == mine["host"]:
            if worker == mine:
                return (study, trial.number) not in _active
            return not _runs(worker)
        now, beat = time.monotonic(), trial.user_attrs.get(BEAT)
        known = self._seen.get(trial.number)
        if known is None or known[0] != beat:
            self._seen[trial.number] = known = beat, now
        return now - known[1] > GRACE


def _this_process() -> dict[str, Any]:
    process = os.getpid()
    return {"host": _host(), "process": process, "since": _since(process)}


@cache
def _host() -> str:
    """Return the name of the machine and, on Linux, the namespace of its process numbers."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return f"{platform.node()} {space}".strip()


def _since(process: int) -> str | None:
    """Return when a process started, in the kernel's units, because process numbers are reused."""
    try:
        about = Path(f"/proc/{process}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    fields = about.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]  # a zombie has ended


def _runs(worker: dict[str, Any]) -> bool:
    """Return whether a process of this machine is running."""
    process = worker["process"]
    if worker["since"] is not None:
        return bool(_since(process) == worker["since"])
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
