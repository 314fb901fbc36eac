"""Budgets: upper limits on the parameters, stages, time and memory of a network."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping
from typing import Any

from structmat.errors import StructmatError, abbreviated, suggest

QUANTITIES: Mapping[str, str] = {
    "parameters": "parameters, of all layers together",
    "depth": "stages",
    "time": "seconds, of all layers together",
    "relative_time": "times the time of a dense matrix of this width",
    "memory": "bytes during training, of all layers together",
}
_WHOLE = ("parameters", "depth")


def checked_budget(budget: Any) -> dict[str, float]:
    """Return the limits of a budget by quantity: a number limits the parameters.

    Raises
    ------
    StructmatError
        If a quantity is unknown, or a limit is not a finite number of at least 0.

    Examples
    --------
    >>> checked_budget(5000), checked_budget({"depth": 3, "relative_time": 0.5})
    ({'parameters': 5000}, {'depth': 3, 'relative_time': 0.5})
    >>> checked_budget({"stages": 3})
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: budget: no quantity 'stages'; the quantities are parameters, \
depth, time, relative_time and memory
    """
    if budget is None:
        return {}
    limits = dict(budget) if isinstance(budget, Mapping) else {"parameters": budget}
    *most, last = QUANTITIES
    for name, limit in limits.items():
        if name not in QUANTITIES:
            fallback = f"the quantities are {', '.join(most)} and {last}"
            raise StructmatError(
                f"budget: no quantity {abbreviated(name)}{suggest(str(name), QUANTITIES, fallback)}"
            )
        real = isinstance(limit, numbers.Real) and not isinstance(limit, bool)
        if not real or not 0 <= limit <= sys.float_info.max:
            raise StructmatError(
                f"budget {name}={abbreviated(limit)}: it must be a finite number ≥ 0"
            )
        if name in _WHOLE and limit != int(limit):
            raise StructmatError(f"budget {name}={abbreviated(limit)}: it must be an integer")
    return {name: int(limit) if name in _WHOLE else limit for name, limit in limits.items()}


def in_units(name: str, value: float) -> str:
    """Return the value of a quantity as text.

    Examples
    --------
    >>> in_units("parameters", 5000), in_units("time", 2.5e-3), in_units("relative_time", 0.25)
    ('5,000 parameters', '2.5 ms', '0.25 times the time of a dense matrix')
    """
    if name in _WHOLE:
        noun = {"parameters": "parameter", "depth": "stage"}[name]
        return f"{value:,.0f} {noun}{'s' * (value != 1)}"
    if name == "time":
        return f"{1e3 * value:.3g} ms"
    if name == "relative_time":
        return f"{value:.3g} times the time of a dense matrix"
    return f"{value / 2**20:,.1f} MiB"


def in_digits(mixing: float) -> str:
    """Return a value of `structmat.mixing` as text, such that only 0 is shown as 0.

    Examples
    --------
    >>> in_digits(0), in_digits(0.06490), in_digits(3.2e-7)
    ('0', '0.065', '3e-07')
    """
    if mixing == 0:
        return "0"
    return f"{mixing:.3f}" if mixing >= 0.001 else f"{mixing:.0e}"
