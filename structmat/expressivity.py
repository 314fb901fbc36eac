"""How many dimensions of SO(d) a network covers: proved bounds from below and from above."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from structmat import modular
from structmat.errors import StructmatError, is_sequence, random_source, whole
from structmat.gates import (
    Part,
    less_covered,
    less_trades,
    network_of,
    normal_form,
    parameters_of,
    parts,
    shared_pairs,
    width_of,
)
from structmat.modular import MERSENNE, Residues
from structmat.network import Network, checked

Mask: TypeAlias = npt.NDArray[np.bool_]

_TRIES = 16  # draws of a point at which every Cayley transform exists


@dataclass(frozen=True)
class Dimension:
    """The dimension of the set of matrices that a network can be, as far as it is proved.

    Attributes
    ----------
    lower, upper : int
        Proved bounds.
    parameters : int
        What the blocks have.
    ranked : bool
        Whether the lower bound, where it is below the upper one, is a rank at random points. Else
        a rank was too much for the `largest` given, and the dimension can be far from both.
    """

    lower: int
    upper: int
    parameters: int
    ranked: bool = True

    @property
    def value(self) -> int:
        """The dimension. Where it is not proved, the lower bound, almost surely it if ranked."""
        return self.lower

    @property
    def proved(self) -> bool:
        """Whether the bounds meet."""
        return self.lower == self.upper

    @property
    def redundant(self) -> int:
        """How many parameters there are beyond the dimension."""
        return self.parameters - self.value

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers by name, ready for JSON."""
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
) -> Dimension:
    """Return how many dimensions of SO(d) the network covers.

    From above: `structmat.gates.upper_bound`. From below, first the rank of the derivative at the
    identity, which is how many pairs of wires ever share a switch; for mixed radices, round-robin
    and two stages of BOFT the bounds meet already. Where they do not: the rank, modulo a prime, of
    the derivative at a random point whose blocks are Cayley transforms of integer matrices. The
    rank at one point modulo one prime is at most the generic rank, which is the dimension, so the
    bound holds whatever was drawn. A rank takes time with the cube of the dimension, some seconds
    for 2,000 and about a minute for 6,000, and memory for parameters × dimension numbers.

    Parameters
    ----------
    net : Network
        Wired ones too: permutations before and after change no dimension.
    points : int
        How many points are tried for each prime; the largest rank counts.
    primes : sequence of int
        Odd primes below 2³¹.
    rng : Generator, int or None
        Where the points come from.
    largest : int, optional
        No rank is computed of a connected part with parameters × upper bound above largest²; it
        is left with the bounds that take none. By default all are computed.

    Returns
    -------
    Dimension

    Raises
    ------
    StructmatError
        For points or primes that are none, or a negative `largest`.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> boft = dimension(butterfly(32, block=8, depth=3))
    >>> boft.parameters, boft.value, boft.proved, boft.redundant
    (336, 240, True, 96)
    >>> dimension(butterfly(1024).repeat(2), largest=6000)
    Dimension(lower=5120, upper=10240, parameters=10240, ranked=False)
    """
    size = whole(points, "points", 1)
    checked(net, "dimension")
    if not is_sequence(primes):
        raise StructmatError(f"primes={primes!r}: give a list of primes, such as [{MERSENNE}]")
    if not len(primes):
        raise StructmatError("primes=(): give at least one odd prime below 2^31")
    odd = [_checked_prime(prime) for prime in primes]
    source = random_source(rng)
    entries = None if largest is None else whole(largest, "largest", 0) ** 2
    lower = upper = 0
    ranked = True
    for part, times in Counter(parts(normal_form(net))).items():  # most networks repeat a few
        low, high = shared_pairs(part), min(less_trades(part), comb(width_of(part), 2))
        if low < high:
            skipped = entries is not None and parameters_of(part) * high > entries
            if not skipped:
                low = _rank(part, low, high, size, odd, source)
            if low < high:  # a closer look takes longer
                high = min(high, less_covered(part))
            ranked = ranked and not (skipped and low < high)
        lower, upper = lower + times * low, upper + times * high
    return Dimension(lower, upper, net.parameters, ranked)


def _rank(
    part: Part,
    lower: int,
    upper: int,
    points: int,
    primes: Sequence[int],
    rng: np.random.Generator,
) -> int:
    """Return the largest rank at some points, or the lower bound where that is more."""
    net = network_of(part)
    for prime in primes:
        for _ in range(points):
            if lower < upper:
                lower = max(lower, modular.rank(tangents(net, prime, rng, probes=upper), prime))
    return lower


def _checked_prime(prime: int) -> int:
    number = whole(prime, "prime", 3)
    if number == MERSENNE:  # the usual one, which division would take long to try
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
) -> Residues:
    """Return directions in which the matrix of a straight network moves, at a random point mod p.

    A block is B = (I + Q)(I − Q)⁻¹. Let V be the product of the stages before, and w_i the row
    of wire i in V + B V; then the generator Q_ij moves R along R·(w_i ∧ w_j)/2. Of this 2-vector
    the values at random pairs (a, b) of vectors are returned, (w_i·a)(w_j·b) − (w_i·b)(w_j·a):
    as many linear functions of it as wanted, and for almost all pairs independent ones, as
    the a ∧ b span all 2-vectors.

    Parameters
    ----------
    net : Network
    prime : int
    rng : Generator
    kept : sequence of (n, g) bool, optional
        The generators that there are, for each bank; the others stay zero.
    probes : int, optional
        How many pairs; by default d(d−1)/2, the dimension of all 2-vectors.

    Returns
    -------
    (generators, probes)
        Its rank is at most that of all directions.

    Raises
    ------
    StructmatError
        When so many draws met a Cayley transform that does not exist, which happens for small
        primes only.
    """
    if kept is None:
        kept = [np.ones((bank.count, comb(bank.radix, 2)), dtype=bool) for bank in net.banks]
    size = comb(net.width, 2) if probes is None else probes
    here = rng.integers(0, prime, (net.width, 2 * size)).astype(float)  # V a, and V b
    found = []
    masks = iter(kept)
    for stage in net.stages:
        after = here.copy()
        for bank in stage.banks:
            mask = next(masks)
            before = here[bank.reads]
            turned = modular.product(_rotations(mask, bank.radix, prime, rng), before, prime)
            after[bank.reads] = turned
            both = modular.reduced(before + turned, prime)
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
    raise StructmatError(f"prime={prime}: no point was found in {_TRIES} draws; take a larger one")
