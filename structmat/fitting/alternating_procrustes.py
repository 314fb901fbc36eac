"""Alternating Procrustes: each stage in turn is set to its optimum, with the others fixed.

Write R = L B P, where B is the current stage, P the product of the earlier stages, and L that of
the later ones. Because L is orthogonal, ‖R − T‖ = ‖B P − X‖ with X = Lᴴ T, and the switches of B
decouple: the optimum on the wires S is the polar factor of X[S] P[S]ᴴ. To proceed to the next
stage, X and P are multiplied by one stage each, so a sweep over all stages costs as much as a few
products of all stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from structmat.fitting.procrustes import polar
from structmat.linalg.blocks import Array, adjoint, by_stage
from structmat.networks.network import Network
from structmat.networks.stage import Stage

_FRESH = 16  # sweeps after which the products are recomputed, to limit rounding errors


def procrustes_sweeps(
    net: Network, target: Array, blocks: Sequence[Array], *, special: bool = False
) -> Iterator[tuple[list[Array], float]]:
    """Yield the blocks and the distance ‖R − T‖_F after each sweep, as long as it decreases.

    Sweeps alternate in direction. Each stage is optimised exactly, so the distance never increases;
    the generator ends when rounding prevents a decrease.

    Parameters
    ----------
    net : Network
        A straight network.
    target : (width, n)
        The matrix T; if n < width, it is compared with the first n columns of R.
    blocks : one array for each bank
        The starting point; it is not modified.
    special : bool
        Whether real blocks must be rotations; the initial blocks must then be rotations, too.

    Examples
    --------
    >>> from structmat.linalg.blocks import identity_blocks
    >>> net = Network.of(2, [[[0, 1]]])
    >>> target = np.array([[0.0, -1.0], [1.0, 0.0]])
    >>> [distance for _, distance in procrustes_sweeps(net, target, identity_blocks(net))]
    [0.0]
    """
    stages = by_stage(net, blocks)
    best = np.inf
    while True:
        pair = _Pair(net, target, stages)
        for k in range(_FRESH):
            pair.sweep(up=k % 2 == 0, special=special)
            distance = pair.distance
            if not distance < best:
                return
            best = distance
            yield [b for stage in pair.blocks for b in stage], distance
            if distance == 0 or net.depth < 2:
                return
        stages = pair.blocks


class _Pair:
    """The factors around the current stage: P and X = Lᴴ T."""

    def __init__(self, net: Network, target: Array, blocks: Sequence[Sequence[Array]]) -> None:
        self.stages = net.stages
        self.blocks = [list(stage) for stage in blocks]
        self.before = np.eye(net.width, target.shape[1], dtype=target.dtype)
        self.behind = target.copy()
        for stage, arrays in zip(self.stages[:0:-1], self.blocks[:0:-1], strict=True):
            rotate_stage(stage, adjoints(arrays), self.behind)
        self.distance = float(np.linalg.norm(self.before - self.behind))

    def sweep(self, *, up: bool, special: bool) -> None:
        """Optimise every stage in turn, from the first to the last or in reverse."""
        order = range(len(self.stages)) if up else range(len(self.stages) - 1, -1, -1)
        for t in order:
            stage, old = self.stages[t], self.blocks[t]
            if t != order[0]:
                if up:
                    rotate_stage(stage, old, self.behind)
                else:
                    rotate_stage(stage, adjoints(old), self.before)
            new = [
                polar(self.behind[b.reads] @ adjoint(self.before[b.reads]), special=special)
                for b in stage.banks
            ]
            self.blocks[t] = new
            if t != order[-1]:
                if up:
                    rotate_stage(stage, new, self.before)
                else:
                    rotate_stage(stage, adjoints(new), self.behind)
        if order:
            product = self.before.copy()
            rotate_stage(stage, new, product)
            self.distance = float(np.linalg.norm(product - self.behind))


def rotate_stage(stage: Stage, blocks: Sequence[Array], matrix: Array) -> None:
    """Multiply a matrix by a straight stage from the left, in place.

    Examples
    --------
    >>> matrix = np.eye(2)
    >>> rotate_stage(Stage.of(2, [[0, 1]]), [np.array([[[0.0, -1.0], [1.0, 0.0]]])], matrix)
    >>> matrix
    array([[ 0., -1.],
           [ 1.,  0.]])
    """
    for bank, array in zip(stage.banks, blocks, strict=True):
        matrix[bank.reads] = array @ matrix[bank.reads]


def adjoints(blocks: Sequence[Array]) -> list[Array]:
    """Return the blocks of the transposed stage."""
    return [adjoint(array) for array in blocks]
