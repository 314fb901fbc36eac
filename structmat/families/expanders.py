"""Families of expander graphs, which are sparse but highly connected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from structmat.errors import GraphError, check_source, checked_integer, random_source
from structmat.families.graph_families import check_edges, network_of
from structmat.families.number_theory import prime_factors
from structmat.families.registry import Claims, family
from structmat.graph import from_graph
from structmat.networks.network import Network

if TYPE_CHECKING:
    import networkx as nx

_DRAWS = 200  # about two in three draws are Ramanujan, more for small graphs
_DENSE = 1024  # largest width at which all eigenvalues are computed
_LANCZOS = 64  # number of vectors; the eigenvalues of a large graph are closely spaced


def _regular_refuses(width: int, degree: int, rng: object, repeat: int) -> str | None:
    checked_integer(repeat, "repeat", 1)
    check_source(rng)
    size = checked_integer(degree, "degree", 1)
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

    From degree 3 on such a graph is almost always connected, with a diameter of about log d / log(k
    − 1), and nearly optimal as an expander. The network has k·d/2 parameters, times `repeat`. It is
    dense when `repeat` equals the diameter; whether fewer repetitions suffice has to be computed.
    The network for a given seed depends only on the version of networkx.

    Parameters
    ----------
    width : int
        Above `degree`, and even if `degree` is odd.
    degree : int
        The number k of wires to which each wire is joined, at least 1.
    rng : Generator, int or None
        Seed or generator, as accepted by `numpy.random.default_rng`.
    repeat : int
        The number of repetitions of the stages.

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
    sparse = min(degree, width - 1 - degree)  # random pairing fails for nearly complete graphs
    graph = nx.random_regular_graph(sparse, width, seed=int(source.integers(2**32)))
    return graph if sparse == degree else nx.complement(graph)


def _ramanujan_refuses(width: int, degree: int, rng: object, repeat: int) -> str | None:
    return _regular_refuses(width, checked_integer(degree, "degree", 3), rng, repeat)


def _ramanujan_claims(width: int, degree: int, rng: object, repeat: int) -> Claims:  # noqa: ARG001
    return Claims(parameters=repeat * width * degree // 2)


@family("any above degree, even where degree is odd", _ramanujan_refuses, claims=_ramanujan_claims)
def ramanujan(
    width: int, degree: int = 4, rng: np.random.Generator | int | None = None, repeat: int = 1
) -> Network:
    """Draw random regular graphs until one is an optimal expander: a Ramanujan graph.

    All eigenvalues of its adjacency matrix other than ±k are at most 2√(k−1) in modulus, which is
    asymptotically optimal for graphs of degree k; about two draws in three have this property. The
    network has k·d/2 parameters, times `repeat`. It is dense when `repeat` equals the diameter;
    whether fewer repetitions suffice has to be computed. The network for a given seed depends only
    on the version of networkx.

    Parameters
    ----------
    width : int
        Above `degree`, and even if `degree` is odd.
    degree : int
        The number k of wires to which each wire is joined, at least 3.
    rng : Generator, int or None
        Seed or generator, as accepted by `numpy.random.default_rng`.
    repeat : int
        The number of repetitions of the stages.

    Raises
    ------
    WidthError
        For any other width; GraphError if 200 draws in a row fail.

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
        f"ramanujan(width={width}, degree={degree}): none of {_DRAWS} random graphs is Ramanujan;"
        " try another degree or seed"
    )


def _is_ramanujan(graph: nx.Graph[int], degree: int) -> bool:
    """Return whether a regular graph is connected and meets the Ramanujan bound."""
    import networkx as nx
    from scipy.sparse import linalg

    adjacent = nx.to_scipy_sparse_array(graph, nodelist=range(len(graph)), dtype=np.dtype(float))
    if len(graph) <= _DENSE:
        values = np.linalg.eigvalsh(adjacent.toarray())
    else:  # two eigenvalues at each end of the spectrum, from a fixed start vector
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
    lowest = values[1] if values[0] < rounding - degree else values[0]  # −k if bipartite
    return bool(max(-lowest, values[-2]) <= 2 * math.sqrt(degree - 1) + rounding)


def _margulis_refuses(width: int, repeat: int) -> str | None:
    checked_integer(repeat, "repeat", 1)
    square = width > 1 and math.isqrt(width) ** 2 == width
    return None if square else "width must be n² with n ≥ 2"


def _margulis_claims(width: int, repeat: int) -> Claims:
    return Claims(parameters=repeat * (4 * width - 6 * math.isqrt(width)))


@family("n²", _margulis_refuses, claims=_margulis_claims)
def margulis(width: int, repeat: int = 1) -> Network:
    """Join the points of an n×n torus by four shears: the expander of Margulis, Gabber and Galil.

    Point (x, y), wire n·x + y, is joined to (x + 2y, y), (x + 2y + 1, y), (x, y + 2x) and
    (x, y + 2x + 1) modulo n, where n = √d. Each wire has at most 8 edges; after removal of loops
    and parallel edges 4d − 6n edges remain. There is one parameter per edge, times `repeat`. The
    construction is deterministic, and each of these graphs is an expander, with second eigenvalue
    at most 5√2. The network is dense when `repeat` equals the diameter, which is O(log d); whether
    fewer repetitions suffice has to be computed.

    Parameters
    ----------
    width : int
        n² with n ≥ 2.
    repeat : int
        The number of repetitions of the stages.

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
    checked_integer(repeat, "repeat", 1)
    prime = width >= 5 and len(prime_factors(width)) == 1
    return None if prime else "width must be a prime ≥ 5"


def _chordal_claims(width: int, repeat: int) -> Claims:
    # A chord coincides with a cycle edge if x − 1/x = ±1, which needs a square root of 5.
    parallel = {0: 1, 1: 2, 4: 2}.get(width % 5, 0)
    return Claims(parameters=repeat * (width + (width - 3) // 2 - parallel))


@family("primes from 5 on", _chordal_refuses, claims=_chordal_claims)
def chordal_cycle(width: int, repeat: int = 1) -> Network:
    """Join each wire x of a cycle of prime length p to its inverse modulo p: an expander.

    Loops (at 0, 1 and p − 1) and chords that coincide with cycle edges are omitted: two such chords
    if p ≡ ±1 mod 5, one if p = 5. There are p + (p−3)/2 edges, minus the omitted chords, and one
    parameter per edge, times `repeat`. No wire is joined to more than 3 others. The network is
    dense when `repeat` equals the diameter, which is O(log p); whether fewer repetitions suffice
    has to be computed.

    Parameters
    ----------
    width : int
        A prime p ≥ 5.
    repeat : int
        The number of repetitions of the stages.

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
