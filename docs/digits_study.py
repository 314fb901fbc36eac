"""Adapt a small vision transformer to digits it has not seen: `python docs/digits_study.py`.

It makes docs/results/digits.json, the numbers of docs/digits-study.md. A transformer is pretrained
on the digits 0 to 4 of scikit-learn, 8×8 pixels, then adapted to the digits 5 to 9 by each method.
It takes some ten minutes on one core, keeps what is done after each run, and goes on from there
when it is started again. `--quick` takes seconds, and says whether all of this works.
"""

import argparse
import copy
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import peft
import scipy
import sklearn
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

import structmat as sm
from structmat.nn import adapt

PATH = Path(__file__).parent / "results" / "digits.json"
WIDTH, LAYERS, HEADS = 64, 2, 4
OLD, NEW = range(5), range(5, 10)
LAYER_NAMES = ["query", "key", "value", "out", "up", "down"]
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
HEAD_RATE = 1e-2  # of the new head, the same for every method
TARGET = 0.85  # of the validation images told right; how many steps that takes
EVERY = 4  # steps between two looks at the validation images
BASELINE = "LoRA r=4"


@dataclass(frozen=True)
class Sizes:
    """How much is done. Seeds below `tuning` are those that rates are chosen with."""

    seeds: int = 5
    tuning: int = 2
    rates: tuple[float, ...] = RATES
    pretraining: int = 600
    steps: int = 100
    batch: int = 32
    each: int = 40  # images of a new digit to train on, and as many to validate on


QUICK = Sizes(seeds=2, tuning=1, rates=(1e-2,), pretraining=20, steps=4)


class Block(nn.Module):
    """Attention and a perceptron, each after a normalisation, in six linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the block makes of (images, patches, width)."""
        z = self.before(x)
        q, k, v = (
            layer(z).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        x = x + self.out(seen)
        return x + self.down(functional.gelu(self.up(self.between(x))))


class Body(nn.Module):
    """A vision transformer over the sixteen 2×2 patches of an image, up to its pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.place = nn.Parameter(0.1 * torch.randn(16, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (images, width) of (images, 8, 8)."""
        patches = images.unfold(1, 2, 2).unfold(2, 2, 2).reshape(-1, 16, 4)
        return self.norm(self.blocks(self.embed(patches) + self.place)).mean(1)


# The methods ------------------------------------------------------------------------------

Method = Callable[[nn.Module], nn.Module]


def by_rotations(topology: Any) -> Method:
    """Return a method of structmat."""
    return lambda body: adapt(body, topology, target_modules=LAYER_NAMES)


def by_peft(config: type[peft.PeftConfig], **options: Any) -> Method:
    """Return a method of PEFT."""
    return lambda body: peft.get_peft_model(body, config(target_modules=LAYER_NAMES, **options))


def frozen(body: nn.Module) -> nn.Module:
    """Return the body as it is: only the new head is trained."""
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
HEAD_ONLY = "head only"  # to see what adapting is worth: no rate to choose
EVERYTHING = {**METHODS, HEAD_ONLY: frozen}


# The data ---------------------------------------------------------------------------------

Images = tuple[Tensor, Tensor]


def images_of(digits: Sequence[int]) -> Images:
    """Return the images of some digits, in a fixed order without meaning, and which digit each is.

    The digit is counted from the first of them.
    """
    data = load_digits()
    picked = np.flatnonzero(np.isin(data.target, digits))
    picked = np.random.default_rng(0).permutation(picked)
    images = torch.tensor(data.images[picked] / 8 - 1, dtype=torch.float32)
    return images, torch.tensor(data.target[picked] - digits[0])


def parts(digits: Sequence[int], tested: int) -> tuple[Images, Images]:
    """Return the images to learn from, and those for the test, the same for every seed."""
    images, labels = images_of(digits)
    return (images[tested:], labels[tested:]), (images[:tested], labels[:tested])


def drawn(given: Images, each: int, seed: int) -> tuple[Images, Images]:
    """Return images to train on and images to validate on, as many of each digit."""
    images, labels = given
    order = torch.as_tensor(np.random.default_rng(seed).permutation(len(labels)))
    places = [order[labels[order] == digit] for digit in labels.unique()]
    train = torch.cat([p[:each] for p in places])
    valid = torch.cat([p[each : 2 * each] for p in places])
    return (images[train], labels[train]), (images[valid], labels[valid])


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
    """Train the body at a rate and the head at its own; yield the seconds of each step."""
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
    """What a seed starts from: the model, its head, the images, and how it does on the old ones."""

    body: Body
    head: nn.Linear
    learn: Images
    valid: Images
    test: Images
    old_test: Images
    accuracy: float


def pretrained(seed: int, sizes: Sizes) -> Pretrained:
    """Return a transformer that tells the old digits apart, and what it is to learn."""
    torch.manual_seed(seed)
    body, head = Body(), nn.Linear(WIDTH, len(OLD))
    old, old_test = parts(OLD, 300)
    new, test = parts(NEW, 400)
    for _ in trained(body, head, old, rate=2e-3, steps=sizes.pretraining, batch=64):
        pass
    learn, valid = drawn(new, sizes.each, seed)
    return Pretrained(body, head, learn, valid, test, old_test, judged(body, head, old_test)[0])


def run(name: str, rate: float, seed: int, start: Pretrained, sizes: Sizes) -> dict[str, Any]:
    """Adapt a copy of the model by a method, and return what came of it."""
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


# What came of it --------------------------------------------------------------------------


def chosen(runs: Sequence[dict[str, Any]], name: str, tuning: int) -> float:
    """Return the rate with the best accuracy on the validation images, then the least loss."""
    tried: dict[float, list[dict[str, Any]]] = {}
    for row in runs:
        if row["method"] == name and row["seed"] < tuning:
            tried.setdefault(row["rate"], []).append(row)

    def merit(rate: float) -> tuple[float, float]:
        rows = tried[rate]
        loss = statistics.fmean(row["valid_loss"] for row in rows)
        return round(statistics.fmean(row["valid"] for row in rows), 6), -loss

    return max(tried, key=merit)


def final(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the runs of a method at its rate, by seed."""
    rate = record["chosen"][name]
    rows = [r for r in record["runs"] if r["method"] == name and r["rate"] == rate]
    return sorted(rows, key=lambda row: row["seed"])


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half of the width of its 95 % confidence interval, by Student's t."""
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), float(scipy.stats.t.ppf(0.975, len(values) - 1)) * spread


def shown(values: Sequence[float], *, sign: str = "") -> str:
    """Return a mean and its interval, in points of a hundred."""
    mean, half = interval([100 * v for v in values])
    return f"{mean:{sign}.1f} ± {half:.1f}"


def tables(record: dict[str, Any]) -> list[str]:
    """Return the tables of the page: each method, each against LoRA by seed, and the rates."""
    head = "| method | trained | rate | test accuracy, % | forgotten, points | steps to 85 % | ms |"
    lines = [head, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    other = f"| method − {BASELINE} | test accuracy, points | forgotten, points |"
    against = [other, "| --- | ---: | ---: |"]
    base = final(record, BASELINE)
    for name in EVERYTHING:
        rows = final(record, name)
        test, lost = ([row[key] for row in rows] for key in ("test", "forgotten"))
        steps = [row["reached"] for row in rows if row["reached"]]
        seen = f"{statistics.median(steps):g}" if steps else "—"
        seen += f" ({len(steps)} of {len(rows)})" if len(steps) < len(rows) else ""
        rate = "—" if name == HEAD_ONLY else f"{record['chosen'][name]:g}"
        spent = statistics.median(row["step_ms"] for row in rows)
        cells = [name, f"{rows[0]['trained']:,}", rate, shown(test), shown(lost), seen]
        lines.append(f"| {' | '.join(cells)} | {spent:.0f} |")
        if name != BASELINE:
            pairs = list(zip(rows, base, strict=True))
            gaps = [[a[key] - b[key] for a, b in pairs] for key in ("test", "forgotten")]
            against.append(f"| {name} | {' | '.join(shown(g, sign='+') for g in gaps)} |")
    return ["\n".join(lines), "\n".join(against), by_rate(record)]


def by_rate(record: dict[str, Any]) -> str:
    """Return the table of what rates were chosen by, and of what each of them forgets."""
    rates = record["sizes"]["rates"]
    lines = [f"| method | {' | '.join(f'{rate:g}' for rate in rates)} |"]
    lines.append("| --- |" + " ---: |" * len(rates))
    for name in METHODS:
        cells = []
        for rate in rates:
            rows = [
                row
                for row in record["runs"]
                if (row["method"], row["rate"]) == (name, rate)
                and row["seed"] < record["sizes"]["tuning"]
            ]
            right, lost = (
                100 * statistics.fmean(row[key] for row in rows) for key in ("valid", "forgotten")
            )
            mark = "**" if rate == record["chosen"][name] else ""
            cells.append(f"{mark}{right:.0f}, {lost:.0f}{mark}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def studied(path: Path | None, sizes: Sizes) -> dict[str, Any]:
    """Do what the file does not hold yet, and return the record."""
    known = json.loads(path.read_text("utf-8")) if path is not None and path.exists() else {}
    record: dict[str, Any] = {
        "what": "a vision transformer pretrained on the digits 0 to 4, adapted to 5 to 9",
        "sizes": {**vars(sizes), "rates": list(sizes.rates)},
        "threads": 1,
        "versions": {m.__name__: m.__version__ for m in (np, scipy, sklearn, torch, peft, sm)},
        "chosen": {},
        "runs": known.get("runs", []) if known.get("sizes", {}) == _plain(sizes) else [],
    }
    done = {(r["method"], r["rate"], r["seed"]): r for r in record["runs"]}
    total = len(METHODS) * (sizes.tuning * (len(sizes.rates) - 1) + sizes.seeds) + sizes.seeds
    with tqdm(total=total, unit="run") as bar:
        for seed in range(sizes.seeds):
            start: Pretrained | None = None
            for name in EVERYTHING:
                rates = sizes.rates
                if name == HEAD_ONLY:
                    rates = (HEAD_RATE,)
                elif seed >= sizes.tuning:
                    rates = (record["chosen"][name],)
                for rate in rates:
                    if (name, rate, seed) not in done:
                        start = start or pretrained(seed, sizes)
                        record["runs"].append(run(name, rate, seed, start, sizes))
                        _write(path, record)
                    bar.update()
            if seed == sizes.tuning - 1:
                record["chosen"] = {n: chosen(record["runs"], n, sizes.tuning) for n in EVERYTHING}
    _write(path, record)
    return record


def _plain(sizes: Sizes) -> dict[str, Any]:
    """Return the sizes as they are read back from JSON."""
    return {**vars(sizes), "rates": list(sizes.rates)}


def _write(path: Path | None, record: dict[str, Any]) -> None:
    if path is not None:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that the file does not hold yet, and print the tables of the page."""
    parser = argparse.ArgumentParser(description="Adapt a small vision transformer to new digits.")
    parser.add_argument("--quick", action="store_true", help="few steps, to see whether it runs")
    parser.add_argument(
        "--output", type=Path, help=f"(default: {PATH.name} in docs/results; with --quick nowhere)"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = options.output or (None if options.quick else PATH)
    for part in tables(studied(path, QUICK if options.quick else Sizes())):
        tqdm.write(f"{part}\n")


if __name__ == "__main__":
    main()
