"""Families from expander graphs: few edges at each wire, and yet all of them near each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from structmat.errors import GraphError, check_source, random_source, whole
from structmat.families.arithmetic import prime_factors
from structmat.families.graphs import check_edges, network_of
from structmat.families.registry import Claims, family
from structmat.graph import from_graph
from structmat.network import Network

if TYPE_CHECKING:
    import networkx as nx

_DRAWS = 200  # two in three are Ramanujan, and more of the small ones
_DENSE = 1024  # up to here all eigenvalues are computed
_LANCZOS = 64  # vectors: the eigenvalues of a wide graph lie close to each other


def _regular_refuses(width: int, degree: int, rng: object, repeat: int) -> str | None:
    whole(repeat, "repeat", 1)
    check_source(rng)
    size = whole(degree, "degree", 1)
    if width <= size:
        return f"width must be above {size}, the degree"
    if width * size % 2:
        return "width must be even where the degree is odd"
    return None


def _regular_claims(width: int, degree: int, rng: object, repeat: int) -> Claims:  # noqa: ARG001
    apart = degree == 1 and width > 2
    return Claims(parameters=repeat * width * degree // 2, dense=False if apart else None)


@family("any above degree, even where degree is odd", _regular_refuses, claims=_regular_claims)
def random_regular(
    width: int, degree: int, rng: np.random.Generator | int | None = None, repeat: int = 1
) -> Network:
    """Join each wire to k others at random: a random regular graph.

    From degree 3 on such a graph is nearly always connected, with a diameter of about
    log d / log(k − 1), and nearly as good an expander as there can be. Parameters k·d/2, times
    `repeat`. Dense when repeated as often as the diameter, or before; how often is measured. A
    seed gives the same network always, with one version of networkx.

    Parameters
    ----------
    width : int
        Above `degree`, and even where it is odd.
    degree : int
        The k wires that each wire is joined to, at least 1.
    rng : Generator, int or None
        The source of randomness, as `numpy.random.default_rng` takes it.
    repeat : int
        How many times the stages follow each other.

    Raises
    ------
    WidthError
        For any other width.

    References
    ----------
    A. Steger and N. Wormald, Generating random regular graphs quickly, 1999.
    J. Friedman, A proof of Alon's second eigenvalue conjecture, 2003.

    Examples
    --------
    >>> random_regular(384, degree=4, rng=0).parameters
    768
    """
    return from_graph(_random_regular(width, int(degree), random_source(rng)), int(repeat))


def _random_regular(width: int, degree: int, source: np.random.Generator) -> nx.Graph[int]:
    import networkx as nx

    check_edges("random_regular", width, width * degree // 2)
    sparse = min(degree, width - 1 - degree)  # pairing at random gets stuck where most are joined
    graph = nx.random_regular_graph(sparse, width, seed=int(source.integers(2**32)))
    return graph if sparse == degree else nx.complement(graph)


def _ramanujan_refuses(width: int, degree: int, rng: object, repeat: int) -> str | None:
    return _regular_refuses(width, whole(degree, "degree", 3), rng, repeat)


def _ramanujan_claims(width: int, degree: int, rng: object, repeat: int) -> Claims:  # noqa: ARG001
    return Claims(parameters=repeat * width * degree // 2)


@family("any above degree, even where degree is odd", _ramanujan_refuses, claims=_ramanujan_claims)
def ramanujan(
    width: int, degree: int = 4, rng: np.random.Generator | int | None = None, repeat: int = 1
) -> Network:
    """Draw random regular graphs until one is an optimal expander: a Ramanujan graph.

    No eigenvalue of its adjacency matrix but ±k is beyond 2√(k−1) in size, which no sequence of
    ever wider graphs of degree k improves on. About two draws in three are so. Parameters k·d/2,
    times `repeat`. Dense when repeated as often as the diameter, or before; how often is
    measured. A seed gives the same network always, with one version of networkx.

    Parameters
    ----------
    width : int
        Above `degree`, and even where it is odd.
    degree : int
        The k wires that each wire is joined to, at least 3.
    rng : Generator, int or None
        The source of randomness, as `numpy.random.default_rng` takes it.
    repeat : int
        How many times the stages follow each other.

    Raises
    ------
    WidthError
        For any other width; GraphError when 200 graphs in a row are none.

    References
    ----------
    A. Lubotzky, R. Phillips and P. Sarnak, Ramanujan graphs, 1988.
    J. Huang, T. McKenzie and H.-T. Yau, Ramanujan property and edge universality of random
    regular graphs, 2024, arXiv 2412.20263.

    Examples
    --------
    >>> ramanujan(384, rng=0).parameters
    768
    """
    source = random_source(rng)
    for _ in range(_DRAWS):
        graph = _random_regular(width, int(degree), source)
        if _is_ramanujan(graph, int(degree)):
            return from_graph(graph, int(repeat))
    raise GraphError(
        f"ramanujan(width={width}, degree={degree}): {_DRAWS} random graphs in a row were none;"
        " try another degree or seed"
    )


def _is_ramanujan(graph: nx.Graph[int], degree: int) -> bool:
    """Return whether a regular graph is connected and no eigenvalue between is too large."""
    import networkx as nx
    from scipy.sparse import linalg

    adjacent = nx.to_scipy_sparse_array(graph, nodelist=range(len(graph)), dtype=np.dtype(float))
    if len(graph) <= _DENSE:
        values = np.linalg.eigvalsh(adjacent.toarray())
    else:  # the two at each end, from a start that is the same every time
        values = linalg.eigsh(
            adjacent,
            k=4,
            which="BE",
            ncv=_LANCZOS,
            tol=1e-8,
            v0=np.cos(np.arange(len(graph))),
            return_eigenvectors=False,
        )
    rounding = 1e-8 * degree
    lowest = values[1] if values[0] < rounding - degree else values[0]  # −k: it is bipartite
    return bool(max(-lowest, values[-2]) <= 2 * math.sqrt(degree - 1) + rounding)


def _margulis_refuses(width: int, repeat: int) -> str | None:
    whole(repeat, "repeat", 1)
    square = width > 1 and math.isqrt(width) ** 2 == width
    return None if square else "width must be n², n at least 2"


def _margulis_claims(width: int, repeat: int) -> Claims:
    return Claims(parameters=repeat * (4 * width - 6 * math.isqrt(width)))


@family("n²", _margulis_refuses, claims=_margulis_claims)
def margulis(width: int, repeat: int = 1) -> Network:
    """Join the points of an n×n torus by four shears: the expander of Margulis, Gabber and Galil.

    Point (x, y), wire n·x + y, is joined to (x + 2y, y), (x + 2y + 1, y), (x, y + 2x) and
    (x, y + 2x + 1) modulo n. Of at most 8 edges at each wire, loops are left out, and of parallel
    edges all but one; 4d − 6n are left, n = √d. Parameters are the edges, times `repeat`. No draw
    is needed: every member is an expander, with second eigenvalue at most 5√2. Dense when
    repeated as often as the diameter, of the order of log d, or before; how often is measured.

    Parameters
    ----------
    width : int
        n², n at least 2.
    repeat : int
        How many times the stages follow each other.

    Raises
    ------
    WidthError
        For any other width.

    References
    ----------
    G. A. Margulis, Explicit constructions of concentrators, 1973.
    O. Gabber and Z. Galil, Explicit constructions of linear-sized superconcentrators, 1981.

    Examples
    --------
    >>> margulis(64).parameters
    208
    """
    import networkx as nx

    check_edges("margulis", width, 4 * width)
    n = math.isqrt(width)
    graph = nx.margulis_gabber_galil_graph(n)
    return network_of(width, ((n * x + y, n * u + v) for (x, y), (u, v) in graph.edges()), repeat)


def _chordal_refuses(width: int, repeat: int) -> str | None:
    whole(repeat, "repeat", 1)
    prime = width >= 5 and len(prime_factors(width)) == 1
    return None if prime else "width must be a prime, at least 5"


def _chordal_claims(width: int, repeat: int) -> Claims:
    # Chord and cycle coincide at x − 1/x = ±1: where 5 has a square root.
    parallel = {0: 1, 1: 2, 4: 2}.get(width % 5, 0)
    return Claims(parameters=repeat * (width + (width - 3) // 2 - parallel))


@family("primes from 5 on", _chordal_refuses, claims=_chordal_claims)
def chordal_cycle(width: int, repeat: int = 1) -> Network:
    """Join each wire x of a cycle of prime length p to its inverse modulo p: an expander.

    Loops (at 0, 1 and p − 1) and chords parallel to the cycle are left out: two chords where
    p ≡ ±1 mod 5, one at p = 5. So there are p + (p−3)/2 edges, less these; parameters are the
    edges, times `repeat`. No wire is joined to more than 3 others. Dense when repeated as often
    as the diameter, of the order of log p, or before; how often is measured.

    Parameters
    ----------
    width : int
        A prime p, at least 5.
    repeat : int
        How many times the stages follow each other.

    Raises
    ------
    WidthError
        For any other width.

    References
    ----------
    A. Lubotzky, Discrete Groups, Expanding Graphs and Invariant Measures, 1994, theorem 4.4.2.

    Examples
    --------
    >>> chordal_cycle(13).parameters
    18
    """
    import networkx as nx

    check_edges("chordal_cycle", width, 2 * width)
    return network_of(width, nx.chordal_cycle_graph(width).edges(), repeat)
