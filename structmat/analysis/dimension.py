"""Proved bounds on the dimension of the set of matrices that a network can represent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from structmat.analysis.switch_lists import (
    Part,
    gauge_bound,
    less_covered,
    network_of,
    normal_form,
    parameters_of,
    parts,
    shared_pairs,
    width_of,
)
from structmat.errors import (
    StructmatError,
    abbreviated,
    checked_integer,
    is_sequence,
    random_source,
)
from structmat.families.resolution import checked
from structmat.linalg import modular
from structmat.linalg.modular import MERSENNE, Residues
from structmat.networks.network import Network

Mask: TypeAlias = npt.NDArray[np.bool_]

_TRIES = 16  # attempts to draw a point at which every Cayley transform exists


@dataclass(frozen=True)
class Dimension:
    """Proved bounds on the dimension of the set of matrices that a network can represent.

    Attributes
    ----------
    lower, upper : int
        Proved lower and upper bounds on the dimension.
    parameters : int
        The number of parameters of the blocks.
    ranked : bool
        False if `largest` caused the rank computation to be skipped and the bounds differ; the
        dimension can then be far from both. If True, a lower bound below the upper one is the rank
        at random points.
    """

    lower: int
    upper: int
    parameters: int
    ranked: bool = True

    @property
    def value(self) -> int:
        """The lower bound, which is the dimension with high probability if `ranked`."""
        return self.lower

    @property
    def proved(self) -> bool:
        """Whether the bounds coincide."""
        return self.lower == self.upper

    @property
    def redundant(self) -> int:
        """The number of parameters in excess of `value`."""
        return self.parameters - self.value

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers by name, as a JSON-serialisable dict."""
        return asdict(self) | {
            "value": self.value,
            "proved": self.proved,
            "redundant": self.redundant,
        }


def dimension(
    net: Network,
    *,
    points: int = 1,
    primes: Sequence[int] = (MERSENNE,),
    rng: np.random.Generator | int | None = 0,
    largest: int | None = None,
    columns: int | None = None,
) -> Dimension:
    """Return the dimension of the set of matrices in SO(d) that the network can represent.

    The upper bound is `structmat.analysis.switch_lists.upper_bound`. The first lower bound is the
    rank of the derivative at the identity, which is the number of pairs of wires that share a
    switch; for mixed_radix, round_robin and two stages of BOFT it equals the upper bound.
    Otherwise, the rank of the derivative is computed modulo a prime, at a random point whose blocks
    are Cayley transforms of integer matrices. The rank at one point modulo one prime is at most the
    generic rank, which is the dimension, so the bound holds for every draw. Computing the rank
    takes time cubic in the dimension, a few seconds for 2,000 and about a minute for 6,000. The
    memory required is proportional to the number of parameters times the upper bound.

    Parameters
    ----------
    net : Network
        It need not be straight: permutations before and after do not change the dimension.
    points : int
        The number of points tried for each prime; the largest rank is used.
    primes : sequence of int
        Odd primes below 2³¹.
    rng : Generator, int or None
        The source of the random points.
    largest : int, optional
        Skip the rank computation for connected components in which the number of parameters times
        the upper bound exceeds largest². By default no component is skipped.
    columns : int, optional
        A number n: return the dimension of the set of the first n columns of R, a subset of the
        Stiefel manifold, which has dimension d·n − n(n+1)/2. By default all of R is used.

    Returns
    -------
    Dimension

    Raises
    ------
    StructmatError
        For an invalid argument.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> boft = dimension(butterfly(32, block=8, depth=3))
    >>> boft.parameters, boft.value, boft.proved, boft.redundant
    (336, 240, True, 96)
    >>> dimension(butterfly(1024).repeat(2), largest=6000)
    Dimension(lower=5120, upper=10240, parameters=10240, ranked=False)
    """
    net = checked(net, "dimension")
    size = checked_integer(points, "points", 1)
    if not is_sequence(primes):
        raise StructmatError(
            f"primes={abbreviated(primes)}: it must be a list of primes, such as [{MERSENNE}]"
        )
    if not len(primes):
        raise StructmatError("primes=(): give at least one odd prime below 2^31")
    odd = [_checked_prime(prime) for prime in primes]
    source = random_source(rng)
    entries = None if largest is None else checked_integer(largest, "largest", 0) ** 2
    if columns is not None:
        return _of_columns(net, _checked_columns(columns, net.width), size, odd, source, entries)
    lower = upper = 0
    ranked = True
    for part, times in Counter(
        parts(normal_form(net))
    ).items():  # most networks have few distinct components
        low, high = shared_pairs(part), min(gauge_bound(part), comb(width_of(part), 2))
        if low < high:
            skipped = entries is not None and parameters_of(part) * high > entries
            if not skipped:
                low = _rank(part, low, high, size, odd, source)
            if low < high:  # this bound takes longer than the first, but less than the rank
                high = min(high, less_covered(part))
            ranked = ranked and not (skipped and low < high)
        lower, upper = lower + times * low, upper + times * high
    return Dimension(lower, upper, net.parameters, ranked)


def _checked_columns(columns: int, width: int) -> int:
    count = checked_integer(columns, "columns", 1)
    if count > width:
        raise StructmatError(f"columns={count}: the matrix has only {width} columns")
    return count


def _of_columns(
    net: Network,
    columns: int,
    points: int,
    primes: Sequence[int],
    rng: np.random.Generator,
    entries: int | None,
) -> Dimension:
    """Return bounds on the dimension of the set of the first columns."""
    straight = net.straightened().network
    stiefel = net.width * columns - columns * (columns + 1) // 2
    upper = min(dimension(straight, largest=0).upper, stiefel)
    if entries is not None and net.parameters * upper > entries:
        return Dimension(0, upper, net.parameters, ranked=False)
    lower = 0
    for prime in primes:
        for _ in range(points):
            if lower < upper:
                found = tangents(straight, prime, rng, probes=upper, columns=columns)
                lower = max(lower, modular.rank(found, prime))
    return Dimension(lower, upper, net.parameters)


def _rank(
    part: Part,
    lower: int,
    upper: int,
    points: int,
    primes: Sequence[int],
    rng: np.random.Generator,
) -> int:
    """Return the largest rank of the derivative at some points, but at least `lower`."""
    net = network_of(part)
    for prime in primes:
        for _ in range(points):
            if lower < upper:
                lower = max(lower, modular.rank(tangents(net, prime, rng, probes=upper), prime))
    return lower


def _checked_prime(prime: int) -> int:
    number = checked_integer(prime, "prime", 3)
    if number == MERSENNE:  # the default, for which trial division would be slow
        return number
    if number > MERSENNE or any(number % k == 0 for k in range(2, int(number**0.5) + 1)):
        raise StructmatError(f"prime={number}: give an odd prime below 2^31, such as {MERSENNE}")
    return number


def tangents(
    net: Network,
    prime: int,
    rng: np.random.Generator,
    kept: Sequence[Mask] | None = None,
    *,
    probes: int | None = None,
    columns: int | None = None,
) -> Residues:
    """Return the derivative of the matrix of a straight network at a random point, modulo p.

    A block is B = (I + Q)(I − Q)⁻¹. Let V (width, width) be the product of the preceding stages,
    and w_i the row of wire i in V + B V; the derivative of R by the generator Q_ij is then
    R·(w_i ∧ w_j)/2. Each bivector w_i ∧ w_j is represented by its values
    (w_i·a)(w_j·b) − (w_i·b)(w_j·a) at random pairs (a, b) of vectors (width,). The values are
    linear functions of the bivector, and because the bivectors a ∧ b span the space of all
    bivectors, these functions are independent for almost all pairs.

    Parameters
    ----------
    net : Network
    prime : int
    rng : Generator
    kept : sequence of (n, g) bool, optional
        The generators that are free, for each bank; the others remain zero.
    probes : int, optional
        The number of pairs; by default d(d−1)/2, the dimension of the space of bivectors.
    columns : int, optional
        Use only this many leading columns of R: each b is then zero after as many entries, so the
        values aᵀ Rᵀ dR b are linear functions of these columns of dR.

    Returns
    -------
    (free generators, probes) residues modulo p
        The rank of this array is at most the rank of the derivative.

    Raises
    ------
    StructmatError
        If no draw yields a point at which all Cayley transforms exist, which happens only for small
        primes.
    """
    if kept is None:
        kept = [np.ones((bank.count, comb(bank.radix, 2)), dtype=bool) for bank in net.banks]
    size = comb(net.width, 2) if probes is None else probes
    here = rng.integers(0, prime, (net.width, 2 * size)).astype(float)  # V a, and V b
    if columns is not None:
        here[columns:, size:] = 0
    found = []
    masks = iter(kept)
    for stage in net.stages:
        after = here.copy()
        for bank in stage.banks:
            mask = next(masks)
            before = here[bank.reads]
            rotated = modular.product(_rotations(mask, bank.radix, prime, rng), before, prime)
            after[bank.reads] = rotated
            both = modular.reduced(before + rotated, prime)
            switch, pair = np.nonzero(mask)
            i, j = np.triu_indices(bank.radix, 1)
            (ia, ib), (ja, jb) = (np.split(both[switch, side[pair]], 2, axis=1) for side in (i, j))
            values = modular.times(ia, jb, prime)
            values -= modular.times(ib, ja, prime)
            values += (values < 0) * float(prime)
            found.append(values)
        here = after
    return np.concatenate(found)


def _rotations(kept: Mask, radix: int, prime: int, rng: np.random.Generator) -> Residues:
    i, j = np.triu_indices(radix, 1)
    for _ in range(_TRIES):
        drawn = rng.integers(0, prime, kept.shape).astype(float) * kept
        skew = np.zeros((len(kept), radix, radix))
        skew[:, i, j] = drawn
        skew[:, j, i] = (prime - drawn) * (drawn > 0)
        blocks = modular.cayley(skew, prime)
        if blocks is not None:
            return blocks
    raise StructmatError(f"prime={prime}: no valid point in {_TRIES} draws; use a larger prime")
