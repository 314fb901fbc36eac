"""The results of a run: an immutable value that prints as a table and converts to JSON."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from structmat._util.text_table import counted, plain
from structmat.bench.machine import torch_machine

FORMAT, VERSION = "structmat.bench", 1

HEADER = (
    "candidate",
    "parameters",
    "forward ms",
    "step ms",
    "quartiles",
    "vs frozen",
    "vs LoRA",
    "memory MB",
)


@dataclass(frozen=True)
class Spread:
    """The median and quartiles of times over rounds, in seconds, and the number of rounds.

    Examples
    --------
    >>> Spread.of([1.0, 2.0, 3.0, 4.0, 5.0])
    Spread(median=3.0, low=2.0, high=4.0, rounds=5)
    """

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Return the spread of the times of at least one round."""
        low, high = (float(q) for q in np.quantile(seconds, (0.25, 0.75)))
        return cls(statistics.median(seconds), low, high, len(seconds))


@dataclass(frozen=True)
class Row:
    """The results of one candidate in one setting, or the reason why there are none.

    Attributes
    ----------
    subject : str
        The adapted layer as "width→outputs", or the name of the model.
    tokens : int
        The number of tokens in a batch.
    name, label : str
        The name of the candidate, and its label in tables.
    parameters : int
        The number of trained parameters.
    forward, step : Spread
        Times in seconds.
    to_frozen, to_lora : float
        The median over rounds of the ratio of the step time to the reference's.
    memory : int
        The peak memory of a step in bytes, beyond the memory in use before it.
    refused : str
        The reason why there are no results.
    """

    subject: str
    tokens: int
    name: str
    label: str
    parameters: int | None = None
    forward: Spread | None = None
    step: Spread | None = None
    to_frozen: float | None = None
    to_lora: float | None = None
    memory: int | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """The rows of a run, and the information needed to repeat it.

    Attributes
    ----------
    rows : tuple of Row
        Sorted by subject, then by tokens, then in the given order of candidates.
    setting : dict
        The dtype, the optimizer, the duration of each measurement, and the number of warm-up
        rounds.
    machine : dict
        The machine, with the versions of the libraries.
    command, date : str
    notes : tuple of str
        Remarks on the results.
    """

    rows: tuple[Row, ...]
    setting: Mapping[str, Any]
    machine: Mapping[str, Any]
    command: str
    date: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the results as a JSON-serialisable dict."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "command": self.command,
            "date": self.date,
            "machine": dict(self.machine),
            "setting": dict(self.setting),
            "rows": [asdict(row) for row in self.rows],
            "notes": list(self.notes),
        }

    def bars(self) -> dict[str, float]:
        """Return, by label, the ratio of each step time to the reference: LoRA or the frozen layer.

        If there are several settings, labels include the setting.
        """
        measured = [row for row in self.rows if row.step is not None]
        several = len({(row.subject, row.tokens) for row in measured}) > 1
        values = {}
        for row in measured:
            ratio = row.to_lora if self.reference == "LoRA" else row.to_frozen
            where = f", {row.subject}, {row.tokens:,} tokens" if several else ""
            if ratio is not None:
                values[row.label + where] = ratio
        return values

    @property
    def reference(self) -> str:
        """The reference of the ratios: "LoRA", or "frozen" if LoRA was not measured."""
        return "LoRA" if any(row.to_lora is not None for row in self.rows) else "frozen"

    def __str__(self) -> str:
        parts = []
        for subject, tokens in dict.fromkeys((row.subject, row.tokens) for row in self.rows):
            here = [row for row in self.rows if (row.subject, row.tokens) == (subject, tokens)]
            title = f"{subject}, {tokens:,} token{'s' * (tokens != 1)}, {self.setting['dtype']}"
            table = plain(HEADER, [_cells(row) for row in here if row.refused is None])
            reasons = [f"{row.label}: {row.refused}" for row in here if row.refused is not None]
            parts.append("\n".join([title, table, *reasons]))
        return "\n\n".join([*parts, "\n".join([*self.notes, self._circumstances()])])

    def _circumstances(self) -> str:
        machine = self.machine
        versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
        rounds = self.setting["warmup"]
        return (
            f"after {rounds} round{'s' * (rounds != 1)} of warm-up;"
            f" {machine['model'] or machine['processor']}, {counted(machine['cores'], 'core')},"
            f" {counted(machine['threads'], 'thread')}, device {machine['device']}; {versions}"
        )


def benchmark(
    rows: Sequence[Row],
    *,
    setting: Mapping[str, Any],
    command: str,
    notes: Sequence[str] = (),
) -> Benchmark:
    """Return the result of a run on this machine, with the current date."""
    return Benchmark(
        tuple(rows),
        setting,
        torch_machine(),
        command,
        dt.datetime.now(dt.UTC).date().isoformat(),
        tuple(dict.fromkeys(notes)),
    )


def _cells(row: Row) -> tuple[str, ...]:
    step = row.step
    return (
        row.label,
        _number(row.parameters, ","),
        "—" if row.forward is None else f"{1e3 * row.forward.median:,.2f}",
        "—" if step is None else f"{1e3 * step.median:,.2f}",
        "—" if step is None else f"{1e3 * step.low:,.2f}–{1e3 * step.high:,.2f}",
        _number(row.to_frozen, ".2f"),
        _number(row.to_lora, ".2f"),
        _number(None if row.memory is None else row.memory / 1e6, ",.1f"),
    )


def _number(value: float | None, form: str) -> str:
    return "—" if value is None else format(value, form)
