"""Find the best learning rate for many networks: `python docs/learning_rates_study.py`.

The program writes docs/results/learning-rates.json, from which the documentation build generates
the tables of docs/learning-rates.md. Three models are finetuned by rotations of many topologies at
nine rates each: two frozen linear layers whose teacher has slightly different weights, at widths 96
to 1,536; the vision transformer of docs/digits_study.py; and the language model of
docs/method_study, which is pretrained first unless it is in the cache. Finished runs are kept, and
an interrupted program resumes. It takes about twenty minutes on one core; `--quick` takes seconds,
and only checks that everything works.
"""

import copy
import functools
import math
import statistics
import sys
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
from structmat.analysis.generator_scale import SLOPES, generator_scale, step_rotation

HERE = Path(__file__).parent
PATH = HERE / "results" / "learning-rates.json"
sys.path.append(str(HERE.parent))  # for docs.method_study
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
        """The angle in radians for each unit of change of the generators; 1 for LoRA."""
        return 1.0 if self.topology == LORA else step_rotation(self.network, self.parametrization)

    @property
    def network(self) -> sm.Network:
        """The network that rotates inputs of this width."""
        return sm.network(self.topology, self.width)

    @property
    def power(self) -> int:
        """The power p such that a factor s of the generators multiplies the steps by s^p."""
        return 2 if self.optimiser == "SGD" else 1

    def plain(self, rate: float) -> float:
        """Return the learning rate without a factor, given a rate of the record."""
        return rate / self.rotation**self.power

    def scaled(self, rate: float) -> float:
        """Return the rate with the factor `generator_scale`, given a rate of the record."""
        if self.topology == LORA:
            return rate
        scale = generator_scale(
            self.network, self.parametrization, optimiser=self.optimiser.lower()
        )
        return self.plain(rate) / scale**self.power


@dataclass(frozen=True)
class Sizes:
    """The size of the study.

    The rates are those for generators with the factor 1 / `step_rotation`. Training with another
    factor s is equivalent at another rate, since the factor multiplies the steps of Adam by s and
    those of SGD by s². Rates are recorded in this form because it does not depend on the default
    factor.
    """

    adam: tuple[float, ...] = tuple(0.8 / 2**k for k in reversed(range(9)))
    sgd: tuple[float, ...] = tuple(128.0 / 2**k for k in reversed(range(9)))
    lora: tuple[float, ...] = tuple(0.128 / 2**k for k in reversed(range(9)))
    parts: tuple[tuple[str, str, int], ...] = (
        ("layers", "Adam", 0),
        ("digits", "Adam", 0),
        ("layers", "SGD", 0),
        ("language", "Adam", 0),
    )  # model, optimiser and seed
    steps: int = 50
    batch: int = 32
    language: tuple[int, int] = (30, 48)  # steps, and held-out windows
    pretraining: int = 600  # steps of the vision transformer
    only: tuple[str, ...] = ()  # topologies; empty for all

    def rates(self, case: Case) -> tuple[float, ...]:
        """Return the rates to try: for the language model, those near the best ones only."""
        if case.topology == LORA:
            return self.lora[3:7] if case.model == "language" else self.lora
        every = self.sgd if case.optimiser == "SGD" else self.adam
        return every[1:6] if case.model == "language" else every


QUICK = Sizes(
    adam=(0.0125, 0.05),
    sgd=(2.0,),
    lora=(4e-3,),
    parts=(("layers", "Adam", 0), ("layers", "SGD", 0), ("digits", "Adam", 0)),
    steps=3,
    pretraining=3,
    only=("shuffle(block=2, depth=2)", LORA),
)


def cases(model: str, optimiser: str) -> Iterator[Case]:
    """Yield the networks to train in a model: block sizes, depths, widths and parametrizations."""
    width = {"layers": 384, "digits": digits_study.WIDTH, "language": 128}[model]
    blocks = (4, 16, 64) if model == "language" else BLOCKS
    depths = {"layers": DEPTHS, "digits": (1, 2, 4, 6), "language": ()}[model]
    case = Case(model, optimiser, "", "", "shuffle(block=8, depth=2)", width)
    for b in blocks:
        yield replace(case, axis="block", value=b, topology=f"shuffle(block={b}, depth=2)")
    for m in depths:
        yield replace(case, axis="depth", value=m, topology=f"shuffle(block=4, depth={m})")
    if model == "layers":
        for kind in PARAMETRIZATIONS:
            yield replace(case, axis="parametrization", value=kind, parametrization=kind)
        for d in WIDTHS:
            yield replace(case, axis="width", value=d, width=d)
    else:
        if model == "digits":
            yield replace(case, axis="topology", value="dense BOFT", topology="butterfly(block=16)")
        yield replace(case, axis="topology", value="LoRA", topology=LORA)


# The models -------------------------------------------------------------------------------------


class Start(NamedTuple):
    """A model, the layers to adapt, its new head, the number of steps, and its losses.

    `loss(model, k)` is the loss on the k-th batch; `held_out(model)` that on other data.
    """

    model: nn.Module
    targets: list[str]
    head: Callable[[nn.Module], list[nn.Parameter]]
    steps: int
    loss: Callable[[nn.Module, int], Tensor]
    held_out: Callable[[nn.Module], Tensor]


def layers(width: int, seed: int, sizes: Sizes) -> Start:
    """Return two frozen layers, and a teacher whose weights differ by 30 %.

    In a random basis, the variance of the k-th coordinate of the inputs is proportional to 1/k; the
    outputs are ten classes. The loss is the mean Kullback–Leibler divergence from the teacher's
    probabilities.
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
        sizes.steps,
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
        sizes.steps,
        lambda model, k: loss(model, (images[order[k]], labels[order[k]])),
        lambda model: loss(model, start.valid),
    )


def language(width: int, seed: int, sizes: Sizes) -> Start:  # noqa: ARG001 (it has one width)
    """Return the language model of docs/method_study, and the code of a package new to it."""
    from docs.method_study.language_model import rows_of
    from docs.method_study.language_task import LanguageTask

    steps, held_out = sizes.language
    task = LanguageTask()
    batches = task.batches(seed, steps)
    valid = rows_of("validation", task.settings.length, most=held_out)
    return Start(
        task.model(seed),
        [name for names in task.layers.values() for name in names],
        lambda _: [],
        steps,
        lambda model, k: task.loss(model, batches[k]),
        lambda model: task.loss(model, valid),
    )


MODELS = {"layers": layers, "digits": digits, "language": language}


# Training ---------------------------------------------------------------------------------------


def run(case: Case, rate: float, start: Start) -> float | None:
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
            generator_scaling="none",
        )
    inside = [p for p in model.parameters() if p.requires_grad]
    head = [p.requires_grad_() for p in start.head(model)]
    optimisers = [OPTIMISERS[case.optimiser](inside, lr=case.plain(rate))]
    if head:
        optimisers.append(torch.optim.Adam(head, lr=HEAD_RATE))
    falling = [
        torch.optim.lr_scheduler.LambdaLR(
            o, lambda k: (1 + math.cos(math.pi * k / start.steps)) / 2
        )
        for o in optimisers
    ]
    for k in range(start.steps):
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
        for model, optimiser, seed in sizes.parts
        for case in cases(model, optimiser)
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
                known[_key(row)] = run(case, rate, start)
            record["runs"].append({**row, "loss": known[_key(row)]})
            studies.write(path, record)
    return record


def _key(row: studies.Row) -> tuple[Any, ...]:
    """Return the fields on which the loss depends."""
    return tuple(v for k, v in row.items() if k not in ("axis", "value", "loss"))


# Results ----------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """The losses of a network at each rate, for scaled and plain generators, and the best rate."""

    case: Case
    scaled: tuple[float, ...]  # rates
    plain: tuple[float, ...]
    losses: tuple[float, ...]  # geometric means over the seeds; infinite if a run diverged
    best: float | None  # as recorded; None if the lowest loss is at the end of the grid


def optimum(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the minimum of a parabola through the lowest point and its two neighbours.

    Both axes are logarithmic. The result is None if the lowest point is the first or the last.

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
        found.append(
            Curve(
                case,
                tuple(map(case.scaled, rates)),
                tuple(map(case.plain, rates)),
                tuple(losses),
                best,
            )
        )
    return found


def tables(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ratios of best rates, the best rates, and a line on the record."""
    every = curves(record)
    yield studies.markdown(
        ["model, optimiser", "networks", *RULES], [row for row in _ratios(every) if row]
    )
    yield studies.markdown(
        ["model, optimiser", "network", "$n_1$", "$n$", "best rate, plain", "scaled"],
        [
            [
                f"{c.case.model}, {c.case.optimiser}",
                _name(c.case),
                *(f"{number:.3g}" if c.case.topology != LORA else "—" for number in _met(c.case)),
                *(_shown(c, rate) for rate in (c.case.plain, c.case.scaled)),
            ]
            for c in every
            if (c.case.axis, c.case.value) not in REPEATED
        ],
    )
    yield studies.about(record)


REPEATED = {("depth", 2), ("parametrization", "cayley"), ("width", 384)}  # on another axis, too


def _met(case: Case) -> tuple[float, float]:
    """Return n₁ and n, for the network of a case."""
    if case.topology == LORA:
        return 1.0, 1.0
    n = step_rotation(case.network, "exp") ** 2
    scale = generator_scale(case.network, "exp", optimiser="sgd")
    return (generator_scale(PAIR, "exp", optimiser="sgd") / scale) ** 2, n


PAIR = sm.block_diagonal(2, block=2)  # in which each wire meets one other, and n₁ = n = 1

# The factors s that the table compares, without a constant, given κ, n₁ and n
Factor = Callable[[float, float, float], float]
RULES: dict[str, Factor] = {
    "$s = 1$": lambda *_: 1.0,
    r"$1/(\kappa\sqrt n)$": lambda slope, _, n: 1 / slope / n**0.5,
    r"$1/(\kappa\sqrt{n_1})$": lambda slope, total, _: 1 / slope / total**0.5,
    r"$1/(\kappa\sqrt{n_1\sqrt n})$": lambda slope, total, n: 1 / slope / (total * n**0.5) ** 0.5,
    r"$1/(\kappa n_1)$": lambda slope, total, _: 1 / slope / total,
}


def _name(case: Case) -> str:
    if case.topology == LORA:
        return LORA
    kind = "" if case.parametrization == "cayley" else f", {case.parametrization}"
    return f"`{case.topology}`, width {case.width:,}{kind}"


def _shown(curve: Curve, converted: Callable[[float], float]) -> str:
    return "at the end of the grid" if curve.best is None else f"{converted(curve.best):.2g}"


def _ratios(every: Sequence[Curve]) -> Iterator[list[str]]:
    """Yield the largest best rate divided by the smallest, with each factor."""
    groups: dict[tuple[str, str, str], list[Curve]] = {}
    for c in every:
        if c.case.topology != LORA and c.best is not None:
            for axis in (c.case.axis, "all of one width" if c.case.axis != "width" else ""):
                groups.setdefault((c.case.model, c.case.optimiser, axis), []).append(c)
    for (model, optimiser, axis), some in groups.items():
        if axis and len(some) > 1:
            yield [
                f"{model}, {optimiser}",
                axis
                if axis.startswith("all")
                else f"{axis} {some[0].case.value} … {some[-1].case.value}",
                *(f"{ratio(some, rule):.2g}" for rule in RULES.values()),
            ]


def ratio(some: Sequence[Curve], rule: Factor) -> float:
    """Return the largest best rate divided by the smallest, for generators with this factor."""
    rates = [
        c.case.plain(c.best) / rule(SLOPES[c.case.parametrization], *_met(c.case)) ** c.case.power
        for c in some
        if c.best is not None
    ]
    return max(rates) / min(rates)


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
