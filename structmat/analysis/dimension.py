"""The dimension of the set of matrices that a network covers: proved lower and upper bounds."""

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
        Whether the lower bound, where it is below the upper one, is a rank at random points. If
        not, the rank was skipped because of `largest`, and the dimension can be far from both
        bounds.
    """

    lower: int
    upper: int
    parameters: int
    ranked: bool = True

    @property
    def value(self) -> int:
        """The dimension, or if it is not proved, the lower bound; almost surely exact if ranked."""
        return self.lower

    @property
    def proved(self) -> bool:
        """Whether the bounds coincide."""
        return self.lower == self.upper

    @property
    def redundant(self) -> int:
        """The number of parameters in excess of the dimension."""
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
    """Return the dimension of the set of matrices in SO(d) that the network covers.

    The upper bound is `structmat.analysis.switch_lists.upper_bound`. The first lower bound is the
    rank of the derivative at the identity, which is the number of pairs of wires that share a
    switch; for mixed_radix, round_robin and two stages of BOFT it already meets the upper bound.
    Otherwise, the rank of the derivative is computed modulo a prime, at a random point whose blocks
    are Cayley transforms of integer matrices. The rank at one point modulo one prime is at most the
    generic rank, which is the dimension, so the bound holds for every draw. Computing the rank
    takes time cubic in the dimension, a few seconds for 2,000 and about a minute for 6,000, and
    memory for parameters × dimension numbers.

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
        Skip the rank of connected components with parameters × upper bound above largest², leaving
        the bounds that require no rank. By default all ranks are computed.
    columns : int, optional
        The number n of leading columns of R whose dimension is to be computed; they lie in the
        Stiefel manifold, which has dimension d·n − n(n+1)/2. By default all of R is used.

    Returns
    -------
    Dimension

    Raises
    ------
    StructmatError
        For invalid points or primes, or a negative `largest`.

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
            if low < high:  # computing the rank takes longer
                high = min(high, less_covered(part))
            ranked = ranked and not (skipped and low < high)
        lower, upper = lower + times * low, upper + times * high
    return Dimension(lower, upper, net.parameters, ranked)


def _checked_columns(columns: int, width: int) -> int:
    count = checked_integer(columns, "columns", 1)
    if count > width:
        raise StructmatError(f"columns={count}: the matrix has {width}")
    return count


def _of_columns(
    net: Network,
    columns: int,
    points: int,
    primes: Sequence[int],
    rng: np.random.Generator,
    entries: int | None,
) -> Dimension:
    """Return the dimension of the first columns; see `tangents` for the directions."""
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
    """Return the largest rank at some points, or the lower bound if that is larger."""
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
    """Return tangent directions of the matrix of a straight network at a random point mod p.

    A block is B = (I + Q)(I − Q)⁻¹. Let V be the product of the preceding stages, and w_i the row
    of wire i in V + B V; the generator Q_ij then moves R along R·(w_i ∧ w_j)/2. Each 2-vector is
    represented by its values (w_i·a)(w_j·b) − (w_i·b)(w_j·a) at random pairs (a, b) of vectors.
    The values are linear functions of the 2-vector, and because the a ∧ b span all 2-vectors, these
    functions are independent for almost all pairs.

    Parameters
    ----------
    net : Network
    prime : int
    rng : Generator
    kept : sequence of (n, g) bool, optional
        The generators that are free, for each bank; the others remain zero.
    probes : int, optional
        The number of pairs; by default d(d−1)/2, the dimension of all 2-vectors.
    columns : int, optional
        Use only this many leading columns of R: b is then drawn from the vectors that are zero
        after these, so the values aᵀ Rᵀ dR b are linear functions of these columns of dR.

    Returns
    -------
    (generators, probes)
        The rank is at most that of the tangent directions.

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
