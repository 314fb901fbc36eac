"""Adapt a small language model to classify docstrings: `python docs/docstrings_study.py`.

The program writes docs/results/docstrings.json, the results of docs/docstrings-study.md. The study
uses the task and the model of `structmat finetune`, with less text, more seeds, and a measure of
forgetting. It takes about forty minutes on one core, saves each run, and resumes where it was
interrupted. `--quick` takes about a minute and checks that everything works.
"""

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import accelerate
import numpy as np
import peft
import scipy
import torch
import transformers
from torch import Tensor
from torch.nn import functional

import structmat as sm
import studies
from docstring_pairs import Pair, continuations
from structmat.bench.interleaved import relative
from structmat.finetune.docstring_task import (
    LIBRARIES,
    TEST,
    TRAIN,
    VALIDATION,
    openings,
)
from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.methods import Method, named
from structmat.finetune.models import Pretrained, pretrained
from structmat.finetune.near_duplicates import distinct
from structmat.finetune.step_times import seconds_a_step
from structmat.finetune.task import Example, Task, balanced
from structmat.finetune.training import batched_by_length, logits, tokenized
from studies import Plan, against, by_rate, results

PATH = Path(__file__).parent / "results" / "docstrings.json"
RATES = (3e-3, 1e-2, 3e-2)
HEAD_RATE = 1e-2  # of the new head, the same for every method
LENGTH = 32  # tokens of a text that are read
TARGET = 0.5  # accuracy on the latest batches, before they are learned from
LATEST = 4  # number of these batches
BASELINE = "LoRA"


@dataclass(frozen=True)
class Sizes:
    """The size of the study. Seeds below `tuning` are used to select the rates."""

    seeds: int = 5
    tuning: int = 2
    rates: tuple[float, ...] = RATES
    steps: int = 20
    batch: int = 32
    validation: int = 360
    test: int = 600
    pairs: int = 30  # of each library
    rounds: int = 12  # of timing


QUICK_METHODS = ("LoRA", "HRA", "shuffle")
QUICK = Sizes(2, 1, (1e-2,), steps=1, batch=8, validation=12, test=12, pairs=2, rounds=1)


# The methods ------------------------------------------------------------------------------


def plain(method: Method, **changes: Any) -> Method:
    """Return a rotation with plain generators, for which the recorded rates were selected."""
    return replace(method, generator_scaling="none", **changes)


def by_rotations(topology: str) -> Method:
    """Return a rotation by this topology."""
    return plain(named("oft"), topology=topology)


METHODS: dict[str, Method] = {
    BASELINE: named("lora"),
    "DoRA": named("dora"),
    "HRA": named("hra"),
    "OFT": plain(named("oft")),
    "BOFT": by_rotations("butterfly(block=4, depth=5)"),
    "shuffle": by_rotations("shuffle(block=4, depth=5)"),
    "mixed radix": by_rotations("mixed_radix(largest=6)"),
    "ruler, first 15 stages": plain(named("ruler")),
    "random": by_rotations("random(block=4, depth=5, rng=0)"),
}
HEAD_ONLY = "head only"  # the baseline without adaptation, which has no rate to select
EVERYTHING = {**METHODS, HEAD_ONLY: named("head")}


def plan(names: Collection[str] = METHODS) -> Plan:
    """Return the methods of these names, and the head alone."""
    return Plan(tuple(n for n in METHODS if n in names), BASELINE, HEAD_ONLY, HEAD_RATE)


# The data ---------------------------------------------------------------------------------


def texts() -> tuple[Task, dict[str, list[Pair]]]:
    """Return the task of `structmat finetune`, and the docstrings by library, split in two.

    No beginning is a text of the task or a near duplicate of one.
    """
    kept = distinct({label: list(openings(package)) for label, package in LIBRARIES.items()})
    task = balanced("docstrings", kept, train=TRAIN, validation=VALIDATION, test=TEST)
    found = continuations(kept, task)
    own = distinct({label: list(group.values()) for label, group in found.items()})
    # Near duplicates are removed, but not equal rests: the record includes two of them.
    rests = {rest for group in own.values() for rest in group}
    return task, {
        label: [Pair(*pair) for pair in group.items() if pair[1] in rests]
        for label, group in found.items()
    }


def drawn(pairs: dict[str, list[Pair]], each: int) -> list[Pair]:
    """Return the same number of docstrings of each library, selected by a hash of the beginning."""
    rest = {pair.begins: pair for group in pairs.values() for pair in group}
    begins = {label: [pair.begins for pair in group] for label, group in pairs.items()}
    part = balanced("pairs", begins, train=0, validation=0, test=each).test
    return [rest[example.text] for example in part]


class Data(NamedTuple):
    """The pretrained model, the task to learn, and the data that measures forgetting."""

    source: Pretrained
    tokenizer: Any
    task: Task
    pairs: list[Pair]


def loaded(sizes: Sizes) -> Data:
    """Return the data of the study."""
    source = pretrained()
    task, pairs = texts()
    part = task.first(train=len(task.train), validation=sizes.validation, test=sizes.test)
    return Data(source, source.tokenizer(), part, drawn(pairs, sizes.pairs))


# Judging ----------------------------------------------------------------------------------


def judged(model: Any, data: Data, part: Sequence[Example]) -> tuple[float, float]:
    """Return the accuracy and the loss, which is 100 where the logits are not finite."""
    part = sorted(part, key=lambda example: len(example.text))  # less padding
    found = logits(model, data.tokenizer, [e.text for e in part], max_length=LENGTH)
    labels = torch.tensor([example.label for example in part])
    right = (found.argmax(-1) == labels.numpy()).mean()
    loss = functional.cross_entropy(torch.tensor(found), labels)
    return float(right), float(loss.nan_to_num(100, posinf=100))


@torch.no_grad()
def embedded(model: Any, data: Data, parts: Sequence[str]) -> Tensor:
    """Return the normalised means of the outputs over the tokens, as the model was pretrained."""
    body = getattr(model, model.base_model_prefix).eval()
    rows = []
    for first in range(0, len(parts), 64):
        tokens = data.tokenizer(
            list(parts[first : first + 64]),
            truncation=True,
            max_length=LENGTH,
            padding=True,
            return_tensors="pt",
        )
        shown = tokens["attention_mask"].unsqueeze(-1)
        total = (body(**tokens).last_hidden_state * shown).sum(1)
        rows.append(functional.normalize(total / shown.sum(1), dim=-1))
    return torch.cat(rows)


def found_again(model: Any, data: Data) -> float:
    """Return the fraction of docstrings whose own rest is the nearest to their beginning."""
    begins, rests = (embedded(model, data, side) for side in zip(*data.pairs, strict=True))
    nearest = (begins @ rests.T).argmax(-1)
    return float((nearest == torch.arange(len(nearest))).float().mean())


# Training ---------------------------------------------------------------------------------


def trained(
    model: Any, data: Data, head: Sequence[str], *, rate: float, seed: int, sizes: Sizes
) -> list[float]:
    """Train the model at `rate` and its head at its own rate, for one epoch.

    Return the accuracy on each batch before learning from it.
    """
    rows = tokenized(data.tokenizer, data.task.train, max_length=LENGTH)
    lengths = [len(row["input_ids"]) for row in rows]
    order = batched_by_length(lengths, batch=sizes.batch, epochs=1, seed=seed)
    groups: dict[bool, list[Any]] = {False: [], True: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[bool(set(head) & set(name.split(".")))].append(parameter)
    optimiser = torch.optim.AdamW(
        [{"params": groups[True], "lr": HEAD_RATE}]
        + [{"params": part, "lr": rate} for part in (groups[False],) if part],
        weight_decay=0.0,
    )
    steps, rising = sizes.steps, math.ceil(sizes.steps / 10)
    falling = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda k: min((k + 1) / rising, (steps - k) / steps)
    )
    collate = transformers.DataCollatorWithPadding(data.tokenizer)
    right = []
    model.train()
    for picked in order.reshape(-1, sizes.batch)[:steps]:
        batch = collate([rows[index] for index in picked])
        output = model(**batch)
        output.loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        falling.step()
        right.append(float((output.logits.argmax(-1) == batch["labels"]).float().mean()))
    return right


def reached(right: Sequence[float]) -> int | None:
    """Return the number of steps to the target accuracy on the latest batches, or None.

    Examples
    --------
    >>> reached([0, 0, 0.5, 0.5, 0.5, 0.5])
    6
    """
    for step in range(LATEST, len(right) + 1):
        if statistics.fmean(right[step - LATEST : step]) >= TARGET:
            return step
    return None


def run(name: str, rate: float, seed: int, data: Data, sizes: Sizes, before: float) -> studies.Row:
    """Adapt the model by a method, and return the results."""
    method = EVERYTHING[name]
    classifier = data.source.classifier(data.task.labels, seed=seed)
    model = method.prepare(classifier)
    count = sum(
        parameter.numel()
        for part, parameter in model.named_parameters()
        if parameter.requires_grad and not set(classifier.head) & set(part.split("."))
    )
    torch.manual_seed(1000 + seed)  # the same dropout, whatever the method has drawn
    right = trained(model, data, classifier.head, rate=rate, seed=seed, sizes=sizes)
    plain = method.merged(model)  # faster, and equal up to rounding
    valid, loss = judged(plain, data, data.task.validation)
    return {
        "method": name,
        "rate": rate,
        "seed": seed,
        "trained": count,
        "valid": round(valid, 5),
        "valid_loss": round(loss, 5),
        "test": round(judged(plain, data, data.task.test)[0], 5),
        "forgotten": round(before - found_again(plain, data), 5),
        "reached": reached(right),
    }


# Results -----------------------------------------------------------------------------------


def tables(record: dict[str, Any]) -> list[str]:
    """Return the tables of the page: the methods, their differences from LoRA, and the rates."""
    ratios = relative(record["seconds"], BASELINE)
    methods = plan(record["selected_rates"])
    main_table = results(
        methods,
        record,
        target=f"{100 * TARGET:.0f} %",
        cost="time per step",
        spent=lambda name: f"{ratios[name]:.2f}×",
    )
    return [main_table, against(methods, record), by_rate(methods, record)]


def studied(path: Path | None, sizes: Sizes, names: Collection[str] = METHODS) -> dict[str, Any]:
    """Perform the runs that the file does not contain yet, and return the record."""
    data = loaded(sizes)
    before = found_again(data.source.classifier(data.task.labels).model, data)
    used = (np, scipy, torch, transformers, accelerate, peft, sm)
    about = {
        "description": "all-MiniLM-L6-v2 adapted to classify docstrings by library",
        "task": data.task.fingerprint,
        "before": round(before, 5),
        "threads": 1,
        "versions": {module.__name__: module.__version__ for module in used},
    }

    def each(name: str, rate: float, seed: int) -> studies.Row:
        return run(name, rate, seed, data, sizes, before)

    record = studies.studied(plan(names), sizes, about, path, each)
    if set(record.get("seconds", ())) != set(plan(names).names):
        record["seconds"] = timed(data, sizes, plan(names).names)
        studies.write(path, record)
    return record


def timed(data: Data, sizes: Sizes, names: Sequence[str]) -> dict[str, list[float]]:
    """Return the seconds of a training step by each method, interleaved.

    Two rounds warm up, since methods that select by timing do so in their first passes.
    """
    methods = [replace(EVERYTHING[name], name=name) for name in names]
    hyperparameters = Hyperparameters(batch=sizes.batch, max_length=LENGTH)
    found = seconds_a_step(
        methods, data.source, data.task, hyperparameters=hyperparameters, rounds=sizes.rounds + 1
    )
    return {name: [round(s, 4) for s in seconds[1:]] for name, seconds in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Perform the runs that the file does not contain yet, and print the tables of the page."""
    studies.main(
        "Adapt a small language model to tell docstrings apart.",
        PATH,
        lambda path, quick: tables(
            studied(path, QUICK, QUICK_METHODS) if quick else studied(path, Sizes())
        ),
        arguments,
    )


if __name__ == "__main__":
    main()
