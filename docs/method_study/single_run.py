"""One run of the study: training by a method, and the measures of the result."""

import copy
import hashlib
import inspect
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import peft
import sklearn
import torch
import transformers
from torch import nn

import structmat as sm
from docs.method_study.json_lines import Row
from docs.method_study.judging import mean_change
from docs.method_study.methods import METHODS, Method, in_head, trained
from docs.method_study.tasks import Task
from structmat.adapters import adapt
from structmat.bench.interleaved import interleaved

CHECKS = (0.25, 0.5)  # fractions of the steps after which a pilot run is also evaluated
WARMUP = 0.1  # fraction of the steps in which the rate rises


@dataclass(frozen=True)
class Run:
    """The fields that identify a run."""

    task: str
    method: str
    role: str
    budget: str
    rate: float
    seed: int
    steps: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Run":
        """Return the run of a row of the record."""
        return cls(*(row[name] for name in cls.__dataclass_fields__))


def key(task: Task) -> str:
    """Return a key of the data, model and library versions on which the runs of a task depend."""
    modules = (np, peft, sklearn, sm, torch, transformers)
    about = [
        task.fingerprint,
        task.batch,
        task.head_rate,
        [module.__version__ for module in modules],
        str(inspect.signature(adapt)),  # with the defaults of rotations
    ]
    return hashlib.sha256(repr(about).encode()).hexdigest()[:16]


def perform(task: Task, run: Run) -> Row:
    """Make a run and return its row."""
    method = METHODS[run.method]
    start, start_cpu = time.perf_counter(), time.process_time()
    model = method.prepare(task.model(run.seed), task)
    row: Row = {
        **vars(run),
        "setting": method.setting(task),
        "trained": trained(model, task),
        "budgeted": task.budget,
        "sizes": key(task),
    }
    pilot = run.role == "pilot"
    checks = {round(part * run.steps) for part in CHECKS} if pilot else set()
    curve: list[Row] = []

    def check(step: int) -> None:
        if step in checks:
            plain = merged(method, model)
            tested = _tested(task, plain, run.seed)
            del tested["items"]
            curve.append({"step": step, **_validated(task, plain, run.seed), **tested})

    trainable = any(parameter.requires_grad for parameter in model.parameters())
    try:
        seconds = train(task, model, run, check) if trainable else [0.0]
    except DivergedError:
        seconds = []
    row["diverged"] = not seconds
    row["step_seconds"] = float(f"{statistics.median(seconds):.4g}") if seconds else None
    if seconds:
        tested, equal = run.role != "tuning", run.budget == "parameters"
        plain = merged(method, model)
        if equal:
            row |= _validated(task, plain, run.seed)
        if tested:
            row |= _tested(task, plain, run.seed)
        losses = [row[name] for name in ("valid_loss", "test_loss") if name in row]
        row["diverged"] = not all(map(math.isfinite, losses))
        if tested and equal and not row["diverged"]:
            row |= _kept(task, plain, run.seed)
        if pilot:
            final = {name: row[name] for name in ("valid_loss", "valid_accuracy")}
            final |= {name: row[name] for name in ("test_loss", "test_accuracy")}
            row["curve"] = [*curve, {"step": run.steps, **final}]
    else:
        row |= {"valid_loss": None, "valid_accuracy": None}
    row["seconds"] = round(time.perf_counter() - start, 2)
    row["cpu_seconds"] = round(time.process_time() - start_cpu, 2)
    return row


class DivergedError(ArithmeticError):
    """Raised when the training loss is not finite."""


def train(
    task: Task, model: nn.Module, run: Run, check: Callable[[int], None] = lambda _: None
) -> list[float]:
    """Train a model and return the seconds of each step.

    In step k = 0, 1, …, the rate is multiplied by the smaller of (k + 1) / w and
    (steps − k) / steps, where w is a tenth of the steps, rounded up: it rises, then falls linearly
    towards zero.
    `check` is called after each step with the number of steps made.

    Raises
    ------
    DivergedError
        If the loss is not finite, or a matrix to be inverted is not.
    """
    step = Stepper.of(task, model, run.rate, run.steps)
    batches = task.batches(run.seed, run.steps)
    torch.manual_seed(10_000 + run.seed)  # dropout is independent of what the method has drawn
    seconds = []
    for number, batch in enumerate(batches, 1):
        model.train()
        begun = time.perf_counter()
        try:
            loss = step(batch)
        except torch.linalg.LinAlgError as error:
            raise DivergedError(f"step {number}: {error}") from error
        seconds.append(time.perf_counter() - begun)
        if not math.isfinite(loss):
            raise DivergedError(f"the loss was {loss} in step {number}")
        with torch.random.fork_rng(devices=[]):
            check(number)
    return seconds


class Stepper(NamedTuple):
    """A training step on a batch: the loss, its gradient, and an update."""

    loss: Callable[[Any], torch.Tensor]
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @classmethod
    def of(cls, task: Task, model: nn.Module, rate: float, steps: int) -> "Stepper":
        """Return the training step of a model whose head has its own rate."""
        parts: dict[bool, list[nn.Parameter]] = {False: [], True: []}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parts[in_head(name, task)].append(parameter)
        rates = {False: rate, True: task.head_rate}
        optimiser = torch.optim.AdamW(
            [{"params": part, "lr": rates[head]} for head, part in parts.items() if part],
            weight_decay=0.0,
        )
        rising = math.ceil(WARMUP * steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda k: min((k + 1) / rising, (steps - k) / steps)
        )
        return cls(lambda batch: task.loss(model, batch), optimiser, schedule)

    def __call__(self, batch: Any) -> float:
        """Make the step and return the loss before it."""
        loss = self.loss(batch)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.schedule.step()
        return loss.item()


def merged(method: Method, model: nn.Module) -> nn.Module:
    """Return a copy of a model with its adapters merged: faster, and equal up to rounding."""
    return method.merged(copy.deepcopy(model)).eval()


def timed(task: Task, methods: Sequence[str], *, rounds: int) -> list[Row]:
    """Time a training step of each method, in interleaved rounds, and return the rows.

    Every step has the same batch. Two rounds warm up, since methods that select an execution plan
    by timing do so in their first passes.
    """
    [batch] = task.batches(0, 1)
    steps = {}
    for name in methods:
        model = METHODS[name].prepare(task.model(0), task).train()
        # The rate is so low that no loss diverges.
        steps[name] = Stepper.of(task, model, 1e-6, 10 * rounds + 100)
    seconds = interleaved(
        {name: lambda step=step: step(batch) for name, step in steps.items()},
        rounds=rounds,
        warmup=2,
    )
    return [
        {
            "task": task.name,
            "method": name,
            "role": "timing",
            "budget": "time",
            "setting": METHODS[name].setting(task),
            "sizes": key(task),
            "rounds": [float(f"{s:.4g}") for s in each],
        }
        for name, each in seconds.items()
    ]


# Measures -----------------------------------------------------------------------------------


def _validated(task: Task, model: nn.Module, seed: int) -> Row:
    """Return the measures on validation data."""
    found = task.judged(model, "valid", seed).summary()
    return {f"valid_{name}": _rounded(found[name]) for name in ("loss", "accuracy")}


def _tested(task: Task, model: nn.Module, seed: int) -> Row:
    """Return the measures on test data, and the loss of each item."""
    test = task.judged(model, "test", seed)
    found = {f"test_{name}": _rounded(value) for name, value in test.summary().items()}
    return {**found, "items": [_rounded(loss, 4) for loss in test.loss.tolist()]}


def _rounded(value: float, digits: int = 7) -> float:
    return float(f"{value:.{digits}g}")


def _kept(task: Task, model: nn.Module, seed: int) -> Row:
    """Return the measures of forgetting and of the change in the weights."""
    start = task.before(seed)
    before, after = start.old, task.old(model, seed)
    found = {
        "old_loss_before": before["loss"],
        "old_loss": after["loss"],
        "forgotten": after["loss"] - before["loss"],
        "old_accuracy_before": before["accuracy"],
        "old_accuracy": after["accuracy"],
    }
    weights = {
        name: model.get_submodule(name).weight for names in task.layers.values() for name in names
    }
    return {
        **{name: _rounded(value) for name, value in found.items()},
        "change": mean_change(start.weights, weights, task.layers),
    }
