"""Families of well-known graphs, whose edges, coloured into stages, are the 2×2 switches.

Each has an option `repeat`. A network is dense when `repeat` equals the diameter of the graph, and
often for a much smaller `repeat`. One repetition has Δ stages, the maximum degree, if the graph is
bipartite, and otherwise Δ or Δ + 1 (`structmat.from_graph`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from structmat.errors import StructmatError, abbreviated, checked_integer, is_sequence
from structmat.families.number_theory import ceil_log, is_power
from structmat.families.registry import Claims, family
from structmat.graph import from_graph
from structmat.networks.network import Network

Permutation: TypeAlias = tuple[int, ...]

_MOST_EDGES = 2**21  # networkx uses about a kilobyte per edge
_LARGEST_GROUP = 65_536  # elements; enumerating a larger group takes long


def network_of(
    width: int, pairs: Iterable[tuple[int, int]], repeat: int, switches: str = "edges"
) -> Network:
    """Return the network of the graph with these edges, ignoring loops and parallel edges.

    Examples
    --------
    >>> network_of(3, [(0, 1), (1, 0), (1, 2), (2, 2)], repeat=1)
    Network(width=3, depth=2, parameters=2)
    """
    import networkx as nx

    graph = nx.empty_graph(width)
    graph.add_edges_from((a, b) for a, b in pairs if a != b)
    return from_graph(graph, int(repeat), switches)


def check_edges(name: str, width: int, edges: int) -> None:
    """Reject a graph so large that networkx would need gigabytes and minutes to build it.

    Raises
    ------
    StructmatError
        If the graph has more than 2^21 edges.

    Examples
    --------
    >>> check_edges("circulant", 2**20, 2**24)
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: circulant(width=1048576): the graph has 16,777,216 \
edges; at most 2,097,152 are allowed, so use fewer wires or fewer edges per wire
    """
    if edges > _MOST_EDGES:
        raise StructmatError(
            f"{name}(width={width}): the graph has {edges:,} edges; at most {_MOST_EDGES:,} are"
            " allowed, so use fewer wires or fewer edges per wire"
        )


def wholes(values: Any, name: str, least: int) -> tuple[int, ...]:
    """Return a non-empty tuple of integers ≥ `least`, given as the value of the option `name`.

    Examples
    --------
    >>> wholes([6, 4], "sides", 2)
    (6, 4)
    """
    if not is_sequence(values) or len(values) == 0:
        raise StructmatError(
            f"{name}={abbreviated(values)}: {name} must be a sequence such as (3, 2)"
        )
    return tuple(checked_integer(value, name[:-1], least) for value in values)


# Circulant and Cayley graphs ------------------------------------------------------------------


def _checked_offsets(offsets: Sequence[int]) -> tuple[int, ...]:
    steps = wholes(offsets, "offsets", 1)
    if len(set(steps)) < len(steps):
        raise StructmatError(f"offsets={abbreviated(offsets)}: offsets must be distinct")
    return steps


def _circulant_refuses(width: int, offsets: Sequence[int], repeat: int) -> str | None:
    checked_integer(repeat, "repeat", 1)
    least = 2 * max(_checked_offsets(offsets))
    return None if width >= least else f"width must be at least {least}, twice the largest offset"


def _circulant_claims(width: int, offsets: Sequence[int], repeat: int) -> Claims:
    steps = _checked_offsets(offsets)
    degree = sum(1 if 2 * step == width else 2 for step in steps)
    bipartite = width % 2 == 0 and all(step % 2 for step in steps)
    connected = math.gcd(width, *steps) == 1
    return Claims(
        depth=repeat * degree if bipartite else None,
        parameters=repeat * degree * width // 2,
        dense=None if connected else False,
    )


def _some_offsets(width: int) -> list[tuple[int, ...]]:
    """Return offsets 1, b, b², …, where b is the square, cube or fourth root of the width, or 2."""
    if width < 8:
        return []
    bases = {next(b for b in range(2, width) if b**k >= width) for k in (2, 3, 4)} | {2}
    return [
        tuple(b**k for k in range(ceil_log(width, b)) if 2 * b**k <= width)
        for b in sorted(bases, reverse=True)
    ]


@family(
    "any from twice the largest offset on",
    _circulant_refuses,
    claims=_circulant_claims,
    choices={"offsets": _some_offsets},
)
def circulant(width: int, offsets: Sequence[int] = (1, 2), repeat: int = 1) -> Network:
    """Join each wire to those at a few fixed offsets, modulo the width: a circulant graph.

    Each offset contributes d edges, or d/2 if it equals d/2, and there is one parameter per edge,
    times `repeat`. The graph is connected, and the network dense after enough repetitions, if and
    only if the width and all offsets have no common factor. How many repetitions are enough has to
    be computed.

    Parameters
    ----------
    width : int
        At least twice the largest offset.
    offsets : sequence of int
        Distinct integers, each at least 1.
    repeat : int
        The number of repetitions of the stages.

    Raises
    ------
    WidthError
        For a smaller width.

    References
    ----------
    F. Boesch and R. Tindell, Circulants and their connectivities, 1984.

    Examples
    --------
    >>> circulant(50257, offsets=(1, 224))
    Network(width=50257, depth=5, parameters=100514)
    """
    steps = _checked_offsets(offsets)
    check_edges("circulant", width, width * len(steps))
    wires = np.arange(width)
    pairs: list[tuple[int, int]] = []
    for step in steps:
        pairs += zip(wires.tolist(), ((wires + step) % width).tolist(), strict=True)
    return network_of(width, pairs, repeat)


def _checked_generators(generators: Sequence[Sequence[int]]) -> tuple[Permutation, ...]:
    form = "generators must be permutations of the same 0 … k − 1, such as ((1, 0, 2), (0, 2, 1))"
    try:
        tuples = tuple(tuple(checked_integer(k, "symbol") for k in g) for g in generators)
    except TypeError:
        raise StructmatError(f"generators={abbreviated(generators)}: {form}") from None
    symbols = tuple(range(len(tuples[0]))) if tuples else ()
    if not symbols or any(tuple(sorted(g)) != symbols for g in tuples):
        raise StructmatError(f"generators={abbreviated(generators)}: {form}")
    if symbols in tuples:
        raise StructmatError(f"generators={abbreviated(generators)}: omit the identity permutation")
    return tuples


@lru_cache(maxsize=64)
def _group(generators: tuple[Permutation, ...]) -> tuple[Permutation, ...]:
    """Return the group generated by permutations, in lexicographic order."""
    one = tuple(range(len(generators[0])))
    found = {one}
    waiting = [one]
    while waiting:
        x = waiting.pop()
        new = {tuple(x[k] for k in g) for g in generators} - found
        found |= new
        waiting += new
        if len(found) > _LARGEST_GROUP:
            raise StructmatError(
                f"generators={abbreviated(generators)}: they generate a group of more than"
                f" {_LARGEST_GROUP} elements; use fewer, or permutations of fewer symbols"
            )
    return tuple(sorted(found))


def _cayley_refuses(width: int, generators: Sequence[Sequence[int]], repeat: int) -> str | None:
    checked_integer(repeat, "repeat", 1)
    order = len(_group(_checked_generators(generators)))
    if width == order:
        return None
    return f"width must be {order}, the order of the generated group"


def _is_odd(permutation: Permutation) -> bool:
    return sum(a > b for i, b in enumerate(permutation) for a in permutation[:i]) % 2 == 1


def _cayley_claims(width: int, generators: Sequence[Sequence[int]], repeat: int) -> Claims:
    steps = _checked_generators(generators)
    inverses = {tuple(sorted(range(len(g)), key=g.__getitem__)) for g in steps}
    degree = len({*steps, *inverses})
    bipartite = all(map(_is_odd, steps))
    return Claims(repeat * degree if bipartite else None, repeat * degree * width // 2)


def _some_generators(width: int) -> list[tuple[Permutation, ...]]:
    """Return generators of a cyclic, a dihedral and a symmetric group of this order."""
    found: list[tuple[Permutation, ...]] = []
    if 3 <= width <= 64:
        found.append(((*range(1, width), 0),))
    half = width // 2
    if 6 <= width <= 64 and width % 2 == 0:
        found.append(((*range(1, half), 0), tuple(range(half - 1, -1, -1))))
    for k in range(3, 9):
        if math.factorial(k) == width:
            swaps = [[*range(i), i + 1, i, *range(i + 2, k)] for i in range(k - 1)]
            found.append(tuple(map(tuple, swaps)))
    return found


@family(
    "the order of the group",
    _cayley_refuses,
    claims=_cayley_claims,
    choices={"generators": _some_generators},
)
def cayley_graph(width: int, generators: Sequence[Sequence[int]], repeat: int = 1) -> Network:
    """Join the elements x and x·g of a permutation group, for each generator g: a Cayley graph.

    The wires are the elements in lexicographic order of (x(0), x(1), …), and (x·g)(k) = x(g(k)).
    With m distinct elements among the generators and their inverses, the network has m·d/2
    parameters, times `repeat`. If all generators are odd permutations, the graph is bipartite. The
    network is dense when `repeat` equals the diameter; whether fewer repetitions suffice has to be
    computed.

    Parameters
    ----------
    width : int
        The order of the group.
    generators : sequence of permutations
        Each a permutation of 0 … k − 1 other than the identity, as the tuple of its images. The
        group may have up to 65,536 elements.
    repeat : int
        The number of repetitions of the stages.

    Raises
    ------
    WidthError
        For any other width. The message states the order of the group.

    References
    ----------
    S. B. Akers and B. Krishnamurthy, A group-theoretic model for symmetric interconnection
    networks, 1989.

    Examples
    --------
    All permutations of four elements, by adjacent transpositions: the bubble-sort graph.

    >>> cayley_graph(24, generators=((1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2)))
    Network(width=24, depth=3, parameters=36)
    """
    steps = _checked_generators(generators)
    elements = _group(steps)
    check_edges("cayley_graph", width, width * len(steps))
    wire = {x: i for i, x in enumerate(elements)}
    pairs = ((i, wire[tuple(x[k] for k in g)]) for g in steps for x, i in wire.items())
    return network_of(width, pairs, repeat)


# De Bruijn ------------------------------------------------------------------------------------


def _de_bruijn_refuses(width: int, symbols: int, repeat: int) -> str | None:
    checked_integer(repeat, "repeat", 1)
    least = checked_integer(symbols, "symbols", 2)
    return None if width >= least else f"width must be at least {least}, the symbols"


def _de_bruijn_claims(width: int, symbols: int, repeat: int) -> Claims:
    edges = symbols * width - symbols - symbols * (symbols - 1) // 2
    return Claims(
        parameters=repeat * edges if is_power(width, symbols) else None,
        dense=True if repeat >= ceil_log(width, symbols) else None,
    )


@family(
    "any from symbols on",
    _de_bruijn_refuses,
    claims=_de_bruijn_claims,
    choices={"symbols": lambda _: (2, 3, 4)},
)
def de_bruijn(width: int, symbols: int = 2, repeat: int = 1) -> Network:
    """Join wire i to the wires k·i, …, k·i + k − 1 modulo d: the undirected de Bruijn graph.

    For d = k^n the wires are the words of length n over k symbols, joined if one is a shift of the
    other by one symbol; the definition applies to any width. Loops and parallel edges are omitted,
    which leaves k·d − k − k(k−1)/2 edges for d = k^n, and at most k·d for any d. There is one
    parameter per edge, times `repeat`. The network is dense when `repeat` is ⌈log_k d⌉, if not for
    a smaller `repeat`.
    Its switches are edges; for the de Bruijn digraph unrolled into switches of k wires see
    `shuffle`.

    Parameters
    ----------
    width : int
        At least `symbols`.
    symbols : int
        The number of symbols k, at least 2; no wire is joined to more than 2k others.
    repeat : int
        The number of repetitions of the stages.

    Raises
    ------
    WidthError
        For a smaller width.

    References
    ----------
    M. Imase and M. Itoh, Design to minimize diameter on building-block network, 1981.
    S. M. Reddy, D. K. Pradhan and J. G. Kuhl, Directed graphs with minimal diameter and maximal
    connectivity, 1980.

    Examples
    --------
    >>> de_bruijn(384, repeat=2).parameters
    1528
    """
    check_edges("de_bruijn", width, width * int(symbols))
    wires = np.arange(width)
    pairs: list[tuple[int, int]] = []
    for a in range(int(symbols)):
        pairs += zip(wires.tolist(), ((symbols * wires + a) % width).tolist(), strict=True)
    return network_of(width, pairs, repeat)
