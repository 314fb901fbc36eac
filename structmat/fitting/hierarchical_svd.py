"""Hierarchical singular value decomposition, which splits off stages one by one, the last first.

Let C be a component of the wires as connected by stages 1 … t−1, and S a switch of stage t. A path
from an input in C to an output of S passes through a wire of S ∩ C, so the submatrix R[S, C] has
rank at most |S ∩ C|, and factors into columns of the block of S and rows of the smaller product on
C. If S ∩ C is a single wire, the factors are unique up to a sign, which the smaller product
absorbs. If S ∩ C is larger, they are unique up to a rotation of S ∩ C, which an earlier stage
absorbs if one of its switches contains S ∩ C.

The method applies to networks with one digit per stage, of any radices and in any order, to the
block butterfly at any depth, and to networks isomorphic to these. It is exact for a matrix of the
network; for any other, keeping the largest singular values yields a good starting point.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from structmat.fitting.procrustes import polar
from structmat.fitting.stage_splits import connected, groups
from structmat.linalg.blocks import Array, identity_blocks
from structmat.networks.network import Network
from structmat.networks.permutation import Index


def hierarchical_blocks(net: Network, target: Array) -> list[Array] | None:
    """Return blocks by hierarchical decomposition, or None if the structure does not fit.

    Parameters
    ----------
    net : Network
        A straight network.
    target : (width, width)

    References
    ----------
    Q.-T. Le, L. Zheng, R. Gribonval, Butterfly factorization with error guarantees, 2024,
    arXiv 2411.04506.

    Examples
    --------
    >>> from structmat.linalg.blocks import random_blocks
    >>> from structmat.families import brickwall, butterfly
    >>> from structmat.linalg.factors import matrix_of
    >>> net = butterfly(16, block=4)
    >>> member = matrix_of(net, random_blocks(net, rng=0))
    >>> bool(np.allclose(matrix_of(net, hierarchical_blocks(net, member)), member))
    True
    >>> hierarchical_blocks(brickwall(4), np.eye(4)) is None
    True
    """
    state = _Recursion(net, target.dtype)
    left = [(net.depth, np.arange(net.width), target)]
    while left:
        smaller = state.split(*left.pop())
        if smaller is None:
            return None
        left += smaller
    return state.blocks


_Left = tuple[int, Index, Array]  # the number of remaining stages, their wires, their matrix


class _Recursion:
    """The blocks found so far, and the switch of every wire in every stage."""

    def __init__(self, net: Network, dtype: np.dtype[Any]) -> None:
        self.blocks = identity_blocks(net, dtype)
        self.labels = connected(net)
        self.switches: list[list[tuple[Array, Index]]] = []
        self.homes = np.full((net.depth, net.width), -1)
        rest = iter(self.blocks)
        for t, stage in enumerate(net.stages):
            held = [
                pair for bank in stage.banks for pair in zip(next(rest), bank.reads, strict=True)
            ]
            self.switches.append(held)
            for number, (_, wires) in enumerate(held):
                self.homes[t, wires] = number

    def split(self, depth: int, wires: Index, matrix: Array) -> list[_Left] | None:
        """Set the switches of the last of `depth` stages on some wires; return the rest.

        The rest is a smaller matrix for each component of the wires. The result is None if the
        structure does not fit.
        """
        if depth == 0 or len(wires) == 1:
            return []
        t = depth - 1
        place = np.empty(self.homes.shape[1], dtype=np.int64)  # position of a wire in its component
        parts = groups(np.unique(self.labels[t][wires], return_inverse=True)[1])
        for part in parts:
            place[wires[part]] = np.arange(len(part))
        smaller = [np.zeros((len(part), len(part)), matrix.dtype) for part in parts]
        part_of = np.empty(len(wires), dtype=np.int64)
        for number, part in enumerate(parts):
            part_of[part] = number
        position = np.empty(self.homes.shape[1], dtype=np.int64)
        position[wires] = np.arange(len(wires))
        met = self.homes[t][wires]
        for bare in np.flatnonzero(met < 0):
            part = parts[part_of[bare]]
            smaller[part_of[bare]][place[wires[bare]]] = matrix[bare, part]
        for number in np.unique(met[met >= 0]):
            block, switch = self.switches[t][number]
            rows = position[switch]
            columns = np.zeros_like(block)
            for p in np.unique(part_of[rows]):
                shared = np.flatnonzero(part_of[rows] == p)
                meeting = matrix[np.ix_(rows, parts[p])]
                if len(parts[p]) == 1:
                    columns[:, shared] = meeting  # a wire in no earlier switch
                    continue
                if len(shared) > 1 and not self._is_absorbed(t, switch[shared]):
                    return None
                u, s, vh = np.linalg.svd(meeting, full_matrices=False)
                columns[:, shared] = u[:, : len(shared)]
                smaller[p][place[switch[shared]]] = (s[:, None] * vh)[: len(shared)]
            block[:] = polar(columns)
        return [(t, wires[part], m) for part, m in zip(parts, smaller, strict=True)]

    def _is_absorbed(self, t: int, wires: Index) -> bool:
        """Return whether the last earlier switch on these wires contains all of them."""
        for homes in self.homes[:t, wires][::-1]:
            if (homes >= 0).any():
                return bool(homes[0] >= 0 and (homes == homes[0]).all())
        return False
