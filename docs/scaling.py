"""Measure how the time of a rotation grows: `python docs/scaling.py`.

The program writes docs/results/scaling.json, from which the documentation build generates the
tables of docs/benchmarks.md, and `make pictures` the curves. `Orthogonal` alone, without a frozen
layer, is timed at several widths, numbers of tokens, depths and radices; so is the dense product,
up to width 8,192. The measurements along an axis are interleaved. A run takes about ten minutes on
two cores; `--quick` takes seconds, and only checks at small sizes that everything works.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

import structmat as sm
import studies
from structmat.bench.interleaved import interleaved
from structmat.bench.layer_benchmark import ROUNDS, Batch, forward, training_step
from structmat.bench.machine import device, torch_machine
from structmat.bench.measurements import Spread
from structmat.nn import Orthogonal

PATH = Path(__file__).parent / "results" / "scaling.json"
SPECS = (
    "butterfly(block=2)",
    "mixed_radix(largest=16)",
    "monarch",
    "butterfly(block=8, depth=4)",
)
DENSE, WIDEST_DENSE = "dense d×d", 8192
FIT_FROM = 1024  # below this width, costs that do not depend on the width matter
# The share of the time for each axis; axes with long rounds need more.
SHARES = {"width": 0.3, "tokens": 0.4, "depth": 0.2, "radix": 0.1}


@dataclass(frozen=True)
class Point:
    """A case to time, the rotation of a spec or a dense product; `x` is its value on the axis."""

    curve: str
    x: int | None  # None for a reference, which has no place on this axis
    spec: str
    width: int
    tokens: int

    def module(self) -> nn.Module:
        """Return the layer, with non-zero generators."""
        if self.spec == DENSE:
            return nn.Linear(self.width, self.width, bias=False).to(device())
        layer = Orthogonal(sm.parse(self.spec)(self.width)).to(device())
        source = torch.Generator(device()).manual_seed(0)
        for values in layer.parameters():
            nn.init.normal_(values, std=0.1, generator=source)
        return layer

    def counts(self) -> dict[str, int | None]:
        """Return the depth and the parameters."""
        if self.spec == DENSE:
            return {"depth": None, "parameters": self.width**2}
        net = sm.parse(self.spec)(self.width)
        return {"depth": net.depth, "parameters": net.parameters}


def axes(*, quick: bool) -> dict[str, list[Point]]:
    """Return the points of each axis."""
    widths = [256, 512, 1024] if quick else [2**k for k in range(8, 15)]
    counts = [1, 16, 64] if quick else [4**k for k in range(8)]
    width, tokens = (256, 64) if quick else (4096, 2048)
    level = Point(DENSE, None, DENSE, width, tokens)
    deepest = {block: int(math.log2(width // block)) + 1 for block in (2, 8)}
    return {
        "width": [
            Point(spec, d, spec, d, tokens)
            for spec in (*SPECS, DENSE)
            for d in widths
            if spec != DENSE or d <= WIDEST_DENSE
        ],
        "tokens": [Point(spec, n, spec, width, n) for spec in (*SPECS, DENSE) for n in counts],
        "depth": [
            Point(f"butterfly(block={block})", k, f"butterfly(block={block}, depth={k})", *size)
            for size in ((width, tokens),)
            for block, most in deepest.items()
            for k in range(1, most + 1)
        ]
        + [level],
        "radix": [
            Point("mixed_radix", 2**k, f"mixed_radix(largest={2**k})", width, tokens)
            for k in range(1, 7)
        ]
        + [level],
    }


def batches(points: Sequence[Point]) -> dict[tuple[int, int], Batch]:
    """Return activations and gradients by (width, tokens), shared by the points."""
    found: dict[tuple[int, int], Batch] = {}
    for point in points:
        size = point.tokens, point.width
        if (point.width, point.tokens) not in found:
            x, back = (torch.randn(size, device=device()) for _ in range(2))
            found[point.width, point.tokens] = Batch(x.requires_grad_(), back)
    return found


def measured(
    points: Sequence[Point], *, seconds: float, warmup: int, on_step: Callable[[], object]
) -> Iterator[dict[str, Any]]:
    """Time all points, interleaved, and yield a row for each.

    Forward passes are timed first, in evaluation mode: a training step changes the blocks, which
    otherwise stay the same between forward passes.
    """
    held = batches(points)
    modules = {point: point.module() for point in points}
    times = {}
    for kind, run, share in (("forward", forward, 1 / 3), ("step", training_step, 2 / 3)):
        steps = {
            point: run(module.train(kind == "step"), held[point.width, point.tokens])
            for point, module in modules.items()
        }
        times[kind] = interleaved(
            steps, rounds=ROUNDS, seconds=share * seconds, warmup=warmup, on_step=on_step
        )
    for point in points:
        spreads = {kind: asdict(Spread.of(taken[point])) for kind, taken in times.items()}
        yield asdict(point) | point.counts() | spreads


# The tables of the page ----------------------------------------------------------------------


def curves(record: Mapping[str, Any], axis: str) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the rows of an axis by curve and place, without the reference."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in record["axes"][axis]:
        if row["x"] is not None:
            found.setdefault(row["curve"], {})[row["x"]] = row
    return found


def level(record: Mapping[str, Any], axis: str) -> dict[str, Any]:
    """Return the row without a place on the axis: that of the dense product."""
    (row,) = [row for row in record["axes"][axis] if row["x"] is None]
    return dict(row)


def exponent(rows: Mapping[int, Mapping[str, Any]], kind: str) -> float | None:
    """Return p of the fit seconds ∝ d^p for widths from 1,024, or None if there is only one."""
    wide = [d for d in rows if d >= FIT_FROM]
    if len(wide) < 2:
        return None
    seconds = [math.log(rows[d][kind]["median"]) for d in wide]
    return statistics.linear_regression([math.log(d) for d in wide], seconds).slope


def overtakes(
    rows: Mapping[int, Mapping[str, Any]], others: Mapping[int, Mapping[str, Any]], kind: str
) -> int | None:
    """Return the first place from which one curve is faster than the other at all common places."""
    first = None
    for x in sorted(rows.keys() & others.keys(), reverse=True):
        if rows[x][kind]["median"] >= others[x][kind]["median"]:
            break
        first = x
    return first


def tables(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of the page, as Markdown."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    yield (
        f"*{machine['model']}, {machine['cores']} cores, {machine['threads']} threads, device"
        f" {machine['device']}; {versions}; {record['date']}, `{record['command']}`.*"
    )
    for axis, title, table in (
        ("width", "width, with {tokens:,} tokens", _by_width),
        ("tokens", "number of tokens, at width {width:,}", _by_tokens),
        ("depth", "depth, at width {width:,} with {tokens:,} tokens", _by_depth),
        ("radix", "largest radix, at width {width:,} with {tokens:,} tokens", _by_radix),
    ):
        by = title.format(**record["axes"][axis][0])
        head = f"Time in milliseconds of a forward pass / a training step, by {by}:"
        yield f"{head}\n\n{table(record)}"


def _by_width(record: Mapping[str, Any]) -> str:
    found = curves(record, "width")
    places = _some(found[SPECS[0]])
    rows = []
    for curve, points in found.items():
        powers = (exponent(points, kind) for kind in ("forward", "step"))
        first = (overtakes(points, found[DENSE], kind) for kind in ("forward", "step"))
        rows.append(
            [
                f"`{curve}`" if curve != DENSE else curve,
                *(_cell(points.get(x)) for x in places),
                " / ".join("—" if p is None else f"d^{p:.2f}" for p in powers),
                " / ".join("—" if d is None else f"{d:,}" for d in first),
            ]
        )
    head = ["", *(f"{x:,}" for x in places), "grows as", "faster than dense from"]
    return studies.markdown(head, rows)


def _by_tokens(record: Mapping[str, Any]) -> str:
    found = curves(record, "tokens")
    places = _some(found[SPECS[0]])
    rows = []
    for curve, points in found.items():
        first = (overtakes(points, found[DENSE], kind) for kind in ("forward", "step"))
        rows.append(
            [
                f"`{curve}`" if curve != DENSE else curve,
                *(_cell(points[x]) for x in places),
                " / ".join("—" if n is None else f"{n:,}" for n in first),
            ]
        )
    return studies.markdown(["", *(f"{x:,}" for x in places), "faster than dense from"], rows)


def _by_depth(record: Mapping[str, Any]) -> str:
    found = curves(record, "depth")
    places = [x for x in (1, 2, 4, 6, 8, 10, 12) if x in next(iter(found.values()))]
    rows = [
        [f"`{curve}`", *(_cell(points.get(x)) for x in places)] for curve, points in found.items()
    ]
    return f"{studies.markdown(['', *map(str, places)], rows)}\n\n{_beside(record, 'depth')}"


def _by_radix(record: Mapping[str, Any]) -> str:
    (points,) = curves(record, "radix").values()
    rows = [
        [f"{x}", f"{row['depth']}", f"{row['parameters']:,}", _cell(row)]
        for x, row in points.items()
    ]
    head = ["radix at most", "stages", "parameters", "ms"]
    return f"{studies.markdown(head, rows)}\n\n{_beside(record, 'radix')}"


def _beside(record: Mapping[str, Any], axis: str) -> str:
    return f"The dense product took {_cell(level(record, axis))} ms."


def _some(points: Mapping[int, object]) -> list[int]:
    """Return every other place, starting with the first."""
    return sorted(points)[::2]


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "—"
    return " / ".join(_milliseconds(row[kind]["median"]) for kind in ("forward", "step"))


def _milliseconds(seconds: float) -> str:
    """Format with three significant digits, or all digits before the decimal point."""
    value = 1e3 * seconds
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:,.{min(digits, 3)}f}"


# The program ---------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the record, and print the tables."""
    parser = argparse.ArgumentParser(description="Measure how the time of a rotation grows.")
    parser.add_argument("--quick", action="store_true", help="small sizes, as a smoke test")
    parser.add_argument(
        "--minutes",
        type=float,
        default=None,
        help="total time without warm-up; at least three rounds (default: 8, with --quick 0)",
    )
    parser.add_argument("--warmup", type=int, default=2, help="warm-up rounds (default: 2)")
    parser.add_argument(
        "--output", type=Path, help=f"(default: {PATH.name} in docs/results; none with --quick)"
    )
    options = parser.parse_args(arguments)
    minutes = (0.0 if options.quick else 8.0) if options.minutes is None else options.minutes
    path = options.output or (None if options.quick else PATH)
    said = {"--quick": options.quick, "--minutes": options.minutes, "--warmup": options.warmup}
    shown = [
        name if value is True else f"{name} {value:g}"
        for name, value in said.items()
        if value is not None and value is not False and (name, value) != ("--warmup", 2)
    ]
    record = {
        "description": "seconds of a rotation alone: forward, and a training step of it",
        "command": " ".join(["python docs/scaling.py", *shown]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": torch_machine(),
        "dtype": "float32",
        "warmup": options.warmup,
        "axes": {},
    }
    for axis, points in axes(quick=options.quick).items():
        with tqdm(desc=axis, unit="step", leave=False) as bar:
            seconds = 60 * minutes * SHARES[axis]
            rows = measured(points, seconds=seconds, warmup=options.warmup, on_step=bar.update)
            record["axes"][axis] = list(rows)
    if path is not None:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)
    for part in tables(record):
        tqdm.write(f"{part}\n")


if __name__ == "__main__":
    main()
