"""Find the best learning rate for many networks: `python docs/learning_rates_study.py`.

The program writes docs/results/learning-rates.json, from which the documentation build generates
the tables of docs/learning-rates.md. Three models are finetuned by rotations of many topologies at
nine rates each: two frozen linear layers whose teacher has slightly different weights, at widths 96
to 1,536; the vision transformer of docs/digits_study.py; and all-MiniLM-L6-v2 on docstrings.
Finished runs are kept, and an interrupted program resumes. It takes about twenty minutes on one
core; `--quick` takes seconds, and only checks that everything works.
"""

import copy
import functools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

import digits_study
import structmat as sm
import studies
from structmat.adapters import adapt
from structmat.analysis.generator_scale import STEP, step_rotation
from structmat.finetune.docstring_task import docstring_task
from structmat.finetune.models import pretrained

PATH = Path(__file__).parent / "results" / "learning-rates.json"
BLOCKS, DEPTHS, WIDTHS = (2, 4, 8, 16, 32, 64), (1, 2, 3, 4, 5, 6), (96, 384, 1536)
PARAMETRIZATIONS = ("cayley", "exp", "givens", "householder")
LORA = "LoRA r=8, α=16"
CLASSES = 10
OPTIMISERS = {"Adam": torch.optim.Adam, "SGD": torch.optim.SGD}
HEAD_RATE = 1e-2  # of a new head, which Adam trains in every run


@dataclass(frozen=True)
class Case:
    """A topology to finetune: `value` is its position on the axis along which networks vary."""

    model: str
    optimiser: str
    axis: str
    value: int | str
    topology: str
    width: int
    parametrization: str = "cayley"

    @property
    def rotation(self) -> float:
        """The rotation for each unit of change of the generators; 1 for LoRA."""
        if self.topology == LORA:
            return 1.0
        return step_rotation(sm.network(self.topology, self.width), self.parametrization)

    def plain(self, rate: float) -> float:
        """Return the rate for the generators at which a scaled rate with STEP = 1 has this value.

        Steps of Adam are proportional to the scale, and those of SGD to its square.
        """
        return rate / self.rotation ** (2 if self.optimiser == "SGD" else 1)


@dataclass(frozen=True)
class Sizes:
    """The size of the study; rates are for STEP = 1, and other rates follow from them."""

    adam: tuple[float, ...] = tuple(0.8 / 2**k for k in reversed(range(9)))
    sgd: tuple[float, ...] = tuple(128.0 / 2**k for k in reversed(range(9)))
    lora: tuple[float, ...] = tuple(0.128 / 2**k for k in reversed(range(9)))
    seeds: tuple[tuple[str, int], ...] = (("layers", 3), ("digits", 2), ("MiniLM", 1))
    steps: int = 50
    batch: int = 32
    texts: int = 160  # held out
    pretraining: int = 600  # steps of the vision transformer
    only: tuple[str, ...] = ()  # topologies; empty for all

    def rates(self, case: Case) -> tuple[float, ...]:
        """Return the rates to try."""
        if case.topology == LORA:
            return self.lora
        return self.sgd if case.optimiser == "SGD" else self.adam


QUICK = Sizes(
    adam=(0.0125, 0.05),
    sgd=(2.0,),
    lora=(4e-3,),
    seeds=(("layers", 1), ("digits", 1), ("MiniLM", 0)),
    steps=3,
    pretraining=3,
    only=("shuffle(block=2, depth=2)", LORA),
)


def cases(model: str) -> Iterator[Case]:
    """Yield the networks to train in a model: several blocks, depths, widths, parametrizations."""
    width = {"layers": 384, "digits": digits_study.WIDTH, "MiniLM": 384}[model]
    blocks = (4, 16, 64) if model == "MiniLM" else BLOCKS
    depths = {"layers": DEPTHS, "digits": (1, 2, 4, 6), "MiniLM": (1, 6)}[model]
    for optimiser in OPTIMISERS if model == "layers" else ("Adam",):
        case = Case(model, optimiser, "", "", "shuffle(block=8, depth=2)", width)
        for b in blocks:
            topology = f"shuffle(block={b}, depth=2)"
            yield replace(case, axis="block", value=b, topology=topology)
        for m in depths:
            topology = f"shuffle(block=4, depth={m})"
            yield replace(case, axis="depth", value=m, topology=topology)
        if model == "layers":
            for kind in PARAMETRIZATIONS:
                yield replace(case, axis="parametrization", value=kind, parametrization=kind)
            for d in WIDTHS:
                yield replace(case, axis="width", value=d, width=d)
        else:
            dense = "butterfly(block=6)" if model == "MiniLM" else "butterfly(block=16)"
            yield replace(case, axis="topology", value="dense BOFT", topology=dense)
            yield replace(case, axis="topology", value="LoRA", topology=LORA)


# The models -------------------------------------------------------------------------------------


class Start(NamedTuple):
    """A model, the layers to adapt, its new head, and functions for its losses.

    `loss(model, k)` is the loss on the k-th batch; `held_out(model)` that on other data.
    """

    model: nn.Module
    targets: list[str]
    head: Callable[[nn.Module], list[nn.Parameter]]
    loss: Callable[[nn.Module, int], Tensor]
    held_out: Callable[[nn.Module], Tensor]


def layers(width: int, seed: int, sizes: Sizes) -> Start:
    """Return two frozen layers, and a teacher whose weights differ by 30 %.

    The variances of the inputs, in a random basis, are proportional to 1/k; the outputs are ten
    classes. The loss is the mean Kullback–Leibler divergence from the teacher's probabilities.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(width, width, bias=False), nn.GELU())
    model.append(nn.Linear(width, width, bias=False)).append(nn.Linear(width, CLASSES, bias=False))
    model.requires_grad_(requires_grad=False)
    for layer, gain in zip((model[0], model[2], model[3]), (2, 1, 4), strict=True):
        nn.init.normal_(layer.weight, std=math.sqrt(gain / width))
    teacher = copy.deepcopy(model)
    for layer in (teacher[0], teacher[2]):
        layer.weight += 0.3 * layer.weight.std() * torch.randn(width, width)
    spectrum = 1 / torch.arange(1, width + 1)
    basis = torch.linalg.qr(torch.randn(width, width))[0]
    root = (spectrum * width / spectrum.sum()).sqrt()[:, None] * basis

    def drawn(count: int, k: int) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(1000 * (seed + 1) + k)
        x = torch.randn(count, width, generator=source) @ root
        return x, teacher(x).log_softmax(-1)

    def divergence(model: nn.Module, given: tuple[Tensor, Tensor]) -> Tensor:
        x, log = given
        return functional.kl_div(
            model(x).log_softmax(-1), log, log_target=True, reduction="batchmean"
        )

    test = drawn(1024, 999)
    return Start(
        model,
        ["0", "2"],
        lambda _: [],
        lambda model, k: divergence(model, drawn(sizes.batch, k)),
        lambda model: divergence(model, test),
    )


def digits(width: int, seed: int, sizes: Sizes) -> Start:
    """Return the vision transformer pretrained on the digits 0 to 4, and the data of 5 to 9."""
    start = digits_study.pretrained(seed, digits_study.Sizes(pretraining=sizes.pretraining))
    torch.manual_seed(1000 + seed)
    model = nn.Sequential(start.body, nn.Linear(width, len(digits_study.NEW)))
    images, labels = start.learn
    rounds = -(-sizes.steps * sizes.batch // len(labels))
    order = torch.cat([torch.randperm(len(labels)) for _ in range(rounds)]).split(sizes.batch)

    def loss(model: nn.Module, given: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(model(given[0]), given[1])

    return Start(
        model,
        [f"0.{name}" for name, m in start.body.named_modules() if isinstance(m, nn.Linear)][1:],
        lambda model: list(model.get_submodule("1").parameters()),
        lambda model, k: loss(model, (images[order[k]], labels[order[k]])),
        lambda model: loss(model, start.valid),
    )


def minilm(width: int, seed: int, sizes: Sizes) -> Start:  # noqa: ARG001 (MiniLM has one width)
    """Return all-MiniLM-L6-v2 with a new head, and docstrings of several libraries."""
    task, source = docstring_task(), pretrained()
    classifier, tokenizer = source.classifier(task.labels, seed=seed), source.tokenizer()
    texts = [e.text for e in task.train], [e.text for e in task.validation[: sizes.texts]]
    labels = [torch.tensor([e.label for e in part]) for part in (task.train, task.validation)]
    source_of = np.random.default_rng(seed)
    rounds = -(-sizes.steps * sizes.batch // len(texts[0]))
    order = np.concatenate([source_of.permutation(len(texts[0])) for _ in range(rounds)])

    def loss(model: nn.Module, which: int, places: Sequence[int]) -> Tensor:
        encoded = tokenizer(
            [texts[which][p] for p in places],
            truncation=True,
            max_length=32,
            padding=True,
            return_tensors="pt",
        )
        return functional.cross_entropy(model(**encoded).logits, labels[which][places])

    return Start(
        classifier.model,
        list(classifier.targets),
        lambda model: [
            p
            for name, p in model.named_parameters()
            if any(f"{head}." in name for head in classifier.head)
        ],
        lambda model, k: loss(model, 0, order[k * sizes.batch : (k + 1) * sizes.batch].tolist()),
        lambda model: loss(model, 1, range(len(texts[1]))),
    )


MODELS = {"layers": layers, "digits": digits, "MiniLM": minilm}


# Training ---------------------------------------------------------------------------------------


def run(case: Case, rate: float, start: Start, sizes: Sizes) -> float | None:
    """Finetune a copy of the model, and return the loss on held-out data, or None if infinite.

    The rates of rotations and head fall to zero along a cosine.
    """
    torch.manual_seed(0)
    model = copy.deepcopy(start.model).requires_grad_(requires_grad=False)
    if case.topology == LORA:
        config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=start.targets)
        model = peft.get_peft_model(model, config).base_model.model
    else:
        adapt(
            model,
            case.topology,
            target_modules=start.targets,
            parametrization=case.parametrization,
        )
    inside = [p for p in model.parameters() if p.requires_grad]
    head = [p.requires_grad_() for p in start.head(model)]
    optimisers = [OPTIMISERS[case.optimiser](inside, lr=case.plain(rate))]
    if head:
        optimisers.append(torch.optim.Adam(head, lr=HEAD_RATE))
    falling = [
        torch.optim.lr_scheduler.LambdaLR(
            o, lambda k: (1 + math.cos(math.pi * k / sizes.steps)) / 2
        )
        for o in optimisers
    ]
    for k in range(sizes.steps):
        loss = start.loss(model, k)
        if not torch.isfinite(loss):
            return None
        loss.backward()
        for step in (*optimisers, *falling):
            step.step()
        for o in optimisers:
            o.zero_grad()
    with torch.no_grad():
        found = float(start.held_out(model.eval()))
    return round(found, 6) if math.isfinite(found) else None


def studied(path: Path | None, sizes: Sizes) -> studies.Row:
    """Perform the runs that the file does not contain yet, and return the record."""
    plain, kept = studies.resumed(path, sizes)
    about = studies.origin("python docs/learning_rates_study.py", [np, torch, peft, sm], kept)
    record = {**about, "sizes": plain, "runs": kept.get("runs", [])}
    known = {_key(row): row["loss"] for row in record["runs"]}
    done = {tuple(row.values())[:-1] for row in record["runs"]}
    plan = [
        (seed, case)
        for seed in range(max(seeds for _, seeds in sizes.seeds))
        for model, seeds in sizes.seeds
        for case in (cases(model) if seed < seeds else ())
        if not sizes.only or case.topology in sizes.only
    ]
    begin = functools.lru_cache(maxsize=1)(
        lambda model, width, seed: MODELS[model](width, seed, sizes)
    )
    for seed, case in tqdm(plan, unit="network"):
        for rate in sizes.rates(case):
            row: studies.Row = {**asdict(case), "seed": seed, "rate": rate}
            if tuple(row.values()) in done:
                continue
            if _key(row) not in known:  # some networks are on several axes
                start = begin(case.model, case.width, seed)
                known[_key(row)] = run(case, rate, start, sizes)
            record["runs"].append({**row, "loss": known[_key(row)]})
            studies.write(path, record)
    return record


def _key(row: studies.Row) -> tuple[Any, ...]:
    """Return the fields on which the loss depends."""
    return tuple(v for k, v in row.items() if k not in ("axis", "value", "loss"))


# Results ----------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """The losses of a network at each rate, and the best rate in both parametrisations."""

    case: Case
    rates: tuple[float, ...]  # scaled
    losses: tuple[float, ...]  # geometric means over the seeds; infinite if a run diverged
    scaled: float | None  # None if the lowest loss is at the end of the grid
    plain: float | None


def optimum(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the minimum of the parabola of log loss in log rate through the three lowest points.

    The points are the lowest one and its neighbours; None if it is the first or the last.

    Examples
    --------
    >>> rates = [1, 2, 4, 8, 16]
    >>> round(optimum(rates, [math.exp(math.log(r / 5) ** 2) for r in rates]), 6)
    5.0
    """
    k = int(np.argmin(losses))
    if not 0 < k < len(losses) - 1:
        return None
    x, y = np.log(rates[k - 1 : k + 2]), np.log(losses[k - 1 : k + 2])
    if not np.isfinite(y).all():  # a neighbour diverged
        return rates[k]
    square, slope, _ = np.polyfit(x, y, 2)
    return math.exp(-slope / (2 * square))


def curves(record: Mapping[str, Any]) -> list[Curve]:
    """Return the curve of each network, in the order of the runs."""
    grouped: dict[Case, dict[float, list[float]]] = {}
    for row in record["runs"]:
        case = Case(**{k: v for k, v in row.items() if k not in ("seed", "rate", "loss")})
        loss = math.inf if row["loss"] is None else row["loss"]
        grouped.setdefault(case, {}).setdefault(row["rate"], []).append(loss)
    found = []
    for case, by_rate in grouped.items():
        rates = sorted(by_rate)
        losses = [math.exp(statistics.fmean(map(math.log, by_rate[rate]))) for rate in rates]
        best = optimum(rates, losses)
        unit = STEP ** (2 if case.optimiser == "SGD" else 1) if case.topology != LORA else 1
        found.append(
            Curve(
                case,
                tuple(rate / unit for rate in rates),
                tuple(losses),
                None if best is None else best / unit,
                None if best is None else case.plain(best),
            )
        )
    return found


def tables(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of best rates, that of their ratios, and a line on the record."""
    every = curves(record)
    yield studies.markdown(
        ["model, optimiser", "network", "wires met", "best rate, scaled", "best rate, plain"],
        [
            [
                f"{c.case.model}, {c.case.optimiser}",
                c.case.topology if c.case.topology == LORA else _name(c.case),
                f"{(c.case.rotation / step_rotation(PAIRS, c.case.parametrization)) ** 2:.3g}",
                _shown(c.scaled),
                _shown(c.plain),
            ]
            for c in every
        ],
    )
    yield studies.markdown(
        ["model, optimiser", "axis", "networks", "largest / smallest best rate, scaled", "plain"],
        list(_ratios(every)),
    )
    yield studies.about(record)


PAIRS = sm.block_diagonal(2, block=2)  # in which every wire meets one other


def _name(case: Case) -> str:
    kind = "" if case.parametrization == "cayley" else f", {case.parametrization}"
    return f"`{case.topology}`, width {case.width:,}{kind}"


def _shown(rate: float | None) -> str:
    return "at the end of the grid" if rate is None else f"{rate:.2g}"


def _ratios(every: Sequence[Curve]) -> Iterator[list[str]]:
    groups: dict[tuple[str, str, str], list[Curve]] = {}
    for c in every:
        if c.case.topology != LORA:
            for axis in (c.case.axis, "all"):
                groups.setdefault((c.case.model, c.case.optimiser, axis), []).append(c)
    for (model, optimiser, axis), some in groups.items():
        ratios = []
        for rates in ([c.scaled for c in some], [c.plain for c in some]):
            known = [rate for rate in rates if rate is not None]
            ratios.append(f"{max(known) / min(known):.2g}" if known else "—")
        if len(some) > 1:
            yield [f"{model}, {optimiser}", axis, str(len(some)), *ratios]


# The command ------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Perform the runs that the file does not contain yet, and print the tables of the page."""
    studies.main(
        "Find the best learning rate for many networks.",
        PATH,
        lambda path, quick: list(tables(studied(path, QUICK if quick else Sizes()))),
        arguments,
    )


if __name__ == "__main__":
    main()
