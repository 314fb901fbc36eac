"""Search vectors that are rotated and quantised: `python docs/vector_search_study.py`.

It makes docs/results/vector-search.json, from which the docs build makes tables of
docs/quantisation.md. Embeddings of docstrings and a synthetic set are rotated, rounded to 1 or 4
bits an entry, and searched; recall@10 is measured against exact search by faiss. Each run is saved,
and an interrupted study resumes. It takes about half an hour on one core; `--quick` takes seconds.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor
from tqdm import tqdm

import structmat as sm
import studies
from structmat.bench.interleaved import interleaved
from structmat.errors import require
from structmat.finetune.docstring_task import LIBRARIES, docstrings, opening
from structmat.finetune.models import pretrained, quiet
from structmat.linalg.flat_blocks import flat_block
from structmat.nn import FixedRotation

PATH = Path(__file__).parent / "results" / "vector-search.json"
LENGTH = 24  # tokens of a text that are read
NEAREST = 10
TRAINING = 1000  # vectors that OPQ learns from
WIDEST_OPQ = 768  # its training takes nearly a minute at the widest
# The hidden layers whose means are concatenated and cut to the width.
LAYERS = {96: (6,), 384: (6,), 768: (6, 3), 1000: (6, 4, 2), 1032: (6, 4, 2), 1536: (6, 4, 2, 1)}
DATA = ("embeddings", "synthetic")
PLAIN, FULL, HAAR = "no rotation", "rotator(block=16)", "Haar, dense"
OPQ, FAISS = "faiss, OPQ", "faiss, random rotation"
TWO_ROUNDS = "blocks of 8, depth 2"


@dataclass(frozen=True)
class Sizes:
    """The size of the study; each seed has its own queries and rotations."""

    seeds: int = 5
    vectors: int = 2400
    queries: int = 100  # of these vectors, for each seed
    widths: tuple[int, ...] = tuple(LAYERS)
    timed: int = 1000  # vectors that are rotated
    rounds: int = 30
    libraries: tuple[str, ...] = tuple(LIBRARIES)


QUICK = Sizes(2, 300, 20, (96,), 10, 1, ("networkx",))


# Rotations --------------------------------------------------------------------------------------


def faiss() -> Any:
    """Return the library faiss.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    return require("faiss", "test")


Apply = Callable[[Tensor], Tensor]


def fixed(rotation: sm.Rotation) -> Apply:
    """Return the function that applies a rotation."""
    return FixedRotation(rotation)


def dense(width: int, seed: int, _: Tensor) -> Apply:
    """Return the product with a Haar-random matrix."""
    matrix = scipy.stats.ortho_group.rvs(width, random_state=seed)
    factor = torch.tensor(matrix.T, dtype=torch.float32).contiguous()
    return lambda x: x @ factor


def two_rounds(width: int, seed: int, _: Tensor) -> Apply:
    """Return two rounds of signs and Hadamard blocks of 8: an output depends on 64 inputs."""
    net = sm.families.deal(width, block=8, depth=2)
    source = np.random.default_rng(seed)
    blocks = [
        flat_block(bank.radix) * source.choice([-1.0, 1.0], (bank.count, 1, bank.radix))
        for bank in net.banks
    ]
    return fixed(sm.Rotation(net, blocks))


def by_faiss(width: int, seed: int, _: Tensor) -> Apply:
    """Return the random rotation of faiss."""
    made = faiss().RandomRotationMatrix(width, width)
    made.init(seed)
    return lambda x: torch.from_numpy(made.apply(x.numpy()))


def by_opq(width: int, seed: int, vectors: Tensor) -> Apply:
    """Return the rotation that OPQ of faiss learns for subspaces of 8 entries."""
    library = faiss()
    made = library.OPQMatrix(width, width // 8)
    quantiser = library.ProductQuantizer(width, width // 8, 4)
    made.pq, made.niter, made.niter_pq, made.niter_pq_0 = quantiser, 10, 2, 4
    order = np.random.default_rng(seed).permutation(len(vectors))[:TRAINING]
    made.train(np.ascontiguousarray(vectors.numpy()[order]))
    return lambda x: torch.from_numpy(made.apply(x.numpy()))


METHODS: dict[str, Callable[[int, int, Tensor], Apply]] = {
    PLAIN: lambda *_: lambda x: x,
    TWO_ROUNDS: two_rounds,
    "rotator(block=8)": lambda d, seed, _: fixed(sm.rotator(d, block=8, rng=seed)),
    FULL: lambda d, seed, _: fixed(sm.rotator(d, block=16, rng=seed)),
    "rotator(block=16, rounds=2)": lambda d, k, _: fixed(sm.rotator(d, rounds=2, rng=k)),
    "rotator(block=16, rounds=3)": lambda d, k, _: fixed(sm.rotator(d, rounds=3, rng=k)),
    HAAR: dense,
    FAISS: by_faiss,
    OPQ: by_opq,
}


# Data -------------------------------------------------------------------------------------------


@torch.no_grad()
def embeddings(sizes: Sizes) -> dict[int, Tensor]:
    """Return distinct vectors by width: means of hidden states of all-MiniLM-L6-v2."""
    source = pretrained()
    tokenizer = source.tokenizer()
    with quiet():
        model = require("transformers", "finetune").AutoModel.from_pretrained(source.place).eval()
    found: dict[str, None] = {}
    by_library = [list(docstrings(LIBRARIES[label])) for label in sizes.libraries]
    source_of_order = np.random.default_rng(0)
    for texts in by_library:
        source_of_order.shuffle(texts)
    for k in range(max(map(len, by_library))):
        found |= {opening(texts[k]): None for texts in by_library if k < len(texts)}
        if len(found) > 2 * sizes.vectors:
            break
    tokens = tokenizer([t for t in found if t], truncation=True, max_length=LENGTH)["input_ids"]
    rows = sorted(dict.fromkeys(map(tuple, tokens)), key=lambda row: -len(row))[: sizes.vectors]
    means = []
    for start in range(0, len(rows), 64):
        for length in sorted({len(row) for row in rows[start : start + 64]}):
            part = [list(row) for row in rows[start : start + 64] if len(row) == length]
            states = model(torch.tensor(part), output_hidden_states=True).hidden_states
            means.append(torch.stack([state.mean(1) for state in states]))
    every = torch.cat(means, 1)  # (layers, vectors, 384)
    return {
        width: torch.cat([every[layer] for layer in LAYERS[width]], -1)[:, :width].contiguous()
        for width in sizes.widths
    }


def synthetic(width: int, count: int) -> Tensor:
    """Return Gaussian vectors whose k-th entry has the standard deviation 1/k."""
    source = torch.Generator().manual_seed(width)
    return torch.randn(count, width, generator=source) / torch.arange(1, width + 1)


# Search -----------------------------------------------------------------------------------------


def codes(y: Tensor, bits: int) -> Tensor:
    """Return vectors rounded to 1 bit (the signs) or to 2^bits − 1 symmetric levels."""
    if bits == 1:
        return torch.where(y >= 0, 1.0, -1.0)
    most = 2 ** (bits - 1) - 1
    return (y / y.abs().amax(-1, keepdim=True).clamp_min(1e-12) * most).round()


def recall(rotate: Apply, vectors: Tensor, queries: Tensor, truth: Tensor, bits: int) -> float:
    """Return the share of the nearest vectors that search by codes finds.

    Vectors are centred and rotated to y. A product with a query q is estimated from the code c of y
    as ⟨c, q⟩ · |y|² / ⟨c, y⟩, which is exact if q is a multiple of y (RaBitQ, arXiv:2405.12497).
    """
    centre = vectors.mean(0)
    y, q = rotate(vectors - centre), rotate(queries - centre)
    c = codes(y, bits)
    norms = y.square().sum(-1)
    products = (q @ c.T) * (norms / (c * y).sum(-1).clamp_min(1e-12))
    near = (norms - 2 * products).topk(NEAREST, largest=False).indices
    hits = (near[:, :, None] == truth[:, None, :]).any(-1)
    return float(hits.float().mean())


def nearest(vectors: Tensor, queries: Tensor) -> Tensor:
    """Return the indices of the nearest vectors, by exact search."""
    index = faiss().IndexFlatL2(vectors.shape[1])
    index.add(vectors.numpy())
    return torch.from_numpy(index.search(queries.numpy(), NEAREST)[1])


def split(every: Tensor, seed: int, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Return the vectors to search and the queries of a seed."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(every)))
    return every[order[sizes.queries :]].contiguous(), every[order[: sizes.queries]].contiguous()


def run(data: str, width: int, seed: int, every: Tensor, sizes: Sizes) -> Iterator[studies.Row]:
    """Yield the recall by each method, with the peak of the rotated vectors relative to the rms."""
    vectors, queries = split(every, seed, sizes)
    truth, centred = nearest(vectors, queries), vectors - vectors.mean(0)
    for name, make in METHODS.items():
        if name == OPQ and width > WIDEST_OPQ:
            continue
        rotate = make(width, seed, centred)
        yield {
            "data": data,
            "width": width,
            "seed": seed,
            "method": name,
            "peak": float(studies.peak(rotate(centred)).mean()),
            **{f"{b}": recall(rotate, vectors, queries, truth, b) for b in (1, 4)},
        }


def shapes(width: int) -> dict[str, dict[str, float]]:
    """Return how uneven the entries of the matrix of each method are, for seed 0."""
    eye = torch.eye(width)
    names = [name for name in METHODS if name != OPQ]  # OPQ depends on the data
    return {n: studies.unevenness(METHODS[n](width, 0, eye)(eye).numpy().T) for n in names}


def timed(width: int, sizes: Sizes) -> dict[str, float]:
    """Return the least milliseconds in which each method rotates 1,000 vectors, interleaved."""
    x = torch.randn(sizes.timed, width)
    names = [name for name in METHODS if name not in (PLAIN, OPQ)]  # OPQ runs like FAISS
    steps = {}
    for name in names:
        rotate = METHODS[name](width, 0, x)
        steps[name] = lambda rotate=rotate: rotate(x)
    with torch.inference_mode():
        found = interleaved(steps, rounds=sizes.rounds, warmup=3)
    return {name: 1e6 * min(times) / sizes.timed for name, times in found.items()}


def studied(path: Path | None, sizes: Sizes) -> dict[str, Any]:
    """Do the runs that the file does not contain yet, and return the record."""
    faiss().omp_set_num_threads(1)
    plain, kept = studies.resumed(path, sizes)
    record = {
        "description": "vectors that are rotated, rounded to 1 and 4 bits an entry, and searched",
        **studies.origin(
            "python docs/vector_search_study.py", (np, scipy, torch, faiss(), sm), kept
        ),
        "sizes": plain,
        "shapes": {str(d): shapes(d) for d in sizes.widths},
        "milliseconds": kept.get("milliseconds", {}),
        "runs": kept.get("runs", []),
    }
    real = embeddings(sizes)
    sets = {
        data: {d: real[d] if data == DATA[0] else synthetic(d, sizes.vectors) for d in sizes.widths}
        for data in DATA
    }
    done = {(r["data"], r["width"], r["seed"]) for r in record["runs"]}
    cases = [(k, d, s) for s in range(sizes.seeds) for d in sizes.widths for k in DATA]
    for data, width, seed in tqdm([case for case in cases if case not in done], unit="case"):
        record["runs"] += run(data, width, seed, sets[data][width], sizes)
        studies.write(path, record)
    for width in sizes.widths:
        if str(width) not in record["milliseconds"]:
            record["milliseconds"][str(width)] = timed(width, sizes)
            studies.write(path, record)
    return record


# The tables of the page -----------------------------------------------------------------------


def tables(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of the page, as Markdown."""
    yield studies.about(record)
    for data in reversed(DATA):
        for bits in (1, 4):
            plural = "bit" if bits == 1 else "bits"
            yield (
                f"Recall@{NEAREST} in per cent, {data}, {bits} {plural} an entry, by width:\n\n"
                f"{_recalls(record, data, str(bits))}"
            )
    yield f"Milliseconds to rotate 1,000 vectors, by width:\n\n{_times(record)}"
    yield (
        f"Rank correlation over the methods, without OPQ, between recall@{NEAREST} and measures of"
        f" the rotation, or of the rotated vectors:\n\n{_correlations(record)}"
    )


def _rows(record: Mapping[str, Any], **wanted: Any) -> list[studies.Row]:
    return [r for r in record["runs"] if all(r[key] == value for key, value in wanted.items())]


def _recalls(record: Mapping[str, Any], data: str, bits: str) -> str:
    every = record["sizes"]["widths"]
    lines = []
    for name in METHODS:
        cells = []
        for width in every:
            rows = _rows(record, data=data, width=width, method=name)
            cells.append(studies.shown([row[bits] for row in rows]) if rows else "—")
        lines.append([studies.code(name), *cells])
    return studies.markdown(["method", *(f"{d:,}" for d in every)], lines)


def _times(record: Mapping[str, Any]) -> str:
    every = [str(d) for d in record["sizes"]["widths"]]
    names = list(record["milliseconds"][every[0]])
    lines = [
        [studies.code(name), *(f"{record['milliseconds'][d][name]:.2f}" for d in every)]
        for name in names
    ]
    return studies.markdown(["method", *(f"{int(d):,}" for d in every)], lines)


def _correlations(record: Mapping[str, Any]) -> str:
    """Return the mean over the widths of rank correlations, with intervals over the seeds."""
    places = [(data, bits) for data in reversed(DATA) for bits in ("1", "4")]
    names = [name for name in METHODS if name != OPQ]
    titles = {
        "σ₂": lambda row: row["sigma"],
        "√d · largest entry": lambda row: row["coherence"],
        "fourth moment": lambda row: row["fourth"],
        "distance of the fourth moment from 3 (logarithms)": lambda row: abs(
            math.log(row["fourth"] / 3)
        ),
        "peak of the rotated vectors": lambda row: row["peak"],
    }
    lines = []
    for title, measure in titles.items():
        cells = []
        for data, bits in places:
            found = []
            for seed in range(record["sizes"]["seeds"]):
                by_width = []
                for width in record["sizes"]["widths"]:
                    shape = record["shapes"][str(width)]
                    rows = {
                        r["method"]: r for r in _rows(record, data=data, width=width, seed=seed)
                    }
                    own = [rows[name] | shape[name] for name in names]
                    by_width.append(
                        studies.rank_correlation([measure(r) for r in own], [r[bits] for r in own])
                    )
                found.append(sum(by_width) / len(by_width))
            mean, half = studies.interval(found)
            cells.append(f"{mean:+.2f} ± {half:.2f}")
        lines.append([title, *cells])
    heads = [f"{data}, {bits} bit{'s' * (bits != '1')}" for data, bits in places]
    return studies.markdown(["measure", *heads], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that the file does not contain yet, and print the tables of the page."""
    studies.main(
        "Search vectors that are rotated and quantised.",
        PATH,
        lambda path, quick: list(tables(studied(path, QUICK if quick else Sizes()))),
        arguments,
    )


if __name__ == "__main__":
    main()
