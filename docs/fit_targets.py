"""Fit wider random matrices and the rotations of a finetuned model: `python docs/fit_targets.py`.

The program writes docs/results/fit-targets.json, from which the documentation build generates
tables of docs/fitting.md. The targets are Haar random orthogonal matrices of width 768 and 1,000,
and the rotations that approximate how finetuning changes the weights of all-MiniLM-L6-v2: for a
pretrained weight W (outputs × inputs) and the finetuned W′, the R that minimises ‖W Rᵀ − W′‖.
Finished fits are kept, and an interrupted program resumes. It takes about an hour on one core;
`--quick` takes seconds, and only checks that everything works.
"""

import functools
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from tqdm import tqdm

import structmat as sm
import studies
from fit_512 import target as haar
from structmat.analysis.switch_lists import distinct_pairs
from structmat.families import Rule
from structmat.finetune.docstring_task import LIBRARIES, docstring_task
from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.models import PACKAGED, pretrained
from structmat.finetune.training import train

PATH = Path(__file__).parent / "results" / "fit-targets.json"
Array = np.ndarray[Any, np.dtype[Any]]

# Topologies of adjustable size: the number of stages, or of repetitions, is chosen for a budget.
BY_DEPTH = (
    "butterfly(block=2)",
    "butterfly(block=6)",
    "butterfly(block=12)",
    "shuffle(block=4)",
    "shuffle(block=10)",
    "shuffle(block=16)",
    "random(block=2, depth=1, rng=0)",
    "random(block=16, depth=1, rng=0)",
)
CYCLED = ("mixed_radix", "mixed_radix(largest=4)", "mixed_radix(largest=16)")
NEAR = 0.15  # relative distance from the budget within which a network is compared

# The rotations of a model are near the identity; its layers have 384 inputs.
OF_A_MODEL = (
    "gossip",
    "mixed_radix",
    "mixed_radix(largest=4)",
    "mixed_radix(largest=8)",
    "mixed_radix(largest=16)",
    "mixed_radix * 2",
    "mixed_radix * 4",
    "block_diagonal(block=16)",
    "butterfly(block=8, depth=2)",
    "butterfly(block=6)",
    "shuffle(block=4)",
    "shuffle(block=8)",
    "random(block=2, depth=9, rng=0)",
    "random(block=2, depth=36, rng=0)",
)


@dataclass(frozen=True)
class Sizes:
    """The sizes of the study."""

    widths: tuple[int, ...] = (768, 1000)
    budgets: tuple[int, ...] = (5, 10, 20, 40)  # parameters per wire
    seeds: int = 3
    sweeps: int = 60
    layers: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    libraries: int = len(LIBRARIES)
    epochs: int = 2
    topologies: tuple[str, ...] = OF_A_MODEL


QUICK = Sizes(
    widths=(24,),
    budgets=(5,),
    seeds=1,
    sweeps=2,
    layers=(0,),
    libraries=2,
    epochs=1,
    topologies=OF_A_MODEL[:1],
)
RATE = 5e-5  # learning rate for finetuning all weights
KINDS = ("attention.self.query", "intermediate.dense")
SHORT = {KINDS[0]: "query", KINDS[1]: "intermediate"}


def of_size(width: int, parameters: int) -> dict[str, Rule]:
    """Return, for each topology, the rule with the size nearest to a budget, if near enough."""
    found: dict[str, Rule] = {}
    for spec in (*BY_DEPTH, *CYCLED):
        rule = sm.parse(spec)
        once = rule.with_options(depth=1) if spec in BY_DEPTH else rule
        if not once.accepts(width):
            continue
        times = max(1, round(parameters / once(width).parameters))
        made = rule.with_options(depth=times) if spec in BY_DEPTH else rule * times
        if made.accepts(width) and abs(made(width).parameters / parameters - 1) <= NEAR:
            found[spec] = made
    return found


def random_fit(rule: Rule, width: int, seed: int, sizes: Sizes) -> studies.Row:
    """Fit a network to a Haar random matrix, from random blocks."""
    net = rule(width)
    begin = sm.random_blocks(net, rng=seed, dtype=np.float32)
    found = sm.fit(
        net, haar(seed, width), start=begin, sweeps=sizes.sweeps, tolerance=0, progress=False
    )
    return {
        "parameters": net.parameters,
        "depth": net.depth,
        "error": round(found.error, 5),
        "half": round(found.history[: max(1, sizes.sweeps // 2)][-1], 5),
    }


# The rotations of a model ----------------------------------------------------------------------


@functools.cache
def weights(sizes: Sizes, seed: int) -> dict[str, tuple[Array, Array]]:
    """Return the pretrained and the finetuned weight (outputs, inputs) of each selected layer."""
    source = pretrained()
    task = docstring_task(list(LIBRARIES)[: sizes.libraries], seed=seed)
    model, targets, _ = source.classifier(task.labels, seed=seed)
    ends = tuple(f"layer.{n}.{kind}" for n, kind in itertools.product(sizes.layers, KINDS))
    names = [name for name in targets if name.endswith(ends)]
    before = {name: model.get_submodule(name).weight.detach().numpy().copy() for name in names}
    trained = train(
        model,
        source.tokenizer(),
        training=task.train,
        validation=task.validation,
        hyperparameters=Hyperparameters(epochs=sizes.epochs, evaluations=1),
        rate=RATE,
        seed=seed,
    ).model
    after = {name: trained.get_submodule(name).weight.detach().numpy() for name in names}
    return {
        name.partition("layer.")[2]: (
            before[name].astype(np.float64),
            after[name].astype(np.float64),
        )
        for name in names
    }


def procrustes(before: Array, after: Array) -> Array:
    """Return the orthogonal R that minimises ‖before · Rᵀ − after‖."""
    u, _, v = np.linalg.svd(after.T @ before)
    return np.asarray(u @ v)


def square(x: Array) -> float:
    """Return the squared Frobenius norm."""
    return float(np.sum(x * x))


def change(before: Array, after: Array) -> studies.Row:
    """Return how far a weight moved, and the share of the squared distance that R explains."""
    r, moved = procrustes(before, after), square(after - before)
    return {
        "moved": (moved / square(before)) ** 0.5,
        "rotated": float(np.linalg.norm(r - np.eye(len(r))) / len(r) ** 0.5),
        "explained": 1 - square(before @ r.T - after) / moved,
    }


def model_fit(spec: str, before: Array, after: Array, sizes: Sizes) -> studies.Row:
    """Fit a network to the rotation of a weight, and to the weight itself, from the identity.

    A rotation R̂ that maximises tr(R̂ᵀ W′ᵀ W) minimises ‖W R̂ᵀ − W′‖, so the second fit has the
    target W′ᵀ W.
    """
    r = procrustes(before, after)
    net = sm.parse(spec)(len(r))
    to_r, to_weight = (fitted(net, target, sizes) for target in (r, after.T @ before))
    return {
        "parameters": net.parameters,
        "pairs": distinct_pairs((bank.reads for bank in net.banks), net.width),
        "of_rotation": 1 - square(to_r - r) / square(np.eye(len(r)) - r),
        "of_weight": 1 - square(before @ to_weight.T - after) / square(after - before),
    }


def fitted(net: sm.Network, target: Array, sizes: Sizes) -> Array:
    """Return the matrix of the fit to a target, from the identity."""
    scale = np.linalg.norm(target) / len(target) ** 0.5
    begin = sm.identity_blocks(net)
    found = sm.fit(
        net, target / scale, start=begin, sweeps=sizes.sweeps, tolerance=1e-9, progress=False
    )
    return found.rotation.matrix()


# The record ------------------------------------------------------------------------------------


def studied(path: Path | None, sizes: Sizes) -> dict[str, Any]:
    """Do the fits that the file does not contain yet, and return the record."""
    plain, kept = studies.resumed(path, sizes)
    record = {
        "description": "fits to Haar random matrices and to the rotations of a finetuned model",
        **studies.origin("python docs/fit_targets.py", (np, scipy, torch, sm), kept),
        "sizes": plain,
        "random": kept.get("random", []),
        "layers": kept.get("layers", []),
        "model": kept.get("model", []),
    }
    done = {(r["topology"], r["width"], r["budget"], r["seed"]) for r in record["random"]}
    cases = [
        (seed, width, budget, topology, rule)
        for seed in range(sizes.seeds)
        for width in sizes.widths
        for budget in sizes.budgets
        for topology, rule in of_size(width, budget * width).items()
    ]
    for seed, width, budget, topology, rule in tqdm(cases, unit="fit"):
        if (topology, width, budget, seed) in done:
            continue
        about = {"topology": topology, "width": width, "budget": budget, "seed": seed}
        row = about | {"spec": str(rule)} | random_fit(rule, width, seed, sizes)
        record["random"].append(row)
        studies.write(path, record)
    done_layers = {(r["topology"], r["seed"]) for r in record["model"]}
    for seed in range(sizes.seeds):
        if all((spec, seed) in done_layers for spec in sizes.topologies):
            continue
        found = weights(sizes, seed)
        record["layers"] = [r for r in record["layers"] if r["seed"] != seed]
        record["model"] = [r for r in record["model"] if r["seed"] != seed]
        for name, (before, after) in found.items():
            record["layers"].append({"layer": name, "seed": seed, **change(before, after)})
        for spec in tqdm(sizes.topologies, unit="topology"):
            for name, (before, after) in found.items():
                about = {"topology": spec, "layer": name, "seed": seed}
                record["model"].append(about | model_fit(spec, before, after, sizes))
        studies.write(path, record)
    return record


# The tables of the page ------------------------------------------------------------------------


def tables(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of the page, as Markdown."""
    yield studies.about(record)
    for width in record["sizes"]["widths"]:
        yield (
            f"Width {width:,}: median relative Frobenius error for {record['sizes']['seeds']} Haar"
            " random matrices, by the number of parameters; sizes may differ from the number in"
            f" the head by up to {NEAR:.0%}:\n\n{_random(record, width)}"
        )
    yield (
        f"How finetuning changes the weights of {PACKAGED}; medians over layers and seeds:\n\n"
        f"{_layers(record)}"
    )
    yield (
        "Shares that networks account for, in per cent, medians over layers and seeds: of ‖R − I‖²,"
        f" by a fit to R, and of ‖W′ − W‖², by a fit to the weight:\n\n{_model(record)}"
    )


def _random(record: Mapping[str, Any], width: int) -> str:
    budgets = record["sizes"]["budgets"]
    found: dict[str, dict[int, list[studies.Row]]] = {}
    for row in record["random"]:
        if row["width"] == width:
            points = found.setdefault(row["topology"], {})
            points.setdefault(row["budget"], []).append(row)
    lines = []
    for topology, points in found.items():
        cells = []
        for budget in budgets:
            rows = points.get(budget, [])
            stages = f" ({rows[0]['depth']})" if rows else ""
            cells.append(f"{_median(rows, 'error'):.3f}{stages}" if rows else "—")
        lines.append([f"`{_without_depth(topology)}`", *cells])
    head = ["topology (stages)", *(f"{budget * width:,}" for budget in budgets)]
    return studies.markdown(head, lines)


def _without_depth(spec: str) -> str:
    return spec.replace(", depth=1", "")


def _median(rows: Sequence[studies.Row], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def _layers(record: Mapping[str, Any]) -> str:
    lines = []
    for kind in KINDS:
        rows = [row for row in record["layers"] if row["layer"].endswith(kind)]
        cells = [f"{_median(rows, key):.3f}" for key in ("moved", "rotated", "explained")]
        lines.append([f"`{kind}`", *cells])
    head = ["layer", "‖W′ − W‖ / ‖W‖", "‖R − I‖ / ‖I‖", "share of ‖W′ − W‖² explained by R"]
    return studies.markdown(head, lines)


def _model(record: Mapping[str, Any]) -> str:
    lines = []
    for spec in record["sizes"]["topologies"]:
        cells = []
        for kind in KINDS:
            rows = [
                row
                for row in record["model"]
                if row["topology"] == spec and row["layer"].endswith(kind)
            ]
            cells += [f"{100 * _median(rows, key):.2f}" for key in ("of_rotation", "of_weight")]
        lines.append([f"`{spec}`", f"{rows[0]['parameters']:,}", f"{rows[0]['pairs']:,}", *cells])
    lines.sort(key=lambda line: int(line[1].replace(",", "")))
    head = ["topology", "parameters", "pairs of wires"]
    for kind in KINDS:
        head += [f"{SHORT[kind]}: of ‖R − I‖²", "of ‖W′ − W‖²"]
    return studies.markdown(head, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Perform the fits, and print the tables of the page."""

    def of(path: Path | None, quick: bool) -> Sequence[str]:  # noqa: FBT001
        return list(tables(studied(path, QUICK if quick else Sizes())))

    studies.main("Fit random matrices and the rotations of a finetuned model.", PATH, of, arguments)


if __name__ == "__main__":
    main()
