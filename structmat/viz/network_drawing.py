"""The grid graph of a network, and the spreading of inputs from stage to stage."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from structmat.errors import WiringError, abbreviated, require, suggest
from structmat.families.resolution import checked
from structmat.networks import permutation
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Stage
from structmat.viz.palette import BARE, COLOURS, FAINT, INK, QUIET
from structmat.viz.style import axes, bare, name_wires, room, wire_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDEST = 64  # maximum number of wires drawn individually
_BUNDLES = 32  # maximum number of bundles into which more wires are grouped

Edges = tuple[Index, Index, Index]  # from, to, switch; switch −1 is a wire in no switch


def grid(
    net: Network,
    *,
    inputs: Hashable | Iterable[Hashable] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the grid graph: a column of wires before and after each stage, with coloured switches.

    Wire 0 is at the top and the first stage at the left. The edges of a switch share a colour;
    wires in no switch are grey. With `inputs`, only the edges that these inputs influence are
    coloured, and the wires that they influence are filled; the number above each column counts the
    filled wires.

    More than 64 wires are grouped into at most 32 bundles of neighbours, shaded by the fraction of
    their wires that are influenced. A line is drawn between two bundles if any edge joins them; all
    lines have the same colour.

    Parameters
    ----------
    net : Network
    inputs : int, str or iterable of these, optional
        The wires whose influence is shown. An integer is the number of a wire; anything else is a
        label.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        With two line collections, labelled "reached" and "unreached", with one line per edge.

    Raises
    ------
    WiringError
        If an input is neither the number nor the label of a wire of the network.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> ax = grid(butterfly(8), inputs=0)
    >>> [text.get_text() for text in ax.texts]
    ['1', '2', '4', '8']
    >>> grid(butterfly(1024), inputs=0).get_ylabel()
    'wires, 32 to a dot'
    """
    net = checked(net, "grid")
    selected = None if inputs is None else _inputs(net, inputs)
    edges = [edges_of(stage) for stage in net.stages]
    reached = _reached(net, edges, selected)
    counts = None if selected is None else reached.sum(axis=1)
    bundle = 1 if net.width <= _WIDEST else -(-net.width // _BUNDLES)
    rows = -(-net.width // bundle)
    wide = min(1.1 + 1.5 * max(net.depth, 1), 14) + room(wire_names(net))
    ax = axes(ax, wide, min(0.9 + 0.28 * rows, 9))
    crowd = max(rows / 16, 1)  # draw thinner lines for more wires
    if bundle == 1:
        _lines(ax, edges, reached, thickness=1.5 / crowd**0.5)
    else:
        _bundled_lines(ax, edges, reached, bundle, thickness=1.5 / crowd**0.5)
    share = _shares(reached, bundle)
    column, row = np.divmod(np.arange(share.size), rows)
    ax.scatter(
        column,
        row,
        s=30 / crowd,
        linewidths=0.8,
        zorder=3,
        label="wires",
        facecolors=_filled(share.ravel()).tolist(),
        edgecolors=np.where(share.ravel() > 0, INK, QUIET).tolist(),
    )
    _frame(ax, net, counts, bundle)
    return ax


def _inputs(net: Network, inputs: Any) -> Index:
    try:
        alone = isinstance(inputs, (int, np.integer, str))
        listed: list[Any] = [inputs] if alone else list(inputs)
    except TypeError:
        raise WiringError(f"inputs={abbreviated(inputs)}: give a wire or several wires") from None
    if net.labels is not None:
        listed = [wire for one in listed for wire in _called(one, net.labels)]
    wires = permutation.indices(listed, "inputs").reshape(-1)
    wrong = wires[(wires < 0) | (wires >= net.width)]
    if len(wrong):
        raise WiringError(
            f"input {wrong[0]}: a network of width {net.width} has wires 0 to {net.width - 1}"
        )
    return wires


def _called(one: Any, labels: tuple[Hashable, ...]) -> list[Any]:
    """Return labels as wire numbers, and numbers and unhashable values unchanged."""
    if isinstance(one, (int, np.integer)) or not isinstance(one, Hashable):
        return [one]
    found = [wire for wire, label in enumerate(labels) if label == one]
    if not found and isinstance(one, str):
        raise WiringError(
            f"input {abbreviated(one)}: no wire has this label{suggest(one, map(str, labels))}"
        )
    return found or [one]


def edges_of(stage: Stage) -> Edges:
    """Return the edges of a stage as arrays (from, to, switch), with −1 for wires in no switch."""
    start, end = stage.passing
    starts, ends, switches = [start], [end], [np.full(len(start), -1)]
    number = 0
    for bank in stage.banks:
        shape = (bank.count, bank.radix, bank.radix)
        starts.append(np.broadcast_to(bank.reads[:, None, :], shape).ravel())
        ends.append(np.broadcast_to(bank.writes[:, :, None], shape).ravel())
        switches.append(np.repeat(np.arange(number, number + bank.count), bank.radix**2))
        number += bank.count
    return np.concatenate(starts), np.concatenate(ends), np.concatenate(switches)


def _reached(net: Network, edges: list[Edges], inputs: Index | None) -> npt.NDArray[np.bool_]:
    """Return the wires of each column that are influenced by the inputs, (depth + 1, width)."""
    reached = np.zeros((net.depth + 1, net.width), dtype=bool)
    reached[0, slice(None) if inputs is None else inputs] = True
    for t, (start, end, _) in enumerate(edges):
        reached[t + 1, end[reached[t, start]]] = True
    return reached


def _lines(
    ax: Any,
    edges: list[Edges],
    reached: npt.NDArray[np.bool_],
    thickness: float,
    carried: list[npt.NDArray[np.bool_]] | None = None,
) -> None:
    """Add the edges as two collections: the influenced edges, and below them the others."""
    lines, coloured, colours = [np.zeros((0, 2, 2))], [np.zeros(0, bool)], [np.zeros(0, int)]
    for t, (start, end, switch) in enumerate(edges):
        left, right = np.full(len(start), t), np.full(len(start), t + 1)
        lines.append(np.stack([left, start, right, end], axis=1).reshape(-1, 2, 2))
        coloured.append(reached[t, start] if carried is None else carried[t])
        colours.append(np.where(switch < 0, -1, switch % len(COLOURS)))
    line, carries = np.concatenate(lines), np.concatenate(coloured)
    colour = np.array([*COLOURS, BARE])[np.concatenate(colours)]
    collection = require("matplotlib.collections", "plot").LineCollection
    for label, part, paint, width in (
        ("unreached", ~carries, FAINT, thickness / 2),
        ("reached", carries, colour[carries], thickness),
    ):
        ax.add_collection(
            collection(line[part], colors=paint, linewidths=width, label=label, zorder=1 + width)
        )


def _bundled_lines(
    ax: Any, edges: list[Edges], reached: npt.NDArray[np.bool_], bundle: int, thickness: float
) -> None:
    """Add a line between two bundles if an edge joins them, in colour if any is influenced."""
    gathered: list[Edges] = []
    carried = []
    rows = -(-reached.shape[1] // bundle)
    for t, (start, end, _) in enumerate(edges):
        key = start // bundle * rows + end // bundle
        coloured, every = np.unique(key[reached[t, start]]), np.unique(key)
        gathered.append((every // rows, every % rows, np.zeros(len(every), dtype=np.int64)))
        carried.append(np.isin(every, coloured))
    _lines(ax, gathered, reached, thickness, carried)


def _shares(reached: npt.NDArray[np.bool_], bundle: int) -> npt.NDArray[np.float64]:
    """Return the fraction of influenced wires in each bundle, (depth + 1, bundles)."""
    first = np.arange(0, reached.shape[1], bundle)
    sizes = np.diff(np.append(first, reached.shape[1]))
    return np.asarray(np.add.reduceat(reached, first, 1, dtype=float) / sizes)


def _filled(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return colours from white, for 0, to dark; never white if the fraction is positive."""
    ink = np.array(require("matplotlib.colors", "plot").to_rgb(INK))
    depth = np.where(share > 0, 0.25 + 0.75 * share, 0)[:, None]
    return np.asarray(1 - depth * (1 - ink))


def _frame(ax: Any, net: Network, counts: npt.NDArray[np.int_] | None, bundle: int) -> None:
    """Label the stages below, the wires at the left, and the counts of influenced wires above."""
    rows = -(-net.width // bundle)
    ax.set_xlim(-0.3, net.depth + 0.3)
    ax.set_ylim(rows - 0.4, -0.6 if counts is None else -1.0 - rows / 24)
    named = range(0, net.depth, -(-net.depth // 32) or 1)
    ax.set_xticks([t + 0.5 for t in named], [f"$B_{{{t + 1}}}$" for t in named])
    step = max(1, 2 ** math.ceil(math.log2(rows / 16)))
    places = np.arange(0, rows, step)
    names = wire_names(net)
    name_wires(ax.yaxis, places, [names[wire] for wire in (places * bundle).tolist()])
    ax.set_ylabel("wire" if bundle == 1 else f"wires, {bundle:,} to a dot", color=INK)
    bare(ax)
    if counts is not None:
        every = max(1, -(-net.depth // 20))  # space for so many numbers side by side
        for t, number in enumerate(counts.tolist()):
            if t % every == 0 or t == net.depth:
                ax.text(t, -0.7, f"{number:,}", ha="center", va="bottom", fontsize=9, color=INK)
