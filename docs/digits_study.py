"""Adapt a small vision transformer to unseen digits: `python docs/digits_study.py`.

The program writes docs/results/digits.json, the results of docs/digits-study.md. A transformer is
pretrained on the digits 0 to 4 of scikit-learn (8×8 pixels), then adapted to the digits 5 to 9 by
each method. It takes about ten minutes on one core, saves each run, and resumes where it was
interrupted. `--quick` takes seconds and checks that everything works.
"""

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import peft
import scipy
import sklearn
import torch
from torch import nn
from torch.nn import functional

import structmat as sm
import studies
from digits_model import NEW, OLD, WIDTH, Body, Images, drawn, parts
from structmat.adapters import adapt
from studies import Plan, against, by_rate, final, results

PATH = Path(__file__).parent / "results" / "digits.json"
LAYER_NAMES = ["query", "key", "value", "out", "up", "down"]
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
HEAD_RATE = 1e-2  # of the new head, the same for every method
TARGET = 0.85  # accuracy on the validation images; the steps to it are reported
EVERY = 4  # steps between validations
BASELINE = "LoRA r=4"


@dataclass(frozen=True)
class Sizes:
    """The size of the study. Seeds below `tuning` are used to select the rates."""

    seeds: int = 5
    tuning: int = 2
    rates: tuple[float, ...] = RATES
    pretraining: int = 600
    steps: int = 100
    batch: int = 32
    each: int = 40  # images of a new digit to train on, and as many to validate on


QUICK = Sizes(seeds=2, tuning=1, rates=(1e-2,), pretraining=20, steps=4)


# The methods ------------------------------------------------------------------------------

Method = Callable[[nn.Module], nn.Module]


def by_rotations(topology: Any) -> Method:
    """Return a method of structmat."""
    # The records were made before the generators had factors.
    options = {"target_modules": LAYER_NAMES, "generator_scaling": "none"}
    return lambda body: adapt(body, topology, **options)


def by_peft(config: type[peft.PeftConfig], **options: Any) -> Method:
    """Return a method of PEFT."""
    return lambda body: peft.get_peft_model(body, config(target_modules=LAYER_NAMES, **options))


def frozen(body: nn.Module) -> nn.Module:
    """Return the body unchanged: only the new head is trained."""
    return body.requires_grad_(requires_grad=False)


METHODS: dict[str, Method] = {
    "LoRA r=4": by_peft(peft.LoraConfig, r=4, lora_alpha=4),
    "DoRA r=3": by_peft(peft.LoraConfig, r=3, lora_alpha=3, use_dora=True),
    "HRA r=8": by_peft(peft.HRAConfig, r=8),
    "OFT": by_rotations("block_diagonal(block=16)"),
    "BOFT": by_rotations("butterfly(block=4, depth=5)"),
    "shuffle": by_rotations("shuffle(block=4, depth=5)"),
    "mixed radix": by_rotations("mixed_radix(largest=8)"),
    "ruler, first 15 stages": by_rotations(lambda width: sm.ruler(width)[:15]),
    "random": by_rotations("random(block=4, depth=5, rng=0)"),
}
HEAD_ONLY = "head only"  # the baseline without adaptation, which has no rate to select
EVERYTHING = {**METHODS, HEAD_ONLY: frozen}


# Training ---------------------------------------------------------------------------------


@torch.no_grad()
def judged(body: nn.Module, head: nn.Module, given: Images) -> tuple[float, float]:
    """Return the accuracy and the loss."""
    images, labels = given
    body.eval()
    logits = head(body(images))
    body.train()
    right = (logits.argmax(-1) == labels).float().mean()
    return float(right), float(functional.cross_entropy(logits, labels))


def trained(
    body: nn.Module, head: nn.Module, given: Images, *, rate: float, steps: int, batch: int
) -> Iterator[float]:
    """Train the body at `rate` and the head at its own rate; yield the seconds of each step."""
    images, labels = given
    inside = [p for p in body.parameters() if p.requires_grad]
    groups = [{"params": inside, "lr": rate}] if inside else []
    optimiser = torch.optim.Adam([*groups, {"params": head.parameters(), "lr": HEAD_RATE}])
    falling = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda k: (1 + math.cos(math.pi * k / steps)) / 2
    )
    order = torch.cat(
        [torch.randperm(len(labels)) for _ in range(-(-steps * batch // len(labels)))]
    )
    body.train()
    for first, last in pairwise(range(0, (steps + 1) * batch, batch)):
        picked = order[first:last]
        start = time.perf_counter()
        functional.cross_entropy(head(body(images[picked])), labels[picked]).backward()
        optimiser.step()
        optimiser.zero_grad()
        seconds = time.perf_counter() - start
        falling.step()
        yield seconds


@dataclass(frozen=True)
class Pretrained:
    """The pretrained state of a seed: model, head, images, and accuracy on the old images."""

    body: Body
    head: nn.Linear
    learn: Images
    valid: Images
    test: Images
    old_test: Images
    accuracy: float


def pretrained(seed: int, sizes: Sizes) -> Pretrained:
    """Return a transformer pretrained on the old digits, and the data for the new ones."""
    torch.manual_seed(seed)
    body, head = Body(), nn.Linear(WIDTH, len(OLD))
    old, old_test = parts(OLD, 300)
    new, test = parts(NEW, 400)
    for _ in trained(body, head, old, rate=2e-3, steps=sizes.pretraining, batch=64):
        pass
    learn, valid = drawn(new, sizes.each, seed)
    return Pretrained(body, head, learn, valid, test, old_test, judged(body, head, old_test)[0])


def run(name: str, rate: float, seed: int, start: Pretrained, sizes: Sizes) -> dict[str, Any]:
    """Adapt a copy of the model by a method, and return the results."""
    torch.manual_seed(1000 + seed)
    head = nn.Linear(WIDTH, len(NEW))
    order = torch.get_rng_state()
    body = EVERYTHING[name](copy.deepcopy(start.body))
    torch.set_rng_state(order)  # batches in the same order, whatever the method has drawn
    seconds, reached = [], None
    steps = trained(body, head, start.learn, rate=rate, steps=sizes.steps, batch=sizes.batch)
    for step, spent in enumerate(steps, 1):
        seconds.append(spent)
        if reached is None and step % EVERY == 0 and judged(body, head, start.valid)[0] >= TARGET:
            reached = step
    valid, loss = judged(body, head, start.valid)
    kept = judged(body, start.head, start.old_test)[0]
    return {
        "method": name,
        "rate": rate,
        "seed": seed,
        "trained": sum(p.numel() for p in body.parameters() if p.requires_grad),
        "valid": round(valid, 4),
        "valid_loss": round(loss, 5),
        "test": round(judged(body, head, start.test)[0], 5),
        "before": round(start.accuracy, 5),
        "forgotten": round(start.accuracy - kept, 5),
        "reached": reached,
        "step_ms": round(1000 * statistics.median(seconds), 2),
    }


# Results -----------------------------------------------------------------------------------


def tables(record: dict[str, Any]) -> list[str]:
    """Return the tables of the page: the methods, their differences from LoRA, and the rates."""

    def spent(name: str) -> str:
        return f"{statistics.median(row['step_ms'] for row in final(record, name)):.0f}"

    main_table = results(plan(), record, target="85 %", cost="ms", spent=spent)
    return [main_table, against(plan(), record), by_rate(plan(), record)]


def plan() -> Plan:
    """Return the methods."""
    return Plan(tuple(METHODS), BASELINE, HEAD_ONLY, HEAD_RATE)


def studied(path: Path | None, sizes: Sizes) -> dict[str, Any]:
    """Perform the runs that the file does not contain yet, and return the record."""
    about = {
        "description": "a vision transformer pretrained on the digits 0 to 4, adapted to 5 to 9",
        "threads": 1,
        "versions": {m.__name__: m.__version__ for m in (np, scipy, sklearn, torch, peft, sm)},
    }
    start = cache(lambda seed: pretrained(seed, sizes))
    return studies.studied(
        plan(),
        sizes,
        about,
        path,
        lambda name, rate, seed: run(name, rate, seed, start(seed), sizes),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Perform the runs that the file does not contain yet, and print the tables of the page."""
    studies.main(
        "Adapt a small vision transformer to new digits.",
        PATH,
        lambda path, quick: tables(studied(path, QUICK if quick else Sizes())),
        arguments,
    )


if __name__ == "__main__":
    main()
