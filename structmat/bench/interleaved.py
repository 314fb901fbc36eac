"""Seconds of several steps, taken in turns, so that a busy machine slows all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

REFERENCE = "lora"
MOST_ROUNDS = 1000

Name = TypeVar("Name", bound=Hashable)


def interleaved(
    steps: Mapping[Name, Callable[[], object]],
    *,
    rounds: int,
    seconds: float = 0.0,
    warmup: int = 1,
    on_step: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, list[float]]:
    """Time every step once a round, round by round.

    The first rounds warm up and are not kept: caches fill, and what chooses by measuring chooses.

    Parameters
    ----------
    steps : mapping from name to a function without arguments
    rounds : int
        How many rounds are kept at least.
    seconds : float
        More rounds follow until all that are kept have taken this long, or are a thousand.
    warmup : int
        How many rounds come first that are not kept.
    on_step : callable
        Is told of every step, of those that warm up too.
    clock : callable
        Returns seconds.

    Returns
    -------
    name → seconds, one for each round

    Examples
    --------
    >>> order = []
    >>> times = interleaved({c: lambda c=c: order.append(c) for c in "ab"}, rounds=2)
    >>> "".join(order), len(times["a"])
    ('ababab', 2)
    """
    found: dict[Name, list[float]] = {name: [] for name in steps}
    turn, spent = -warmup, 0.0
    while turn < rounds or (spent < seconds and turn < MOST_ROUNDS):
        for name, step in steps.items():
            start = clock()
            step()
            took = clock() - start
            if turn >= 0:
                found[name].append(took)
                spent += took
            on_step()
        turn += 1
    return found


def relative(seconds: Mapping[str, list[float]], reference: str = REFERENCE) -> dict[str, float]:
    """Return the median over rounds of each step's time by the reference's in the same round.

    Empty where the reference was not timed.

    Examples
    --------
    >>> relative({"lora": [1.0, 2.0, 1.0], "oft": [1.5, 3.0, 9.0]})
    {'lora': 1.0, 'oft': 1.5}
    """
    if reference not in seconds:
        return {}
    return {
        name: statistics.median(a / b for a, b in zip(times, seconds[reference], strict=True))
        for name, times in seconds.items()
    }
