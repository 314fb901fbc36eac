"""The numbers shown for a network, computed with a bounded amount of work at every width."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.analysis.densities import sampled_inputs
from structmat.analysis.dimension import dimension
from structmat.analysis.mixing import averaged, mean_deviation, mixing
from structmat.analysis.reachability import (
    components,
    leading_dense_depth,
    reach,
    separation,
    unreached,
)
from structmat.analysis.switch_lists import distinct_pairs
from structmat.families import Rule
from structmat.networks.network import Network

_BITS = 2**34  # maximum of width² × stages for which the reachability is computed
_ROUNDS = 2**26  # maximum of width × radices of all banks: wires of a switch are visited in turn
_COUNTED = 4096  # maximum width at which all pairs of an input and an output are counted
_SMALL = 512  # maximum width at which `mixing` computes all singular values
_VISITS = 2**25  # maximum number of wires × stages visited by the products of a Lanczos iteration
_FEWEST = 40  # a Lanczos iteration needs at least about as many products to converge
_PAIRS = 2**22  # maximum number of pairs of wires in switches that are compared
_SWITCHES = 2**16  # maximum number of switches whose gauge redundancy is computed
_BINS = 64

JSON = dict[str, Any]
Vectors = npt.NDArray[np.float64]


class _UnconvergedError(Exception):
    """A Lanczos iteration needs more products than are allowed."""


def density(net: Network, rule: Rule | None = None) -> tuple[JSON, dict[str, str]]:
    """Return how many pairs of an input and an output are connected, and whether all are.

    Wide networks with many stages are examined from a sample of inputs; if these influence every
    output, the claims of the family decide.

    Returns
    -------
    (numbers, reasons)
        The entries reached, dense, dense_depth and why_not_dense; and, by name, why an entry is
        None.

    Examples
    --------
    >>> density(Network.of(3, [[[0, 1]], [[1, 2]], [[0, 1]]]))[0]
    {'reached': 9, 'dense': True, 'dense_depth': 3, 'why_not_dense': None}
    >>> from structmat.families import parse
    >>> rule = parse("benes")
    >>> numbers, reasons = density(rule(2**16), rule)
    >>> numbers["dense"], numbers["dense_depth"]
    (True, 16)
    """
    width = net.width
    pairs = width**2
    rounds = sum(bank.radix for bank in net.banks) * width
    if pairs * net.depth <= _BITS and rounds <= _ROUNDS:
        depth = leading_dense_depth(net)
        if depth is not None:
            return _dense(pairs, depth), {}
        missing = unreached(net)
        count = int(reach(net).sum()) if width <= _COUNTED else None
    else:
        missing = unreached(net, sampled_inputs(width, _BINS)[0])
        if missing is None:
            return _claimed(net, rule)
        count = None
    why = None if missing is None else separation(net, missing)
    reasons = {} if count is not None else {"reached": f"{pairs:,} pairs take too long to count"}
    return {"reached": count, "dense": False, "dense_depth": None, "why_not_dense": why}, reasons


def _dense(pairs: int, depth: int | None) -> JSON:
    return {"reached": pairs, "dense": True, "dense_depth": depth, "why_not_dense": None}


def _claimed(net: Network, rule: Rule | None) -> tuple[JSON, dict[str, str]]:
    """Return what a family claims about a network whose sampled inputs influence every output."""
    claims = None if rule is None else rule.claims(net.width)
    if claims is not None and claims.dense:
        known = claims.dense_at is not None
        reasons = (
            {} if known else {"dense_depth": "computing it takes too long here; use sm.report(net)"}
        )
        return _dense(net.width**2, claims.dense_at), reasons
    count = len(sampled_inputs(net.width, _BINS)[0])
    why = (
        f"{count:,} of {net.width:,} inputs were tried, and influence every output; sm.report(net)"
    )
    reasons = dict.fromkeys(("reached", "dense", "dense_depth"), f"{why} tries all")
    return {"reached": None, "dense": None, "dense_depth": None, "why_not_dense": None}, reasons


def connected(net: Network) -> JSON:
    """Return the number of connected components and, if there are several, their sizes.

    Examples
    --------
    >>> connected(Network.of(4, [[[0, 1]], [[1, 2]]])), connected(Network.of(2, [[[0, 1]]]))
    ({'count': 2, 'sizes': [3, 1]}, {'count': 1})
    """
    sizes = list(components(net).sizes)
    return {"count": len(sizes)} | ({"sizes": sizes} if len(sizes) > 1 else {})


def mixing_value(net: Network, *, separate: bool) -> JSON | None:
    """Return the mixing with the method by which it was computed, or None if it takes too long.

    Parameters
    ----------
    net : Network
    separate : bool
        Whether the network has several components; its mixing is then 1.

    Examples
    --------
    >>> mixing_value(Network.of(2, [[[0, 1]]]), separate=False)
    {'value': 0.0, 'method': 'from all singular values'}
    """
    if separate:
        return {"value": 1.0, "method": "no signal passes between the components"}
    if net.width <= _SMALL:
        return {"value": mixing(net), "method": "from all singular values"}
    allowed = _VISITS // max(1, net.width * net.depth)
    used = 0

    def counted(network: Callable[[], Network]) -> Callable[[Vectors], Vectors]:
        def product(x: Vectors) -> Vectors:
            nonlocal used
            used += 1
            if used > 1 and allowed < max(used, _FEWEST):  # one product detects perfect mixing
                raise _UnconvergedError
            return averaged(network(), x)

        return product

    try:
        value = mean_deviation(net.width, counted(lambda: net), counted(cache(net.inverse)))
    except _UnconvergedError:
        return None
    return {"value": value, "method": "by a Lanczos iteration"}


def dimension_bounds(net: Network) -> JSON:
    """Return bounds on the dimension that are computed quickly at every width.

    The lower bound is the rank of the derivative at the identity, which is the number of pairs of
    wires that share a switch; it is 0 if there are too many pairs to compare.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> found = dimension_bounds(butterfly(8).repeat(2))
    >>> found["lower"], found["upper"], found["value"]
    (12, 24, None)
    """
    group = net.width * (net.width - 1) // 2
    upper = min(net.parameters, group)
    lower = 0
    if net.parameters <= _PAIRS:
        straight = net.straightened().network
        lower = distinct_pairs((bank.reads for bank in straight.banks if bank.radix > 1), net.width)
    return dimension_entry(lower, upper, net.parameters, ranked=False)


def dimension_value(net: Network, *, largest: int | None) -> JSON:
    """Return the dimension, or bounds on it if `largest` does not permit computing the rank.

    Without `largest`, or with very many switches, the bounds are those of `dimension_bounds`.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> dimension_value(butterfly(8), largest=100)
    {'lower': 12, 'upper': 12, 'parameters': 12, 'ranked': True, 'value': 12, 'proved': True, \
'redundant': 0, 'late': False}
    """
    if largest is None or sum(bank.count for bank in net.banks) > _SWITCHES:
        return dimension_bounds(net)
    found = dimension(net, largest=largest)
    return dimension_entry(found.lower, found.upper, found.parameters, ranked=found.ranked)


def dimension_entry(lower: int, upper: int, parameters: int, *, ranked: bool) -> JSON:
    """Return bounds on the dimension, with a value if it is known with high probability.

    Examples
    --------
    >>> dimension_entry(3, 5, 6, ranked=False)["value"] is None
    True
    """
    proved = lower == upper
    value = lower if ranked or proved else None
    return {
        "lower": lower,
        "upper": upper,
        "parameters": parameters,
        "ranked": ranked,
        "value": value,
        "proved": proved,
        "redundant": parameters - (upper if value is None else value),
        "late": False,
    }
