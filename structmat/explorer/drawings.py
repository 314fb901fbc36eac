"""Networks and schedules as JSON for drawing: single wires, or densities between bins of wires."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.analysis.densities import edge_counts, reach_densities
from structmat.explorer.queries import DRAWN
from structmat.linalg.schedule import Gather, Step, schedule
from structmat.networks.network import Network
from structmat.networks.stage import Stage

_EDGES = 50_000  # maximum number of edges that a browser can draw quickly
_BINS = (128, 64, 32, 16)  # numbers of bins; the largest whose densities are small enough is used
_CELLS = 2**17  # maximum number of cells of the densities of all stages
_DIGITS = 4  # decimal places of the fractions in a density

JSON = dict[str, Any]


def is_drawable(net: Network) -> bool:
    """Return whether a network is small enough to be drawn wire by wire.

    Examples
    --------
    >>> is_drawable(Network(128)), is_drawable(Network(129))
    (True, False)
    """
    return net.width <= DRAWN and net.nonzeros <= _EDGES


def wires(net: Network) -> list[JSON]:
    """Return the stages of a network: switches as [reads] or [reads, writes], and moves.

    The switches are listed bank by bank; `banks` lists the number of switches in each bank.

    Examples
    --------
    >>> wires(Network.of(3, [[[0, 1]]]))
    [{'switches': [[[0, 1]]], 'moves': [], 'banks': [1]}]
    """
    return [_stage(stage) for stage in net.stages]


def _stage(stage: Stage) -> JSON:
    switches: list[list[list[int]]] = []
    for bank in stage.banks:
        reads, writes = bank.reads.tolist(), bank.writes.tolist()
        if bank.is_straight:
            switches += [[row] for row in reads]
        else:
            switches += [list(rows) for rows in zip(reads, writes, strict=True)]
    banks = [bank.count for bank in stage.banks]
    return {"switches": switches, "moves": stage.moves.tolist(), "banks": banks}


def bundles(net: Network) -> tuple[list[JSON], list[JSON]] | None:
    """Return densities of the edges of each stage, and of the reachability after each.

    Returns
    -------
    (edges, reach) or None
        `edges` contains the number of edges from bin to bin for each stage; `reach` contains, for
        each of the depth + 1 columns, the fraction of (input, wire) pairs in which the input
        influences the wire. A density is ``{"rows", "columns", "values"}`` in row-major order; rows
        are bins of wires after the stages, and columns bins of wires before them. The result is
        None if there are too many stages.

    Examples
    --------
    >>> edges, reach = bundles(Network.of(200, [[range(200)]]))
    >>> edges[0]["rows"], sum(edges[0]["values"]), set(reach[1]["values"])
    (128, 40000, {1})
    """
    fitting = (size for size in _BINS if size**2 * (net.depth + 1) <= _CELLS)
    bins = min(next(fitting, 0), net.width)
    if not bins:
        return None
    edges = [
        _density(cells.tolist(), bins) for cells in edge_counts(net, bins).reshape(-1, bins**2)
    ]
    return edges, [_density(_fractions(cells), bins) for cells in reach_densities(net, bins)]


def _density(values: list[Any], bins: int) -> JSON:
    return {"rows": bins, "columns": bins, "values": values}


def _fractions(cells: npt.NDArray[np.float64]) -> list[float | int]:
    """Round fractions to a few digits, but to 0 or 1 only those that are equal to it."""
    least = 10.0**-_DIGITS
    rounded = np.where(
        (cells > 0) & (cells < 1), cells.round(_DIGITS).clip(least, 1 - least), cells
    )
    return [int(value) if value in (0, 1) else value for value in rounded.ravel().tolist()]


def steps(net: Network) -> list[JSON]:
    """Return the steps of the schedule of a network.

    Returns
    -------
    list of dict
        A permutation is ``{"kind": "gather", "order", "text"}``: position k after the step holds
        the wire at position order[k] before it; the order is None for more than 128 wires. Each run
        of blocks of one radix, which act on consecutive positions from `start` on, is
        ``{"kind": "blocks", "stage", "start", "radix", "count", "text"}``.

    Examples
    --------
    >>> [step["kind"] for step in steps(Network.of(4, [[[0, 2]], [[1, 2, 3]]]))]
    ['gather', 'blocks', 'gather', 'blocks', 'gather']
    """
    return [row for step in schedule(net).steps for row in _rows(step, net.width)]


def _rows(step: Step, width: int) -> list[JSON]:
    if isinstance(step, Gather):
        order = step.index.tolist() if width <= DRAWN else None
        return [{"kind": "gather", "order": order, "text": str(step)}]
    return [
        {
            "kind": "blocks",
            "stage": step.stage,
            "start": one.start,
            "radix": one.radix,
            "count": one.count,
            "text": str(step),
        }
        for one in step.segments
    ]
