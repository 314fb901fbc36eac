"""The networks of the registered families, with options worth trying at each width."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from structmat.families import Entry, Family, catalogue
from structmat.families.number_theory import factorizations
from structmat.families.variants import accepts, combinations

Case = tuple[Family, int]


def cases(max_width: int, max_depth: int) -> dict[str, list[Case]]:
    """Return families with options, and widths, within these bounds, ordered by name and width."""
    found = {e.name: _members(e, max_width, max_depth) for e in catalogue()}
    return {name: members for name, members in found.items() if members}


def any_case(max_width: int, max_depth: int) -> bool:
    """Return whether any family has a member within these bounds, without listing all."""
    return any(_members(e, max_width, max_depth) for e in catalogue())


@lru_cache(maxsize=256)
def _members(known: Entry, max_width: int, max_depth: int) -> list[Case]:
    found: list[Case] = []
    for width in range(1, max_width + 1):
        found += [
            (rule, width)
            for rule in tried(known, width, max_depth)
            if accepts(rule, width) and _depth(known, rule, width) <= max_depth
        ]
    return found


@lru_cache(maxsize=2**16)  # building takes most of the time; the entry is part of the key
def _depth(_known: Entry, rule: Family, width: int) -> int:
    claimed = rule.claims(width).depth
    return rule(width).depth if claimed is None else claimed


def tried(known: Entry, width: int, max_depth: int) -> Iterator[Family]:
    """Yield a family with every combination of option values worth trying, valid or not."""
    values: dict[str, Any] = {
        "block": range(2, min(width, 8) + 1),
        "depth": range(1, max_depth + 1),
        "radices": tuple(factorizations(width)),
        "largest": (4,),
        "reverse": (True,),
        "rng": (0,),
        "repeat": (2,),
        "degree": (3, 4),
    }
    return combinations(known, width, values)
