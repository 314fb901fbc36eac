"""The record of a run: its circumstances, and one row for each method."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from structmat.analysis.comparison import compare
from structmat.bench.interleaved import relative
from structmat.bench.machine import machine
from structmat.errors import WidthError
from structmat.finetune.methods import Method, Settings
from structmat.finetune.models import Pretrained
from structmat.finetune.task import Task

FORMAT, VERSION = "structmat.finetune", 1

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
) -> dict[str, Any]:
    """Return the record as a JSON-serialisable dict."""
    ratios = relative(dict(seconds))
    rows = []
    for method in methods:
        mine = [record for record in records if record["method"] == method.name]
        if mine:
            times = seconds.get(method.name)
            rows.append(
                _row(method, mine)
                | {
                    "seconds_a_step": statistics.median(times) if times else None,
                    "relative_seconds": ratios.get(method.name),
                }
            )
    return {
        "format": FORMAT,
        "version": VERSION,
        "complete": complete,
        **circumstances(task, source, command),
        "seeds": settings.seeds,
        "hyperparameters": asdict(settings.hyperparameters),
        "rounds": settings.rounds,
        "methods": rows,
        "best": None,
    }


def best(records: Sequence[dict[str, Any]], methods: Sequence[Method]) -> dict[str, Any] | None:
    """Return the rotation run with the best validation accuracy; test texts are not used.

    In a tie, the run with fewer trained parameters is returned.
    """
    rotations = {method.name for method in methods if method.kind == "rotation"}
    mine = [record for record in records if record["method"] in rotations]
    return max(mine, key=lambda r: (r["validation"], -r["trainable"]), default=None)


def noise(found: Mapping[str, Any]) -> float:
    """Return approximately two standard errors of an accuracy on the test texts.

    Examples
    --------
    >>> row = {"accuracy": 0.8}
    >>> round(noise({"methods": [row], "task": {"sizes": {"test": 900}}}), 4)
    0.0267
    """
    mean = statistics.mean(row["accuracy"] for row in found["methods"])
    texts: int = found["task"]["sizes"]["test"]
    return float(2 * (mean * (1 - mean) / texts) ** 0.5)


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
        "validation": statistics.mean(record["validation"] for record in mine),
        "orthogonality_error": _largest(mine, "orthogonality_error"),
        "merge_difference": _largest(mine, "merge_difference"),
        "loss_curve": mine[0]["loss"],
        "validation_curve": mine[0]["accuracy"],
        "seconds": [record["seconds"] for record in mine],
    }


def _largest(mine: Sequence[Mapping[str, Any]], key: str) -> float | None:
    return max((record[key] for record in mine if record[key] is not None), default=None)
