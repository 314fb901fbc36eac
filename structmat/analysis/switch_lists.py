"""A network as an ordered list of switches, and an upper bound on its dimension."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from structmat.errors import WiringError
from structmat.linalg.blocks import generators_per_block
from structmat.networks.network import Network
from structmat.networks.permutation import Index

Part: TypeAlias = "tuple[Gate, ...]"

_STEPS = 4_000_000  # limit on the steps of the search for windows that a larger switch covers


class Gate(NamedTuple):
    """One switch and the stage that contains it."""

    stage: int
    wires: frozenset[int]


def normal_form(net: Network) -> tuple[Gate, ...]:
    """Return the switches of the straightened network, without those contained in others.

    A switch is absorbed if all its wires lead directly to one switch, or all come directly from
    one: the blocks of the larger switch then represent the product of both. Idle stages in between
    are ignored.

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
        for _ in range(2):  # forwards, then backwards
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


def simplified(net: Network) -> Network:
    """Return the network of `normal_form`, in which every switch is in the earliest possible stage.

    It represents the same matrices, and has no idle stage, no switch contained in a neighbouring
    one, and at most as many stages. The result is the same for networks that differ only in the
    order of switches without common wires: it is the Cartier–Foata normal form of a word in the
    switches.

    Parameters
    ----------
    net : Network
        A straight network.

    Raises
    ------
    WiringError
        If the network is not straight.

    References
    ----------
    P. Cartier, D. Foata, Problèmes combinatoires de commutation et réarrangements, 1969.

    Examples
    --------
    >>> net = Network.of(4, [[[0, 1]], [], [[2, 3]], [[0, 1, 2]], [[1, 2]]])
    >>> [[bank.reads.tolist() for bank in stage.banks] for stage in simplified(net)]
    [[[[2, 3]]], [[[0, 1, 2]]]]
    """
    if not net.is_straight:
        raise WiringError(
            f"simplified({net}): the network must be straight; see Network.straightened"
        )
    stages: list[list[list[int]]] = []
    level = dict.fromkeys(range(net.width), 0)  # the number of stages that each wire has passed
    for gate in normal_form(net):
        stage = max(level[wire] for wire in gate.wires)
        level.update(dict.fromkeys(gate.wires, stage + 1))
        stages += [[]] * (stage + 1 - len(stages))
        stages[stage] = [*stages[stage], sorted(gate.wires)]
    return Network.of(net.width, map(sorted, stages), labels=net.labels)


def parts(gates: Sequence[Gate]) -> list[Part]:
    """Return the gates of each connected component, whose wires are renumbered from 0 in order."""
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


def width_of(part: Sequence[Gate]) -> int:
    """Return the number of wires of some gates."""
    return len(frozenset().union(*(gate.wires for gate in part)))


def parameters_of(gates: Sequence[Gate], field: str = "real") -> int:
    """Return the number of parameters of some gates."""
    return sum(generators_per_block(len(gate.wires), field=field) for gate in gates)


def network_of(part: Part) -> Network:
    """Return the network of gates whose wires are numbered from 0."""
    stages: dict[int, list[list[int]]] = {}
    for gate in part:
        stages.setdefault(gate.stage, []).append(sorted(gate.wires))
    return Network.of(width_of(part), [stages[t] for t in sorted(stages)])


def upper_bound(net: Network, *, field: str = "real") -> int:
    """Return a proved upper bound on the dimension, from gauge redundancy and connected components.

    Two switches that are directly joined by k wires have a gauge redundancy: a rotation of these
    wires can be moved from one to the other without changing R. This makes k(k−1)/2 parameters
    redundant for each such pair, or k² for unitary blocks, independently of the other pairs: if
    such rotations change no block, those of the inputs of a switch determine those of its outputs,
    and they are the identity at the inputs of the network. Furthermore, a single switch on
    a set C of wires that a window of stages connects represents every matrix that the window
    represents on C, so the switch replaces the window if it has no more parameters.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> upper_bound(butterfly(32, block=8, depth=3)), upper_bound(butterfly(8).repeat(9))
    (240, 28)
    """
    counted = Counter(parts(normal_form(net))).items()
    return sum(
        times
        * min(
            gauge_bound(p, field),
            less_covered(p, field),
            generators_per_block(width_of(p), field=field),
        )
        for p, times in counted
    )


def gauge_bound(gates: Sequence[Gate], field: str = "real") -> int:
    """Return the number of parameters minus the gauge redundancy of directly joined switches."""
    redundant = sum(generators_per_block(wires, field=field) for _, _, wires in _links(gates))
    return parameters_of(gates, field) - redundant


def less_covered(gates: Sequence[Gate], field: str = "real") -> int:
    """Return `gauge_bound` after replacing windows by larger switches wherever that lowers it."""
    while (larger := _covered(gates, field)) is not None:
        gates = _absorbed(larger)
    return gauge_bound(gates, field)


def shared_pairs(gates: Sequence[Gate], field: str = "real") -> int:
    """Return the rank of the derivative at the identity, a lower bound on the dimension.

    There the generators move R along e_i ∧ e_j for exactly the pairs of wires that share a switch.
    Their number is the rank, which never exceeds the dimension. With unitary blocks, there are two
    directions for each pair, and the phase of each wire.
    """
    width = width_of(gates)
    rows = (np.fromiter(wires, dtype=np.int64)[None] for wires in {gate.wires for gate in gates})
    pairs = distinct_pairs(rows, width)
    return 2 * pairs + width if field == "complex" else pairs


def distinct_pairs(rows: Iterable[Index], width: int) -> int:
    """Return the number of pairs of wires that occur together in a row.

    Parameters
    ----------
    rows : iterable of (n, r) arrays of wires
        Such as the reads of the banks of a straight network.
    width : int

    Examples
    --------
    >>> distinct_pairs([np.array([[0, 1], [2, 3]]), np.array([[1, 0]])], 4)
    2
    """
    found = [np.empty(0, dtype=np.int64)]
    for wires in rows:
        low, high = np.sort(wires, axis=1).T[list(np.triu_indices(wires.shape[1], 1))]
        found.append((low * width + high).ravel())
    return len(np.unique(np.concatenate(found)))


def _links(gates: Sequence[Gate]) -> list[tuple[int, int, int]]:
    """Return (earlier, later, number of wires) for each pair of directly joined gates."""
    last: dict[int, int] = {}
    links = []
    for k, gate in enumerate(gates):
        joined = Counter(last[wire] for wire in gate.wires if wire in last)
        links += [(j, k, wires) for j, wires in joined.items()]
        last.update(dict.fromkeys(gate.wires, k))
    return links


def _covered(gates: Sequence[Gate], field: str) -> list[Gate] | None:
    """Return the gates after replacing one component of a window of stages by a single switch.

    The shortest window is used in which a component of several gates has at least as many
    parameters, after subtracting its internal redundancy, as the switch. Returns None if there is
    no such window.
    """
    inward: list[list[tuple[int, int]]] = [[] for _ in gates]
    for j, k, wires in _links(gates):
        inward[k].append((j, generators_per_block(wires, field=field)))
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
            redundant = sum(gauge for j, gauge in inward[k] if j >= first)
            cost = generators_per_block(len(gate.wires), field=field) - redundant
            joined = _Span(set(gate.wires), cost, 1)
            for other in {id(part[w]): part[w] for w in gate.wires if w in part}.values():
                joined = joined.with_(other)
            part.update(dict.fromkeys(joined.wires, joined))
            one_switch = generators_per_block(len(joined.wires), field=field)
            if joined.gates > 1 and joined.cost >= one_switch:
                best = length, start, gate.stage, frozenset(joined.wires)
                break
    if best is None:
        return None
    _, start, end, inside = best
    rest = [g for g in gates if not (start <= g.stage <= end and g.wires <= inside)]
    return sorted([*rest, Gate(start, inside)], key=lambda gate: gate.stage)


class _Span:
    """A component of a window: its wires, its parameters minus redundancy, its number of gates."""

    def __init__(self, wires: set[int], cost: int, gates: int) -> None:
        self.wires, self.cost, self.gates = wires, cost, gates

    def with_(self, other: _Span) -> _Span:
        large, small = (self, other) if len(self.wires) >= len(other.wires) else (other, self)
        large.wires |= small.wires
        return _Span(large.wires, self.cost + other.cost, self.gates + other.gates)
