"""Claims about networks of rotations, one a file, each with its statement and its check.

`python -m theory` checks them all. A claim is a module: its docstring states it (the first line in
short), `NUMBER` names it, `STATUS` says how sure we are, and `check()` raises AssertionError where
it finds the claim wrong, and returns what it looked at. Where a longer look is worth the time,
`thorough()` takes it.

The statuses:

- "proved": the docstring proves it, perhaps from a theorem that it cites; the check tests the
  proof;
- "checked by exhaustion": true in every case of the stated size, no proof;
- "checked numerically": true in the cases tried;
- "conjecture": nobody knows; the docstring gives the evidence, and the check looks for more;
- "refuted": it looks true, and is not; the docstring refutes it, and the check verifies that.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

STATUSES = ("proved", "checked by exhaustion", "checked numerically", "conjecture", "refuted")


def claims() -> list[ModuleType]:
    """Return the modules that hold a claim, by number."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    found = [importlib.import_module(f"theory.{n}") for n in names if not n.startswith("_")]
    return sorted(found, key=lambda claim: int(claim.NUMBER.removeprefix("T")))


def name(claim: ModuleType) -> str:
    """Return the name of the file, without its ending."""
    return claim.__name__.removeprefix("theory.")


def title(claim: ModuleType) -> str:
    """Return the claim in one line."""
    return (claim.__doc__ or "").strip().splitlines()[0].rstrip(".")


def table(*, files: bool = True) -> str:
    """Return all claims as a table in Markdown, with or without the files where they stand."""
    rows = [("claim", "", "status", "file"), ("---",) * 4]
    rows += [(c.NUMBER, title(c), c.STATUS, f"`{name(c)}.py`") for c in claims()]
    return "\n".join(f"| {' | '.join(cells if files else cells[:3])} |" for cells in rows)
