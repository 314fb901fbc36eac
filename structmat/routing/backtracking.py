"""Routing in any network: by comparators, along unique paths, and by exhaustive search."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from structmat.errors import RoutingError, UndecidedError
from structmat.networks.permutation import Index, identity
from structmat.routing.clos_levels import Plan
from structmat.routing.unique_paths import Listed, Nested, Reach, paths

Bits = npt.NDArray[np.uint8]

_MOST_STEPS = 1_000_000  # limit on the wires visited, which takes a second or two
_MOST_BYTES = 1 << 28  # limit on the memory for reachability
_WIDE = 32  # switches above this radix are not checked in advance


def compared(plan: Plan, target: Index) -> Index | None:
    """Return the signal on each wire when every switch sorts, or None if some end up unsorted.

    A switch sends the signal for the first output to the first wire that it writes, and so on. A
    brick wall is then the odd–even transposition sort, and a triangle is the bubble sort, both of
    which sort every permutation.

    Parameters
    ----------
    plan : Plan
        As returned by `plan_of`.
    target : (width,) the signal that each wire must carry at the end

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
    """Return the signal on each wire of any network, or raise an error with the reason.

    Signals with a unique path to their destination are followed first: if all paths are unique, as
    in the omega and the butterfly network, this decides the question, at any width. Then settings
    are tried, stage by stage.

    The parameters and the result are those of `compared`, except that the result is never None.

    Raises
    ------
    RoutingError
        If there is no routing. If the reason is that an input does not reach its output, or that
        two inputs need the same wire, the message names these.
    UndecidedError
        If the search reaches its limit, or the network is too large to search.
    """
    depth, width = len(plan.stages), len(target)
    taken = np.empty((depth + 1, width), dtype=np.int64)
    most = min(width, 8 * max(8, _MOST_BYTES // ((depth + 1) * width)))  # destinations at once
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
    """Yield chunks of destinations with their reachability, until all are covered."""
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
    """Return the signal on each wire, or raise an error for the first wire needed twice.

    Parameters
    ----------
    plan : Plan
    taken : (depth + 1, width) the wire of each signal, −1 where unknown
    """
    held = np.full_like(taken, -1)
    for t, wires in enumerate(taken):
        known = np.flatnonzero(wires >= 0)
        held[t, wires[known]] = known
        if (held[t, wires[known]] != known).any():
            raise _meeting(plan, t, wires, known)
    return held


def _meeting(plan: Plan, stage: int, wire: Index, known: Index) -> RoutingError:
    """Return an error that names the first wire that two signals need, by its label."""
    names = np.argsort(plan.net[:stage].straightened().outputs)
    by_name = np.sort(names[wire[known]])
    name = int(by_name[:-1][by_name[1:] == by_name[:-1]][0])
    one, other = known[names[wire[known]] == name][:2].tolist()
    return _blocked(plan, f"inputs {one} and {other} both need wire {name} after stage {stage}")


def _tried(plan: Plan, ahead: Bits, goal: Index) -> Index:
    """Search each component separately, and combine the positions of the signals."""
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
    """Search for settings, cell by cell, that keep every destination reachable.

    A signal is assigned only if every switch whose inputs are then known can still send all its
    signals towards their destinations. An arrangement of signals before a stage that has failed
    once is not tried again.

    Parameters
    ----------
    cells : list of (stage, row, k)
        The decisions: which signal leaves a stage on the k-th wire of a switch.
    reached : [stage][wire]
        The destinations reachable after a stage, as bits.
    goals : mapping from each signal, in the order of the wires, to its destination

    Returns
    -------
    [stage][wire]
        The signals before the first stage and after each.
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
            raise _blocked(plan, "an exhaustive search found no setting of the switches")
        if cells[cell - 1][0] < t:
            dead.add((t, tuple(held[t])))
    raise _undecided(plan, f"a search of {_MOST_STEPS} steps was not enough")


def _completed(
    cells: list[tuple[int, list[int], int]], width: int
) -> list[list[tuple[int, list[int]]]]:
    """Return, for each cell, the later switches whose inputs are all known once it is decided."""
    latest = [-1] * width  # the last cell that determined each wire
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
    """Return whether each row can be matched to a distinct column in which it has a 1 (Kuhn)."""
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
