"""The circumstances of a run: the machine, its accelerator, and library versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from structmat import __version__
from structmat._util.host import processor
from structmat.errors import require


def device() -> str:
    """Return the type of the device on which to train: an accelerator if present, else "cpu"."""
    torch = require("torch", "finetune")
    if torch.backends.mps.is_available():
        return "mps"
    kinds = ("cuda", "xpu")
    return next((kind for kind in kinds if getattr(torch, kind).is_available()), "cpu")


def synchronize(place: str) -> None:
    """Wait until the device has finished all work."""
    if place != "cpu":
        getattr(require("torch", "finetune"), place).synchronize()


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of structmat and of those given libraries that are installed.

    Examples
    --------
    >>> sorted(versions(["numpy", "no-such-library"]))
    ['numpy', 'structmat']
    """
    found = {"structmat": __version__}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine(libraries: Iterable[str]) -> dict[str, Any]:
    """Return a description of the machine.

    Examples
    --------
    >>> sorted(machine(["numpy"]))
    ['cores', 'processor', 'python', 'system', 'versions']
    """
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions(libraries),
    }


def torch_machine() -> dict[str, Any]:
    """Return the description of `machine`, with torch's device and number of threads."""
    torch = require("torch", "finetune")
    place = device()
    name = torch.cuda.get_device_name() if place == "cuda" else place
    return machine(
        ("torch", "llvmlite", "triton", "peft", "transformers", "lazylinop", "numpy")
    ) | {
        "model": processor(),
        "device": name,
        "threads": torch.get_num_threads(),
    }
