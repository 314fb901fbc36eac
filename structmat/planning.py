"""How to run a network on many vectors: which stages to merge, and what each way would cost.

The model counts, for each product, the bytes of the vectors that it reads and writes, the
floating-point operations, the bytes of its blocks, and a fixed time for starting it. Merging a run
of stages saves passes over the vectors, and costs more operations and the multiplying out, which
is as much work as applying the run to one vector for each wire of a merged switch. The cheapest
partition into runs is found by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from structmat.errors import whole
from structmat.merging import LARGEST, merged, unions
from structmat.network import Network
from structmat.scheduling import schedule
from structmat.stage import Stage
from structmat.texttable import counted, plain

LIMITS = (1, 8, 16, 32, LARGEST)  # most wires in a merged switch; with 1 nothing is merged


@dataclass(frozen=True)
class Rates:
    """What a kind of machine does in a second; only the ratios matter for a choice.

    Attributes
    ----------
    products : float
        Bytes of vectors that block products read and write where operations cost nothing.
    moves : float
        Bytes that permutations read and write.
    blocks : float
        Bytes of blocks read.
    flops : float
        Floating-point operations.
    launch : float
        Seconds to start one operation.
    """

    products: float
    moves: float
    blocks: float
    flops: float
    launch: float


# Two server cores with AVX-512, vectors in the second-level cache; and a recent data-centre GPU.
RATES: Mapping[str, Rates] = {
    "cpu": Rates(products=5e10, moves=5e10, blocks=2e10, flops=3e11, launch=1.5e-5),
    "cuda": Rates(products=4e12, moves=4e12, blocks=2e12, flops=5e13, launch=5e-6),
}


# A training step takes this many times as long as the model says of a forward pass: the backward
# pass goes forth again, back, and sums gradients; and vectors are read and written.
_STEP = 9.0


@dataclass(frozen=True)
class Cost:
    """What applying a network to some vectors takes.

    Attributes
    ----------
    flops, bytes, launches : int
        Of the stages and of multiplying blocks out, together.
    seconds : float
        That the model expects; without reading the vectors first and writing them last, which
        costs all ways the same.
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
    """A partition of the stages into runs, each of them one product, and its cost.

    Attributes
    ----------
    ends : tuple of int
        Where each run ends; `structmat.merging.merged` takes it.
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
    """Return the ways to run a network that are worth a thought, the cheapest by the model first.

    Parameters
    ----------
    net : Network
    tokens : int
        How many vectors pass at once.
    itemsize : int
        Bytes in a number.
    device : {"cpu", "cuda"}
        Whose rates to assume; anything else is taken for a GPU.
    reuse : bool
        Whether blocks that are multiplied out are kept for many calls, so that doing it is free.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> [str(choice) for choice in choices(butterfly(4096), 2048)]
    ['3×(4→16)', '4×(3→8)', '12×(2)']
    >>> str(choices(butterfly(4096), 1)[0])          # one vector: multiplying out does not pay
    '12×(2)'
    """
    rates = RATES.get(device, RATES["cuda"])
    single = [_stage_cost(unions(net)[k, k + 1], 1, itemsize, rates) for k in range(net.depth)]
    runs: dict[tuple[int, int], tuple[int, Cost]] = {}
    for (first, end), stage in unions(net).items():
        radix = max((bank.radix for bank in stage.banks), default=1)
        cost = _stage_cost(stage, tokens, itemsize, rates)
        if end - first > 1 and not reuse:
            cost += _multiplying_out(single[first:end], radix, rates)
        runs[first, end] = radix, cost
    found = {_cheapest(runs, net.depth, limit) for limit in LIMITS}
    return tuple(sorted(found, key=lambda choice: choice.cost.seconds))


def _stage_cost(stage: Stage, tokens: int, itemsize: int, rates: Rates) -> Cost:
    """Return what a product by the blocks of a stage costs, and bringing the wires in order."""
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


def _multiplying_out(single: list[Cost], radix: int, rates: Rates) -> Cost:
    """Return what it costs to apply stages to as many vectors as a merged switch has wires.

    `single` holds the costs of the stages for one vector; `rates` tells what of them is for
    starting operations, which does not grow.
    """
    total = sum(single, Cost(0, 0, 1, rates.launch))
    starting = total.launches * rates.launch
    work = total.seconds - starting
    return Cost(radix * total.flops, radix * total.bytes, total.launches, starting + radix * work)


def _cheapest(runs: Mapping[tuple[int, int], tuple[int, Cost]], depth: int, limit: int) -> Choice:
    """Return the cheapest partition whose merged switches have at most `limit` wires."""
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
    """Return in words how a network is run on so many vectors, what else was weighed, and why.

    Parameters
    ----------
    net, tokens, itemsize, device
        As for `choices`.
    outputs : int, optional
        Of a frozen linear layer that reads the vectors: then its weight may be rotated instead.
    chosen : Choice, optional
        By default the cheapest one.
    measured : mapping from Choice to float, optional
        Seconds of those that were measured.

    Examples
    --------
    >>> from structmat.families import monarch
    >>> print(explain(monarch(6), 100))
    6 wires, 2 stages, 100 vectors of 4-byte numbers on a cpu: 2 · 3
    6 wires, 2 stages: 4 steps, 2 of them permutations (2 transposes, 0 index arrays)
    ...
    """
    n = whole(tokens, "tokens")
    said = []
    if outputs is not None:
        size = whole(outputs, "outputs", 1)
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
        "measured here: the shortest training step"
        if chosen in measured
        else "the cheapest by the model; nothing was measured"
    )
    return "\n".join(
        [
            *said,
            f"{counted(net.width, 'wire')}, {counted(net.depth, 'stage')},"
            f" {counted(n, 'vector')} of {itemsize}-byte numbers on a"
            f" {device}: {chosen}",
            schedule(coarse.network).explain(),
            plain(header, rows),
            f"chosen: {why}",
        ]
    )


def turns_weight(
    net: Network, tokens: int, outputs: int, *, itemsize: int = 4, device: str = "cpu"
) -> bool:
    """Return whether a layer's weight had better be rotated than the vectors that it reads.

    A frozen layer of weight W makes W (R x), which is (W R) x: the rows of W take the place of
    the vectors. That is less work where they are fewer, but the gradient by the blocks then comes
    from the gradient by the weight, a product as large as the layer's own.

    Parameters
    ----------
    net : Network
    tokens : int
        How many vectors pass at once.
    outputs : int
        Rows of the weight.
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
    """Return the power of two that stands for a number of vectors, when a choice is made once.

    Examples
    --------
    >>> [bucket(n) for n in (0, 1, 3, 2048)]
    [1, 1, 4, 2048]
    """
    return 1 << max(tokens - 1, 0).bit_length()
