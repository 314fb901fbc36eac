"""How many dimensions of SO(d) a network covers: proved bounds from below and from above."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from structmat import modular
from structmat.errors import StructmatError, random_source, whole
from structmat.modular import MERSENNE, Residues
from structmat.network import Network

Mask: TypeAlias = npt.NDArray[np.bool_]
Part: TypeAlias = "tuple[Gate, ...]"

_STEPS = 4_000_000  # of the search for windows that a larger switch covers
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
    """

    lower: int
    upper: int
    parameters: int

    @property
    def value(self) -> int:
        """The dimension. Where it is not proved, the lower bound, which is almost surely it."""
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
) -> Dimension:
    """Return how many dimensions of SO(d) the network covers.

    From below: the rank, modulo a prime, of the derivative at a random point whose blocks are
    Cayley transforms of integer matrices. The rank at one point modulo one prime is at most the
    generic rank, which is the dimension, so the bound holds whatever was drawn. From above:
    `upper_bound`. Time grows with the cube of the dimension.

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

    Returns
    -------
    Dimension

    Raises
    ------
    StructmatError
        For points or primes that are none.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> boft = dimension(butterfly(32, block=8, depth=3))
    >>> boft.parameters, boft.value, boft.proved, boft.redundant
    (336, 240, True, 96)
    """
    size = whole(points, "points", 1)
    if not primes:
        raise StructmatError("primes=(): give at least one odd prime below 2^31")
    for prime in primes:
        _check_prime(prime)
    source = random_source(rng)
    lower = upper = 0
    for part, times in Counter(_parts(normal_form(net))).items():  # most networks repeat a few
        low, high = _between(part, size, primes, source)
        lower, upper = lower + times * low, upper + times * high
    return Dimension(lower, upper, net.parameters)


def _between(
    part: Part, points: int, primes: Sequence[int], rng: np.random.Generator
) -> tuple[int, int]:
    """Return the bounds for gates that are connected."""
    upper = min(_ungauged(part), comb(_width(part), 2))
    lower = 0
    net = _network(part)
    for prime in primes:
        for _ in range(points):
            if lower < upper:
                lower = max(lower, modular.rank(tangents(net, prime, rng, probes=upper), prime))
    if lower < upper:  # a closer look takes longer
        upper = min(upper, _bound(part))
    return lower, upper


def _check_prime(prime: int) -> None:
    number = whole(prime, "prime", 3)
    if number == MERSENNE:  # the usual one, which division would take long to try
        return
    if number > MERSENNE or any(number % k == 0 for k in range(2, int(number**0.5) + 1)):
        raise StructmatError(f"prime={number}: give an odd prime below 2^31, such as {MERSENNE}")


# From below -----------------------------------------------------------------------------------


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


class Gate(NamedTuple):
    """One switch, and the stage it acts in."""

    stage: int
    wires: frozenset[int]


def normal_form(net: Network) -> tuple[Gate, ...]:
    """Return the switches of the straightened network without those that others contain.

    A switch is absorbed when all its wires go directly into one switch, or all come directly
    from one: the larger can be whatever both were. Idle stages between do not matter.

    Examples
    --------
    >>> len(normal_form(Network.of(4, [[[0, 1]], [], [[0, 1, 2]], [[1, 2]], [[2, 3]]])))
    2
    """
    straight = net.straightened().network
    gates = [
        Gate(t, frozenset(row))
        for t, stage in enumerate(straight.stages)
        for bank in stage.banks
        for row in bank.reads.tolist()
    ]
    return _absorbed(gates)


def _absorbed(gates: Iterable[Gate]) -> tuple[Gate, ...]:
    kept = list(gates)
    while True:
        before = len(kept)
        for _ in range(2):  # forwards, and then backwards
            last: dict[int, Gate] = {}
            left = []
            for gate in kept:
                before_it = {id(last.get(wire)) for wire in gate.wires}
                if len(before_it) == 1 and next(iter(gate.wires)) in last:
                    continue
                left.append(gate)
                last.update(dict.fromkeys(gate.wires, gate))
            kept = left[::-1]
        if len(kept) == before:
            return tuple(kept)


def _parts(gates: Sequence[Gate]) -> list[Part]:
    """Return the gates by connected component, the wires of each numbered from 0 in order."""
    part: dict[int, set[int]] = {}
    for gate in gates:
        joined = set(gate.wires).union(*(part[wire] for wire in gate.wires if wire in part))
        part.update(dict.fromkeys(joined, joined))
    grouped: dict[int, list[Gate]] = {}
    for gate in gates:
        grouped.setdefault(id(part[next(iter(gate.wires))]), []).append(gate)
    found = []
    for several in grouped.values():
        wires = sorted(part[next(iter(several[0].wires))])
        number = {wire: k for k, wire in enumerate(wires)}
        found.append(tuple(Gate(g.stage, frozenset(number[w] for w in g.wires)) for g in several))
    return found


def _width(part: Part) -> int:
    return len(frozenset().union(*(gate.wires for gate in part)))


def _network(part: Part) -> Network:
    stages: dict[int, list[list[int]]] = {}
    for gate in part:
        stages.setdefault(gate.stage, []).append(sorted(gate.wires))
    return Network.of(_width(part), [stages[t] for t in sorted(stages)])


def upper_bound(net: Network) -> int:
    """Return a proved upper bound of the dimension, by gauge and by components.

    Two switches that k wires join directly can trade a rotation of those wires, so k(k−1)/2
    parameters are redundant for each such pair; all these trades are independent. And where a
    window of stages connects a set C of wires, one switch on C can do whatever the window does
    there: where it has no more parameters it takes their place.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> upper_bound(butterfly(32, block=8, depth=3)), upper_bound(butterfly(8).repeat(9))
    (240, 28)
    """
    counted = Counter(_parts(normal_form(net))).items()
    return sum(times * min(_ungauged(p), _bound(p), comb(_width(p), 2)) for p, times in counted)


def _ungauged(gates: Sequence[Gate]) -> int:
    """Return the parameters less those that directly joined switches can trade."""
    traded = sum(comb(wires, 2) for _, _, wires in _links(gates))
    return sum(comb(len(gate.wires), 2) for gate in gates) - traded


def _bound(gates: Sequence[Gate]) -> int:
    while (larger := _covered(gates)) is not None:
        gates = _absorbed(larger)
    return _ungauged(gates)


def _links(gates: Sequence[Gate]) -> list[tuple[int, int, int]]:
    """Return (earlier, later, wires) for each two gates that wires join directly."""
    last: dict[int, int] = {}
    links = []
    for k, gate in enumerate(gates):
        joined = Counter(last[wire] for wire in gate.wires if wire in last)
        links += [(j, k, wires) for j, wires in joined.items()]
        last.update(dict.fromkeys(gate.wires, k))
    return links


def _covered(gates: Sequence[Gate]) -> list[Gate] | None:
    """Return the gates with a component of a window of stages covered by one switch.

    It is the shortest window in which a component of several gates has at least as many
    parameters, less its own trades, as the switch; None where there is none.
    """
    inward: list[list[tuple[int, int]]] = [[] for _ in gates]
    for j, k, wires in _links(gates):
        inward[k].append((j, comb(wires, 2)))
    stages = sorted({gate.stage for gate in gates})
    order = {t: n for n, t in enumerate(stages)}
    best: tuple[int, int, int, frozenset[int]] | None = None
    starts = stages if len(gates) * len(stages) <= _STEPS else []
    for start in starts:
        part: dict[int, _Span] = {}  # by wire
        first = next(k for k, gate in enumerate(gates) if gate.stage == start)
        for k in range(first, len(gates)):
            gate = gates[k]
            length = order[gate.stage] - order[start]
            if best is not None and length >= best[0]:
                break
            traded = sum(gauge for j, gauge in inward[k] if j >= first)
            joined = _Span(set(gate.wires), comb(len(gate.wires), 2) - traded, 1)
            for other in {id(part[w]): part[w] for w in gate.wires if w in part}.values():
                joined = joined.with_(other)
            part.update(dict.fromkeys(joined.wires, joined))
            if joined.gates > 1 and joined.gain >= 0:
                best = length, start, gate.stage, frozenset(joined.wires)
                break
    if best is None:
        return None
    _, start, end, inside = best
    rest = [g for g in gates if not (start <= g.stage <= end and g.wires <= inside)]
    return sorted([*rest, Gate(start, inside)], key=lambda gate: gate.stage)


class _Span:
    """A component of a window: its wires, its parameters less its own trades, its gates."""

    def __init__(self, wires: set[int], cost: int, gates: int) -> None:
        self.wires, self.cost, self.gates = wires, cost, gates

    def with_(self, other: _Span) -> _Span:
        large, small = (self, other) if len(self.wires) >= len(other.wires) else (other, self)
        large.wires |= small.wires
        return _Span(large.wires, self.cost + other.cost, self.gates + other.gates)

    @property
    def gain(self) -> int:
        return self.cost - comb(len(self.wires), 2)
