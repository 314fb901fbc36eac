"""The networks of the registered families, with options worth trying at each width."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from structmat.families import Entry, Family, catalogue
from structmat.families.number_theory import factorizations
from structmat.families.registry import entry
from structmat.families.variants import accepts, combinations
from structmat.networks.network import Network

Case = tuple[Family, int]


def cases(max_width: int, max_depth: int) -> dict[str, list[Case]]:
    """Return families with options, and widths, within these bounds, ordered by name and width."""
    widths = range(1, max_width + 1)
    found = {
        e.name: [case for width in widths for case in _members(e, width, max_depth)]
        for e in catalogue()
    }
    return {name: members for name, members in found.items() if members}


def any_case(max_width: int, max_depth: int) -> bool:
    """Return whether any family has a member within these bounds, without listing all."""
    widths = range(1, max_width + 1)
    return any(_members(e, width, max_depth) for e in catalogue() for width in widths)


def widest(known: Entry, max_width: int, max_depth: int) -> Iterator[Case]:
    """Yield the members of one family within these bounds, the widest first."""
    for width in range(max_width, 0, -1):
        yield from reversed(_members(known, width, max_depth))


def built(max_width: int, max_depth: int) -> set[Network]:
    """Return the networks of all cases within these bounds."""
    found = cases(max_width, max_depth)
    return {_network(entry(name), *case) for name, members in found.items() for case in members}


@lru_cache(maxsize=2**14)
def _members(known: Entry, width: int, max_depth: int) -> list[Case]:
    return [
        (rule, width)
        for rule in tried(known, width, max_depth)
        if accepts(rule, width) and _depth(known, rule, width) <= max_depth
    ]


def _depth(known: Entry, rule: Family, width: int) -> int:
    claimed = rule.claims(width).depth
    return _network(known, rule, width).depth if claimed is None else claimed


@lru_cache(maxsize=2**14)  # building takes most of the time; the entry is part of the key
def _network(_known: Entry, rule: Family, width: int) -> Network:
    return rule(width)


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
