"""Runs of an imaginary study, with known effects and variances."""

from __future__ import annotations

import math

import numpy as np

from docs.method_study.differences import Components
from docs.method_study.plan import BASELINE, FROZEN, TASKS, tasks_of
from docs.method_study.power import simulated

PARTS = Components(seed=4e-4, text=4e-3, rest=4e-2)
GROUPS = ("attention", "up", "down")


def simulated_runs(
    task, effects, *, seeds, texts=40, role="study", budget="parameters", level=0.6, rng=0
):
    """Return runs of LoRA, of methods with effects on its loss, and of the frozen model.

    The frozen model has a loss that is higher by 0.5 and an accuracy that is lower by 0.2.
    """
    rng = np.random.default_rng(rng)
    names = [BASELINE, *effects, FROZEN]
    losses = level + simulated([*effects.values(), 0.5], PARTS, seeds=seeds, texts=texts, rng=rng)
    runs = []
    for name, table in zip(names, losses, strict=True):
        for seed, items in enumerate(table):
            loss = float(items.mean())
            adapted = name != FROZEN
            share = 0.9 if adapted else 0.7
            runs.append(
                {
                    "task": task,
                    "method": name,
                    "role": role,
                    "budget": budget,
                    "seed": seed,
                    "rate": 0.01,
                    "steps": 40,
                    "trained": 1000 if adapted else 0,
                    "sizes": "a",
                    "test_loss": loss,
                    "test_accuracy": share - 0.2 * (loss - level - 0.5 * (not adapted)),
                    "test_ece": 0.05 + 0.01 * rng.random(),
                    "test_brier": 0.2 + 0.01 * rng.random(),
                    "forgotten": 0.3 * adapted * rng.random(),
                    "items": items.tolist(),
                    "curve": [
                        {"step": step, "test_loss": loss + 0.5 * (1 - step / 40) * adapted}
                        for step in (10, 20, 30, 40)
                    ],
                    "change": {
                        group: {
                            "relative": 0.1 * adapted * (1 + rng.random()),
                            "spectral": 0.2 * adapted,
                            "effective_rank": 5.0 * adapted,
                            "top_inputs": 0.3 * adapted,
                            "top_outputs": 0.2 * adapted,
                            "singular_values": 0.02 * adapted,
                            "energy_before": 1.0,
                            "energy": 1.0 + 0.01 * adapted,
                        }
                        for group in GROUPS
                    },
                    "step_seconds": 0.1,
                    "diverged": not math.isfinite(loss),
                }
            )
    return runs


def whole_record(effects, *, seeds, **options):
    """Return runs of all tasks."""
    runs = []
    for number, (task, planned) in enumerate(TASKS.items()):
        level = 0.3 * math.log(planned.outcomes)
        runs += simulated_runs(task, effects, seeds=seeds, level=level, rng=number, **options)
    return runs


def whole_study(effects, *, seeds, texts=12):
    """Return the record of a study of all methods, where those without an effect equal LoRA."""
    runs = []
    for number, (task, planned) in enumerate(TASKS.items()):
        own = {n: effects.get(n, 0.0) for n in planned.methods if n not in (BASELINE, FROZEN)}
        level = 0.3 * math.log(planned.outcomes)
        for budget in ("parameters", "time"):
            if task not in tasks_of(budget):
                continue
            made = simulated_runs(
                task, own, seeds=seeds, texts=texts, level=level, rng=number, budget=budget
            )
            runs += [
                run
                for run in made
                if budget == "parameters" or run["method"] not in (BASELINE, FROZEN)
            ]
        runs += [
            {
                "task": task,
                "method": name,
                "role": "timing",
                "budget": "time",
                "sizes": "a",
                "rounds": [1.0 + 0.1 * k for k in range(3)] if name == BASELINE else [1.5] * 3,
            }
            for name in planned.methods
            if name != FROZEN and task in tasks_of("time")
        ]
    return runs
