"""Seconds a step of every method, taken in turns, so that a busy machine slows all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from structmat.errors import require
from structmat.finetune.methods import Method
from structmat.finetune.models import Pretrained, device
from structmat.finetune.task import Task
from structmat.finetune.training import Recipe, tokenized

REFERENCE = "lora"


def seconds_a_step(
    methods: Sequence[Method],
    source: Pretrained,
    task: Task,
    *,
    recipe: Recipe,
    rounds: int,
    on_step: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Time one training step of every method, round by round.

    A step is forward, backward and update on the same batch. The first round warms up and is
    not kept.

    Returns
    -------
    name → seconds, one for each round
    """
    steps = {method.name: _step(method, source, task, recipe) for method in methods}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:
                seconds[name].append(time.perf_counter() - start)
            on_step()
    return seconds


def relative(seconds: dict[str, list[float]], reference: str = REFERENCE) -> dict[str, float]:
    """Return the median over rounds of each method's time by the reference's in the same round.

    Empty where the reference was not timed.

    Examples
    --------
    >>> relative({"lora": [1.0, 2.0, 1.0], "oft": [1.5, 3.0, 9.0]})
    {'lora': 1.0, 'oft': 1.5}
    """
    if reference not in seconds:
        return {}
    return {
        name: statistics.median(a / b for a, b in zip(times, seconds[reference], strict=True))
        for name, times in seconds.items()
    }


def _step(method: Method, source: Pretrained, task: Task, recipe: Recipe) -> Callable[[], None]:
    torch = require("torch", "finetune")
    place = device()
    model = method.prepare(source.classifier(task.labels)).to(place).train()
    batch = _batch(source.tokenizer(), task, recipe).to(place)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if place != "cpu":
            getattr(torch, place).synchronize()

    return step


def _batch(tokenizer: Any, task: Task, recipe: Recipe) -> Any:
    rows = tokenized(tokenizer, task.train[: recipe.batch], max_length=recipe.max_length)
    return require("transformers", "finetune").DataCollatorWithPadding(tokenizer)(rows)
