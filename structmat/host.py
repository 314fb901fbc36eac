"""What the machine at hand is called."""

from __future__ import annotations

import platform
from functools import cache


@cache
def processor() -> str | None:
    """Return the processor's name as Linux tells it, or as Python does elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 (a device of the kernel)
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or None
