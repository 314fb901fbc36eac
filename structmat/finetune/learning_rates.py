"""The search for learning rates, with the same grid, texts and steps for every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from structmat._util.files import read_json, write_json
from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.methods import Method
from structmat.finetune.models import Pretrained
from structmat.finetune.task import Task
from structmat.finetune.training import DivergedError, train

GRID = (1e-3, 3e-3, 1e-2, 3e-2)

# The budget of the search: part of the texts, and a single seed.
TEXTS = 720
HYPERPARAMETERS = Hyperparameters(epochs=2, evaluations=1)


def record_at(
    path: Path,
    *,
    key: str,
    about: Mapping[str, Any],
    hyperparameters: Hyperparameters = HYPERPARAMETERS,
    grid: Sequence[float] = GRID,
) -> dict[str, Any]:
    """Return the record of an earlier search with the same key, or an empty record."""
    record = read_json(path)
    if isinstance(record, dict) and record.get("key") == key:
        return record
    return {
        "key": key,
        **about,
        "hyperparameters": asdict(hyperparameters),
        "seed": 0,
        "grid": list(grid),
        "methods": {},
    }


def trials(record: Mapping[str, Any]) -> int:
    """Return the number of training runs in a record."""
    return sum(len(entry["accuracy"]) for entry in record["methods"].values())


def search(
    methods: Sequence[Method],
    source: Pretrained,
    task: Task,
    path: Path,
    record: dict[str, Any],
    *,
    on_step: Callable[[], object] = lambda: None,
    on_trial: Callable[[Method, float], object] = lambda *_: None,
) -> dict[str, Any]:
    """Train every method at every rate, and record the validation accuracies.

    Test texts are not used. Trials in the record are not repeated, and the record is written after
    every trial.

    Returns
    -------
    dict
        The record, with the accuracies and the selected rate of each method.
    """
    tokenizer = source.tokenizer()
    hyperparameters = Hyperparameters(**record["hyperparameters"])
    for method in methods:
        entry = record["methods"].setdefault(method.name, {"label": method.label, "accuracy": {}})
        for rate in record["grid"]:
            if f"{rate:g}" in entry["accuracy"]:
                continue
            on_trial(method, rate)
            entry["accuracy"][f"{rate:g}"] = _trial(
                method,
                source,
                tokenizer,
                task,
                hyperparameters=hyperparameters,
                rate=rate,
                on_step=on_step,
            )
            entry["selected_rate"] = best_rate(entry["accuracy"])
            write_json(path, record)
    return record


def best_rate(accuracy: Mapping[str, float]) -> float:
    """Return the rate with the highest accuracy; of several, the smallest.

    Examples
    --------
    >>> best_rate({"0.001": 0.5, "0.003": 0.7, "0.01": 0.7})
    0.003
    """
    return min((float(rate) for rate in accuracy), key=lambda r: (-accuracy[f"{r:g}"], r))


def rates(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the selected rates of a record, by method."""
    return {name: float(entry["selected_rate"]) for name, entry in record["methods"].items()}


def _trial(
    method: Method,
    source: Pretrained,
    tokenizer: Any,
    task: Task,
    *,
    hyperparameters: Hyperparameters,
    rate: float,
    on_step: Callable[[], object],
) -> float:
    model = method.prepare(source.classifier(task.labels, seed=0))
    try:
        return train(
            model,
            tokenizer,
            training=task.train,
            validation=task.validation,
            hyperparameters=hyperparameters,
            rate=rate,
            seed=0,
            on_step=on_step,
        ).validation
    except DivergedError:
        return 0.0
