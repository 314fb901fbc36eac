"""Quantise a language model after rotating its activations: `python docs/quantisation_study.py`.

It makes docs/results/quantisation.json, from which the docs build makes tables of
docs/quantisation.md. The weights and the inputs of all linear layers of all-MiniLM-L6-v2 are
rounded to 8, 4 and 3 bits; the beginnings of docstrings, embedded by the quantised model, are to
find the rest of the same docstring. Each run is saved, and an interrupted study resumes. It takes
about an hour on one core; `--quick` takes seconds and checks that everything works.
"""

import copy
import functools
import itertools
import math
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

import structmat as sm
import studies
from structmat.adapters import RotatedLinear, rotate_activations
from structmat.errors import require
from structmat.finetune.docstring_task import LIBRARIES, docstrings, opening, paragraphs
from structmat.finetune.models import block_linears, pretrained, quiet
from structmat.linalg.flat_blocks import flat_block
from structmat.linalg.hadamard import hadamard_matrix
from structmat.nn import Orthogonal

PATH = Path(__file__).parent / "results" / "quantisation.json"
LENGTH = 24  # tokens of a text that are read
SHORTEST = 60  # characters of the rest of a docstring
OUTLIERS, FACTOR = 4, 20.0  # synthetic outlier channels of each layer, and how large they are
RATE = 1e-2  # of learned rotations
HAAR, FULL = "Haar, dense", "rotator(block=16)"
PLAIN = "no rotation"
DATA = ("natural", "synthetic outliers")


@dataclass(frozen=True)
class Sizes:
    """The size of the study: each seed has its own queries and rotations."""

    seeds: int = 5
    queries: int = 64
    index: int = 1000  # texts to search
    calibration: int = 48  # further texts, for learned rotations
    tokens: int = 256  # of them, in each layer
    rows: int = 256  # of a weight, in each step
    steps: int = 25
    libraries: tuple[str, ...] = tuple(LIBRARIES)
    bits: tuple[int, ...] = (8, 4, 3)


QUICK = Sizes(2, 4, 20, 4, 16, 16, 2, ("networkx",), (4,))


# Rotations ----------------------------------------------------------------------------------


def block_hadamard(width: int, block: int, seed: int) -> sm.Rotation:
    """Return a block-diagonal rotation of Hadamard blocks with random signs."""
    stage = np.arange(width).reshape(-1, block).tolist()
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (width // block, 1, block))
    return sm.Rotation(sm.Network.of(width, [stage]), [flat_block(block) * signs])


def next_power(width: int) -> int:
    """Return the least power of two that is at least the width."""
    return 1 << (width - 1).bit_length()


def padded_hadamard(width: int, seed: int) -> np.ndarray:
    """Return the columns of a Hadamard matrix of the next power of two: orthonormal, not square."""
    whole = next_power(width)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], width)
    return hadamard_matrix(whole)[:, :width] / math.sqrt(whole) * signs


def sliced_hadamard(width: int, seed: int) -> np.ndarray:
    """Return a Hadamard matrix cut to the width, with rows of norm 1: not orthogonal."""
    whole = next_power(width)
    return padded_hadamard(width, seed)[:width] * math.sqrt(whole / width)


@functools.lru_cache(maxsize=8)
def haar(width: int, seed: int) -> np.ndarray:
    """Return a Haar-random orthogonal matrix."""
    return scipy.stats.ortho_group.rvs(width, random_state=seed) if width > 1 else np.eye(1)


def rotator(**options: Any) -> Callable[[int, int], sm.Rotation]:
    """Return a function (width, seed) → rotator."""
    return lambda width, seed: sm.rotator(width, rng=seed, **options)


METHODS: dict[str, Callable[[int, int], Any] | None] = {
    PLAIN: None,
    "Hadamard, blocks of 16": lambda d, seed: block_hadamard(d, 16, seed),
    "Hadamard, blocks of 128": lambda d, seed: block_hadamard(d, 128, seed),
    "Hadamard, sliced": sliced_hadamard,
    "Hadamard, padded": padded_hadamard,
    HAAR: haar,
    "rotator(block=4, depth=1)": rotator(block=4, depth=1),
    "rotator(block=4, depth=2)": rotator(block=4, depth=2),
    "rotator(block=4, depth=3)": rotator(block=4, depth=3),
    "rotator(block=4)": rotator(block=4),
    "rotator(block=16, depth=2)": rotator(block=16, depth=2),
    FULL: rotator(block=16),
    "rotator(block=16, rounds=2)": rotator(block=16, rounds=2),
    "rotator(block=128)": rotator(block=128),
}
LEARNED = f"learned from {FULL}"
NAMES = (*METHODS, LEARNED)
AT_8_BITS = (PLAIN, "Hadamard, blocks of 16", "Hadamard, sliced", HAAR, FULL)
QUICK_NAMES = (PLAIN, "Hadamard, padded", HAAR, FULL, LEARNED)
APPROXIMATE = ("Hadamard, sliced",)  # the model changes before anything is rounded


# Rounding -----------------------------------------------------------------------------------


def rounded(x: Tensor, bits: int) -> Tensor:
    """Round each vector to 2^bits − 1 levels that are symmetric about 0, up to its largest entry.

    The gradient is that of the identity (a straight-through estimator), and of the scale.

    Examples
    --------
    >>> rounded(torch.tensor([3.0, 1.4, -0.6]), 3)
    tensor([ 3.,  1., -1.])
    """
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / (2 ** (bits - 1) - 1)
    y = x / scale
    return scale * (y + (y.round() - y).detach())


class Rounded(nn.Module):
    """A linear layer with rounded weights, one scale for each output, and inputs, one a token."""

    def __init__(self, weight: Tensor, bias: Tensor | None, bits: int) -> None:
        super().__init__()
        self.weight, self.bias, self.bits = rounded(weight, bits), bias, bits
        self.weight_peak = float(studies.peak(weight).mean())
        self.peaks: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (..., out), and note the peaks of the inputs (..., in)."""
        self.peaks += studies.peak(x).flatten().tolist()
        return functional.linear(rounded(x, self.bits), self.weight, self.bias)


class Multiplied(nn.Module):
    """A linear layer on inputs that a dense matrix (k, in) or a scale (in,) multiplies first."""

    def __init__(self, factor: Tensor, layer: nn.Module) -> None:
        super().__init__()
        self.factor, self.layer = factor, layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (..., out)."""
        return self.layer(x * self.factor if self.factor.ndim == 1 else x @ self.factor.T)  # type: ignore[no-any-return]


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace a module of the model."""
    place, _, own = name.rpartition(".")
    setattr(model.get_submodule(place), own, module)


# The model and the texts ----------------------------------------------------------------------


class Data(NamedTuple):
    """The model, its linear layers, the queries of each seed, and the embeddings to search."""

    model: Any
    targets: tuple[str, ...]
    queries: list[list[list[int]]]  # tokens, by seed
    exact: list[Tensor]  # embeddings of the queries by the model itself, by seed
    index: Tensor  # embeddings of the rests, in the order of the queries
    calibration: list[list[int]]


def pairs(libraries: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the beginnings and the rests of docstrings, all distinct, one library in turn."""
    seen: set[str] = set()
    found: list[list[tuple[str, str]]] = []
    for label in libraries:
        own = []
        for documentation in docstrings(LIBRARIES[label]):
            begin = opening(documentation)
            rest = " ".join(paragraphs(documentation))[len(begin) :].strip()
            if len(rest) >= SHORTEST and not {begin, rest} & seen:
                seen |= {begin, rest}
                own.append((begin, rest))
        np.random.default_rng(0).shuffle(own)
        found.append(own)
    for k in range(max(map(len, found))):
        yield from (own[k] for own in found if k < len(own))


def loaded(sizes: Sizes) -> Data:
    """Return the model and the texts, with the embeddings by the model itself."""
    source = pretrained()
    tokenizer = source.tokenizer()
    with quiet():
        model = require("transformers", "finetune").AutoModel.from_pretrained(source.place)
    model = model.eval().requires_grad_(False)  # noqa: FBT003 (torch's signature)
    texts = list(itertools.islice(pairs(sizes.libraries), sizes.index + sizes.calibration))
    cut = lambda part: tokenizer(part, truncation=True, max_length=LENGTH)["input_ids"]  # noqa: E731
    begins, rests = (cut([pair[k] for pair in texts]) for k in (0, 1))
    queries = [begins[s * sizes.queries : (s + 1) * sizes.queries] for s in range(sizes.seeds)]
    return Data(
        model,
        block_linears(model),
        queries,
        [embedded(model, part) for part in queries],
        embedded(model, rests[: sizes.index]),
        begins[sizes.index :],
    )


@torch.no_grad()
def embedded(model: Any, texts: Sequence[list[int]]) -> Tensor:
    """Return the normalised means of the last hidden states; texts of equal length run together."""
    found: dict[int, Tensor] = {}
    for length in sorted({len(text) for text in texts}):
        own = [k for k, text in enumerate(texts) if len(text) == length]
        for start in range(0, len(own), 64):
            part = own[start : start + 64]
            states = model(torch.tensor([texts[k] for k in part])).last_hidden_state
            found |= dict(zip(part, functional.normalize(states.mean(1), dim=-1), strict=True))
    return torch.stack([found[k] for k in range(len(texts))])


def with_outliers(model: nn.Module, targets: Sequence[str], seed: int) -> tuple[str, ...]:
    """Multiply a few inputs of each layer by a large factor and divide the weight by it, in place.

    Layers with the same input (queries, keys and values) get the same channels.
    """
    names = []
    for name in targets:
        layer: Any = model.get_submodule(name)
        where = [seed, *site(name).encode()]
        factor = torch.ones(layer.in_features)
        channels = np.random.default_rng(where).choice(layer.in_features, OUTLIERS, replace=False)
        factor[channels] = FACTOR
        layer.weight = nn.Parameter(layer.weight / factor, requires_grad=False)
        put(model, name, Multiplied(factor, layer))
        names.append(f"{name}.layer")
    return tuple(names)


def site(name: str) -> str:
    """Return a name that the layers with the same input share.

    Examples
    --------
    >>> site("encoder.layer.0.attention.self.key.layer")
    'encoder.layer.0.attention.self'
    """
    name = name.removesuffix(".layer")
    return name.rpartition(".")[0] if ".self." in name else name


# Learned rotations ------------------------------------------------------------------------------


def special(rotation: sm.Rotation) -> sm.Rotation:
    """Return the rotation with the sign of an output of each block of determinant −1 changed."""
    blocks = [np.array(block) for block in rotation.blocks]
    for block in blocks:
        block[:, 0] *= np.sign(np.linalg.det(block))[:, None]
    return sm.Rotation(rotation.network, blocks)


def learned(
    model: Any, targets: Sequence[str], data: Data, bits: int, seed: int, sizes: Sizes
) -> dict[str, sm.Rotation]:
    """Return a rotation for each layer, trained to minimise the error of its rounded outputs."""
    inputs: dict[str, list[Tensor]] = {}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, key=key: inputs.setdefault(key, []).append(
                args[0].reshape(-1, args[0].shape[-1])
            )
        )
        for key, name in {site(name): name for name in targets}.items()
    ]
    embedded(model, data.calibration)
    for hook in hooks:
        hook.remove()
    source = torch.Generator().manual_seed(seed)
    made = {}
    for key, parts in inputs.items():
        own = [name for name in targets if site(name) == key]
        x = torch.cat(parts)
        x = x[torch.randperm(len(x), generator=source)[: sizes.tokens]]
        weight = torch.cat([model.get_submodule(name).weight for name in own])
        start = special(sm.rotator(x.shape[-1], block=16, rng=seed))
        layer = Orthogonal.from_rotation(start, dtype=torch.float32, generator_scaling="none")
        made |= dict.fromkeys(own, trained(layer, x, weight, bits, sizes, source))
    return made


def trained(
    layer: Orthogonal,
    x: Tensor,
    weight: Tensor,
    bits: int,
    sizes: Sizes,
    source: torch.Generator,
) -> sm.Rotation:
    """Train a rotation on inputs x (tokens, in) and random rows of a weight (out, in)."""
    optimiser = torch.optim.Adam(layer.parameters(), lr=RATE)
    falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: 1 - k / sizes.steps)
    for _ in range(sizes.steps):
        rows = weight[torch.randperm(len(weight), generator=source)[: sizes.rows]]
        exact = x @ rows.T
        made = rounded(layer(x), bits) @ rounded(layer(rows), bits).T
        loss = (made - exact).square().mean() / exact.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
    return layer.rotation()


# Runs -------------------------------------------------------------------------------------------


def run(
    name: str,
    bits: int,
    seed: int,
    outliers: bool,  # noqa: FBT001
    data: Data,
    sizes: Sizes,
) -> studies.Row:
    """Rotate and round the model by a method, and return its errors on the queries of the seed."""
    model, targets = copy.deepcopy(data.model), data.targets
    if outliers:
        targets = with_outliers(model, targets, seed)
    layers: dict[str, Any] = {target: model.get_submodule(target) for target in targets}
    dense = {}
    if name == LEARNED:
        made = learned(model, targets, data, bits, seed, sizes)
        rotate_activations(model, rotations=made)
    elif (make := METHODS[name]) is not None:
        by_width = {d: make(d, seed) for d in sorted({m.in_features for m in layers.values()})}
        if all(isinstance(r, sm.Rotation) for r in by_width.values()):
            rotate_activations(model, by_width.__getitem__, target_modules=list(targets))
        else:
            dense = {d: torch.tensor(r, dtype=torch.float32) for d, r in by_width.items()}
    replaced = []
    for target in targets:
        layer: Any = model.get_submodule(target)
        if isinstance(layer, RotatedLinear):
            base = layer.base_layer
            layer.base_layer = Rounded(base.weight, base.bias, bits)
            replaced.append(layer.base_layer)
            continue
        factor = dense.get(layer.in_features)
        weight = layer.weight if factor is None else layer.weight @ factor.T
        replaced.append(Rounded(weight, layer.bias, bits))
        put(model, target, replaced[-1] if factor is None else Multiplied(factor, replaced[-1]))
    found = embedded(model, data.queries[seed])
    return {
        "method": name,
        "bits": bits,
        "seed": seed,
        "outliers": outliers,
        **measured(found, data, seed, sizes),
        "peak": statistics.fmean(p for layer in replaced for p in layer.peaks),
        "weight_peak": statistics.fmean(layer.weight_peak for layer in replaced),
    }


def measured(found: Tensor, data: Data, seed: int, sizes: Sizes) -> dict[str, float]:
    """Return the relative error of embeddings, recall@1 and the mean reciprocal rank."""
    scores = found @ data.index.T
    own = torch.arange(len(found))
    right = scores[own, own + seed * sizes.queries]
    ranks = (scores > right[:, None]).sum(-1) + 1
    return {
        "error": float((found - data.exact[seed]).norm(dim=-1).mean()),
        "recall": float((ranks == 1).float().mean()),
        "mrr": float((1 / ranks).mean()),
    }


def shape(name: str, width: int = 384) -> dict[str, float]:
    """Return how uneven the entries of a rotation of this width are, for seed 0."""
    make = METHODS[name]
    made = np.eye(width) if make is None else make(width, 0)
    return studies.unevenness(made.matrix() if isinstance(made, sm.Rotation) else made)


def cases(sizes: Sizes, names: Collection[str] = NAMES) -> Iterator[tuple[str, int, int, bool]]:
    """Yield the method, the bits, the seed and whether there are synthetic outliers, of each run.

    With 8 bits, and with learned rotations, there are none.
    """
    for seed in range(sizes.seeds):
        for outliers in (False, True):
            for bits in sizes.bits:
                for name in [n for n in NAMES if n in names and not (outliers and n == LEARNED)]:
                    if bits != 8 or (name in AT_8_BITS and not outliers):
                        yield name, bits, seed, outliers


def studied(path: Path | None, sizes: Sizes, names: Collection[str] = NAMES) -> dict[str, Any]:
    """Do the runs that the file does not contain yet, and return the record."""
    plain, kept = studies.resumed(path, sizes)
    data = loaded(sizes)
    record = {
        "description": "all-MiniLM-L6-v2 with rotated activations, rounded",
        **studies.origin(
            "python docs/quantisation_study.py", (np, scipy, torch, transformers, sm), kept
        ),
        "sizes": plain,
        "exact": [measured(data.exact[s], data, s, sizes) for s in range(sizes.seeds)],
        "shapes": {name: shape(name) for name in METHODS if name in set(names) - {*APPROXIMATE}},
        "runs": kept.get("runs", []),
    }
    done = {(r["method"], r["bits"], r["seed"], r["outliers"]) for r in record["runs"]}
    wanted = list(cases(sizes, names))
    for key in tqdm([key for key in wanted if key not in done], unit="run"):
        record["runs"].append(run(*key, data, sizes))
        studies.write(path, record)
    return record


# The tables of the page -----------------------------------------------------------------------


def tables(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of the page, as Markdown."""
    yield studies.about(record)
    exact = [studies.interval([row[key] for row in record["exact"]]) for key in ("recall", "mrr")]
    yield (
        f"Without rounding, recall@1 is {100 * exact[0][0]:.1f} ± {100 * exact[0][1]:.1f} % and the"
        f" mean reciprocal rank {exact[1][0]:.3f} ± {exact[1][1]:.3f}."
    )
    for outliers in (False, True):
        yield f"Results with {_inputs(outliers)}:\n\n{_results(record, outliers=outliers)}"
    yield f"Error relative to that of {HAAR}, by seed:\n\n{_ratios(record)}"
    yield (
        "Rank correlation over the methods between the error of embeddings and measures of the"
        f" rotation, or of what it rotates:\n\n{_correlations(record)}"
    )


def _inputs(outliers: bool) -> str:  # noqa: FBT001
    return f"synthetic outliers (×{FACTOR:g})" if outliers else "the model's own inputs"


def _rows(record: Mapping[str, Any], name: str, bits: int, *, outliers: bool) -> list[studies.Row]:
    key = name, bits, outliers
    rows = [r for r in record["runs"] if (r["method"], r["bits"], r["outliers"]) == key]
    return sorted(rows, key=lambda row: row["seed"])


def _results(record: Mapping[str, Any], *, outliers: bool) -> str:
    every = [b for b in record["sizes"]["bits"] if not (outliers and b == 8)]
    head = ["method", "σ₂", "√d · largest", "fourth", "peak"]
    head += [f"error, {b} bits" for b in every]
    head += [f"recall@1, {b} bits" for b in every if b != 8]
    lines = []
    for name in NAMES:
        rows = {b: _rows(record, name, b, outliers=outliers) for b in every}
        if not any(rows.values()):
            continue
        own = record["shapes"].get(name, {})
        cells = [f"{own[k]:.2f}" if own else "—" for k in ("sigma", "coherence", "fourth")]
        peaks = [row["peak"] for b in every for row in rows[b] if b != 8]
        cells += [f"{statistics.fmean(peaks):.2f}"]
        for key, sign in (("error", 1), ("recall", 100)):
            for b in every:
                if b == 8 and key == "recall":
                    continue
                values = [sign * row[key] for row in rows[b]]
                mean, half = studies.interval(values) if values else (0.0, 0.0)
                digits = 3 if sign == 1 else 1
                cells.append(f"{mean:.{digits}f} ± {half:.{digits}f}" if values else "—")
        lines.append([studies.code(name), *cells])
    return studies.markdown(head, lines)


def _ratios(record: Mapping[str, Any]) -> str:
    """Return the table of ratios of errors; a star marks those that exclude 1 for all methods."""
    places = [(b, o) for o in (False, True) for b in record["sizes"]["bits"] if b != 8]
    head = ["method", *(f"{b} bits, {'outliers' if o else 'natural'}" for b, o in places)]
    lines = []
    for name in NAMES:
        cells = []
        for bits, outliers in places:
            mine, base = (_rows(record, n, bits, outliers=outliers) for n in (name, HAAR))
            if not mine or name == HAAR:
                cells.append("—")
                continue
            pairs = zip(mine, base, strict=True)
            logs = [math.log(a["error"] / b["error"]) for a, b in pairs]
            mean, half = studies.interval(logs)
            wide = studies.interval(logs, comparisons=len(NAMES) - 1)[1]
            low, high = (math.exp(mean + sign * half) for sign in (-1, 1))
            star = "\\*" if abs(mean) > wide else ""
            cells.append(f"{math.exp(mean):.2f} ({low:.2f} to {high:.2f}){star}")
        if name != HAAR:
            lines.append([studies.code(name), *cells])
    return studies.markdown(head, lines)


MEASURES = {
    "σ₂": "sigma",
    "√d · largest entry": "coherence",
    "fourth moment": "fourth",
    "peak of the inputs": "peak",
    "peak of the weights": "weight_peak",
}


def _correlations(record: Mapping[str, Any]) -> str:
    places = [(b, o) for o in (False, True) for b in record["sizes"]["bits"] if b != 8]
    head = ["measure", *(f"{b} bits, {'outliers' if o else 'natural'}" for b, o in places)]
    names = list(record["shapes"])
    lines = []
    for title, key in MEASURES.items():
        cells = []
        for bits, outliers in places:
            rows = [_rows(record, name, bits, outliers=outliers) for name in names]
            found = []
            for seed in range(record["sizes"]["seeds"]):
                own = [row[seed] | record["shapes"][n] for n, row in zip(names, rows, strict=True)]
                found.append(
                    studies.rank_correlation([r[key] for r in own], [r["error"] for r in own])
                )
            mean, half = studies.interval(found)
            cells.append(f"{mean:+.2f} ± {half:.2f}")
        lines.append([title, *cells])
    return studies.markdown(head, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that the file does not contain yet, and print the tables of the page."""
    studies.main(
        "Quantise a language model after rotating its activations.",
        PATH,
        lambda path, quick: list(
            tables(studied(path, *((QUICK, QUICK_NAMES) if quick else (Sizes(),))))
        ),
        arguments,
    )


if __name__ == "__main__":
    main()
