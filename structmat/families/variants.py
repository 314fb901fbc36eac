"""Enumeration of the variants of a family: combinations of its options and their values."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from structmat.errors import FamilyError, StructmatError
from structmat.families.composition import Rule
from structmat.families.registry import Entry, blamed
from structmat.families.spec import Family

_ABSENT = object()  # marks an option left at its default


def combinations(known: Entry, width: int, values: Mapping[str, Iterable[Any]]) -> Iterator[Family]:
    """Yield a family with every combination of values of its options, valid or not.

    The choices registered by the family take precedence over `values`. Options with a default are
    also left unset, except for a seed, without which the network is not reproducible.

    Examples
    --------
    >>> from structmat.families import catalogue
    >>> [known] = [e for e in catalogue() if e.name == "butterfly"]
    >>> print(*combinations(known, 8, {"block": (2, 4), "depth": (1,)}), sep=", ")
    butterfly, butterfly(depth=1), butterfly(block=4), butterfly(block=4, depth=1)
    """
    tried: list[list[Any]] = []
    for name, option in known.options.items():
        several = values.get(name, ())
        if name in known.choices:
            with blamed(known.name, width):
                several = list(known.choices[name](width))
        optional = option.default is not option.empty and name != "rng"
        given = [value for value in several if not (optional and value == option.default)]
        tried.append([_ABSENT] * optional + given)
    for selected in itertools.product(*tried):
        pairs = zip(known.options, selected, strict=True)
        yield Family(known.name, tuple((n, value) for n, value in pairs if value is not _ABSENT))


def accepts(rule: Rule, width: int) -> bool | None:
    """Return whether a rule accepts a width, or None if an option is invalid.

    Examples
    --------
    >>> accepts(Family("mixed_radix", (("radices", (2, 3)), ("largest", 4))), 6) is None
    True
    """
    try:
        return rule.accepts(width)
    except FamilyError:
        raise
    except StructmatError:
        return None
