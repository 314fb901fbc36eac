"""Mathematical claims about networks of rotations: one per file, stated in its docstring.

`python -m theory` checks all of them. A claim is a module: its docstring states the claim (the
first line is a summary), `NUMBER` identifies it, `STATUS` is one of those below, and `check()`
raises AssertionError if it finds the claim wrong and otherwise returns a description of the checks
made. `thorough()`, where present, runs a longer check.

The statuses:

- "proved": the docstring proves it, possibly from a theorem that it cites; the check tests the
  proof;
- "checked by exhaustion": not proved, but verified in every case of the stated size;
- "checked numerically": not proved, but verified in the cases tried;
- "conjecture": open; the docstring states the evidence, and the check searches for more;
- "refuted": plausible but false; the docstring refutes it, and the check verifies the refutation.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

STATUSES = ("proved", "checked by exhaustion", "checked numerically", "conjecture", "refuted")


def claims() -> list[ModuleType]:
    """Return the modules that contain a claim, sorted by number."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    found = [importlib.import_module(f"theory.{n}") for n in names if not n.startswith("_")]
    return sorted(found, key=lambda claim: int(claim.NUMBER.removeprefix("T")))


def name(claim: ModuleType) -> str:
    """Return the file name without its suffix."""
    return claim.__name__.removeprefix("theory.")


def title(claim: ModuleType) -> str:
    """Return the claim in one line."""
    return (claim.__doc__ or "").strip().splitlines()[0].rstrip(".")


def table(*, files: bool = True) -> str:
    """Return all claims as a Markdown table, with or without the names of their files."""
    rows = [("claim", "", "status", "file"), ("---",) * 4]
    rows += [(c.NUMBER, title(c), c.STATUS, f"`{name(c)}.py`") for c in claims()]
    return "\n".join(f"| {' | '.join(cells if files else cells[:3])} |" for cells in rows)
