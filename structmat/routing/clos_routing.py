"""Routing from both ends inwards, by an edge colouring per level: Beneš, Waksman, Clos."""

from __future__ import annotations

import numpy as np

from structmat.networks.permutation import Index, identity
from structmat.routing.clos_levels import Plan, Side


def divided(plan: Plan, target: Index) -> Index | None:
    """Return the signal on each wire, found from both ends inwards, or None if this fails.

    The first and the last stage send each signal to one of the smaller networks between them, which
    leaves a permutation for each smaller network; all of these are routed together. In a Clos
    network they can always be routed, whatever the earlier choices (Slepian–Duguid).

    The parameters and the result are those of `structmat.routing.backtracking.compared`.
    """
    depth, signals = len(plan.stages), identity(plan.net.width)
    held = np.empty((depth + 1, plan.net.width), dtype=np.int64)
    held[0], held[depth] = signals, target
    here, there = signals, np.argsort(target)  # the wires of each signal, from either end
    if not np.array_equal(plan.components[here], plan.components[there]):
        return None
    for t, level in enumerate(plan.levels):
        first, last = level.first.switch[here], level.last.switch[there]
        slots = level.slots.coloured(first, last)
        if slots is None:
            return None
        here = _placed(level.first, first, slots)
        there = _placed(level.last, last, slots)
        held[t + 1, here] = signals
        held[depth - 1 - t, there] = signals
    return held


def _placed(side: Side, switch: Index, slots: Index) -> Index:
    """Return the wire of each signal between its switch and its smaller network."""
    wires = np.empty_like(side.order)
    wires[np.lexsort((slots, switch))] = side.order
    return wires
