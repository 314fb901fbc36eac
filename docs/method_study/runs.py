"""Read the runs of the study, and arrange their outcomes for paired comparisons.

A run is a JSON object; `docs.method_study.runner` lists its fields.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from docs.method_study.differences import Array
from structmat.errors import StructmatError

Run = Mapping[str, Any]


def read(path: Path) -> list[Run]:
    """Return the runs in a file with one JSON object a line, or none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def part(runs: Iterable[Run], *, task: str, role: str, budget: str = "parameters") -> list[Run]:
    """Return the runs of a task in one role, and of these the ones with the newest sizes.

    Examples
    --------
    >>> about = {"task": "digits", "role": "pilot", "budget": "parameters"}
    >>> part([{**about, "sizes": "old"}, {**about, "sizes": "new"}], task="digits", role="pilot")
    [{'task': 'digits', 'role': 'pilot', 'budget': 'parameters', 'sizes': 'new'}]
    """
    wanted = (task, role, budget)
    found = [run for run in runs if (run["task"], run["role"], run["budget"]) == wanted]
    return [run for run in found if run.get("sizes") == found[-1].get("sizes")]


def diverged(run: Run, outcomes: int) -> bool:
    """Return whether a run diverged: a loss is not finite, or worse than uniform prediction.

    `outcomes` is the number of classes, or of tokens in the vocabulary; uniform prediction has the
    cross-entropy log(outcomes). A loss that is not finite may be stored as None.

    Examples
    --------
    >>> [diverged({"test_loss": loss}, 10) for loss in (0.5, 2.4, math.nan, None)]
    [False, True, True, True]
    """
    loss = run["test_loss"]
    return bool(run.get("diverged")) or loss is None or not loss <= math.log(outcomes)


def capped(run: Run, outcomes: int) -> Run:
    """Return a run, with uniform prediction in place of its predictions if it diverged.

    Examples
    --------
    >>> run = {"test_loss": None, "test_accuracy": 0.1, "test_ece": 0.9}
    >>> capped(run, 4) == {"test_loss": math.log(4), "test_accuracy": 0.25, "test_ece": 0.0}
    True
    """
    if not diverged(run, outcomes):
        return run
    loss = math.log(outcomes)
    instead = {
        "test_loss": loss,
        "items": [loss] * len(run.get("items") or ()),
        "test_accuracy": 1 / outcomes,
        "test_ece": 0.0,
        "test_brier": 1 - 1 / outcomes,
    }
    return {**run, **{key: value for key, value in instead.items() if key in run}}


def outcomes_of(runs: Iterable[Run], key: str, methods: Sequence[str]) -> dict[str, Array]:
    """Return the outcomes (seeds,) or (seeds, texts) of each method, by seed in ascending order.

    Raises
    ------
    StructmatError
        If a run is missing, is there twice, has no finite outcome, or has another number of texts
        than the others.

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
    values = {name: [table[name, seed][key] for seed in seeds] for name in methods}
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
