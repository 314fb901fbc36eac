"""Families from product graphs: one standard graph for each digit of a wire's number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from structmat.errors import StructmatError, abbreviated, checked_integer, suggest
from structmat.families.butterflies import balanced, radices_refuse
from structmat.families.graph_families import check_edges, network_of, wholes
from structmat.families.number_theory import (
    ceil_log,
    divisors,
    not_composite,
    not_power_of_two,
    prime_factors,
)
from structmat.families.registry import Choices, Claims, family
from structmat.networks.network import Network

_LARGEST = 64  # the graph of a larger radix has very many edges, yet becomes a single switch
_GRAPHS = ("path", "cycle", "star", "complete", "hypercube")


class _Facts(NamedTuple):
    edges: int
    degree: int  # the largest
    bipartite: bool
    diameter: int


def _facts(graph: str, side: int) -> _Facts:
    if graph == "path":
        return _Facts(side - 1, min(2, side - 1), bipartite=True, diameter=side - 1)
    if graph == "star":
        return _Facts(side - 1, side - 1, bipartite=True, diameter=min(2, side - 1))
    if graph == "cycle" and side > 2:
        return _Facts(side, 2, bipartite=side % 2 == 0, diameter=side // 2)
    return _Facts(math.comb(side, 2), side - 1, bipartite=side == 2, diameter=1)


def _edges(graph: str, side: int) -> list[tuple[int, int]]:
    import networkx as nx

    if graph == "star":
        return list(nx.star_graph(side - 1).edges)
    make = {"path": nx.path_graph, "cycle": nx.cycle_graph, "complete": nx.complete_graph}[graph]
    return list(make(side).edges)


def _factors(graphs: Sequence[str], sides: Sequence[int]) -> list[tuple[str, int]]:
    """Return the graphs with their sides; a hypercube becomes one 2-node path per bit."""
    factors: list[tuple[str, int]] = []
    for graph, side in zip(graphs, sides, strict=True):
        cube = graph == "hypercube"
        factors += [("path", 2)] * ceil_log(side, 2) if cube else [(graph, int(side))]
    return factors


def _cartesian(
    width: int, factors: list[tuple[str, int]], repeat: int, switches: str = "edges"
) -> Network:
    """Return the network of the Cartesian product; the last digit of a wire varies fastest."""
    edges = sum(_facts(graph, side).edges * (width // side) for graph, side in factors)
    check_edges("product", width, edges)
    wires = np.arange(width).reshape([side for _, side in factors])
    pairs: list[tuple[int, int]] = []
    for axis, (graph, side) in enumerate(factors):
        lines = np.moveaxis(wires, axis, 0).reshape(side, -1)
        for a, b in _edges(graph, side):
            pairs += zip(lines[a].tolist(), lines[b].tolist(), strict=True)
    return network_of(width, pairs, repeat, switches)


def _cartesian_claims(width: int, factors: list[tuple[str, int]], repeat: int) -> Claims:
    facts = [_facts(*factor) for factor in factors]
    edges = sum(f.edges * (width // side) for f, (_, side) in zip(facts, factors, strict=True))
    bipartite = all(fact.bipartite for fact in facts)
    return Claims(
        depth=repeat * sum(fact.degree for fact in facts) if bipartite else None,
        parameters=repeat * edges,
        dense=True if repeat >= sum(fact.diameter for fact in facts) else None,
    )


def _product_refuses(width: int, graphs: Any, sides: Sequence[int], repeat: int) -> str | None:
    checked_integer(repeat, "repeat", 1)
    lengths = wholes(sides, "sides", 2)
    if not isinstance(graphs, Sequence) or len(graphs) != len(lengths):
        raise StructmatError(
            f'graphs={abbreviated(graphs)}: graphs must be a sequence such as ("cycle", "path"),'
            " one"
            f" graph for each side, here {len(lengths)}"
        )
    for graph, side in zip(graphs, lengths, strict=True):
        if graph not in _GRAPHS:
            raise StructmatError(
                f"unknown graph {abbreviated(graph)}{suggest(str(graph), _GRAPHS)}"
            )
        if graph == "hypercube" and not_power_of_two(side):
            raise StructmatError(f"side={side}: the side of a hypercube must be 2^n")
    return _wrong_product(width, lengths)


def _wrong_product(width: int, sides: tuple[int, ...]) -> str | None:
    total = math.prod(sides)
    return None if total == width else f"the sides' product {abbreviated(total)} must be the width"


def _product_claims(width: int, graphs: Sequence[str], sides: Sequence[int], repeat: int) -> Claims:
    return _cartesian_claims(width, _factors(graphs, sides), repeat)


def _some_sides(width: int) -> list[tuple[int, int]]:
    smaller = [k for k in divisors(width)[1:-1] if k <= 8]
    return [(width // k, k) for k in smaller[-1:]]


_PRODUCTS: Choices = {
    "graphs": lambda _: [("cycle", "complete"), ("path", "star"), ("hypercube", "cycle")],
    "sides": _some_sides,
}


@family("the product of the sides", _product_refuses, claims=_product_claims, choices=_PRODUCTS)
def product(width: int, graphs: Sequence[str], sides: Sequence[int], repeat: int = 1) -> Network:
    """Join wires that differ in one digit along the edges of that digit's graph: a product graph.

    The graph is the Cartesian product G_1 □ G_2 □ … on d = n_1·n_2·… nodes. The digits of wire i
    are those of i in mixed radix, the last one varying fastest. If G_k has e_k edges, the network
    has Σ e_k·d/n_k parameters, times `repeat`. It is dense when `repeat` equals the sum of the
    diameters, and often for a smaller `repeat`.

    Parameters
    ----------
    width : int
        The product of the sides.
    graphs : sequence of str
        Each is one of "path", "cycle", "star", "complete", "hypercube".
    sides : sequence of int
        The number of nodes of each graph, at least 2; 2^n for a hypercube.
    repeat : int
        The number of repetitions of the stages.

    Raises
    ------
    WidthError
        If the product of the sides is not the width; StructmatError for more than 2^21 edges.

    References
    ----------
    R. Hammack, W. Imrich and S. Klavžar, Handbook of Product Graphs, 2011.

    Examples
    --------
    >>> product(384, graphs=("cycle", "complete"), sides=(96, 4))
    Network(width=384, depth=5, parameters=960)
    """
    return _cartesian(width, _factors(graphs, sides), repeat)


def _hypercube_refuses(width: int, repeat: int) -> str | None:
    checked_integer(repeat, "repeat", 1)
    return not_power_of_two(width)


def _hypercube_claims(width: int, repeat: int) -> Claims:
    n = ceil_log(width, 2)
    like = "butterfly" if repeat == 1 else None
    return Claims(repeat * n, repeat * n * width // 2, dense_at=n, like=like)


@family("2^n", _hypercube_refuses, claims=_hypercube_claims)
def hypercube(width: int, repeat: int = 1) -> Network:
    """Join wires whose numbers differ in one bit: the hypercube, which is the butterfly.

    With the edges coloured by direction, the stages are those of `butterfly(d, block=2)`. The
    network is dense after n = log₂ d stages, and has n·d/2 parameters, times `repeat`.

    Parameters
    ----------
    width : int
        2^n with n ≥ 1.
    repeat : int
        The number of repetitions of the stages.

    Raises
    ------
    WidthError
        For any other width; StructmatError for more than 2^21 edges.

    References
    ----------
    F. T. Leighton, Introduction to Parallel Algorithms and Architectures, 1992, chapter 3.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> hypercube(64) == butterfly(64)
    True
    """
    return _cartesian(width, _factors(["hypercube"], [width]), repeat)


def _torus_refuses(width: int, sides: Sequence[int] | None, repeat: int) -> str | None:
    checked_integer(repeat, "repeat", 1)
    if sides is None:
        return not_composite(width)
    return _wrong_product(width, wholes(sides, "sides", 2))


def _torus_factors(width: int, sides: Sequence[int] | None) -> list[tuple[str, int]]:
    lengths = balanced(width, None) if sides is None else sides
    return _factors(["cycle"] * len(lengths), lengths)


def _torus_claims(width: int, sides: Sequence[int] | None, repeat: int) -> Claims:
    return _cartesian_claims(width, _torus_factors(width, sides), repeat)


def _torus_choices(width: int) -> list[tuple[int, ...]]:
    return [(width,), tuple(prime_factors(width))] if width > 1 else []


@family(
    "products; the product of the sides",
    _torus_refuses,
    claims=_torus_claims,
    choices={"sides": _torus_choices},
)
def torus(width: int, sides: Sequence[int] | None = None, repeat: int = 1) -> Network:
    """Join neighbours along every axis of a periodic grid: a torus.

    The graph is a product of cycles. The digits of wire i are those of i in mixed radix, the last
    one varying fastest, and the wire is joined to those that differ by ±1 in one digit. Each side
    above 2 contributes d edges, and a side of 2 contributes d/2; there is one parameter per edge,
    times `repeat`. The network is dense when `repeat` equals the diameter Σ⌊side/2⌋, and often for
    a smaller `repeat`.

    Parameters
    ----------
    width : int
        The product of the sides.
    sides : sequence of int, optional
        Each at least 2; by default the most balanced pair, the smaller first.
    repeat : int
        The number of repetitions of the stages.

    Raises
    ------
    WidthError
        If the product of the sides is not the width, or if `sides` is not given and the width is
        not a product of two factors above 1; StructmatError for more than 2^21 edges.

    References
    ----------
    W. J. Dally and B. Towles, Principles and Practices of Interconnection Networks, 2004,
    chapter 5.

    Examples
    --------
    >>> torus(384)
    Network(width=384, depth=4, parameters=768)
    >>> torus(384, sides=(6, 8, 8), repeat=2)
    Network(width=384, depth=12, parameters=2304)
    """
    return _cartesian(width, _torus_factors(width, sides), repeat)


def _hamming_refuses(width: int, radices: Sequence[int] | None, repeat: int) -> str | None:
    checked_integer(repeat, "repeat", 1)
    rule = radices_refuse(width, radices, largest=None, reverse=False)
    if rule is None and max(_hamming_radices(width, radices), default=1) > _LARGEST:
        return f"width must be a product of radices up to {_LARGEST}"
    return rule


def _hamming_radices(width: int, radices: Sequence[int] | None) -> list[int]:
    return prime_factors(width) if radices is None else [int(radix) for radix in radices]


def _hamming_claims(width: int, radices: Sequence[int] | None, repeat: int) -> Claims:
    sizes = _hamming_radices(width, radices)
    return Claims(
        depth=repeat * len(sizes),
        parameters=repeat * width * sum(r - 1 for r in sizes) // 2,
        dense_at=len(sizes),
        like=f"mixed_radix(radices={tuple(sizes)})" if repeat == 1 else None,
    )


@family("products of radices up to 64", _hamming_refuses, claims=_hamming_claims)
def hamming(width: int, radices: Sequence[int] | None = None, repeat: int = 1) -> Network:
    """Join all wires that differ in one digit, with cliques as switches: a Hamming graph.

    The graph is a product of complete graphs. Its maximal cliques are the lines along one digit, so
    with cliques as switches the network equals `mixed_radix` with the same radices, but is derived
    from the graph. It is dense after one stage per radix, and has (d/2)·Σ(r_t − 1) parameters,
    times `repeat`. For large widths `mixed_radix` is much faster to build.

    Parameters
    ----------
    width : int
        A product of radices up to 64.
    radices : sequence of int, optional
        Radices whose product is the width, starting with the fastest-varying digit; by default the
        prime factors.
    repeat : int
        The number of repetitions of the stages.

    Raises
    ------
    WidthError
        For width 1 by default, if the product of the radices is not the width, or if a radix is
        above 64; StructmatError for more than 2^21 edges.

    References
    ----------
    R. Hammack, W. Imrich and S. Klavžar, Handbook of Product Graphs, 2011.
    J. Kim, W. J. Dally and D. Abts, Flattened butterfly: a cost-efficient topology for high-radix
    networks, 2007 (the same graph).

    Examples
    --------
    >>> from structmat.families import mixed_radix
    >>> hamming(48, radices=(4, 4, 3)) == mixed_radix(48, radices=(4, 4, 3))
    True
    """
    factors = [("complete", radix) for radix in reversed(_hamming_radices(width, radices))]
    return _cartesian(width, factors, repeat, switches="cliques")
