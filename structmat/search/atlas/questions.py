"""The questions that the atlas answers: what a record minimises or maximises, and its bound.

The theorems that prove the bounds are those of theory/ (the Theory page).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, NamedTuple

import numpy as np

from structmat.analysis.dimension import dimension
from structmat.analysis.jacobian import jacobian
from structmat.analysis.lower_bounds import (
    lower_bounds,
    mixing_depth_bound,
    mixing_obstacle,
)
from structmat.analysis.mixing import mixes_exactly, mixing
from structmat.analysis.most_dimensions import most_dimensions
from structmat.analysis.reachability import is_dense
from structmat.analysis.switch_lists import distinct_pairs
from structmat.families import parse
from structmat.families.number_theory import prime_factors
from structmat.fitting import fit
from structmat.linalg.blocks import random_blocks
from structmat.networks.network import Network
from structmat.search.atlas.stored_topology import Topology
from structmat.search.choice.contender import ONTO

WIDTHS = (*range(2, 65), 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
BLOCKS = (2, 4, 8, 16)
FIT_WIDTHS = (4, 6, 8, 9, 10, 12, 16)
CONDITIONED_WIDTHS = tuple(range(3, 17))

_EXACT = 64  # the largest width for perfect mixing in exact arithmetic, and for ranks
_ZERO = 1e-12  # σ₂ of a larger network that counts as zero; non-zero values here are above 1e-3
_RANKED = 500  # `largest` of `dimension`: a rank of up to 500 takes a fraction of a second
_SAMPLES = 9  # targets, or draws of blocks; the 2nd and the 8th of nine enclose the true median
_SWEEPS = 100

# Families without a redundant parameter up to their default depth (a brick-wall only with 2×2
# switches), and those that cover all of SO(d) at that depth, with the theorems that prove it.
_WITHOUT_REDUNDANCY = {
    "affine": "T2",
    "brickwall": "T31",
    "mixed_radix": "T5",
    "monarch": "T5",
    "round_robin": "T14",
    "ruler": "T12",
    "triangle": "T31",
}
_PLAIN = {"block", "depth", "radices", "largest"}  # options that keep the structure of these


class Measured(NamedTuple):
    """The value of a network for a purpose.

    Attributes
    ----------
    value : int or float
    evidence : str
        "closed form", "exact", "rank", "rounding" or "measured"; see `EVIDENCE`.
    interval : (float, float) or None
        For a measured value, an interval that contains the median with 96% confidence.
    """

    value: float
    evidence: str
    interval: tuple[float, float] | None = None


EVIDENCE: Mapping[str, str] = {
    "closed form": "proved for the family, by its claims and the theorems on which they rest",
    "exact": "computed exactly for this network: reachability, rational averages, or a dimension",
    "rank": "a proved lower bound on the dimension: a rank modulo a prime, or the number of pairs"
    " of wires that share a switch",
    "rounding": "computed in floating point: zero up to rounding",
    "measured": "the median of nine random draws, with a 96% confidence interval",
}


@dataclass(frozen=True)
class Question:
    """A question that the atlas answers for each width and block size.

    Attributes
    ----------
    name : str
    quantity : str
        What the value is: "parameters", "depth", "dimension", "error" or "ratio".
    title : str
        What the record has: "fewest parameters of a dense network".
    bound : function of width and block
        The proved bound on the value, or None if there is none.
    source : str
        The theorem behind the bound, with its file in theory/.
    measure : function of a Topology and a block
        The value of a network, or None if it does not serve the purpose.
    maximise : bool
    widths : tuple of int
    obstacle : function of width and block
        The reason why no network serves the purpose, or None.
    """

    name: str
    quantity: str
    title: str
    bound: Callable[[int, int], int | None]
    source: str
    measure: Callable[[Topology, int], Measured | None]
    maximise: bool = False
    widths: tuple[int, ...] = WIDTHS
    obstacle: Callable[[int, int], str | None] = lambda _width, _block: None

    def respects(self, value: float, width: int, block: int) -> bool:
        """Return whether a value is on the right side of the bound."""
        bound = self.bound(width, block)
        return bound is None or (value <= bound if self.maximise else value >= bound)

    def key(self, value: float, parameters: int, depth: int) -> tuple[float, int, int]:
        """Return the key by which networks are ordered, best first."""
        return (-value if self.maximise else value, parameters, depth)


# Bounds -----------------------------------------------------------------------------------------


@functools.cache
def _bounds(width: int, block: int) -> Mapping[tuple[str, str], int]:
    rows = lower_bounds(width, block=min(block, width)).rows
    return {(row.goal, row.quantity): row.least for row in rows}


def _bound(goal: str, quantity: str) -> Callable[[int, int], int]:
    return lambda width, block: _bounds(width, block)[goal, quantity]


def _pairs(width: int, _block: int = 0) -> int:
    return comb(width, 2)


def half(width: int, _block: int = 0) -> int:
    """Return half of the dimension of SO(d), rounded up.

    Examples
    --------
    >>> half(4), half(7)
    (3, 11)
    """
    return -(-comb(width, 2) // 2)


def _most_dimensions(width: int, block: int) -> int:
    return most_dimensions(width, block, _bounds(width, block)["dense", "depth"])


def budget(width: int, _block: int = 0) -> int:
    """Return the parameters of `mixed_radix` with the prime factors as radices.

    Examples
    --------
    >>> budget(8), budget(12)
    (12, 24)
    """
    return width * sum(prime - 1 for prime in prime_factors(width)) // 2


# Measures ---------------------------------------------------------------------------------------


def _density(topology: Topology) -> str | None:
    """Return the evidence that the network is dense, or None."""
    if topology.claims.dense:
        return "closed form"
    return "exact" if is_dense(topology.network) else None


def _mixing(topology: Topology) -> str | None:
    """Return the evidence that the network mixes perfectly, or None."""
    if topology.switches is None and topology.name in ("mixed_radix", "monarch"):
        return "closed form"
    net = topology.network
    if net.width <= _EXACT:
        return "exact" if mixes_exactly(net) else None
    return "rounding" if mixing(net) < _ZERO else None


def _dimension(topology: Topology) -> Measured:
    """Return a proved lower bound on the dimension, and how it was found."""
    if _has_no_redundancy(topology):
        return Measured(topology.network.parameters, "closed form")
    net = topology.network
    if net.width > _EXACT:
        straight = net.straightened().network
        met = distinct_pairs((bank.reads for bank in straight.banks), net.width)
        return Measured(met, "exact" if met in (net.parameters, comb(net.width, 2)) else "rank")
    found = dimension(net, largest=_RANKED)
    return Measured(found.lower, "exact" if found.proved else "rank")


def _has_no_redundancy(topology: Topology) -> bool:
    """Return whether the network is a leading part of one that is known to have no redundancy."""
    options = _options(topology)
    if topology.name not in _WITHOUT_REDUNDANCY or not set(options) <= _PLAIN:
        return False
    if topology.name == "brickwall" and options.pop("block", 2) != 2:
        return False
    depth = options.pop("depth", None)
    if depth is None:
        return True
    whole = parse(topology.name).with_options(**options).claims(topology.width).depth
    return whole is not None and bool(depth <= whole)


def _onto(topology: Topology) -> str | None:
    """Return the evidence that the network covers SO(d), or None if no proof is known."""
    net = topology.network
    if any(bank.radix == net.width for bank in net.banks):
        return "closed form"  # one switch on all wires
    whole = topology.switches is None and set(_options(topology)) <= {"block"}
    return "closed form" if topology.name in ONTO and whole else None


def _options(topology: Topology) -> dict[str, Any]:
    return {} if topology.spec is None else dict(getattr(parse(topology.spec), "options", ()))


def _fewest(quantity: str, holds: Callable[[Topology], str | None]) -> Any:
    """Return a measure: a count of the network, if it satisfies a requirement."""

    def measure(topology: Topology, _block: int) -> Measured | None:
        evidence = holds(topology)
        if evidence is None:
            return None
        return Measured(getattr(topology.network, quantity), evidence)

    return measure


def _covering(least: Callable[[int], int]) -> Callable[[Topology], str | None]:
    """Return the requirement that the dimension is at least this function of the width."""

    def holds(topology: Topology) -> str | None:
        if topology.network.parameters < least(topology.width):
            return None
        if evidence := _onto(topology):
            return evidence
        found = _dimension(topology)
        return found.evidence if found.value >= least(topology.width) else None

    return holds


def _dimensions(topology: Topology, block: int) -> Measured | None:
    shallow = topology.network.depth <= _bounds(topology.width, block)["dense", "depth"]
    return _dimension(topology) if shallow else None


def _fit_error(topology: Topology, block: int) -> Measured | None:
    net = topology.network
    return _fitted(net) if net.parameters <= budget(net.width, block) else None


@functools.lru_cache(maxsize=256)  # the records of several block sizes share networks
def _fitted(net: Network) -> Measured:
    errors = []
    for seed in range(_SAMPLES):
        [[target]] = random_blocks(Network.of(net.width, [[range(net.width)]]), rng=seed)
        found = fit(net, target, rng=seed, special=True, sweeps=_SWEEPS, progress=False)
        errors.append(found.error)
    return _median(errors)


def _conditioning(topology: Topology, _block: int) -> Measured | None:
    net = topology.network
    whole = net.parameters == comb(net.width, 2) == _dimension(topology).value
    return _conditioned(net) if whole else None


@functools.lru_cache(maxsize=256)
def _conditioned(net: Network) -> Measured:
    ratios = []
    for seed in range(_SAMPLES):
        values = np.linalg.svd(jacobian(net, random_blocks(net, rng=seed)), compute_uv=False)
        ratios.append(values[-1] / values[0])  # no direction is redundant
    return _median(ratios)


def _median(values: Sequence[float]) -> Measured:
    """Return the median of nine values, with its 96.1 % interval by the binomial distribution."""
    low, middle, high = (float(f"{sorted(values)[k]:.4g}") for k in (1, _SAMPLES // 2, 7))
    return Measured(middle, "measured", (low, high))


_T13 = "T13 (universal_depth.py)"

QUESTIONS: Mapping[str, Question] = {
    purpose.name: purpose
    for purpose in (
        Question(
            "dense",
            "parameters",
            "fewest parameters of a dense network",
            _bound("dense", "parameters"),
            "T7 (gossip_bound.py)",
            _fewest("parameters", _density),
        ),
        Question(
            "dense-depth",
            "depth",
            "fewest stages of a dense network",
            _bound("dense", "depth"),
            "T6 (shuffle_depth.py), T55 (smallest_switch.py)",
            _fewest("depth", _density),
        ),
        Question(
            "mixing",
            "parameters",
            "fewest parameters of a network that mixes perfectly",
            _bound("mixing", "parameters"),
            "T9 (perfect_mixing.py), T56 (mixing_by_primes.py)",
            _fewest("parameters", _mixing),
            obstacle=mixing_obstacle,
        ),
        Question(
            "mixing-depth",
            "depth",
            "fewest stages of a network that mixes perfectly",
            mixing_depth_bound,
            "T55 (smallest_switch.py), T56 (mixing_by_primes.py)",
            _fewest("depth", _mixing),
            obstacle=mixing_obstacle,
        ),
        Question(
            "half-dimension",
            "parameters",
            "fewest parameters of a network with half of the dimension of SO(d)",
            half,
            "T2 (gauge_bound.py)",
            _fewest("parameters", _covering(half)),
        ),
        Question(
            "full-dimension",
            "parameters",
            "fewest parameters of a network with the dimension of SO(d)",
            _bound("universal", "parameters"),
            _T13,
            _fewest("parameters", _covering(_pairs)),
        ),
        Question(
            "universal",
            "parameters",
            "fewest parameters of a network that covers all of SO(d)",
            _bound("universal", "parameters"),
            _T13,
            _fewest("parameters", _onto),
        ),
        Question(
            "full-dimension-depth",
            "depth",
            "fewest stages of a network with the dimension of SO(d)",
            _bound("universal", "depth"),
            _T13,
            _fewest("depth", _covering(_pairs)),
        ),
        Question(
            "universal-depth",
            "depth",
            "fewest stages of a network that covers all of SO(d)",
            _bound("universal", "depth"),
            _T13,
            _fewest("depth", _onto),
        ),
        Question(
            "dimension",
            "dimension",
            "largest dimension within the fewest stages that a dense network needs",
            _most_dimensions,
            "T59 (overlapping_stages.py)",
            _dimensions,
            maximise=True,
        ),
        Question(
            "fit",
            "error",
            "smallest error of fits to Haar rotations, with at most the parameters of mixed_radix",
            lambda _width, _block: None,
            "none",
            _fit_error,
            widths=FIT_WIDTHS,
        ),
        Question(
            "conditioning",
            "ratio",
            "largest σ_min/σ_max of a network with the dimension of SO(d) and as many parameters",
            lambda _width, _block: 1,
            "σ_min ≤ σ_max",
            _conditioning,
            maximise=True,
            widths=CONDITIONED_WIDTHS,
        ),
    )
}
