"""Check every claim; exit 1 when one is wrong."""

from __future__ import annotations

import sys

from theory import claims, title


def main() -> int:
    """Check and print every claim, and return the exit code."""
    wrong = 0
    for claim in claims():
        name = claim.__name__.removeprefix("theory.")
        print(f"{name}: {title(claim)}", flush=True)
        try:
            looked_at = claim.check()
        except AssertionError as error:
            wrong += 1
            print(f"    WRONG: {error}")
        else:
            print(f"    {claim.STATUS}; looked at {looked_at}")
    print(f"{wrong} claims are wrong" if wrong else "every claim holds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
