"""Pretrain a small language model by rotations: `python -m docs.pretraining_study`.

The program writes docs/results/pretraining.json, the results of docs/pretraining.md. A Llama of one
layer is trained from scratch on source code, by AdamW on all weights and by rotations that are
merged into the weights every few steps. The program saves each run and resumes where it was
interrupted. `--quick` takes seconds and checks that everything works; `--figure` only draws the
figure from the record; `--times` measures the time of a step of all methods in turn.

The record contains `runs`, one for each method, rate and seed, with `curve`, the means of the
training loss over every ten steps; `valid`, pairs of a step and the loss on held-out files; and
`final`, the last of these losses. Losses are in nats per token. Seeds from 100 on are used to
select the rates (`selected_rates`), the others for the comparison. `times` contains the seconds of
a training step in each round of `--times`, including the merges.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import scipy
import torch
import transformers
from torch import Tensor, nn
from tqdm import tqdm

from docs.method_study.language_model import (
    Settings,
    evaluated,
    losses,
    new_model,
    order,
    rate_at,
    rows_of,
)
from structmat._util.files import read_json, write_json
from structmat.adapters import (
    Remerge,
    adapt,
    adapters,
    butterfly_rounds,
    pair_rounds,
    random_rounds,
)
from structmat.bench.machine import torch_machine

PATH = Path(__file__).parent / "results" / "pretraining.json"
FIGURE = Path(__file__).parent / "_static" / "pretraining.svg"
COMMAND = "python -m docs.pretraining_study"
TUNING = 100  # the first seed that is used to select rates
EVERY = 10  # training losses are averaged over this number of steps
WHOLE = ["embed_tokens", "lm_head", "norm", "input_layernorm", "post_attention_layernorm"]


@dataclass(frozen=True)
class Rotations:
    """Rotation of the inputs and outputs of each linear layer by blocks of b wires.

    The topology of each round is determined by a schedule: "fixed" (the first of the random ones),
    "random", "planned" (all pairs of wires meet in few rounds), or "butterfly". With `every` = 0,
    the rotations are never merged.
    """

    schedule: str
    every: int
    block: int = 16
    moments: str = "reset"

    def topology(self, seed: int) -> Callable[[int], Any]:
        """Return the function from the number of a round to a topology."""
        if self.schedule == "planned":
            return pair_rounds(self.block)
        if self.schedule == "butterfly":
            return butterfly_rounds(self.block)
        drawn = random_rounds(self.block, seed=seed)
        return drawn if self.schedule == "random" else lambda _number: drawn(0)


@dataclass(frozen=True)
class Weights:
    """Training of the weights of linear layers by AdamW, or of none of them.

    With `apart`, the embeddings and norms have the best rate of plain AdamW, as with rotations.
    """

    unit: bool = True
    apart: bool = False
    frozen: bool = False


ADAMW = "AdamW"
BASELINE = "AdamW, unit rows, two rates"
METHODS: dict[str, Rotations | Weights] = {
    ADAMW: Weights(unit=False),
    "AdamW, unit rows": Weights(),
    BASELINE: Weights(apart=True),
    "linear layers frozen": Weights(apart=True, frozen=True),
    "fixed, never merged": Rotations("fixed", 0),
    "fixed, every 40": Rotations("fixed", 40),
    "random, every 40": Rotations("random", 40),
    "planned, every 40": Rotations("planned", 40),
    "butterfly, every 40": Rotations("butterfly", 40),
    "random, every 10": Rotations("random", 10),
    "planned, every 10": Rotations("planned", 10),
    "planned, blocks of 8, every 40": Rotations("planned", 40, block=8),
}


@dataclass(frozen=True)
class Sizes:
    """The size of the study.

    All methods share the model, the batches, the schedule of the rate and the number of rates. The
    rates of rotations are angles in radians.
    """

    width: int = 64
    hidden: int = 192
    layers: int = 1
    length: int = 64
    batch: int = 4
    steps: int = 240
    warmup: int = 20
    valid: int = 96  # windows of held-out files
    weight_rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)
    angles: tuple[float, ...] = (1e-2, 3e-2, 1e-1)
    tuning: int = 1
    seeds: int = 3


QUICK = Sizes(steps=4, warmup=1, valid=2, weight_rates=(1e-2,), angles=(1e-2,), seeds=1)


def settings(sizes: Sizes, seed: int) -> Settings:
    """Return the settings of the language model."""
    return Settings(
        width=sizes.width,
        hidden=sizes.hidden,
        layers=sizes.layers,
        length=sizes.length,
        batch=sizes.batch,
        steps=sizes.steps,
        warmup=sizes.warmup,
        seed=seed,
    )


class Run:
    """A model in training, with its optimiser."""

    def __init__(
        self, name: str, rate: float, others: float, seed: int, sizes: Sizes, rows: Tensor
    ) -> None:
        self.settings = settings(sizes, seed)
        method = METHODS[name]
        self.model: nn.Module = new_model(self.settings)
        if not isinstance(method, Weights) or method.unit:
            unit_rows(self.model)
        self.remerge: Remerge | None = None
        if isinstance(method, Weights):
            linear = [m.weight for n, m in linear_layers(self.model)]
            known = set(map(id, linear))
            rest = [p for p in self.model.parameters() if id(p) not in known]
            for weight in linear:
                weight.requires_grad_(not method.frozen)
            groups = [(rest, others if method.apart else rate)]
            groups += [] if method.frozen else [(linear, rate)]
        else:
            schedule = method.topology(seed)
            self.model = adapt(
                self.model,
                schedule(0),
                side="both",
                trainable=WHOLE,
                generator_scaling="none",  # `rate` is an angle, from which the rate is computed
            )
            found = adapters(self.model).values()
            rotated = [g for layer in found for r in layer.rotations() for g in r.generators]
            known = set(map(id, rotated))
            rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in known]
            groups = [(rest, others), (rotated, rate / (2 * math.sqrt(method.block - 1)))]
        whole = isinstance(method, Weights)
        self.trained = sum(p.numel() for group, _ in groups for p in group)
        self.groups = [
            {
                "params": [p for p in group if (p.dim() > 1) == is_matrix],
                "weight_decay": 0.1 if is_matrix and (k == 0 or whole) else 0.0,
                "most": most,
            }
            for k, (group, most) in enumerate(groups)
            for is_matrix in (True, False)
        ]
        self.optimiser = torch.optim.AdamW(self.groups, betas=(0.9, 0.95))
        if isinstance(method, Rotations) and method.every:
            self.remerge = Remerge(
                self.model,
                schedule,
                every=method.every,
                optimizer=self.optimiser,
                moments=method.moments,
            )
        self.rows = rows
        self.batches = order(
            len(rows), batch=sizes.batch, steps=sizes.steps, seed=self.settings.seed
        )
        self.model.train()

    def step(self, step: int) -> float:
        """Train for one step, and return the loss."""
        share = rate_at(step, self.settings) / self.settings.rate
        for group in self.optimiser.param_groups:
            group["lr"] = group["most"] * share
        loss = losses(self.model, self.rows[self.batches[step % len(self.batches)]]).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        if self.remerge is not None:
            self.remerge.step()
        self.optimiser.zero_grad()
        return loss.item()


@torch.no_grad()
def unit_rows(model: nn.Module) -> None:
    """Normalise the rows of all linear layers but the output head, as POET does."""
    for _, module in linear_layers(model):
        module.weight.div_(module.weight.norm(dim=1, keepdim=True))


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Yield the linear layers but the output head, by name."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            yield name, module


def rates(name: str, sizes: Sizes) -> tuple[float, ...]:
    """Return the rates that are tried for a method."""
    method = METHODS[name]
    if isinstance(method, Rotations):
        return sizes.angles
    if method.frozen:
        return (0.0,)
    lower = 10 if method.apart else 1  # linear layers alone need lower rates than embeddings
    return tuple(rate / lower for rate in sizes.weight_rates)


def run(
    name: str, rate: float, others: float, seed: int, sizes: Sizes, rows: Tensor, held_out: Tensor
) -> dict[str, Any]:
    """Train a model by one method, and return the entry of the record."""
    made = Run(name, rate, others, seed, sizes, rows)
    begun, curve, recent, valid = time.perf_counter(), [], [], []
    for step in range(sizes.steps):
        recent.append(made.step(step))
        if len(recent) == EVERY or step + 1 == sizes.steps:
            curve.append(round(statistics.fmean(recent), 5))
            recent.clear()
        if (step + 1) % max(1, sizes.steps // 6) == 0:
            valid.append((step + 1, float(evaluated(made.model, held_out).mean())))
    return {
        "method": name,
        "rate": rate,
        "others": others,
        "seed": seed,
        "trained": made.trained,
        "curve": curve,
        "valid": valid,
        "final": valid[-1][1],
        "seconds": time.perf_counter() - begun,
    }


def study(sizes: Sizes, path: Path | None) -> dict[str, Any]:
    """Perform the runs that the record does not contain yet, and return it.

    AdamW comes first, since its best rate is that of the embeddings and norms for the others.
    """
    record = begin(sizes, path)
    rows = rows_of("pretraining", sizes.length)
    held_out = rows_of("forgetting", sizes.length, most=sizes.valid)
    done = {(r["method"], r["rate"], r["seed"]) for r in record["runs"]}
    tried = sum(len(rates(name, sizes)) for name in METHODS)
    total = sizes.tuning * tried + len(METHODS) * sizes.seeds
    with tqdm(total=total, unit="run") as bar:

        def perform(name: str, rate: float, seed: int) -> None:
            if (name, rate, seed) not in done:
                bar.set_description(name)
                others = rate if name == ADAMW else record["selected_rates"][ADAMW]
                record["runs"].append(run(name, rate, others, seed, sizes, rows, held_out))
                save(record, path)
            bar.update()

        for name in METHODS:
            for rate in rates(name, sizes):
                for seed in range(TUNING, TUNING + sizes.tuning):
                    perform(name, rate, seed)
            record["selected_rates"][name] = best_rate(record["runs"], name)
        for seed in range(sizes.seeds):
            for name in METHODS:
                perform(name, record["selected_rates"][name], seed)
    save(record, path)
    return record


def begin(sizes: Sizes, path: Path | None) -> dict[str, Any]:
    """Return the record in the file, or an empty one if its sizes are not the same."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(sizes).items()}
    if path is not None and path.exists():
        known = read_json(path)
        if known["sizes"] | {"seeds": sizes.seeds} == plain:  # seeds may be added
            return {**known, "sizes": plain}
    return {
        "command": COMMAND,
        "machine": torch_machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers)},
        "sizes": plain,
        "selected_rates": {},
        "runs": [],
        "times": {},
    }


def save(record: Mapping[str, Any], path: Path | None) -> None:
    """Write the record atomically."""
    if path is not None:
        write_json(path, record)


def best_rate(runs: Sequence[Mapping[str, Any]], name: str) -> float:
    """Return the rate with the lowest mean loss on held-out files over the tuning seeds."""
    found: dict[float, list[float]] = {}
    for row in runs:
        if row["method"] == name and row["seed"] >= TUNING:
            found.setdefault(row["rate"], []).append(row["final"] or math.inf)
    return min(found, key=lambda rate: statistics.fmean(found[rate]))


def timed(record: dict[str, Any], sizes: Sizes, rounds: int = 3) -> None:
    """Add the times of a step: 10 steps of each method in turn, in each round."""
    rows = rows_of("pretraining", sizes.length)
    made = {n: Run(n, 1e-3, 1e-3, 0, sizes, rows) for n in METHODS}
    steps = dict.fromkeys(METHODS, 0)
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for number in tqdm(range(rounds + 1), unit="round"):  # the first one warms up
        for name, each in made.items():
            begun = time.process_time()
            for _ in range(10):
                each.step(steps[name] % sizes.steps)
                steps[name] += 1
            if number:
                found[name].append((time.process_time() - begun) / 10)
    record["times"] = found


# Results ----------------------------------------------------------------------------------


def finals(record: Mapping[str, Any], name: str) -> list[float]:
    """Return the final losses of a method by seed, for the seeds with runs of all methods."""
    by_seed: dict[int, dict[str, float]] = {}
    for r in record["runs"]:
        if r["seed"] < TUNING:
            by_seed.setdefault(r["seed"], {})[r["method"]] = r["final"]
    return [found[name] for _, found in sorted(by_seed.items()) if found.keys() == METHODS.keys()]


def difference(record: Mapping[str, Any], one: str, other: str) -> tuple[float, float]:
    """Return the mean difference of two methods, paired by seed, and half its 95 % interval."""
    pairs = zip(finals(record, one), finals(record, other), strict=True)
    found = [a - b for a, b in pairs]
    if len(found) < 2:
        return statistics.fmean(found), math.nan
    error = statistics.stdev(found) / math.sqrt(len(found))
    return statistics.fmean(found), float(scipy.stats.t.ppf(0.975, len(found) - 1) * error)


def table(record: Mapping[str, Any]) -> str:
    """Return the results as a Markdown table."""
    rows = [
        "| method | trained | rate | loss | difference | CPU ms per step |",
        "|---|---|---|---|---|---|",
    ]
    for name in METHODS:
        found = finals(record, name)
        trained = next(r["trained"] for r in record["runs"] if r["method"] == name)
        mean, half = difference(record, name, BASELINE)
        against = "" if name == BASELINE else f"{mean:+.3f} ± {half:.3f}"
        times = record["times"].get(name)
        cell = f"{1e3 * statistics.median(times):.1f}" if times else ""
        rows.append(
            f"| {name} | {trained:,} | {record['selected_rates'][name]:g} |"
            f" {statistics.fmean(found):.3f} | {against} | {cell} |"
        )
    return "\n".join(rows)


def draw(record: Mapping[str, Any]) -> None:
    """Draw the training losses by step and by time."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "structmat"
    from matplotlib import pyplot as plt

    from structmat.viz.palette import COLOURS

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for k, name in enumerate(METHODS):
        rows = [r["curve"] for r in record["runs"] if r["method"] == name and r["seed"] < TUNING]
        mean = [statistics.fmean(values) for values in zip(*rows, strict=True)]
        steps = [min(EVERY * (t + 0.5), record["sizes"]["steps"]) for t in range(len(mean))]
        style = {"color": COLOURS[k % len(COLOURS)], "label": name}
        style["linestyle"] = "-" if k < len(COLOURS) else "--"
        axes[0].plot(steps, mean, **style)
        if times := record["times"].get(name):
            seconds = statistics.median(times)
            axes[1].plot([seconds * step for step in steps], mean, **style)
    axes[0].set(xlabel="step", ylabel="training loss (nats per token)")
    axes[1].set(xlabel="processor time (s)")
    axes[0].legend(fontsize="x-small", frameon=False)
    figure.savefig(FIGURE, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study, and print the table."""
    parser = argparse.ArgumentParser(description="Pretrain a language model by rotations.")
    for option in ("quick", "figure", "times"):
        parser.add_argument(f"--{option}", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.quick:
        record = study(QUICK, None)
    elif options.times or options.figure:
        record = begin(Sizes(), PATH)
    else:
        record = study(Sizes(), PATH)
    if options.times:
        timed(record, Sizes())
        save(record, PATH)
    if options.figure:
        draw(record)
    tqdm.write(table(record))


if __name__ == "__main__":
    main()
