"""The options that every family takes: `reverse`, `repeat` and `mirror`.

They are applied in this order. If a family has an option repeat or reverse of its own, the result
is the same network, because repetition and reversal commute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from structmat.errors import SpecError, abbreviated, check_digits, checked_integer

UNIVERSAL = ("reverse", "repeat", "mirror")
RESERVED = ("reverse", "mirror")  # names that specs call like functions


def separated(
    options: Mapping[str, Any], own: Iterable[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options that the function of a family takes, and the universal ones.

    An option of the family itself takes precedence over a universal one of the same name.

    Examples
    --------
    >>> separated({"block": 4, "repeat": 2}, ["block", "depth"])
    ({'block': 4}, {'repeat': 2})
    """
    universal = {key: options[key] for key in UNIVERSAL if key in options and key not in own}
    return {key: value for key, value in options.items() if key not in universal}, universal


def applied(made: Any, universal: Mapping[str, Any]) -> Any:
    """Return a network or a rule after the operations that universal options ask for, in order.

    Raises
    ------
    SpecError
        If `reverse` or `mirror` is neither True nor False.
    StructmatError
        If `repeat` is not an integer of at least 1.

    Examples
    --------
    >>> from structmat import benes
    >>> applied(benes(8), {"repeat": 3}).depth
    15
    """
    if _is_set(universal, "reverse"):
        made = made.inverse()
    if (times := checked_times(universal.get("repeat", 1), "repeat")) > 1:
        made = made.repeat(times)
    return made.mirror() if _is_set(universal, "mirror") else made


def _is_set(universal: Mapping[str, Any], key: str) -> bool:
    value = universal.get(key, False)
    if not isinstance(value, bool | np.bool_):
        raise SpecError(f"{key}={abbreviated(value)}: it must be True or False")
    return bool(value)


def checked_times(value: Any, name: str = "times") -> int:
    """Return a number of repetitions or of stages: an integer ≥ 1 of at most 640 digits.

    Raises
    ------
    StructmatError
        For any other value.

    Examples
    --------
    >>> checked_times(1.5)
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: times=1.5: times must be an integer ≥ 1
    """
    count = checked_integer(value, name, 1)
    check_digits(count, name)
    return count
