"""Candidate execution plans of a network and a cost model that ranks them.

For each block product, the model counts the bytes of the vectors read and written, the
floating-point operations, the bytes of the blocks, and a fixed launch time. Fusing a run of stages
saves passes over the vectors, at the cost of more operations and of computing the fused blocks,
which is as much work as applying the run to one vector per wire of a fused switch. The cheapest
partition into runs is found by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from structmat._util.text_table import counted, plain
from structmat.errors import checked_integer
from structmat.linalg.fusion import LARGEST, merged, unions
from structmat.linalg.schedule import schedule
from structmat.networks.network import Network
from structmat.networks.stage import Stage

LIMITS = (1, 8, 16, 32, LARGEST)  # maximum radix of a fused switch; 1 disables fusion


@dataclass(frozen=True)
class Rates:
    """Throughput of a type of machine; plans depend only on the ratios.

    Attributes
    ----------
    products : float
        Bytes per second of vectors read and written by block products, without arithmetic.
    moves : float
        Bytes per second read and written by permutations.
    blocks : float
        Bytes per second of blocks read.
    flops : float
        Floating-point operations per second.
    launch : float
        Seconds to launch one operation.
    """

    products: float
    moves: float
    blocks: float
    flops: float
    launch: float


# Two server cores with AVX-512, with vectors in the L2 cache; and a recent data-centre GPU.
RATES: Mapping[str, Rates] = {
    "cpu": Rates(products=5e10, moves=5e10, blocks=2e10, flops=3e11, launch=1.5e-5),
    "cuda": Rates(products=4e12, moves=4e12, blocks=2e12, flops=5e13, launch=5e-6),
}


# The time of a training step relative to the modelled forward pass: the backward pass repeats the
# forward pass, runs it in reverse and accumulates gradients, and vectors are loaded and stored.
_STEP = 9.0


@dataclass(frozen=True)
class Cost:
    """The cost of applying a network to a batch of vectors.

    Attributes
    ----------
    flops, bytes, launches : int
        The totals over the stages, including the computation of fused blocks.
    seconds : float
        Modelled time, without the initial load and final store of the vectors, which are the same
        for all plans.
    """

    flops: int
    bytes: int
    launches: int
    seconds: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.launches + other.launches,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class Choice:
    """A candidate execution plan: a partition of the stages into fused runs, and its cost.

    Attributes
    ----------
    ends : tuple of int
        The end of each run, as accepted by `structmat.linalg.fusion.merged`.
    radices : tuple of int
        The largest radix of each product.
    cost : Cost
    """

    ends: tuple[int, ...]
    radices: tuple[int, ...]
    cost: Cost

    def __str__(self) -> str:
        starts = (0, *self.ends)
        runs = [
            f"{end - start}→{radix}" if end - start > 1 else str(radix)
            for start, end, radix in zip(starts, self.ends, self.radices, strict=False)
        ]
        return " · ".join(_folded(runs)) or "no stage"


def _folded(runs: list[str]) -> list[str]:
    folded: list[tuple[str, int]] = []
    for run in runs:
        if folded and folded[-1][0] == run:
            folded[-1] = (run, folded[-1][1] + 1)
        else:
            folded.append((run, 1))
    return [run if count == 1 else f"{count}×({run})" for run, count in folded]


@lru_cache(maxsize=1024)
def choices(
    net: Network,
    tokens: int,
    *,
    itemsize: int = 4,
    device: str = "cpu",
    reuse: bool = False,
) -> tuple[Choice, ...]:
    """Return the candidate execution plans of a network, sorted by modelled cost.

    Parameters
    ----------
    net : Network
    tokens : int
        The number of vectors.
    itemsize : int
        Bytes per number.
    device : {"cpu", "cuda"}
        The device whose rates are assumed; any other value is treated as a GPU.
    reuse : bool
        Whether fused blocks are cached over many calls, so that computing them is free.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> [str(choice) for choice in choices(butterfly(4096), 2048)]
    ['3×(4→16)', '4×(3→8)', '12×(2)']
    >>> str(choices(butterfly(4096), 1)[0])          # one vector: fusing stages does not pay
    '12×(2)'
    """
    rates = RATES.get(device, RATES["cuda"])
    single = [_stage_cost(unions(net)[k, k + 1], 1, itemsize, rates) for k in range(net.depth)]
    runs: dict[tuple[int, int], tuple[int, Cost]] = {}
    for (first, end), stage in unions(net).items():
        radix = max((bank.radix for bank in stage.banks), default=1)
        cost = _stage_cost(stage, tokens, itemsize, rates)
        if end - first > 1 and not reuse:
            cost += _fusion_cost(single[first:end], radix, rates)
        runs[first, end] = radix, cost
    found = {_cheapest(runs, net.depth, limit) for limit in LIMITS}
    return tuple(sorted(found, key=lambda choice: choice.cost.seconds))


def _stage_cost(stage: Stage, tokens: int, itemsize: int, rates: Rates) -> Cost:
    """Return the cost of the block products of a stage and of permuting its wires."""
    moved = 2 * tokens * stage.width * itemsize
    flops, moves, launches = 0, moved, 1
    seconds = moved / rates.moves + rates.launch
    for bank in stage.banks:
        size = bank.reads.size
        work = 2 * tokens * size * bank.radix
        passed = 2 * tokens * size * itemsize
        read = size * bank.radix * itemsize
        flops += work
        moves += passed + read
        launches += 1
        seconds += max(passed / rates.products, work / rates.flops)
        seconds += read / rates.blocks + rates.launch
    return Cost(flops, moves, launches, seconds)


def _fusion_cost(single: list[Cost], radix: int, rates: Rates) -> Cost:
    """Return the cost of applying stages to as many vectors as a fused switch has wires.

    `single` holds the costs of the stages for one vector. The part that is launch time, according
    to `rates`, does not grow with the number of vectors.
    """
    total = sum(single, Cost(0, 0, 1, rates.launch))
    starting = total.launches * rates.launch
    work = total.seconds - starting
    return Cost(radix * total.flops, radix * total.bytes, total.launches, starting + radix * work)


def _cheapest(runs: Mapping[tuple[int, int], tuple[int, Cost]], depth: int, limit: int) -> Choice:
    """Return the cheapest partition whose fused switches have at most `limit` wires."""
    best = [Choice((), (), Cost(0, 0, 0, 0.0))]
    for end in range(1, depth + 1):
        ways = []
        for first in range(end):
            if (first, end) not in runs:
                continue
            radix, cost = runs[first, end]
            if end - first == 1 or radix <= limit:
                before = best[first]
                ways.append(
                    Choice((*before.ends, end), (*before.radices, radix), before.cost + cost)
                )
        best.append(min(ways, key=lambda choice: choice.cost.seconds))
    return best[depth]


def explain(
    net: Network,
    tokens: int,
    *,
    itemsize: int = 4,
    device: str = "cpu",
    outputs: int | None = None,
    chosen: Choice | None = None,
    measured: Mapping[Choice, float] | None = None,
) -> str:
    """Describe the selected plan for this number of vectors, the other candidates, and the reason.

    Parameters
    ----------
    net, tokens, itemsize, device
        As for `choices`.
    outputs : int, optional
        Rows of the weight of a frozen linear layer that reads the vectors, which may be rotated
        instead.
    chosen : Choice, optional
        The selected plan; by default the cheapest.
    measured : mapping from Choice to float, optional
        Measured times of the candidates in seconds, where available.

    Examples
    --------
    >>> from structmat.families import monarch
    >>> print(explain(monarch(6), 100))
    6 wires, 2 stages, 100 vectors of 4-byte numbers on a cpu: 2 · 3
    6 wires, 2 stages: 4 steps, 2 of them permutations (2 transposes, 0 index arrays)
    ...
    """
    n = checked_integer(tokens, "tokens")
    said = []
    if outputs is not None:
        size = checked_integer(outputs, "outputs", 1)
        lines, vectors = counted(size, "row"), counted(n, "vector")
        if turns_weight(net, n, size, itemsize=itemsize, device=device):
            said.append(f"the layer's weight is rotated, {lines}, not the {vectors}")
            n = size
        else:
            are = "is" if n == 1 else "are"
            said.append(f"the {vectors} {are} rotated, not the layer's {lines}")
    ways = choices(net, n, itemsize=itemsize, device=device)
    chosen = ways[0] if chosen is None else chosen
    measured = {} if measured is None else measured
    coarse = merged(net, chosen.ends)
    rows = [
        (
            ("→ " if way.ends == chosen.ends else "  ") + str(way),
            f"{way.cost.flops:.3g}",
            f"{way.cost.bytes:.3g}",
            f"{way.cost.launches}",
            f"{1e3 * way.cost.seconds:.3g}",
            f"{1e3 * measured[way]:.3g}" if way in measured else "—",
        )
        for way in ways
    ]
    header = ("products (stages→radix)", "flops", "bytes", "launches", "model ms", "measured ms")
    why = (
        "the shortest training step, measured here"
        if chosen in measured
        else "the cheapest by the cost model; nothing was measured"
    )
    return "\n".join(
        [
            *said,
            f"{counted(net.width, 'wire')}, {counted(net.depth, 'stage')},"
            f" {counted(n, 'vector')} of {itemsize}-byte numbers on a"
            f" {device}: {chosen}",
            schedule(coarse.network).explain(),
            plain(header, rows),
            f"selected: {why}",
        ]
    )


def turns_weight(
    net: Network, tokens: int, outputs: int, *, itemsize: int = 4, device: str = "cpu"
) -> bool:
    """Return whether rotating the weight of a layer is cheaper than rotating the activations.

    A frozen layer of weight W computes W (R x) = (W R) x, so the rows of W can be rotated in place
    of the vectors. This is less work if there are fewer rows, but the gradient with respect to the
    blocks then requires the gradient with respect to the weight, a product as large as the
    layer's own.

    Parameters
    ----------
    net : Network
    tokens : int
        The number of vectors.
    outputs : int
        The number of rows of the weight.
    itemsize, device
        As for `choices`.

    Examples
    --------
    >>> from structmat.families import shuffle
    >>> net = shuffle(384, block=4)
    >>> [turns_weight(net, 2048, outputs) for outputs in (384, 1536)]
    [True, False]
    """
    if outputs >= tokens:
        return False
    rates = RATES.get(device, RATES["cuda"])
    vectors, rows = (
        choices(net, bucket(n), itemsize=itemsize, device=device)[0].cost.seconds
        for n in (tokens, outputs)
    )
    product = 2 * tokens * outputs * net.width / rates.flops
    return _STEP * rows + product < _STEP * vectors


def bucket(tokens: int) -> int:
    """Return the power of two that represents a number of vectors in the key of a cached plan.

    Examples
    --------
    >>> [bucket(n) for n in (0, 1, 3, 2048)]
    [1, 1, 4, 2048]
    """
    return 1 << max(tokens - 1, 0).bit_length()
