"""Interleaved timing of several steps, so that other load on the machine affects all alike."""

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
    """Time every step once per round.

    The first rounds are discarded as a warm-up, during which caches fill and autotuning takes
    place.

    Parameters
    ----------
    steps : mapping from name to a function without arguments
    rounds : int
        The minimum number of rounds after the warm-up.
    seconds : float
        The minimum total duration of the rounds after the warm-up, of which there are at most a
        thousand.
    warmup : int
        The number of warm-up rounds.
    on_step : callable
        Called after every step, including the warm-up.
    clock : callable
        Returns the time in seconds.

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
    round_number, spent = -warmup, 0.0
    while round_number < rounds or (spent < seconds and round_number < MOST_ROUNDS):
        for name, step in steps.items():
            start = clock()
            step()
            took = clock() - start
            if round_number >= 0:
                found[name].append(took)
                spent += took
            on_step()
        round_number += 1
    return found


def relative(seconds: Mapping[str, list[float]], reference: str = REFERENCE) -> dict[str, float]:
    """Return, for each step, the median over rounds of the ratio of its time to the reference's.

    The result is empty if the reference was not timed.

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
