"""Reports before training: the texts used and dropped, and warnings about the settings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from structmat._util.text_table import Row, Table, counted
from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.report.significance import wilson
from structmat.finetune.task import Task
from structmat.viz.svg import shortened

# In docs/results/finetune-full.json, half of the total decrease in the training loss took 18 to 39
# steps, depending on the method; a test recomputes this.
FEWEST_STEPS = 40

COARSE = 0.1  # the test part is too small if half the width of the interval exceeds this

CLASSES = ("class", "rows", "used", "train", "validation", "test")
_LONGEST_LABEL, _MOST_CLASSES = 30, 20  # in the terminal


def selection_lines(source: object, selection: Mapping[str, Any] | None) -> list[str]:
    """Return lines that state how many rows of a file are not used, the reasons and the remedies.

    Examples
    --------
    >>> near = {"rows": 174, "reason": "near duplicates", "remedy": "--keep-duplicates keeps them"}
    >>> selection_lines("mine.csv", {"rows": 300, "dropped": [near]})
    ['mine.csv: 300 rows: 174 near duplicates dropped; --keep-duplicates keeps them']
    """
    if selection is None:
        return []
    rows = f"{source}: {counted(selection['rows'], 'row')}"
    dropped = [tuple(each.values()) for each in selection["dropped"]]
    if not dropped:
        return [f"{rows}, all used"]
    if len(dropped) == 1:
        ((number, reason, remedy),) = dropped
        subject, _, listed = reason.partition(": ")
        more = f" ({listed})" if listed else ""
        return [f"{rows}: {number:,} {subject} dropped{more}; {remedy}"]
    numbers = [number for number, *_ in dropped]
    digits = len(f"{max(numbers):,}")
    return [
        f"{rows}, {sum(numbers):,} dropped:",
        *(f"  {number:>{digits},} {reason}; {remedy}" for number, reason, remedy in dropped),
    ]


def classes(task: Task) -> list[dict[str, Any]]:
    """Return the sizes of the classes: label, rows (or None), train, validation and test."""
    counts = [
        Counter(label for _, label in part) for part in (task.train, task.validation, task.test)
    ]
    rows = task.selection.classes if task.selection else [None] * len(task.labels)
    return [
        {
            "label": label,
            "rows": rows[number],
            **{name: count[number] for name, count in zip(task.sizes, counts, strict=True)},
        }
        for number, label in enumerate(task.labels)
    ]


def class_rows(sizes: Sequence[Mapping[str, Any]]) -> tuple[Row, list[Row]]:
    """Return the header and the rows of a table of classes; numbers of a file's rows, if known."""
    full = all(each["rows"] is not None for each in sizes)
    header = CLASSES if full else CLASSES[:1] + CLASSES[3:]
    table: list[Row] = []
    for each in sizes:
        parts = [each[part] for part in CLASSES[3:]]
        numbers = [each["rows"], sum(parts), *parts] if full else parts
        table.append((each["label"], *(f"{number:,}" for number in numbers)))
    return header, table


def class_table(sizes: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of the classes as text, with at most the first 20 classes."""
    header, rows = class_rows(sizes)
    cut = [(shortened(name, _LONGEST_LABEL), *numbers) for name, *numbers in rows[:_MOST_CLASSES]]
    more = len(rows) - len(cut)
    rest = f"\n… and {counted(more, 'class', 'classes')}" if more else ""
    return f"{Table(header, cut)}{rest}"


def most_frequent(task: Task) -> dict[str, Any]:
    """Return the most frequent label of the test part, and its share of the texts."""
    ((label, count),) = Counter(label for _, label in task.test).most_common(1)
    return {"label": task.labels[label], "share": count / len(task.test)}


def plan_line(hyperparameters: Hyperparameters, task: Task, runs: int, processes: int) -> str:
    """Return the number of training runs and steps in words."""
    texts = len(task.train)
    steps = hyperparameters.steps(texts, processes=processes)
    return (
        f"{counted(runs, 'training run')} of {counted(steps, 'step')}"
        f" ({counted(hyperparameters.epochs, 'epoch')} of {counted(texts, 'text')}, in batches of"
        f" {min(hyperparameters.batch, texts)})"
    )


def warnings(hyperparameters: Hyperparameters, task: Task, *, processes: int = 1) -> list[str]:
    """Return warnings about runs with too few steps to learn, or too few texts to compare.

    Examples
    --------
    >>> from structmat.finetune.task import Example
    >>> parts = [(Example("a", 0), Example("b", 1)) * n for n in (48, 6, 450)]
    >>> (line,) = warnings(Hyperparameters(), Task("t", ("x", "y"), *parts))
    >>> print(line)
    6 steps may be too few to learn the task (40 or more are recommended); use --epochs 14, or \
--batch 4
    """
    found = []
    steps = hyperparameters.steps(len(task.train), processes=processes)
    if steps < FEWEST_STEPS:
        found.append(
            f"{counted(steps, 'step')} may be too few to learn the task ({FEWEST_STEPS} or more are"
            " recommended); use"
            f" {_more_steps(hyperparameters, len(task.train), processes)}"
        )
    low, high = wilson(0.5, len(task.test))
    if (high - low) / 2 > COARSE:
        found.append(
            f"with {counted(len(task.test), 'test text')}, an accuracy is uncertain by up to"
            f" ± {(high - low) / 2:.2f}: small differences will be ties; use more texts"
        )
    return found


def _more_steps(given: Hyperparameters, texts: int, processes: int) -> str:
    """Return the options that lead to enough steps: more epochs, or smaller batches."""
    an_epoch = texts // min(given.batch, texts)
    epochs = math.ceil(FEWEST_STEPS * processes / an_epoch)
    options = f"--epochs {epochs}"
    batch = 2 ** int(math.log2(max(1, min(given.batch, texts) - 1)))
    while batch > 1 and given.epochs * (texts // batch) < FEWEST_STEPS * processes:
        batch //= 2
    if batch < given.batch and given.epochs * (texts // batch) >= FEWEST_STEPS * processes:
        options += f", or --batch {batch}"
    return options


def truncation(lengths: Sequence[int], most: int, longest: int | None) -> str | None:
    """Return a note on the number of truncated texts and the remedy, or None if there are none.

    Parameters
    ----------
    lengths : sequence of int
        The number of tokens of each text.
    most : int
        The number of tokens to which texts are truncated.
    longest : int or None
        The largest number of tokens that the model supports, if there is one.

    Examples
    --------
    >>> truncation([10, 70, 90], 64, 512)
    '2 of 3 texts truncated to 64 tokens; --max-length 90 keeps them whole'
    """
    longer = sum(length > most for length in lengths)
    if not longer:
        return None
    needed = max(lengths)
    if longest is not None and most >= longest:
        remedy = "the model supports no more; shorten the texts"
    elif longest is not None and needed > longest:
        remedy = f"--max-length {longest}, the most that the model supports, keeps more of them"
    else:
        remedy = f"--max-length {needed} keeps them whole"
    return f"{longer:,} of {counted(len(lengths), 'text')} truncated to {most} tokens; {remedy}"
