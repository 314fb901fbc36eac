"""The results of a run: an immutable value that prints as a table and converts to JSON."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from structmat._util.text_table import Printed, Table, counted
from structmat.bench.machine import torch_machine

FORMAT, VERSION = "structmat.bench", 1

HEADER = (
    "candidate",
    "parameters",
    "forward ms",
    "min",
    "step ms",
    "min",
    "quartiles",
    "vs copy",
    "vs frozen",
    "vs LoRA",
    "memory MB",
)

_RATIOS = {"LoRA": "to_lora", "frozen": "to_frozen", "copy": "to_copy"}  # in order of preference


@dataclass(frozen=True)
class Spread:
    """The median, minimum and quartiles of times over rounds, in seconds, and the number of rounds.

    Examples
    --------
    >>> Spread.of([1.0, 2.0, 3.0, 4.0, 5.0])
    Spread(median=3.0, minimum=1.0, low=2.0, high=4.0, rounds=5)
    """

    median: float
    minimum: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Return the spread of the times of at least one round."""
        low, high = (float(q) for q in np.quantile(seconds, (0.25, 0.75)))
        return cls(statistics.median(seconds), min(seconds), low, high, len(seconds))


@dataclass(frozen=True)
class Row:
    """The results of one candidate in one setting, or the reason why there are none.

    Attributes
    ----------
    subject : str
        The adapted layer as "width→outputs", the width of a rotation alone, or the name of the
        model.
    tokens : int
        The number of tokens in a batch.
    name, label : str
        The name of the candidate, and its label in tables.
    parameters : int
        The number of trained parameters.
    forward, step : Spread
        Times in seconds.
    to_copy, to_frozen, to_lora : float
        The median over rounds of the ratio of the step time to the reference's; for a rotation
        alone, of the ratio of the forward time.
    memory : int
        The peak memory of a step in bytes, beyond the memory in use before it.
    plan : str
        A description of the execution plan of a rotation alone.
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
    to_copy: float | None = None
    to_frozen: float | None = None
    to_lora: float | None = None
    memory: int | None = None
    plan: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Benchmark(Printed):
    """The rows of a run, and the information needed to repeat it.

    Attributes
    ----------
    rows : tuple of Row
        Grouped by subject, then by tokens, both in the given order, as are the candidates.
    setting : dict
        The dtype, the optimizer, the duration of each measurement, the number of warm-up rounds,
        and whether another program occupied one core.
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
        """Return, by label, the ratio of each time to that of the reference.

        If there are several settings, labels include the setting.
        """
        ratios = [(row, getattr(row, _RATIOS[self.reference])) for row in self.rows]
        measured = [(row, ratio) for row, ratio in ratios if ratio is not None]
        several = len({(row.subject, row.tokens) for row, _ in measured}) > 1
        return {
            row.label + (f", {row.subject}, {row.tokens:,} tokens" if several else ""): ratio
            for row, ratio in measured
        }

    @property
    def reference(self) -> str:
        """The reference of the ratios: "LoRA", or if it was not measured "frozen" or "copy"."""
        measured = (
            name
            for name, field in _RATIOS.items()
            if any(getattr(row, field) is not None for row in self.rows)
        )
        return next(measured, "frozen")

    def _parts(self) -> list[object]:
        parts: list[object] = []
        for subject, tokens in dict.fromkeys((row.subject, row.tokens) for row in self.rows):
            here = [row for row in self.rows if (row.subject, row.tokens) == (subject, tokens)]
            title = f"{subject}, {tokens:,} token{'s' * (tokens != 1)}, {self.setting['dtype']}"
            table = _table([row for row in here if row.refused is None])
            reasons = [f"{row.label}: {row.refused}" for row in here if row.refused is not None]
            plans = [f"{row.label}: {row.plan.splitlines()[0]}" for row in here if row.plan]
            parts += [title, table, *reasons, *plans, ""]
        return [*parts, *self.notes, self._circumstances()]

    def _circumstances(self) -> str:
        machine = self.machine
        versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
        rounds = self.setting["warmup"]
        beside = ", while another program occupied one core" if self.setting["busy"] else ""
        return (
            "medians and minima (min) over rounds,"
            f" after {rounds} round{'s' * (rounds != 1)} of warm-up{beside};"
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


def _table(rows: Sequence[Row]) -> Table:
    """Return a table without the columns in which no row has a value."""
    lines = [HEADER, *(_cells(row) for row in rows)]
    columns = [column for column in zip(*lines, strict=True) if set(column[1:]) != {"—"}]
    header, *body = zip(*columns, strict=True)
    return Table(header, body)


def _cells(row: Row) -> tuple[str, ...]:
    spread = row.step or row.forward
    quartiles = (
        "—" if spread is None else f"{_milliseconds(spread.low)}–{_milliseconds(spread.high)}"
    )
    return (
        row.label,
        _number(row.parameters, ","),
        *_median_and_minimum(row.forward),
        *_median_and_minimum(row.step),
        quartiles,
        _number(row.to_copy, ".2f"),
        _number(row.to_frozen, ".2f"),
        _number(row.to_lora, ".2f"),
        _number(None if row.memory is None else row.memory / 1e6, ",.1f"),
    )


def _median_and_minimum(spread: Spread | None) -> tuple[str, str]:
    if spread is None:
        return "—", "—"
    return _milliseconds(spread.median), _milliseconds(spread.minimum)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.{2 if seconds >= 1e-3 else 4}f}"


def _number(value: float | None, form: str) -> str:
    return "—" if value is None else format(value, form)
