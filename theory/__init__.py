"""Claims about networks of rotations, one a file, each with its statement and its check.

`python -m theory` checks them all. A claim is a module: its docstring states it (the first line in
short) and proves it where there is a proof, `STATUS` says how sure we are, and `check()` raises
AssertionError where it finds the claim wrong, and returns what it looked at.

The statuses: "proved" (the docstring proves it, the check tests the proof), "checked by
exhaustion" (true in every case of the stated size, no proof), "checked numerically".
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

STATUSES = ("proved", "checked by exhaustion", "checked numerically")


def claims() -> list[ModuleType]:
    """Return the modules that hold a claim, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f"theory.{n}") for n in names if not n.startswith("_")]


def title(claim: ModuleType) -> str:
    """Return the claim in one line."""
    return (claim.__doc__ or "").strip().splitlines()[0]
