"""Route any network: comparators, paths without a choice, and search with proof."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from structmat.errors import RoutingError, UndecidedError
from structmat.permutation import Index, identity
from structmat.routing.following import Listed, Nested, Reach, paths
from structmat.routing.planning import Plan

Bits = npt.NDArray[np.uint8]

_MOST_STEPS = 1_000_000  # wires looked at: a second or two
_MOST_BYTES = 1 << 28  # of who reaches whom
_WIDE = 32  # wider switches are not looked at ahead of their turn


def compared(plan: Plan, target: Index) -> Index | None:
    """Return where each signal is when every switch sorts; None where they do not end sorted.

    A switch sends the signal for the first output to the first wire that it writes, and so on.
    A brick wall is then the odd–even transposition sort, and a triangle the bubble sort: both
    sort everything.

    Parameters
    ----------
    plan : Plan
        As `plan_of` makes it.
    target : (width,) the signal that each wire has to hold in the end

    Returns
    -------
    (depth + 1, width) or None
        The signal on each wire before the first stage and after each.
    """
    goal = np.argsort(target[plan.outputs])
    held = np.empty((len(plan.stages) + 1, len(target)), dtype=np.int64)
    held[0] = identity(len(target))
    for t, (banks, stage) in enumerate(zip(plan.stages, plan.net.stages, strict=True)):
        held[t + 1] = held[t]
        for wires, bank in zip(banks, stage.banks, strict=True):
            order = np.argsort(goal[held[t][wires]], axis=1)
            places = np.take_along_axis(wires, np.argsort(bank.writes, axis=1), axis=1)
            held[t + 1][places] = held[t][np.take_along_axis(wires, order, axis=1)]
    return held if np.array_equal(held[-1], target) else None


def searched(plan: Plan, target: Index) -> Index:
    """Return where each signal is, or say why there is no way; in any network.

    First each signal that has one path to its end is followed: where all have, as in the omega
    and the butterfly network, that decides, at any width. Then settings are tried, stage by
    stage.

    Parameters and result are those of `compared`; there always is a result.

    Raises
    ------
    RoutingError
        When there is none, naming an input that does not reach its output, or two inputs that
        need the same wire, where that is the reason.
    UndecidedError
        When the search ends at its bound.
    """
    depth, width = len(plan.stages), len(target)
    taken = np.empty((depth + 1, width), dtype=np.int64)
    most = min(width, 8 * max(8, _MOST_BYTES // ((depth + 1) * width)))  # ends listed at once
    for reach, ends in _reaches(plan, most):
        signals = target[ends]
        lost = signals[~reach.leads(0, signals, ends)]
        if len(lost):
            output = int(np.flatnonzero(target[plan.outputs] == lost.min())[0])
            raise _blocked(plan, f"input {lost.min()} does not reach output {output}")
        taken[:, signals] = paths(plan, reach, signals, ends)
        if len(ends) < width and (taken[-1, signals] < 0).any():
            raise _undecided(plan, "it is too large to search")
    held = _held(plan, taken)
    if (taken[-1] >= 0).all():
        return held
    return _tried(plan, Listed.of(plan, 0, width).bits, np.argsort(target))


def _reaches(plan: Plan, most: int) -> Iterator[tuple[Reach, Index]]:
    """Yield who leads to some ends, and the ends, until it is known of all."""
    width = plan.net.width
    nested = Nested.of(plan)
    if nested is not None:
        yield nested, identity(width)
        return
    for first in range(0, width, most):
        count = min(most, width - first)
        yield Listed.of(plan, first, count), first + identity(count)


def _blocked(plan: Plan, reason: str) -> RoutingError:
    return RoutingError(f"{plan.net!r} blocks this permutation: {reason}{_remedy(plan)}")


def _undecided(plan: Plan, reason: str) -> UndecidedError:
    return UndecidedError(
        f"{plan.net!r}: undecided whether it blocks this permutation; {reason}{_remedy(plan)}"
    )


def _remedy(plan: Plan) -> str:
    return f"; waksman({plan.net.width}) routes every permutation"


def _held(plan: Plan, taken: Index) -> Index:
    """Return the signal on each wire, or name the first wire that two signals both need.

    Parameters
    ----------
    plan : Plan
    taken : (depth + 1, width) the wire of each signal, −1 where that is not known
    """
    held = np.full_like(taken, -1)
    for t, wires in enumerate(taken):
        known = np.flatnonzero(wires >= 0)
        held[t, wires[known]] = known
        if (held[t, wires[known]] != known).any():
            raise _meeting(plan, t, wires, known)
    return held


def _meeting(plan: Plan, stage: int, wire: Index, known: Index) -> RoutingError:
    """Return the error that names the first wire, by its own name, that two signals need."""
    names = np.argsort(plan.net[:stage].straightened().outputs)
    by_name = np.sort(names[wire[known]])
    name = int(by_name[:-1][by_name[1:] == by_name[:-1]][0])
    one, other = known[names[wire[known]] == name][:2].tolist()
    return _blocked(plan, f"inputs {one} and {other} both need wire {name} after stage {stage}")


def _tried(plan: Plan, ahead: Bits, goal: Index) -> Index:
    """Search each component by itself, and put together where the signals are."""
    order = np.argsort(plan.components, kind="stable")
    ends = np.cumsum(np.bincount(plan.components))
    wires_of = np.split(order, ends[:-1])
    local = np.empty_like(order)
    local[order] = np.concatenate([identity(len(wires)) for wires in wires_of])
    switches: list[list[tuple[int, list[int]]]] = [[] for _ in wires_of]
    for t, banks in enumerate(plan.stages):
        for wires in banks:
            rows = zip(plan.components[wires[:, 0]].tolist(), local[wires].tolist(), strict=True)
            for component, row in rows:
                switches[component].append((t, row))
    held = np.empty((len(plan.stages) + 1, len(goal)), dtype=np.int64)
    for wires, own in zip(wires_of, switches, strict=True):
        acting = sorted({t for t, _ in own})
        number = {t: n for n, t in enumerate(acting)}
        cells = [(number[t], row, k) for t, row in own for k in range(len(row))]
        reached = [
            [int.from_bytes(bits.tobytes(), "little") for bits in rows]
            for rows in ahead[np.array(acting, dtype=np.int64) + 1][:, wires]
        ]
        goals = dict(zip(wires.tolist(), goal[wires].tolist(), strict=True))
        found = np.array(_arranged(cells, reached, goals, plan))
        held[:, wires] = found[np.searchsorted(acting, np.arange(len(held)))]
    return held


def _arranged(
    cells: list[tuple[int, list[int], int]],
    reached: list[list[int]],
    goals: dict[int, int],
    plan: Plan,
) -> list[list[int]]:
    """Try settings cell by cell, only such as leave every signal a way, until one is complete.

    A signal is set only where the switches that it completes the inputs of can still send all of
    theirs on. An arrangement before a stage from which no setting led on is not tried again.

    Parameters
    ----------
    cells : list of (stage, row, k)
        What to decide: which signal leaves a stage on the k-th wire of a switch.
    reached : [stage][wire]
        The bits of the ends in reach after a stage.
    goals : from each signal, in the order of the wires, to its end

    Returns
    -------
    [stage][wire], the signals before the first stage and after each
    """
    held = [list(goals) for _ in range(len(reached) + 1)]
    if not cells:
        return held
    dead: set[tuple[int, tuple[int, ...]]] = set()
    completed = _completed(cells, len(goals))

    def passes(cell: int) -> bool:
        before = held[cells[cell][0] + 1]
        return all(
            _matched([[reached[t][to] >> goals[before[at]] & 1 for to in row] for at in row])
            for t, row in completed[cell]
        )

    def ways(cell: int) -> Iterator[int]:
        t, row, k = cells[cell]
        gone = {held[t + 1][wire] for wire in row[:k]}
        signals = [held[t][wire] for wire in row]
        return iter([s for s in signals if s not in gone and reached[t][row[k]] >> goals[s] & 1])

    untried = [ways(0)]
    steps = 0
    while steps < _MOST_STEPS:
        cell = len(untried) - 1
        t, row, k = cells[cell]
        steps += len(row)
        signal = next(untried[cell], None)
        if signal is not None:
            held[t + 1][row[k]] = signal
            if cell + 1 == len(cells):
                return held
            if not passes(cell):
                continue
            if cells[cell + 1][0] > t:  # the next stage begins
                if (t + 1, tuple(held[t + 1])) in dead:
                    continue
                held[t + 2] = held[t + 1].copy()  # wires in no switch keep their signals
            untried.append(ways(cell + 1))
            continue
        untried.pop()
        if not untried:
            raise _blocked(plan, "no setting of the switches is left to try")
        if cells[cell - 1][0] < t:
            dead.add((t, tuple(held[t])))
    raise _undecided(plan, f"{_MOST_STEPS} steps of search did not settle it")


def _completed(
    cells: list[tuple[int, list[int], int]], width: int
) -> list[list[tuple[int, list[int]]]]:
    """Return for each cell the later switches that know all their signals from it on."""
    latest = [-1] * width  # the cell that last decided on each wire
    completed: list[list[tuple[int, list[int]]]] = [[] for _ in cells]
    for cell, (t, row, k) in enumerate(cells):
        if k > 0:
            continue
        last = max(latest[wire] for wire in row)
        if last >= 0 and len(row) <= _WIDE:
            completed[last].append((t, row))
        for n, wire in enumerate(row):
            latest[wire] = cell + n
    return completed


def _matched(may: list[list[int]]) -> bool:
    """Return whether each row can have a column of its own where it holds a 1 (Kuhn)."""
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, open_ in enumerate(may[row]):
            if open_ and column not in seen:
                seen.add(column)
                if column not in taken or place(taken[column], seen):
                    taken[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(may)))
