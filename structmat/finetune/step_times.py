"""Interleaved timing of training steps of a whole model, for every method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from structmat.bench.busy_core import busy_core
from structmat.bench.interleaved import interleaved, relative
from structmat.bench.layer_benchmark import ROUNDS
from structmat.bench.machine import device, synchronize
from structmat.bench.measurements import Benchmark, Row, Spread, benchmark
from structmat.bench.memory import peak
from structmat.errors import StructmatError, require
from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.methods import Method, trainable
from structmat.finetune.models import Pretrained
from structmat.finetune.task import Task
from structmat.finetune.training import tokenized


class Step(NamedTuple):
    """A training step on one batch; the numbers of trained parameters and tokens; the dtype."""

    run: Callable[[], None]
    parameters: int
    tokens: int
    dtype: str


def seconds_a_step(
    methods: Sequence[Method],
    source: Pretrained,
    task: Task,
    *,
    hyperparameters: Hyperparameters,
    rounds: int,
    on_step: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Time one training step of every method in each round.

    A step is a forward pass, a backward pass and an update on the same batch. The first round is a
    warm-up and is discarded.

    Returns
    -------
    name → seconds, one for each round
    """
    steps = {
        method.name: training_step(method, source, task, hyperparameters).run for method in methods
    }
    return interleaved(steps, rounds=rounds, on_step=on_step)


def measure_model(
    methods: Sequence[Method],
    source: Pretrained,
    task: Task,
    *,
    hyperparameters: Hyperparameters,
    seconds: float,
    warmup: int = 1,
    busy: bool = False,
    command: str = "",
) -> Benchmark:
    """Measure a model's training step for every method, with interleaved timing.

    A step is a forward pass, a backward pass and an AdamW update on the task's first batch. The
    method "head" trains no adapter. The first `warmup` rounds are discarded. With `busy`, another
    program occupies one core. The row of a method that does not support the model contains the
    reason.
    """
    steps: dict[str, Step] = {}
    refused: dict[str, str] = {}
    for method in methods:
        try:
            steps[method.name] = training_step(method, source, task, hyperparameters)
        except StructmatError as error:
            refused[method.name] = str(error)
    runs = {name: step.run for name, step in steps.items()}
    with busy_core() if busy else nullcontext():
        times = interleaved(runs, rounds=ROUNDS, seconds=seconds, warmup=warmup)
    to_frozen, to_lora = relative(times, "head"), relative(times)
    some = next(iter(steps.values()), None)
    tokens = 0 if some is None else some.tokens
    rows = []
    for method in methods:
        name, label = method.name, method.label
        if name in refused:
            rows.append(Row(source.name, tokens, name, label, refused=refused[name]))
            continue
        rows.append(
            Row(
                source.name,
                tokens,
                name,
                label,
                parameters=steps[name].parameters,
                step=Spread.of(times[name]),
                to_frozen=to_frozen.get(name),
                to_lora=to_lora.get(name),
                memory=peak(runs[name], device()),
            )
        )
    dtype = "not measured" if some is None else some.dtype
    setting = {
        "dtype": dtype,
        "optimizer": "AdamW",
        "seconds": seconds,
        "warmup": warmup,
        "busy": busy,
        "batch": hyperparameters.batch,
    }
    return benchmark(rows, setting=setting, command=command)


def training_step(
    method: Method, source: Pretrained, task: Task, hyperparameters: Hyperparameters
) -> Step:
    """Return the training step of a method on the first batch of a task."""
    torch = require("torch", "finetune")
    place = device()
    model = method.prepare(source.classifier(task.labels)).to(place).train()
    batch = _batch(source.tokenizer(), task, hyperparameters).to(place)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def run() -> None:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronize(place)

    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return Step(run, trainable(model), int(batch["input_ids"].numel()), dtype)


def _batch(tokenizer: Any, task: Task, hyperparameters: Hyperparameters) -> Any:
    rows = tokenized(
        tokenizer, task.train[: hyperparameters.batch], max_length=hyperparameters.max_length
    )
    return require("transformers", "finetune").DataCollatorWithPadding(tokenizer)(rows)
