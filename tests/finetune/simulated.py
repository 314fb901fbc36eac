"""A record of results with simulated answers, which needs no training."""

import math

import numpy as np

from structmat.finetune import record
from structmat.finetune.learning_rates import GRID, HYPERPARAMETERS, best_rate
from structmat.finetune.methods import Settings, named, with_rates
from structmat.finetune.models import Pretrained
from structmat.finetune.task import Dropped, Example, Selection, Task

LABELS = ("complaint", "praise", "question")
WORDS = "delivery invoice colour battery screen manual refund courier parcel warranty button hinge"
NAMES = ("head", "lora", "oft", "boft", "shuffle", "torus")
WIDTHS = (384, 1536)


def simulated_task(tests=240):
    rng = np.random.default_rng(0)
    words = WORDS.split()

    def example(k):
        label = k % 3
        suffix = "".join("abcdefghij"[int(digit)] for digit in str(k))  # texts are distinct
        text = " ".join(f"{word}{suffix}" for word in rng.choice(words, 7, replace=False))
        return Example(f"{LABELS[label]}: the {text}, number {k} <b>&amp; more</b>", label)

    parts = [tuple(example(k) for k in range(n)) for n in (600, 90, tests)]
    selection = Selection(
        1210,
        (400, 405, 395),
        (
            Dropped(174, "near duplicates", "--keep-duplicates keeps them"),
            Dropped(6, "without text", "fill in the column 'review'"),
        ),
    )
    return Task("reviews", LABELS, *parts, notes=("4 of 930 texts truncated",), selection=selection)


def simulated(accuracies, *, seeds=1, tests=240, names=NAMES, search=False, rate=None):
    """Return a record in which methods have about the given accuracies, and the methods."""
    task = simulated_task(tests)
    rng = np.random.default_rng(1)
    labels = np.array([label for _, label in task.test])
    ease = rng.uniform(size=len(labels))  # of each text, the same for every method
    methods = tuple(named(name) for name in names)
    settings = Settings(methods=methods, seeds=seeds, tune=search, rate=rate, rounds=6)
    tuning = None
    if search:
        curve = {
            m.name: {f"{r:g}": round(0.4 + 0.06 * k + 0.02 * i, 3) for i, r in enumerate(GRID)}
            for k, m in enumerate(methods)
        }
        tuning = {
            "grid": list(GRID),
            "seed": 0,
            "task": {"sizes": {"train": 600, "validation": 90, "test": 3}},
            "hyperparameters": {"epochs": HYPERPARAMETERS.epochs},
            "methods": {name: {"accuracy": some} for name, some in curve.items()},
        }
        methods = with_rates(methods, {name: best_rate(some) for name, some in curve.items()})
    records, seconds = [], {}
    for k, (method, accuracy) in enumerate(zip(methods, accuracies, strict=True)):
        seconds[method.name] = list(0.05 * (1 + k / 4) * rng.uniform(0.95, 1.2, 6))
        for seed in range(seeds):
            right = ease + rng.normal(0, 0.15, len(labels)) < accuracy
            answers = np.where(right, labels, (labels + 1) % 3)
            records.append(
                {
                    "method": method.name,
                    "seed": seed,
                    "trainable": 1155 if method.kind == "head" else 120_000 + 9_000 * k,
                    "validation": accuracy,
                    "test": float((answers == labels).mean()),
                    "predictions": answers.tolist(),
                    "seconds": 10.0,
                    "orthogonality_error": 1e-6 if method.topology else None,
                    "merge_difference": 5e-6,
                    "loss": [(s, 1.1 * math.exp(-s * accuracy / 60)) for s in range(3, 60, 3)],
                    "accuracy": [(20, accuracy - 0.2), (40, accuracy - 0.05), (60, accuracy)],
                }
            )
    found = record.summary(
        task,
        Pretrained("small-model", "small-model", local=True),
        settings,
        methods,
        records,
        seconds,
        command="structmat finetune --data reviews.csv --text review --label kind",
        complete=True,
        warned=("6 steps may be too few to learn the task; use --epochs 14",),
        tuning=tuning,
    )
    found["networks"] = record.networks(methods, WIDTHS)
    return found, methods
