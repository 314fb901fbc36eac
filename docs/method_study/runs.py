"""Runs of the study, arranged for paired comparisons.

A run is a row of the record; `docs.method_study.runner` lists its fields.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from docs.method_study.differences import Array
from structmat.errors import StructmatError

Run = Mapping[str, Any]


def part(runs: Iterable[Run], *, task: str, role: str, budget: str = "parameters") -> list[Run]:
    """Return the runs of a task in one role, restricted to the newest `sizes` of each method.

    Examples
    --------
    >>> about = {"task": "digits", "method": "OFT", "role": "pilot", "budget": "parameters"}
    >>> found = part(
    ...     [{**about, "sizes": "old"}, {**about, "sizes": "new"}], task="digits", role="pilot"
    ... )
    >>> [run["sizes"] for run in found]
    ['new']
    """
    wanted = (task, role, budget)
    found = [run for run in runs if (run["task"], run["role"], run["budget"]) == wanted]
    newest = {run["method"]: run["sizes"] for run in found}
    return [run for run in found if run["sizes"] == newest[run["method"]]]


def complete(runs: Iterable[Run], methods: Iterable[str]) -> list[Run]:
    """Return the runs of those seeds with which all the given methods have been run.

    Examples
    --------
    >>> runs = [{"method": m, "seed": s} for m, s in (("LoRA", 0), ("LoRA", 1), ("OFT", 1))]
    >>> [(run["method"], run["seed"]) for run in complete(runs, ("LoRA", "OFT"))]
    [('LoRA', 1), ('OFT', 1)]
    """
    found = list(runs)
    done: dict[int, set[str]] = {}
    for run in found:
        done.setdefault(run["seed"], set()).add(run["method"])
    wanted = set(methods)
    return [run for run in found if done[run["seed"]] >= wanted]


def diverged(run: Run, outcomes: int) -> bool:
    """Return whether a run diverged: a loss is not finite, or the test loss exceeds log(outcomes).

    `outcomes` is the number of classes, or of tokens in the vocabulary, so log(outcomes) is the
    cross-entropy of uniform prediction. A loss that is not finite is None, or absent.

    Examples
    --------
    >>> [diverged({"test_loss": loss}, 10) for loss in (0.5, 2.4, None)]
    [False, True, True]
    """
    loss = run.get("test_loss")
    return bool(run.get("diverged")) or loss is None or not loss <= math.log(outcomes)


def capped(runs: Sequence[Run], outcomes: int) -> list[Run]:
    """Return runs of a task, with the measures of uniform prediction for runs that diverged.

    Examples
    --------
    >>> good = {"test_loss": 0.5, "items": [0.25, 0.75]}
    >>> [_, found] = capped([good, {"diverged": True}], 4)
    >>> found["test_accuracy"], found["items"] == 2 * [math.log(4)]
    (0.25, True)
    """
    loss = math.log(outcomes)
    uniform = {
        "test_loss": loss,
        "test_accuracy": 1 / outcomes,
        "test_ece": 0.0,
        "test_brier": 1 - 1 / outcomes,
    }
    if texts := max((len(run.get("items") or ()) for run in runs), default=0):
        uniform["items"] = texts * [loss]
    return [{**run, **uniform} if diverged(run, outcomes) else run for run in runs]


def outcomes_of(runs: Iterable[Run], key: str, methods: Sequence[str]) -> dict[str, Array]:
    """Return the outcomes (seeds,) or (seeds, texts) of each method, by seed in ascending order.

    Raises
    ------
    StructmatError
        If a run is missing or occurs twice, has no finite outcome, or has a different number of
        texts from the others.

    Examples
    --------
    >>> runs = [{"method": m, "seed": 0, "loss": 1.0} for m in ("LoRA", "OFT")]
    >>> outcomes_of(runs, "loss", ["LoRA", "OFT"])
    {'LoRA': array([1.]), 'OFT': array([1.])}
    >>> outcomes_of([*runs, {"method": "OFT", "seed": 1}], "loss", ["LoRA", "OFT"])
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: no run of LoRA with seed 1: comparisons are paired, so every \
method needs every seed; run the study again, which resumes
    """
    table: dict[tuple[str, int], Run] = {}
    for run in runs:
        name, seed = run["method"], run["seed"]
        if (name, seed) in table:
            raise StructmatError(f"two runs of {name} with seed {seed}: remove one of them")
        table[name, seed] = run
    seeds = sorted({seed for _, seed in table})
    for name in methods:
        for seed in seeds:
            if (name, seed) not in table:
                raise StructmatError(
                    f"no run of {name} with seed {seed}: comparisons are paired, so every method"
                    " needs every seed; run the study again, which resumes"
                )
    values = {name: [table[name, seed].get(key) for seed in seeds] for name in methods}
    sizes = {np.shape(value) for rows in values.values() for value in rows}
    if len(sizes) > 1:
        raise StructmatError(
            f"{key} of runs with different numbers of texts, {sorted(sizes)}: all methods and seeds"
            " need the same texts"
        )
    arrays = {name: np.asarray(rows, dtype=float) for name, rows in values.items()}
    for name, rows in arrays.items():
        if not np.isfinite(rows).all():
            raise StructmatError(
                f"{key} of {name} is not finite: replace diverged runs by `capped` first"
            )
    return arrays
