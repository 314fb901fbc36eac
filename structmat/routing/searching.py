"""Route any network: comparators, paths without a choice, and search with proof."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from structmat.errors import RoutingError, UndecidedError
from structmat.permutation import Index, identity
from structmat.routing.planning import Plan

Bits = npt.NDArray[np.uint8]

_MOST_STEPS = 300_000  # a second or so
_MOST_BYTES = 1 << 28


def compared(plan: Plan, target: Index) -> Index | None:
    """Return where each signal is when every switch sorts; None where they do not end sorted.

    A brick wall is the odd–even transposition sort, and a triangle the bubble sort: both sort
    everything.

    Parameters and result are those of `structmat.routing.dividing.divided`.
    """
    goal = np.argsort(target)
    held = np.empty((len(plan.stages) + 1, len(target)), dtype=np.int64)
    held[0] = identity(len(target))
    for t, banks in enumerate(plan.stages):
        held[t + 1] = held[t]
        for wires in banks:
            signals = held[t][wires]
            order = np.argsort(goal[signals], axis=1)
            held[t + 1][np.sort(wires, axis=1)] = np.take_along_axis(signals, order, axis=1)
    return held if np.array_equal(held[-1], target) else None


def searched(plan: Plan, target: Index) -> Index:
    """Return where each signal is, or say why there is no way; in any network.

    First each signal that has one path to its end is followed: where all have, as in the omega
    and the butterfly network, that decides. Then settings are tried, stage by stage.

    Parameters and result are those of `structmat.routing.dividing.divided`, except for None.

    Raises
    ------
    RoutingError
        When there is none, naming an input that does not reach its output, or two inputs that
        need the same wire, where that is the reason.
    UndecidedError
        When the search ends at its bound.
    """
    depth, width = len(plan.stages), len(target)
    if (depth + 1) * width * -(-width // 8) > _MOST_BYTES:
        raise UndecidedError(f"{plan.net!r} is too large to search{_remedy(plan)}")
    ahead = _ahead(plan)
    goal = np.argsort(target)
    lost = np.flatnonzero(~_reaches(ahead[0], identity(width), goal))
    if len(lost):
        output = int(np.flatnonzero(plan.outputs == goal[lost[0]])[0])
        raise _blocked(plan, f"input {lost[0]} does not reach output {output}")
    held = _followed(plan, ahead, goal)
    return _tried(plan, ahead, goal) if held is None else held


def _remedy(plan: Plan) -> str:
    return f"; waksman({plan.net.width}) routes every permutation"


def _blocked(plan: Plan, reason: str) -> RoutingError:
    return RoutingError(f"{plan.net!r} blocks this permutation: {reason}{_remedy(plan)}")


def _ahead(plan: Plan) -> Bits:
    """Return a row of bits for each wire before each stage and in the end: whom it can reach."""
    width = plan.net.width
    ahead = np.empty((len(plan.stages) + 1, width, -(-width // 8)), dtype=np.uint8)
    ahead[-1] = np.packbits(np.eye(width, dtype=bool), axis=1, bitorder="little")
    for t in range(len(plan.stages) - 1, -1, -1):
        ahead[t] = ahead[t + 1]
        for wires in plan.stages[t]:
            ahead[t][wires] = np.bitwise_or.reduce(ahead[t + 1][wires], axis=1)[:, None]
    return ahead


def _reaches(bits: Bits, wires: Index, goals: Index) -> npt.NDArray[np.bool_]:
    reached: npt.NDArray[np.bool_] = (bits[wires, goals >> 3] >> (goals & 7) & 1).astype(bool)
    return reached


def _followed(plan: Plan, ahead: Bits, goal: Index) -> Index | None:
    """Follow each signal as long as it has no choice; None where one has and no two meet."""
    width = len(goal)
    wire, forced = identity(width), np.ones(width, dtype=bool)
    held = np.empty((len(plan.stages) + 1, width), dtype=np.int64)
    held[0] = wire
    for t, banks in enumerate(plan.stages):
        place = np.full(width, -1, dtype=np.int64)
        for wires in banks:
            place[wires] = identity(len(wires))[:, None]
            signals = np.flatnonzero(forced & (place[wire] >= 0))
            ways = wires[place[wire[signals]]]
            open_ways = _reaches(ahead[t + 1], ways, goal[signals][:, None])
            forced[signals] = open_ways.sum(axis=1) == 1
            wire[signals] = ways[identity(len(ways)), open_ways.argmax(axis=1)]
            place[wires] = -1
        followed = np.flatnonzero(forced)
        if np.bincount(wire[followed], minlength=width).max() > 1:
            raise _meeting(plan, t, wire, followed)
        held[t + 1, wire] = identity(width)
    return held if forced.all() else None


def _meeting(plan: Plan, stage: int, wire: Index, followed: Index) -> RoutingError:
    """Return the error that names the first wire, by its own name, that two signals need."""
    names = np.argsort(plan.net[: stage + 1].straightened().outputs)
    by_name = np.sort(names[wire[followed]])
    name = int(by_name[:-1][by_name[1:] == by_name[:-1]][0])
    one, other = followed[names[wire[followed]] == name][:2].tolist()
    return _blocked(plan, f"inputs {one} and {other} both need wire {name} after stage {stage}")


def _tried(plan: Plan, ahead: Bits, goal: Index) -> Index:
    """Try settings wire by wire, only such as leave every signal a way, until one is complete.

    An arrangement of the signals before a stage from which no setting led on is not tried again.
    """
    acting = [t for t, banks in enumerate(plan.stages) if banks]
    reached = [[int.from_bytes(row.tobytes(), "little") for row in ahead[t + 1]] for t in acting]
    cells = [
        (t, row, k)
        for t, at in enumerate(acting)
        for wires in plan.stages[at]
        for row in wires.tolist()
        for k in range(len(row))
    ]
    goals = goal.tolist()
    held = [list(range(len(goals))) for _ in range(len(acting) + 1)]
    dead: set[tuple[int, tuple[int, ...]]] = set()

    def ways(n: int) -> Iterator[int]:
        t, row, k = cells[n]
        gone = [held[t + 1][wire] for wire in row[:k]]
        signals = [held[t][wire] for wire in row]
        return iter([s for s in signals if s not in gone and reached[t][row[k]] >> goals[s] & 1])

    untried = [ways(0)]
    for _ in range(_MOST_STEPS):
        n = len(untried) - 1
        t, row, k = cells[n]
        signal = next(untried[n], None)
        if signal is not None:
            held[t + 1][row[k]] = signal
            if n + 1 == len(cells):
                return np.array(held)[np.cumsum([0, *map(bool, plan.stages)]), :]
            if cells[n + 1][0] > t:  # the next stage begins
                if (t + 1, tuple(held[t + 1])) in dead:
                    continue
                held[t + 2] = held[t + 1].copy()  # wires in no switch keep their signals
            untried.append(ways(n + 1))
            continue
        untried.pop()
        if n == 0:
            raise _blocked(plan, "no setting of the switches is left to try")
        if cells[n - 1][0] < t:
            dead.add((t, tuple(held[t])))
    raise UndecidedError(
        f"{plan.net!r}: undecided after {_MOST_STEPS} steps of search whether it blocks this"
        f" permutation{_remedy(plan)}"
    )
