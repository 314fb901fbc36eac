"""A layer of a grid graph: its components, and whether its pattern can be orthogonal."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy

from structmat._util.text_table import counted
from structmat.networks.permutation import Index

Mask: TypeAlias = npt.NDArray[np.bool_]

_CHUNK = 256  # rows compared with all others at once


class Layer(NamedTuple):
    """The edges from column t to column t + 1, and the connected component of each wire.

    Edge k leads from wire `sources[k]` to wire `targets[k]`; entry (target, source) of the factor
    may be non-zero. `left` and `right` are the component numbers of the wires of the two columns.
    """

    t: int
    sources: Index
    targets: Index
    left: Index
    right: Index

    @classmethod
    def of(cls, t: int, width: int, sources: Index, targets: Index) -> Layer:
        """Compute the components of a layer, and return it."""
        ones = np.ones(len(sources), dtype=bool)
        links = scipy.sparse.coo_array((ones, (sources, targets + width)), shape=(2 * width,) * 2)
        _, part = scipy.sparse.csgraph.connected_components(links, directed=False)
        label = part.astype(np.int64)
        return cls(t, sources, targets, label[:width], label[width:])

    @property
    def sizes(self) -> tuple[Index, Index]:
        """The number of wires in each component, in column t and in column t + 1."""
        parts = int(max(self.left.max(), self.right.max())) + 1
        return np.bincount(self.left, minlength=parts), np.bincount(self.right, minlength=parts)

    @property
    def incomplete(self) -> Mask:
        """Which components lack an edge between their two sides, or have only one side."""
        left, right = self.sizes
        edges = np.bincount(self.left[self.sources], minlength=len(left))
        return np.asarray((edges < left * right) | (left * right == 0))

    @property
    def unbalanced(self) -> Mask:
        """Which components have more wires on one side than on the other."""
        left, right = self.sizes
        return np.asarray(left != right)


def refusal(layer: Layer, *, completing: bool) -> str | None:
    """Return why the layer, or its completion, is not a stage; None if it is."""
    incomplete = layer.incomplete
    balanced = not layer.unbalanced.any()
    if balanced and (completing or not incomplete.any()):
        return None
    reason = _too_few_sources(layer) or _not_quadrangular(layer) or _unknown(layer)
    if not balanced:
        return reason
    wanted = int((layer.sizes[0][incomplete] ** 2).sum())
    added = wanted - int(incomplete[layer.left[layer.sources]].sum())
    return (
        f'{reason}, or pass incomplete="complete" to make each component a switch by adding'
        f" {counted(added, 'edge')}"
    )


def _too_few_sources(layer: Layer) -> str | None:
    violator = _hall_violator(layer)
    if violator is None:
        return None
    rows, columns = violator
    one = len(rows) == 1
    sources = f"only on {_wires(columns, layer.t)}" if len(columns) else "on no wire"
    return (
        f"{_wires(rows, layer.t + 1)} {'depends' if one else 'depend'} {sources}: k rows of an"
        " orthogonal matrix need at least k columns between them; add edges to"
        f" {'it' if one else 'them'} from other wires"
    )


def _not_quadrangular(layer: Layer) -> str | None:
    judged = layer.incomplete[layer.left[layer.sources]]
    targets, sources = layer.targets[judged], layer.sources[judged]
    here, there = layer.t, layer.t + 1
    for first, second, lines, t, s, end in (
        (targets, sources, "rows", there, here, "source"),
        (sources, targets, "columns", here, there, "target"),
    ):
        met = _meet_once(_pattern(len(layer.left), first, second))
        if met is not None:
            pair, common = np.array(met[:2]), np.array(met[2:])
            return (
                f"{_wires(pair, t)} have {_wires(common, s)} as their only common {end}: two"
                f" {lines} of an orthogonal matrix that overlap must overlap in at least two"
                " positions; add or remove edges"
            )
    return None


def _unknown(layer: Layer) -> str:
    part = np.flatnonzero(layer.left == np.flatnonzero(layer.incomplete)[0])
    return (
        f"{_wires(part, layer.t)} and their targets do not form a complete switch, and whether"
        " an orthogonal matrix has this pattern is unknown in general; add edges"
    )


def _pattern(width: int, rows: Index, columns: Index) -> scipy.sparse.csr_array:
    ones = np.ones(len(rows), dtype=np.int64)
    return scipy.sparse.coo_array((ones, (rows, columns)), shape=(width, width)).tocsr()


def _hall_violator(layer: Layer) -> tuple[Index, Index] | None:
    """Return wires of column t + 1 with fewer sources in column t, and these sources, if any.

    Start from a wire that a maximum matching does not cover, and follow edges to column t and
    matching edges back. Because the matching cannot be extended, the wires found violate Hall's
    condition.
    """
    incidence = _pattern(len(layer.left), layer.targets, layer.sources)
    partner = scipy.sparse.csgraph.maximum_bipartite_matching(incidence, perm_type="column")
    alone = np.flatnonzero(partner < 0)
    if len(alone) == 0:
        return None
    back = np.full(len(partner), -1, dtype=np.int64)
    back[partner[partner >= 0]] = np.flatnonzero(partner >= 0)
    rows = {int(alone[0])}
    columns: set[int] = set()
    waiting = list(rows)
    while waiting:
        row = waiting.pop()
        first, last = incidence.indptr[row : row + 2]
        new = set(incidence.indices[first:last].tolist()) - columns
        columns |= new
        matched = {int(back[column]) for column in new}
        waiting += matched - rows
        rows |= matched
    return np.array(sorted(rows)), np.array(sorted(columns), dtype=np.int64)


def _meet_once(pattern: scipy.sparse.csr_array) -> tuple[int, int, int] | None:
    """Return the first two rows that share exactly one column, and that column, or None."""
    across = pattern.T.tocsr()
    for first in range(0, pattern.shape[0], _CHUNK):
        shared = (pattern[first : first + _CHUNK] @ across).tocoo()
        one, other = shared.row + first, shared.col
        found = np.flatnonzero((shared.data == 1) & (one < other))
        if len(found):
            a, b = min(zip(one[found].tolist(), other[found].tolist(), strict=True))
            of_a, of_b = (pattern.indices[slice(*pattern.indptr[r : r + 2])] for r in (a, b))
            return a, b, int(np.intersect1d(of_a, of_b)[0])
    return None


def _wires(wires: Index, t: int) -> str:
    """Format some wires of a column: "wires 0, 1 and 5 of column 2"."""
    names = [str(wire) for wire in wires.tolist()]
    if len(names) == 1:
        return f"wire {names[0]} of column {t}"
    if len(names) > 8:
        return f"wires {', '.join(names[:6])}, … ({len(names)} in all) of column {t}"
    return f"wires {', '.join(names[:-1])} and {names[-1]} of column {t}"
