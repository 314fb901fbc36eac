"""Check claims, print the results and times, and exit with 1 if a claim is wrong."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from types import ModuleType

from theory import claims, name, table, title


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the selected claims, and return the exit code."""
    asked = _read(arguments)
    if not __debug__:
        print("python -O takes no notice of assertions: run python -m theory", file=sys.stderr)
        return 2
    if asked.table:
        print(table())
        return 0
    chosen, unknown = _chosen(asked.names)
    if unknown:
        print(f"no claim is called {', '.join(unknown)}; see theory/README.md", file=sys.stderr)
        return 2
    longest = max(len(name(claim)) for claim in chosen)
    print(f"{'claim':<5} {'file':<{longest}} {'status':<21} seconds  looked at")
    wrong = []
    for claim in chosen:
        begun = time.perf_counter()
        try:
            looked_at = claim.check()
            if asked.thorough and hasattr(claim, "thorough"):
                looked_at = claim.thorough()
            status = claim.STATUS
        except Exception as error:  # a check that breaks has shown nothing; the others go on
            wrong.append(claim)
            told = isinstance(error, AssertionError)
            status, looked_at = "WRONG", str(error) if told else f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - begun
        print(
            f"{claim.NUMBER:<5} {name(claim):<{longest}} {status:<21} {seconds:7.1f}  {looked_at}",
            flush=True,
        )
    for claim in wrong:
        print(f"WRONG: {claim.NUMBER}, {title(claim)}")
    if not wrong:
        print(f"all {len(chosen)} hold" if len(chosen) > 1 else "it holds")
    return 1 if wrong else 0


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m theory",
        description="Check the claims of theory/.",
        epilog="example: python -m theory T12 support",
    )
    parser.add_argument("names", nargs="*", help="numbers or file names; all when there are none")
    parser.add_argument("--thorough", action="store_true", help="take the longer look, too")
    parser.add_argument("--table", action="store_true", help="print the table of README.md only")
    return parser.parse_args(arguments)


def _chosen(names: Sequence[str]) -> tuple[list[ModuleType], list[str]]:
    """Return the claims with these names, and the names that match none."""
    everything = claims()
    if not names:
        return everything, []
    by_name = {key: claim for claim in everything for key in (claim.NUMBER, name(claim))}
    wanted = [text.removesuffix(".py") for text in names]
    return [by_name[n] for n in wanted if n in by_name], [n for n in wanted if n not in by_name]


if __name__ == "__main__":
    sys.exit(main())
