"""The record of a run: its circumstances, and one row for each method."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from structmat.analysis.comparison import compare
from structmat.bench.interleaved import relative
from structmat.bench.machine import machine
from structmat.errors import WidthError
from structmat.finetune.methods import Method, Settings
from structmat.finetune.models import Pretrained
from structmat.finetune.report.before_training import classes, most_frequent
from structmat.finetune.report.disagreements import agreement, disagreements
from structmat.finetune.report.method_ranking import ranking
from structmat.finetune.report.significance import accuracy_interval
from structmat.finetune.task import Task

FORMAT, VERSION = "structmat.finetune", 2

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy")


def circumstances(task: Task, source: Pretrained, command: str) -> dict[str, Any]:
    """Return the command, date, machine, model and task of a run."""
    return {
        "command": command,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": machine(LIBRARIES),
        "model": source.name,
        "task": {
            "name": task.name,
            "labels": list(task.labels),
            "sizes": task.sizes,
            "fingerprint": task.fingerprint,
            "notes": list(task.notes),
            "selection": selection(task),
            "classes": classes(task),
            "most_frequent": most_frequent(task),
        },
    }


def described(method: Method) -> str | None:
    """Return the topology as text: its spec, or the name of the function that builds it."""
    if method.topology is None or isinstance(method.topology, str):
        return method.topology
    return getattr(method.topology, "__name__", str(method.topology))


def networks(methods: Sequence[Method], widths: Sequence[int]) -> list[dict[str, Any]]:
    """Return a comparison of the rotations' networks at the model's widths.

    Raises
    ------
    WidthError
        If a topology does not support a width of the model.
    """
    topologies = {m.label: m.topology for m in methods if m.topology is not None}
    rows = compare(topologies, widths).rows if topologies else []
    for row in rows:
        if row["refused"]:
            raise WidthError(
                f"{row['refused']}; the adapted layers have inputs of widths"
                f" {', '.join(map(str, widths))}"
            )
    return rows


def summary(
    task: Task,
    source: Pretrained,
    settings: Settings,
    methods: Sequence[Method],
    records: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, list[float]],
    *,
    command: str,
    complete: bool,
    warned: Sequence[str] = (),
    tuning: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the record as a JSON-serialisable dict.

    Until every method has been trained with every seed, the ranking and the agreement are None, and
    there are no examples on which methods disagree.
    """
    labels = np.array([label for _, label in task.test])
    groups = task.test_groups
    ratios = relative(dict(seconds))
    rows, answers = [], {}
    for method in methods:
        mine = [record for record in records if record["method"] == method.name]
        if not mine:
            continue
        answers[method.name] = [record["predictions"] for record in mine]
        row = _row(method, mine)
        row["interval"] = list(accuracy_interval(np.array(answers[method.name]) == labels, groups))
        row["rate_source"] = settings.rate_source
        row["search"] = tuning["methods"][method.name]["accuracy"] if tuning else None
        rows.append(row | _times(seconds.get(method.name), ratios.get(method.name)))
    finished = len(records) == len(methods) * settings.seeds
    correct = {name: np.array(some) == labels for name, some in answers.items()}
    return {
        "format": FORMAT,
        "version": VERSION,
        "complete": complete,
        **circumstances(task, source, command),
        "seeds": settings.seeds,
        "hyperparameters": asdict(settings.hyperparameters),
        "warnings": list(warned),
        "rounds": settings.rounds,
        "search": None if tuning is None else _searched(tuning),
        "methods": rows,
        "ranking": ranking(correct, groups) if finished else None,
        "agreement": agreement(task.test, answers) if finished else None,
        "examples": disagreements(task.test, task.labels, answers, groups) if finished else [],
        "test": [{"text": text, "label": task.labels[label]} for text, label in task.test],
        "best": None,
    }


def selection(task: Task) -> dict[str, Any] | None:
    """Return the numbers of a file's rows and of those dropped, as a JSON-serialisable dict."""
    if task.selection is None:
        return None
    dropped = [each._asdict() for each in task.selection.dropped]
    return {"rows": task.selection.rows, "dropped": dropped}


def _times(times: list[float] | None, ratio: float | None) -> dict[str, Any]:
    """Return the median time of a step, its quartiles, and the ratio to LoRA's."""
    quartiles = np.quantile(times, (0.25, 0.75)).tolist() if times else None
    return {
        "seconds_a_step": statistics.median(times) if times else None,
        "step_quartiles": quartiles,
        "relative_seconds": ratio,
    }


def _searched(tuning: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "grid": tuning["grid"],
        "seed": tuning["seed"],
        "sizes": tuning["task"]["sizes"],
        "hyperparameters": tuning["hyperparameters"],
    }


def best(records: Sequence[dict[str, Any]], methods: Sequence[Method]) -> dict[str, Any] | None:
    """Return the rotation run with the best validation accuracy; test texts are not used.

    In a tie, the run with fewer trained parameters is returned.
    """
    rotations = {method.name for method in methods if method.kind == "rotation"}
    mine = [record for record in records if record["method"] in rotations]
    return max(mine, key=lambda r: (r["validation"], -r["trainable"]), default=None)


def _row(method: Method, mine: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    accuracies = [record["test"] for record in mine]
    return {
        "method": method.name,
        "label": method.label,
        "kind": method.kind,
        "topology": described(method),
        "rate": method.rate,
        "trainable": mine[0]["trainable"],
        "accuracy": statistics.mean(accuracies),
        "spread": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "accuracies": accuracies,
        "predictions": [" ".join(map(str, record["predictions"])) for record in mine],
        "validation": statistics.mean(record["validation"] for record in mine),
        "orthogonality_error": _largest(mine, "orthogonality_error"),
        "merge_difference": _largest(mine, "merge_difference"),
        "loss_curve": mine[0]["loss"],
        "validation_curve": mine[0]["accuracy"],
        "seconds": [record["seconds"] for record in mine],
    }


def _largest(mine: Sequence[Mapping[str, Any]], key: str) -> float | None:
    return max((record[key] for record in mine if record[key] is not None), default=None)
