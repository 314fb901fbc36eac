"""Proved bounds on the dimension of the set of matrices that a network can represent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from structmat.analysis.switch_lists import (
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
    checked_field,
    checked_integer,
    is_sequence,
    random_source,
)
from structmat.families.resolution import checked
from structmat.linalg import modular
from structmat.linalg.blocks import count_generators, generators_per_block
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
    field: str = "real",
    points: int = 1,
    primes: Sequence[int] = (MERSENNE,),
    rng: np.random.Generator | int | None = 0,
    largest: int | None = None,
    columns: int | None = None,
) -> Dimension:
    """Return the dimension of the set of matrices in SO(d) or U(d) that a network can represent.

    The upper bound is `structmat.analysis.switch_lists.upper_bound`. The first lower bound is the
    rank of the derivative at the identity, which is the number of pairs of wires that share a
    switch; for mixed_radix, round_robin and two stages of BOFT it equals the upper bound.
    Otherwise, the rank of the derivative is computed modulo a prime, at a random point whose blocks
    are Cayley transforms of integer matrices. The rank at one point modulo one prime is at most the
    generic rank, which is the dimension, so the bound holds for every draw. Computing the rank
    takes time cubic in the dimension, a few seconds for 2,000 and about a minute for 6,000. The
    memory required is proportional to the number of parameters times the upper bound.

    For unitary blocks, the rank is computed at invertible instead of unitary matrices, which
    changes nothing. The blocks' product is a polynomial map ∏ GL(r, ℂ) → GL(d, ℂ). At unitary
    blocks, its derivative is the complex-linear extension of the derivative along the unitary
    groups, because every matrix is A + iB with skew-Hermitian A and B; so the complex rank of the
    former is the real rank of the latter. The rank is smaller than the generic one only where some
    polynomials in the entries vanish, and a polynomial that vanishes at all unitary blocks is zero
    (Weyl's unitary trick). The map has integer coefficients, so the generic rank over ℂ is at least
    the rank at any point modulo a prime.

    Parameters
    ----------
    net : Network
        It need not be straight: permutations before and after do not change the dimension.
    field : {"real", "complex"}
        Whether the blocks are orthogonal or unitary.
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
        Stiefel manifold, which has dimension d·n − n(n+1)/2, or 2d·n − n² for unitary matrices. By
        default all of R is used.

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
    >>> dimension(butterfly(32, block=8, depth=3), field="complex")  # 2 × 240 + 32
    Dimension(lower=512, upper=512, parameters=768, ranked=True)
    """
    net = checked(net, "dimension")
    checked_field(field)
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
        count = _checked_columns(columns, net.width)
        return _of_columns(net, field, count, size, odd, source, entries)
    lower = upper = 0
    ranked = True
    for part, times in Counter(
        parts(normal_form(net))
    ).items():  # most networks have few distinct components
        group = generators_per_block(width_of(part), field=field)
        low, high = shared_pairs(part, field), min(gauge_bound(part, field), group)
        if low < high:
            skipped = entries is not None and parameters_of(part, field) * high > entries
            if not skipped:
                low = _rank(network_of(part), field, low, high, size, odd, source)
            if low < high:  # this bound takes longer than the first, but less than the rank
                high = min(high, less_covered(part, field))
            ranked = ranked and not (skipped and low < high)
        lower, upper = lower + times * low, upper + times * high
    return Dimension(lower, upper, count_generators(net, field=field), ranked)


def _checked_columns(columns: int, width: int) -> int:
    count = checked_integer(columns, "columns", 1)
    if count > width:
        raise StructmatError(f"columns={count}: the matrix has only {width} columns")
    return count


def _of_columns(
    net: Network,
    field: str,
    columns: int,
    points: int,
    primes: Sequence[int],
    rng: np.random.Generator,
    entries: int | None,
) -> Dimension:
    """Return bounds on the dimension of the set of the first columns."""
    straight = net.straightened().network
    rest = generators_per_block(net.width - columns, field=field)
    stiefel = generators_per_block(net.width, field=field) - rest
    upper = min(dimension(straight, field=field, largest=0).upper, stiefel)
    parameters = count_generators(net, field=field)
    if entries is not None and parameters * upper > entries:
        return Dimension(0, upper, parameters, ranked=False)
    lower = _rank(straight, field, 0, upper, points, primes, rng, columns)
    return Dimension(lower, upper, parameters)


def _rank(
    net: Network,
    field: str,
    lower: int,
    upper: int,
    points: int,
    primes: Sequence[int],
    rng: np.random.Generator,
    columns: int | None = None,
) -> int:
    """Return the largest rank of the derivative at some points, but at least `lower`."""
    for prime in primes:
        for _ in range(points):
            if lower < upper:
                found = tangents(net, prime, rng, field=field, probes=upper, columns=columns)
                lower = max(lower, modular.rank(found, prime))
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
    field: str = "real",
    probes: int | None = None,
    columns: int | None = None,
) -> Residues:
    """Return the derivative of the matrix of a straight network at a random point, modulo p.

    A block is B = (I + Q)(I − Q)⁻¹. Let V (width, width) be the product of the preceding stages,
    w_i the row of wire i in V + B V, and u_i the column of wire i in V⁻¹ + V⁻¹B⁻¹; the derivative
    of R by Q_ij is then R·u_i w_jᵀ/2. If Q is skew-symmetric, u_i = w_i, and the derivative by the
    generator Q_ij is R·(w_i ∧ w_j)/2. If B is any invertible matrix, which stands for a unitary
    block (see `dimension`), Q has the entries Q_ij = f + g, Q_ji = g − f and Q_ii = h, where f, g
    and h stand for the real parts, the imaginary parts times i, and the diagonal of a
    skew-Hermitian matrix.

    A direction K is represented by its values aᵀKb at random pairs (a, b) of vectors (width,).
    These are linear functions of K, and because the bivectors a ∧ b span the space of all
    bivectors, and the a ⊗ b that of all matrices, they are independent for almost all pairs.

    Parameters
    ----------
    net : Network
    prime : int
    rng : Generator
    kept : sequence of (n, g) bool, optional
        The generators that are free, for each bank; the others remain zero.
    field : {"real", "complex"}
    probes : int, optional
        The number of pairs; by default the dimension of the space of directions, d(d−1)/2 or d².
    columns : int, optional
        Use only this many leading columns of R: each b is then zero after as many entries, so the
        values aᵀ R⁻¹ dR b are linear functions of these columns of dR. For unitary blocks, as many
        pairs are added with such an a instead: the real and imaginary parts of the columns of R are
        functions of these columns of R and rows of R⁻¹ = Rᴴ.

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
    is_complex = checked_field(field) == "complex"
    if kept is None:
        kept = [
            np.ones((bank.count, generators_per_block(bank.radix, field=field)), dtype=bool)
            for bank in net.banks
        ]
    size = generators_per_block(net.width, field=field) if probes is None else probes
    here = rng.integers(0, prime, (net.width, 2 * size)).astype(float)  # V⁻ᵀ a, and V b
    if columns is not None:
        here[columns:, size:] = 0
        if is_complex:
            more = rng.integers(0, prime, (net.width, 2 * size)).astype(float)
            more[columns:, :size] = 0
            pairs = zip(np.split(here, 2, axis=1), np.split(more, 2, axis=1), strict=True)
            here = np.concatenate([part for pair in pairs for part in pair], axis=1)
    found: list[Residues] = []
    masks = iter(kept)
    for stage in net.stages:
        after = here.copy()
        for bank in stage.banks:
            mask = next(masks)
            before = here[bank.reads]
            blocks, duals = _drawn(mask, bank.radix, prime, rng, field)
            parts = np.split(before, 2, axis=2)
            rotated = np.concatenate(
                [modular.product(b, x, prime) for b, x in zip((duals, blocks), parts, strict=True)],
                axis=2,
            )
            after[bank.reads] = rotated
            both = modular.reduced(before + rotated, prime)
            found += _values(both, mask, bank.radix, prime, field)
        here = after
    return np.concatenate([np.zeros((0, here.shape[1] // 2)), *found])


def _values(both: Residues, kept: Mask, radix: int, prime: int, field: str) -> Iterator[Residues]:
    """Yield the values of the directions of the generators of a bank, in three groups."""
    i, j = np.triu_indices(radix, 1)
    masks = np.split(kept, [len(i), 2 * len(i)], axis=1)
    switch, pair = np.nonzero(masks[0])
    (ia, ib), (ja, jb) = (np.split(both[switch, side[pair]], 2, axis=1) for side in (i, j))
    values = modular.times(ia, jb, prime) - modular.times(ja, ib, prime)
    yield values + (values < 0) * float(prime)
    if field == "complex":
        switch, pair = np.nonzero(masks[1])
        (ia, ib), (ja, jb) = (np.split(both[switch, side[pair]], 2, axis=1) for side in (i, j))
        values = modular.times(ia, jb, prime) + modular.times(ja, ib, prime)
        yield values - (values >= prime) * float(prime)
        a, b = np.split(both[np.nonzero(masks[2])], 2, axis=1)
        yield modular.times(a, b, prime)


def _drawn(
    kept: Mask, radix: int, prime: int, rng: np.random.Generator, field: str
) -> tuple[Residues, Residues]:
    """Return blocks B, and their inverse transposes, which for orthogonal blocks are the same."""
    i, j = np.triu_indices(radix, 1)
    for _ in range(_TRIES):
        drawn = rng.integers(0, prime, kept.shape).astype(float) * kept
        first, second, diagonal = np.split(drawn, [len(i), 2 * len(i)], axis=1)
        q = np.zeros((len(kept), radix, radix))
        q[:, i, j] = first
        q[:, j, i] = (prime - first) * (first > 0)
        if field == "complex":
            q[:, i, j] += second
            q[:, j, i] += second
            q[:, range(radix), range(radix)] = diagonal
            q = modular.reduced(q, prime)
        blocks = modular.cayley(q, prime)
        if blocks is not None and field == "real":
            return blocks, blocks
        negative = modular.reduced(prime - q.swapaxes(1, 2), prime)
        duals = modular.cayley(negative, prime)
        if blocks is not None and duals is not None:
            return blocks, duals
    raise StructmatError(f"prime={prime}: no valid point in {_TRIES} draws; use a larger prime")
