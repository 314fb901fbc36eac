"""Check claims, print the results and times, and exit with code 1 if a check fails."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from types import ModuleType

from theory import claims, name, table, title


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the selected claims, and return the exit code."""
    options = _read(arguments)
    if not __debug__:
        print("python -O disables assertions: run python -m theory", file=sys.stderr)
        return 2
    if options.table:
        print(table())
        return 0
    selected, unknown = _select(options.names)
    if unknown:
        print(f"no claim is called {', '.join(unknown)}; see theory/README.md", file=sys.stderr)
        return 2
    longest = max(len(name(claim)) for claim in selected)
    print(f"{'claim':<5} {'file':<{longest}} {'status':<21} seconds  checked")
    wrong = []
    for claim in selected:
        begun = time.perf_counter()
        try:
            checked = claim.check()
            if options.thorough and hasattr(claim, "thorough"):
                checked = claim.thorough()
            status = claim.STATUS
        except Exception as error:  # any error counts as a failure; the other checks still run
            wrong.append(claim)
            failed = isinstance(error, AssertionError)
            status, checked = "WRONG", str(error) if failed else f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - begun
        print(
            f"{claim.NUMBER:<5} {name(claim):<{longest}} {status:<21} {seconds:7.1f}  {checked}",
            flush=True,
        )
    for claim in wrong:
        print(f"WRONG: {claim.NUMBER}, {title(claim)}")
    if not wrong:
        print(f"all {len(selected)} checks passed" if len(selected) > 1 else "the check passed")
    return 1 if wrong else 0


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m theory",
        description="Check the claims of theory/.",
        epilog="example: python -m theory T12 support",
    )
    parser.add_argument("names", nargs="*", help="numbers or file names (default: all)")
    parser.add_argument("--thorough", action="store_true", help="run the longer checks as well")
    parser.add_argument("--table", action="store_true", help="only print the table of README.md")
    return parser.parse_args(arguments)


def _select(names: Sequence[str]) -> tuple[list[ModuleType], list[str]]:
    """Return the claims with these names, and the names that match none."""
    everything = claims()
    if not names:
        return everything, []
    by_name = {key: claim for claim in everything for key in (claim.NUMBER, name(claim))}
    keys = [text.removesuffix(".py") for text in names]
    return [by_name[n] for n in keys if n in by_name], [n for n in keys if n not in by_name]


if __name__ == "__main__":
    sys.exit(main())
