"""Candidates of all families, and the best of them for each question of the atlas."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from math import comb
from typing import Any

from structmat.analysis.dimension import dimension
from structmat.analysis.lower_bounds import lower_bounds
from structmat.errors import StructmatError
from structmat.families import catalogue
from structmat.families.number_theory import least_factorizations
from structmat.families.variants import accepts, combinations
from structmat.networks.network import Network
from structmat.search.atlas.questions import BLOCKS, QUESTIONS, Question, budget, half
from structmat.search.atlas.record_file import Record
from structmat.search.atlas.stored_topology import Topology

_GRAPHS = 64  # the largest width at which families defined by a graph are tried
_SHALLOW = 24  # the largest width at which more depths are tried, for full dimension
_COMPOSED = 8  # the largest width at which families are repeated and mirrored
_SPARE = 3  # stages beyond the bound that are tried up to that width
_FITTED = 8  # networks that are fitted for one record

_DOUBLED = ("butterfly", "mixed_radix", "knodel", "gossip")  # repeated and mirrored, too

# Of equal networks, the one whose family comes first in this list holds the record.
_NAMES = (
    "block_diagonal",
    "mixed_radix",
    "butterfly",
    "gossip",
    "ruler",
    "brickwall",
    "affine",
    "round_robin",
    "shuffle",
    "knodel",
    "deal",
)


# Candidates -------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def candidates(width: int) -> tuple[Topology, ...]:
    """Return networks of all families with radices up to 16, as topologies that are not built yet.

    The blocks are 2 to 16, the radices are those with the smallest sum for each number of stages,
    and the seeds are 0. The depths are the default and the smallest that a dense network can have;
    up to width 24, also depths at which a network may have full dimension. Families defined by a
    graph are tried up to width 64, with up to three repetitions. The butterfly, mixed-radix, Knödel
    and gossip networks are also repeated and mirrored, up to width 8. The last candidate is a part
    of the brick-wall or the round-robin network with half of the dimension of SO(d).

    Examples
    --------
    >>> found = {str(topology) for topology in candidates(6)}
    >>> {"mixed_radix(radices=(2, 3))", "deal(block=3, depth=2)", "gossip"} <= found
    True
    """
    depths: set[int] = set()
    radices: set[tuple[int, ...]] = set()
    for size in BLOCKS:
        rows = lower_bounds(width, block=min(size, width)).rows
        least = {row.goal: row.least for row in rows if row.quantity == "depth"}
        depths.add(max(1, least["dense"]))
        if width <= _SHALLOW:
            depths |= {max(1, least["universal"]) + k for k in range(_SPARE + 1)}
        radices |= {r for r in least_factorizations(width, size) if max(r) <= BLOCKS[-1]}
    values: dict[str, Iterable[Any]] = {
        "block": range(2, min(width, BLOCKS[-1]) + 1),
        "depth": sorted(depths),
        "radices": sorted(radices),
        "degree": (3, 4),
        "repeat": (2, 3),
        "rng": (0,),
    }
    specs = [
        str(family)
        for known in catalogue()
        if width <= _GRAPHS or "repeat" not in known.options
        for family in combinations(known, width, values)
        if accepts(family, width)
    ]
    if width <= _COMPOSED:
        doubled = [spec for spec in specs if spec.partition("(")[0] in _DOUBLED]
        specs += [f"{spec} * {times}" for spec in doubled for times in (2, 3)]
        specs += [f"mirror({spec})" for spec in doubled]
    parts = Topology(width, f"brickwall(depth={width // 2})")
    if width % 2 or width == 2:
        parts = Topology(width, "round_robin", half(width))
    return (*(Topology(width, spec) for spec in dict.fromkeys(specs)), parts)


def _size(topology: Topology) -> tuple[float, float]:
    """Return the parameters and the depth, without building the network if they are claimed.

    Both are infinite for a network that cannot be built, such as a random graph that was not found.
    """
    claims = topology.claims
    if claims.parameters is not None and claims.depth is not None:
        return claims.parameters, claims.depth
    try:
        return topology.network.parameters, topology.network.depth
    except StructmatError:
        return math.inf, math.inf


def _able(width: int) -> Iterator[tuple[int, int, Topology]]:
    """Yield the parameters, the depth and the topology of each candidate."""
    for topology in candidates(width):
        parameters, depth = _size(topology)
        if not math.isinf(parameters):
            yield int(parameters), int(depth), topology


def _ordered(purpose: Question, width: int, block: int) -> Iterator[Topology]:
    """Yield the candidates for a purpose, those that are likely or certain to be best first.

    If the purpose is a count, they are in the order of their values, and those below the bound are
    left out, because they cannot serve it.
    """
    bound = purpose.bound(width, block) or 0
    group = comb(width, 2)
    rows = []
    for parameters, depth, topology in _able(width):
        name = str(topology)
        liked = _NAMES.index(topology.name) if topology.name in _NAMES else len(_NAMES)
        ties = (parameters, depth, liked, len(name), name, topology)
        if purpose.quantity in ("parameters", "depth"):
            value = parameters if purpose.quantity == "parameters" else depth
            if value >= bound:
                rows.append((value, *ties))
        elif purpose.quantity == "dimension":
            if depth <= lower_bounds(width, block=min(block, width)).rows[0].least:
                rows.append((-min(parameters, group), *ties))
        elif purpose.quantity == "ratio":
            if parameters == group:
                rows.append((depth, *ties))
        elif parameters <= budget(width) and topology.radix <= block:
            rows.append((-dimension(topology.network).value, *ties))
    for *_, topology in sorted(rows, key=lambda row: row[:-1]):
        if topology.radix <= block:
            yield topology


# Records ----------------------------------------------------------------------------------------


def best_known(purpose: str, width: int, block: int) -> Record:
    """Return the best record for a purpose among the candidates of all families.

    Examples
    --------
    >>> record = best_known("mixing", 12, 4)
    >>> record.value, str(record.topology)
    (24, 'mixed_radix')
    """
    asked = QUESTIONS[purpose]
    best = Record(purpose, width, block, None)
    if asked.obstacle(width, block) is not None:
        return best
    tried: set[Network] = set()
    for topology in _ordered(asked, width, block):
        if best.value is not None and _is_final(best, topology):
            break
        if asked.quantity in ("error", "ratio"):  # these take long: measure each network once
            if topology.network in tried:
                continue
            tried.add(topology.network)
            if asked.quantity == "error" and len(tried) > _FITTED:
                break
        record = measured(topology, purpose, block)
        if record is not None and is_better(record, best):
            best = record
    return best


def _is_final(best: Record, following: Topology) -> bool:
    """Return whether no candidate from this one on is better."""
    quantity = best.question.quantity
    if quantity != "dimension":
        return quantity in ("parameters", "depth")
    most = min(following.network.parameters, comb(following.width, 2))
    return (-most, following.network.parameters) >= (-(best.value or 0), best.parameters or 0)


def measured(topology: Topology, purpose: str, block: int) -> Record | None:
    """Return the record of a network for a purpose, or None if it does not serve it.

    Raises
    ------
    StructmatError
        If the network cannot be built, or has radices above `block`.

    Examples
    --------
    >>> measured(Topology(8, "butterfly"), "dense-depth", 2).value
    3
    >>> measured(Topology(8, "butterfly(depth=2)"), "dense-depth", 2) is None
    True
    """
    if topology.radix > block:
        raise StructmatError(f"{topology}: it has radix {topology.radix}, above {block}")
    asked = QUESTIONS[purpose]
    if asked.obstacle(topology.width, block) is not None:
        return None
    got = asked.measure(topology, block)
    if got is None:
        return None
    return Record(
        purpose,
        topology.width,
        block,
        got.value,
        topology.network.parameters,
        topology.network.depth,
        topology,
        "family" if topology.switches is None else "construction",
        got.evidence,
        got.interval,
    )


def is_better(record: Record, than: Record) -> bool:
    """Return whether a record is better: by its value, then by its parameters, then by its depth.

    A record is not better than one with the same value, parameters and depth.
    """
    if record.value is None or than.value is None:
        return than.value is None and record.value is not None
    return record.key < than.key
