"""Measurement of the peak memory of a step."""

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
    """Return the peak memory of a step in bytes, beyond the memory in use before it.

    On CUDA, it is taken from torch's allocator. On a CPU, it is the maximum of the running sum of
    torch's allocations and deallocations, as recorded by the profiler; this excludes the scratch
    space of underlying libraries and does not depend on the history of the process. On other
    devices, the result is None.

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
    """Return the sizes of allocations, and the negated sizes of deallocations, in order of time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    events = [event for event in events if event["name"] == "[memory]"]
    return [int(event["args"]["Bytes"]) for event in sorted(events, key=lambda e: float(e["ts"]))]


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress the messages that the profiler's C++ code writes to stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 (os.devnull is not a regular path)
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
