"""The most memory that a step holds above what it found."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import torch


def peak(step: Callable[[], object], place: str = "cpu") -> int | None:
    """Return the bytes that a step holds at its peak, above what was held when it began.

    On CUDA this is what torch's allocator counts. On a CPU it is the running sum of what the
    profiler sees torch allocate and free, so that it leaves out the scratch space of the libraries
    below torch, and does not depend on what the process did before. None on other devices.

    Examples
    --------
    >>> x = torch.zeros(1000)
    >>> peak(lambda: (x + 1).sum()) // 1000
    4
    """
    if place == "cuda":
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - held
    if place != "cpu":
        return None
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with _silent(), torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
        step()
    return max(accumulate(_changes(profile), initial=0))


def _changes(profile: torch.profiler.profile) -> list[int]:
    """Return the bytes of each allocation and, below zero, of each freeing, in order of time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    events = [event for event in events if event["name"] == "[memory]"]
    return [int(event["args"]["Bytes"]) for event in sorted(events, key=lambda e: float(e["ts"]))]


@contextmanager
def _silent() -> Iterator[None]:
    """Keep from the error stream what the profiler's C++ writes there about its start and end."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 (a device has no path to speak of)
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
