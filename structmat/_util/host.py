"""The name of the processor of the current machine."""

from __future__ import annotations

import platform
from functools import cache


@cache
def processor() -> str | None:
    """Return the name of the processor, as reported by Linux or otherwise by Python."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 (a pseudo-file of the kernel)
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or None
