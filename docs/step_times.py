"""Time the training steps of the finetuning tables again: `python docs/step_times.py`.

This takes five minutes on an otherwise idle machine. It replaces the times in the records of
docs/finetuning.md and docs/docstrings-study.md, and in the tables of these pages. The accuracies
remain those of the original runs.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import docstrings_study
import studies
from structmat.bench.interleaved import relative
from structmat.bench.machine import machine
from structmat.finetune import record as results
from structmat.finetune.docstring_task import docstring_task
from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.methods import METHODS
from structmat.finetune.models import pretrained
from structmat.finetune.report import result_tables
from structmat.finetune.step_times import seconds_a_step

DOCS = Path(__file__).parent
FULL = DOCS / "results" / "finetune-full.json"


def full(path: Path = FULL, page: Path = DOCS / "finetuning.md") -> None:
    """Time the methods of `structmat finetune --full`, with the default number of threads."""
    record = json.loads(path.read_text("utf-8"))
    before = shown(result_tables.results(record)[1])
    seconds = seconds_a_step(
        METHODS,
        pretrained(),
        docstring_task(),
        hyperparameters=Hyperparameters(**record["hyperparameters"]),
        rounds=record["rounds"],
    )
    ratios = relative(seconds)
    for row in record["methods"]:
        row["seconds_a_step"] = statistics.median(seconds[row["method"]])
        row["step_quartiles"] = np.quantile(seconds[row["method"]], (0.25, 0.75)).tolist()
        row["relative_seconds"] = ratios[row["method"]]
    record["timed"] = {"machine": machine(results.LIBRARIES)}
    studies.write(path, record)
    quoted(page, before, shown(result_tables.results(record)[1]))


def docstrings(
    path: Path = docstrings_study.PATH, page: Path = DOCS / "docstrings-study.md"
) -> None:
    """Time the methods of the study on docstrings, on one thread."""
    record = json.loads(path.read_text("utf-8"))
    before = docstrings_study.tables(record)
    torch.set_num_threads(1)
    sizes = docstrings_study.Sizes(**record["sizes"])
    data = docstrings_study.loaded(sizes)
    record["seconds"] = docstrings_study.timed(data, sizes, list(record["selected_rates"]))
    studies.write(path, record)
    quoted(page, before, docstrings_study.tables(record))


def shown(rows: Sequence[result_tables.Row]) -> list[str]:
    """Format rows as Markdown."""
    return [f"| {' | '.join(row)} |" for row in rows]


def quoted(page: Path, before: Sequence[str], after: Sequence[str]) -> None:
    """Replace tables, or rows of a table, in a page."""
    text = page.read_text("utf-8")
    for old, new in zip(before, after, strict=True):
        if old not in text:
            raise SystemExit(f"{page} does not contain\n{old}")
        text = text.replace(old, new)
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    full()
    docstrings()
