"""Permutations of the inputs or the outputs after which a network may represent a target.

Candidates are tested against conditions on ranks, which all matrices of the network satisfy: let C
be a component of the inputs as connected by stages 1 … t, and O a component of the outputs as
connected by the later stages. Every path from C to O passes through a wire of O ∩ C, so the rank of
R[O, C] is at most |O ∩ C|.

If these numbers are 0 or 1, as in a network with exactly one path from each input to each output, a
permutation of the outputs can also be computed: for each t, two outputs are in the same component O
only if their rows on each C are multiples of each other. This partitions the rows, more and more
finely as t grows, and the partitions determine the permutation up to permutations that the blocks
can absorb.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from structmat.fitting.named_permutations import named_permutations
from structmat.fitting.stage_splits import connected, groups
from structmat.linalg.blocks import Array
from structmat.networks.network import Network
from structmat.networks.permutation import Index, identity, inverse

_PAIRS = 40  # submatrices checked for each t
_SIDE = 8  # their rows and columns beyond the admissible rank
_WIDEST = 512  # width up to which a permutation is sought at both ends


class PermutedEnds(NamedTuple):
    """Permutations of the inputs and outputs: the target is (R x[inputs])[outputs]."""

    name: str
    inputs: Index
    outputs: Index


def end_permutations(
    net: Network, target: Array, rounding: float, *, special: bool = False
) -> Iterator[PermutedEnds]:
    """Yield permutations after which the target satisfies the conditions, simplest first.

    Parameters
    ----------
    net : Network
        Any network; R is its matrix.
    target : (width, width)
    rounding : float
        The distance from a matrix of the network up to which the target counts as one.
    special : bool
        Whether real blocks must be rotations. A computed permutation is then chosen such that R has
        determinant 1, if exchanging two wires of a switch achieves this.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> from structmat.linalg.transforms import dft
    >>> [ends.name for ends in end_permutations(butterfly(8), dft(8).matrix(), 1e-12)][:1]
    ['inputs bit-reversed']
    """
    wires = identity(net.width)
    special = special and target.dtype.kind == "f"
    conditions = _Conditions(net, rounding, special=special)
    if not conditions.checked:
        return  # nothing can be excluded, and every permutation would have to be tried
    for name, p in named_permutations(conditions.network):
        if conditions.hold(target, wires, p):
            yield PermutedEnds(f"inputs {name}", p, wires)
        if conditions.hold(target, inverse(p), wires):
            yield PermutedEnds(f"outputs {name}", wires, p)
    if not conditions.unique:
        return
    last = conditions.outputs(target)
    if last is not None:
        yield PermutedEnds("outputs permuted", wires, last)
    rearranged = target[inverse(conditions.last)]  # a matrix of the straight network
    backwards = _Conditions(conditions.network.inverse(), rounding, special=special)
    first = backwards.outputs(rearranged.T)
    if first is not None:
        yield PermutedEnds("inputs permuted", inverse(first), wires)
    if net.width > _WIDEST:
        return
    for name, p in named_permutations(conditions.network, shifts=False):
        last = conditions.outputs(target[:, p])
        if last is not None:
            yield PermutedEnds(f"inputs {name} and outputs permuted", p, last)


class _Conditions:
    """The components of inputs and outputs for each t, and submatrices of limited rank."""

    def __init__(self, net: Network, rounding: float, *, special: bool = False) -> None:
        self.rounding, self.special = rounding, special
        self.network, _, self.last = net.straightened()
        components = connected(self.network)
        first = 0 if components[-1].any() else 1  # t = 0: entries without a path
        self.inputs = components[first:-1]
        straight = connected(self.network.inverse())[::-1][first:-1]
        self.outputs_after = [after[self.last] for after in straight]
        self.checked: list[tuple[Index, Index, int]] = []
        self.unique = bool(self.inputs)
        places = inverse(self.last)
        for before, after in zip(self.inputs, straight, strict=True):
            both = before * len(after) + after
            self.unique &= len(np.unique(both)) == net.width
            columns, rows = groups(before), groups(after)
            count = len(columns) * len(rows)
            for k in range(0, count, max(1, count // _PAIRS)):
                o, c = rows[k // len(columns)], columns[k % len(columns)]
                rank = int(np.isin(o, c).sum())
                if rank < min(len(o), len(c)):
                    self.checked.append((places[o[: rank + _SIDE]], c[: rank + _SIDE], rank))
        self.checked.sort(key=lambda check: check[2])

    def hold(self, matrix: Array, outputs: Index, inputs: Index) -> bool:
        """Return whether matrix[outputs][:, inputs] satisfies all conditions that are checked."""
        for rows, columns, rank in self.checked:
            part = matrix[outputs[rows][:, None], inputs[columns]]
            values = np.linalg.svd(part, compute_uv=False)
            if np.linalg.norm(values[rank:]) > self.rounding:
                return False
        return True

    def outputs(self, matrix: Array) -> Index | None:
        """Return p with matrix = R[p] for a matrix R that satisfies all conditions, or None.

        The network must have at most one path from each input to each output.
        """
        width = len(matrix)
        labels = np.zeros(width, dtype=np.int64)
        rows = [labels]
        for before, after in zip(self.inputs, self.outputs_after, strict=True):
            sizes = set(np.bincount(after).tolist())
            found = self._refined(matrix, labels, before, sizes)
            if found is None:
                return None
            labels = found
            rows.append(labels)
        wires = [np.zeros(width, dtype=np.int64), *self.outputs_after]
        p = np.full(width, -1)
        if not _matched(p, identity(width), identity(width), rows, wires):
            return None
        if self.special and np.linalg.slogdet(matrix[inverse(p)])[0] < 0:
            pair = next((part[:2] for part in groups(labels) if len(part) > 1), None)
            if pair is not None:  # these rows end in one switch, which can exchange them
                p[pair] = p[pair[::-1]]
        return p

    def _refined(
        self, matrix: Array, labels: Index, before: Index, sizes: set[int]
    ) -> Index | None:
        """Split each class of rows into those that are multiples of each other on every C."""
        order = np.argsort(before, kind="stable")
        starts = np.flatnonzero(np.diff(before[order], prepend=-1))
        by_component = matrix[:, order]
        squares = np.add.reduceat(np.abs(by_component) ** 2, starts, axis=1)
        refined = np.full(len(labels), -1)
        count = 0
        for rows in groups(labels):
            left = rows
            while len(left):
                first, others = left[0], by_component[left]
                inner = np.add.reduceat(others * by_component[first].conj(), starts, axis=1)
                # ‖a‖²‖b‖² − |⟨a, b⟩|² is zero exactly if the rows a and b are multiples.
                norms = squares[left] * squares[first]
                gap = norms - np.abs(inner) ** 2
                close = gap <= 100 * self.rounding * norms + self.rounding**2
                alike = (squares[left] > self.rounding**2) == (squares[first] > self.rounding**2)
                same = (close & alike).all(axis=1)
                if int(same.sum()) not in sizes:
                    return None
                refined[left[same]] = count
                count += 1
                left = left[~same]
        return refined


def _matched(
    p: Index, rows: Index, wires: Index, row_labels: list[Index], wire_labels: list[Index]
) -> bool:
    """Set p so that the nested classes of rows become those of the wires, if the sizes agree."""
    if len(row_labels) == 1:
        p[rows] = wires
        return True
    row_parts, wire_parts = (
        sorted(
            (some[part] for part in groups(np.unique(label[1][some], return_inverse=True)[1])),
            key=lambda part: (len(part), int(part[0])),
        )
        for some, label in ((rows, row_labels), (wires, wire_labels))
    )
    if [len(part) for part in row_parts] != [len(part) for part in wire_parts]:
        return False
    return all(
        _matched(p, some, other, row_labels[1:], wire_labels[1:])
        for some, other in zip(row_parts, wire_parts, strict=True)
    )
