"""The options that every family takes: `reverse`, `mirror` and `repeat`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from structmat.errors import SpecError, abbreviated, check_digits, checked_integer

UNIVERSAL = ("reverse", "mirror", "repeat")  # in the order in which they are applied


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
    for key, operation in (("reverse", "inverse"), ("mirror", "mirror")):
        value = universal.get(key, False)
        if not isinstance(value, bool | np.bool_):
            raise SpecError(f"{key}={abbreviated(value)}: it must be True or False")
        if value:
            made = getattr(made, operation)()
    times = checked_times(universal.get("repeat", 1), "repeat")
    return made if times == 1 else made.repeat(times)


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
