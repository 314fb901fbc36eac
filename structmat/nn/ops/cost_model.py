"""Candidate execution plans of a network and a cost model that ranks them.

For each block product, the model counts the bytes of the vectors read and written, the
floating-point operations, the bytes of the blocks, and a fixed launch time. Fusing a run of stages
saves passes over the vectors, but requires more operations, and the fused blocks must be computed,
which is as much work as applying the run to one vector per wire of a fused switch. Dynamic
programming finds the cheapest partition into runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from structmat.linalg.fused_stages import LARGEST, unions
from structmat.linalg.schedule import Cost
from structmat.linalg.throughput import RATES, Rates
from structmat.networks.network import Network
from structmat.networks.stage import Stage

LIMITS = (1, 8, 16, 32, LARGEST)  # maximum radix of a fused switch; 1 disables fusion


# The time of a training step relative to the modelled forward pass: the backward pass repeats the
# forward pass, runs it in reverse and accumulates gradients, and it loads and stores vectors.
_STEP = 9.0


@dataclass(frozen=True)
class Candidate:
    """A candidate execution plan: a partition of the stages into fused runs, and its cost.

    Attributes
    ----------
    ends : tuple of int
        The end of each run, as accepted by `structmat.linalg.fused_stages.fused`.
    radices : tuple of int
        The largest radix of each product.
    cost : Cost
        The totals over the runs, including the computation of fused blocks.
    seconds : float
        Modelled time, excluding the initial load and final store of the vectors, which are the same
        for all plans.
    """

    ends: tuple[int, ...]
    radices: tuple[int, ...]
    cost: Cost
    seconds: float

    def __add__(self, other: Candidate) -> Candidate:
        return Candidate(
            self.ends + other.ends,
            self.radices + other.radices,
            self.cost + other.cost,
            self.seconds + other.seconds,
        )

    def __str__(self) -> str:
        starts = (0, *self.ends)
        runs = [
            f"{end - start}→{radix}" if end - start > 1 else str(radix)
            for start, end, radix in zip(starts, self.ends, self.radices, strict=False)
        ]
        counted = [(run, len(list(same))) for run, same in groupby(runs)]
        return (
            " · ".join(run if count == 1 else f"{count}×({run})" for run, count in counted)
            or "no stage"
        )


@lru_cache(maxsize=1024)
def candidates(
    net: Network,
    tokens: int,
    *,
    itemsize: int = 4,
    device: str = "cpu",
    reuse: bool = False,
) -> tuple[Candidate, ...]:
    """Return the candidate execution plans of a network, sorted by modelled cost.

    Parameters
    ----------
    net : Network
    tokens : int
        The number of vectors.
    itemsize : int
        Bytes per number.
    device : {"cpu", "compiled", "cuda"}
        The device, or the backend, whose rates are assumed; any other value is treated as a GPU.
    reuse : bool
        Whether fused blocks are cached over many calls, so that computing them is free.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> [str(candidate) for candidate in candidates(butterfly(4096), 2048)]
    ['3×(4→16)', '4×(3→8)', '12×(2)']
    >>> str(candidates(butterfly(4096), 1)[0])       # one vector: fusing stages does not pay
    '12×(2)'
    """
    rates = RATES.get(device, RATES["cuda"])
    found = unions(net)
    single = [_product(found[k, k + 1], k + 1, 1, itemsize, rates) for k in range(net.depth)]
    runs = {}
    for (first, end), stage in found.items():
        run = _product(stage, end, tokens, itemsize, rates)
        if end - first > 1 and not reuse:
            run += _fusion(single[first:end], run.radices[0], rates)
        runs[first, end] = run
    cheapest = {_cheapest(runs, net.depth, limit) for limit in LIMITS}
    return tuple(sorted(cheapest, key=lambda candidate: candidate.seconds))


def _product(stage: Stage, end: int, tokens: int, itemsize: int, rates: Rates) -> Candidate:
    """Return one run: the block products of a stage and the permutation of its wires."""
    moved = 2 * tokens * stage.width * itemsize
    flops, moves = 0, moved
    seconds = moved / rates.vectors + rates.launch
    for bank in stage.banks:
        size = bank.reads.size
        work = 2 * tokens * size * bank.radix
        passed = 2 * tokens * size * itemsize
        read = size * bank.radix * itemsize
        flops += work
        moves += passed + read
        seconds += max(passed / rates.vectors, work / rates.flops)
        seconds += read / rates.blocks + rates.launch
    radix = max((bank.radix for bank in stage.banks), default=1)
    return Candidate((end,), (radix,), Cost(flops, moves, 1 + len(stage.banks)), seconds)


def _fusion(single: Sequence[Candidate], radix: int, rates: Rates) -> Candidate:
    """Return the cost of applying stages to as many vectors as a fused switch has wires.

    `single` contains the costs of the stages for one vector. Launch time, as given by `rates`, does
    not grow with the number of vectors.
    """
    total = sum((run.cost for run in single), Cost(0, 0, 1))
    starting = total.launches * rates.launch
    work = sum(run.seconds for run in single) + rates.launch - starting
    cost = Cost(radix * total.flops, radix * total.bytes, total.launches)
    return Candidate((), (), cost, starting + radix * work)


def _cheapest(runs: Mapping[tuple[int, int], Candidate], depth: int, limit: int) -> Candidate:
    """Return the cheapest partition whose fused switches have at most `limit` wires."""
    best = [Candidate((), (), Cost(0, 0, 0), 0.0)]
    for end in range(1, depth + 1):
        partitions = [
            best[first] + runs[first, end]
            for first in range(end)
            if (first, end) in runs and (end - first == 1 or runs[first, end].radices[0] <= limit)
        ]
        best.append(min(partitions, key=lambda candidate: candidate.seconds))
    return best[depth]


def rotates_weight(
    net: Network, tokens: int, outputs: int, *, itemsize: int = 4, device: str = "cpu"
) -> bool:
    """Return whether rotating the weight of a layer is cheaper than rotating the activations.

    A frozen layer with weight W computes W (R x) = (W R) x, so the rows of W can be rotated instead
    of the vectors. This takes less work if there are fewer rows, but then the gradient with respect
    to the blocks requires the gradient with respect to the weight, a product as large as the
    layer's own.

    Parameters
    ----------
    net : Network
    tokens : int
        The number of vectors.
    outputs : int
        The number of rows of the weight.
    itemsize, device
        As for `candidates`.

    Examples
    --------
    >>> from structmat.families import shuffle
    >>> net = shuffle(384, block=4)
    >>> [rotates_weight(net, 2048, outputs) for outputs in (384, 1536)]
    [True, False]
    """
    if outputs >= tokens:
        return False
    rates = RATES.get(device, RATES["cuda"])
    vectors, rows = (
        candidates(net, bucket(n), itemsize=itemsize, device=device)[0].seconds
        for n in (tokens, outputs)
    )
    product = 2 * bucket(tokens) * outputs * net.width / rates.flops
    return _STEP * rows + product < _STEP * vectors


def bucket(tokens: int) -> int:
    """Return the power of two that represents a number of vectors in the key of a cached plan.

    Examples
    --------
    >>> [bucket(n) for n in (0, 1, 3, 2048)]
    [1, 1, 4, 2048]
    """
    return 1 << max(tokens - 1, 0).bit_length()
