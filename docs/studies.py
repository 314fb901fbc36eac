"""Functions shared by the studies: resumable runs, rates, intervals and tables.

A record is plain JSON. That of a finetuning study contains `runs`, one for each method, rate and
seed, with the accuracies on validation and test data (`valid`, `test`), the accuracy lost on the
original task (`forgotten`), and the step at which a target was `reached`, or None; and
`selected_rates`, one for each method.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from tqdm import tqdm

from structmat._util.files import write_json
from structmat.bench.machine import torch_machine

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The methods compared: `head_only` trains only the head, so it has no rate to select."""

    methods: tuple[str, ...]
    baseline: str
    head_only: str
    head_only_rate: float

    @property
    def names(self) -> tuple[str, ...]:
        """All methods, with `head_only` last."""
        return (*self.methods, self.head_only)


# Runs -----------------------------------------------------------------------------------


def studied(
    plan: Plan,
    sizes: Any,
    about: Mapping[str, Any],
    path: Path | None,
    run: Callable[[str, float, int], Row],
) -> dict[str, Any]:
    """Perform the runs that the file does not contain yet, and return the record.

    Every method tries every rate of `sizes` on the first seeds (`sizes.tuning`), and uses the
    best of them for the other seeds. Runs in the file are reused only if its sizes and its task are
    the same.
    """
    plain, known = resumed(path, sizes)
    kept = known if known.get("task") == about.get("task") else {}
    record: dict[str, Any] = {
        **about,
        "sizes": plain,
        "selected_rates": {},
        "runs": kept.get("runs", []),
    }
    record |= {key: value for key, value in kept.items() if key not in record}
    done = {(r["method"], r["rate"], r["seed"]) for r in record["runs"]}
    total = len(plan.methods) * (sizes.tuning * (len(sizes.rates) - 1) + sizes.seeds) + sizes.seeds
    with tqdm(total=total, unit="run") as bar:
        for seed in range(sizes.seeds):
            for name, rate in _tried(plan, sizes, record, seed):
                if (name, rate, seed) not in done:
                    record["runs"].append(run(name, rate, seed))
                    write(path, record)
                bar.update()
            if seed == sizes.tuning - 1:
                record["selected_rates"] = {
                    n: best_rate(record["runs"], n, sizes.tuning) for n in plan.names
                }
    write(path, record)
    return record


def resumed(path: Path | None, sizes: Any) -> tuple[Row, Row]:
    """Return the sizes as in JSON, and the record in the file; {} if its sizes are not the same."""
    plain = json.loads(json.dumps(vars(sizes)))
    known = json.loads(path.read_text("utf-8")) if path is not None and path.exists() else {}
    return plain, known if known.get("sizes") == plain else {}


def origin(command: str, modules: Sequence[Any], kept: Mapping[str, Any]) -> Row:
    """Return the fields of a record that `about` formats; the date is that of the first run."""
    return {
        "command": command,
        "machine": torch_machine(),
        "date": kept.get("date", datetime.now(UTC).date().isoformat()),
        "versions": {m.__name__: m.__version__ for m in modules},
    }


def _tried(
    plan: Plan, sizes: Any, record: Mapping[str, Any], seed: int
) -> Iterator[tuple[str, float]]:
    for name in plan.methods:
        rates = sizes.rates if seed < sizes.tuning else (record["selected_rates"][name],)
        yield from ((name, rate) for rate in rates)
    yield plan.head_only, plan.head_only_rate


def write(path: Path | None, record: Mapping[str, Any]) -> None:
    """Write the record atomically."""
    if path is not None:
        write_json(path, record)


def best_rate(runs: Sequence[Row], name: str, tuning: int) -> float:
    """Return the rate with the best accuracy on the validation data, then the lowest loss."""
    tried: dict[float, list[Row]] = {}
    for row in runs:
        if row["method"] == name and row["seed"] < tuning:
            tried.setdefault(row["rate"], []).append(row)

    def merit(rate: float) -> tuple[float, float]:
        rows = tried[rate]
        loss = statistics.fmean(row["valid_loss"] for row in rows)
        return round(statistics.fmean(row["valid"] for row in rows), 6), -loss

    return max(tried, key=merit)


def final(record: Mapping[str, Any], name: str) -> list[Row]:
    """Return the runs of a method at its rate, by seed."""
    rate = record["selected_rates"][name]
    rows = [r for r in record["runs"] if r["method"] == name and r["rate"] == rate]
    return sorted(rows, key=lambda row: row["seed"])


# Results -----------------------------------------------------------------------------------


def interval(values: Sequence[float], *, comparisons: int = 1) -> tuple[float, float]:
    """Return the mean and half of the width of its 95 % confidence interval, by Student's t.

    With several `comparisons` the intervals hold simultaneously (Bonferroni).
    """
    spread = statistics.stdev(values) / math.sqrt(len(values))
    quantile = scipy.stats.t.ppf(1 - 0.025 / comparisons, len(values) - 1)
    return statistics.fmean(values), float(quantile) * spread


def shown(values: Sequence[float], *, sign: str = "") -> str:
    """Return a mean and its interval, in percentage points."""
    mean, half = interval([100 * v for v in values])
    return f"{mean:{sign}.1f} ± {half:.1f}"


def gaps(plan: Plan, record: Mapping[str, Any], name: str, key: str) -> list[float]:
    """Return the difference of a method from the baseline for each seed."""
    pairs = zip(final(record, name), final(record, plan.baseline), strict=True)
    return [mine[key] - base[key] for mine, base in pairs]


def results(
    plan: Plan,
    record: Mapping[str, Any],
    *,
    target: str,
    cost: str,
    spent: Callable[[str], str],
) -> str:
    """Return the table of all methods at their rates; `spent` fills the last column, `cost`."""
    head = f"| method | trained | rate | test accuracy, % | forgotten, points | steps to {target} |"
    lines = [f"{head} {cost} |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name in plan.names:
        rows = final(record, name)
        test, lost = ([row[key] for row in rows] for key in ("test", "forgotten"))
        steps = [row["reached"] for row in rows if row["reached"]]
        seen = f"{statistics.median(steps):g}" if steps else "—"
        seen += f" ({len(steps)} of {len(rows)})" if len(steps) < len(rows) else ""
        rate = "—" if name == plan.head_only else f"{record['selected_rates'][name]:g}"
        cells = [name, f"{rows[0]['trained']:,}", rate, shown(test), shown(lost), seen]
        lines.append(f"| {' | '.join(cells)} | {spent(name)} |")
    return "\n".join(lines)


def against(plan: Plan, record: Mapping[str, Any]) -> str:
    """Return the table of differences from the baseline."""
    lines = [f"| method − {plan.baseline} | test accuracy, points | forgotten, points |"]
    lines.append("| --- | ---: | ---: |")
    for name in plan.names:
        if name != plan.baseline:
            both = [gaps(plan, record, name, key) for key in ("test", "forgotten")]
            lines.append(f"| {name} | {' | '.join(shown(gap, sign='+') for gap in both)} |")
    return "\n".join(lines)


def by_rate(plan: Plan, record: Mapping[str, Any]) -> str:
    """Return the table of validation accuracy and forgetting at each rate."""
    rates = record["sizes"]["rates"]
    lines = [f"| method | {' | '.join(f'{rate:g}' for rate in rates)} |"]
    lines.append("| --- |" + " ---: |" * len(rates))
    for name in plan.methods:
        cells = []
        for rate in rates:
            rows = [
                row
                for row in record["runs"]
                if (row["method"], row["rate"]) == (name, rate)
                and row["seed"] < record["sizes"]["tuning"]
            ]
            right, lost = (
                100 * statistics.fmean(row[key] for row in rows) for key in ("valid", "forgotten")
            )
            mark = "**" if rate == record["selected_rates"][name] else ""
            cells.append(f"{mark}{right:.0f}, {lost:.0f}{mark}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column is text and whose other columns are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(name: str) -> str:
    """Format the name of a method as code if it is a call."""
    return f"`{name}`" if name.startswith("rotator") else name


def about(record: Mapping[str, Any]) -> str:
    """Return a line on the machine, the versions and the command of a record."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    return (
        f"*{machine['model']}, {machine['threads']} thread; {versions}; {record['date']},"
        f" `{record['command']}`.*"
    )


def unevenness(matrix: np.ndarray[Any, Any]) -> dict[str, float]:
    """Return how far the squared entries of an orthogonal matrix are from being equal.

    Returns
    -------
    dict
        `sigma`: the spectral norm of R ∘ R − J/d, 0 if every input is spread evenly and 1 if part
        of the energy stays where it is; `coherence`: √d · max |R_ij|; `fourth`: d² times the mean
        of R_ij⁴, which is 1 for equal magnitudes, 3 for normal entries, and d for a permutation.

    Examples
    --------
    >>> unevenness(np.eye(2))
    {'sigma': 1.0, 'coherence': 1.414, 'fourth': 2.0}
    """
    wide = len(matrix)
    squares = np.square(matrix)
    return {
        "sigma": round(float(np.linalg.norm(squares - 1 / wide, 2)), 3),
        "coherence": round(float(np.abs(matrix).max() * math.sqrt(wide)), 3),
        "fourth": round(float(np.square(squares).mean() * wide**2), 3),
    }


def peak(x: torch.Tensor) -> torch.Tensor:
    """Return the largest entry of each vector, relative to its root mean square."""
    return x.abs().amax(-1) / x.square().mean(-1).sqrt().clamp_min(1e-12)


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's rank correlation."""
    return float(scipy.stats.spearmanr(one, other).statistic)


# The command ------------------------------------------------------------------------------


def main(
    what: str,
    default: Path,
    tables: Callable[[Path | None, bool], Sequence[str]],
    arguments: Sequence[str] | None,
) -> None:
    """Parse the options, perform the runs on one thread, and print the tables of the page.

    `tables` takes the file of the record, or None, and whether this is the quick run.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--quick", action="store_true", help="few steps, as a smoke test")
    parser.add_argument(
        "--output",
        type=Path,
        help=f"(default: {default.name} in docs/results; none with --quick)",
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = options.output or (None if options.quick else default)
    for table in tables(path, options.quick):
        tqdm.write(f"{table}\n")
