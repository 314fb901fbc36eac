"""Nulling: rotations that zero one entry each, until an orthogonal matrix is diagonal.

A rotation of two neighbouring columns is a switch at the beginning of the network, and a rotation
of two rows is a switch at the end. The triangle of Reck uses columns only, row by row; the
brick-wall mesh of Clements alternates between columns and rows by antidiagonals. Whether a network
is deep enough is determined by placing each rotation of columns in the earliest available stage,
and each rotation of rows in the latest.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from structmat.fitting.givens_networks import Pairs, pairs_of
from structmat.linalg.blocks import Array, adjoint_blocks
from structmat.networks.network import Network
from structmat.networks.permutation import Index


def givens_blocks(net: Network, target: Array) -> list[Array] | None:
    """Return blocks whose product is an orthogonal target, or None if the structure does not fit.

    The wires must form a path, in any numbering, whose neighbours meet as often as the triangle or
    the brick-wall mesh requires, starting from either end and in either direction of time. Unused
    switches remain the identity.

    Parameters
    ----------
    net : Network
        A straight network.
    target : (width, width), orthogonal or unitary

    References
    ----------
    M. Reck et al., Experimental realization of any discrete unitary operator, 1994.
    W. R. Clements et al., Optimal design for universal multiport interferometers, 2016,
    arXiv 1603.08788.

    Examples
    --------
    >>> from structmat.families import brickwall
    >>> from structmat.linalg.factors import matrix_of
    >>> target = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    >>> bool(np.allclose(matrix_of(brickwall(5), givens_blocks(brickwall(5), target)), target))
    True
    """
    pairs = pairs_of(net, target.dtype)
    if pairs is None or net.parameters < net.width * (net.width - 1) // 2:
        return None
    path = _path(pairs.mates)
    if path is None:
        return None
    back = net.inverse()
    for order in (path, path[::-1]):
        for word in (list(_brickwall(net.width)), list(_triangle(net.width))):
            for oriented in (net, back):
                stages = _placed(oriented, order, word)
                if stages is None:
                    continue
                matrix = target if oriented is net else np.conj(target.T)
                blocks = _eliminated(Pairs(oriented, target.dtype), order, word, stages, matrix)
                return blocks if oriented is net else adjoint_blocks(back, blocks)
    return None


_TINY = 2.0**-500


class _Zero(NamedTuple):
    """An entry to zero, by rotating its column and the next, or its row and the one before."""

    row: int
    column: int
    by_columns: bool

    @property
    def first(self) -> int:
        """The first of the two neighbours that are rotated."""
        return self.column if self.by_columns else self.row - 1


def _triangle(width: int) -> Iterator[_Zero]:
    for row in range(width - 1, 0, -1):
        for column in range(row):
            yield _Zero(row, column, by_columns=True)


def _brickwall(width: int) -> Iterator[_Zero]:
    for k in range(width - 1):  # antidiagonals, from the bottom left corner
        for j in range(k + 1):
            if k % 2 == 0:
                yield _Zero(width - 1 - j, k - j, by_columns=True)
            else:
                yield _Zero(width - 1 - k + j, j, by_columns=False)


def _path(mates: Index) -> list[int] | None:
    """Return the wires in the order of the path formed by the switches, or None."""
    width = mates.shape[1]
    met = [set(column[column >= 0].tolist()) for column in mates.T]
    ends = [wire for wire, others in enumerate(met) if len(others) == 1]
    if len(ends) != 2 or any(len(others) > 2 for others in met):
        return None
    path = [ends[0]]
    while len(path) < width:
        following = met[path[-1]] - set(path[-2:])
        if len(following) != 1:
            return None
        path.append(following.pop())
    return path


def _placed(net: Network, path: list[int], word: list[_Zero]) -> list[int] | None:
    """Return the stage of each rotation, or None if the network has no stage for one."""
    mates = Pairs(net, np.dtype(float)).mates
    when = [np.flatnonzero(mates[:, a] == b).tolist() for a, b in itertools.pairwise(path)]
    early, late = [0] * len(path), [net.depth - 1] * len(path)  # the stages left for each wire
    stages = []
    for zero in word:
        k = zero.first
        if zero.by_columns:
            at = bisect_left(when[k], max(early[k], early[k + 1]))
            if at == len(when[k]):
                return None
            early[k] = early[k + 1] = when[k][at] + 1
        else:
            at = bisect_right(when[k], min(late[k], late[k + 1])) - 1
            if at < 0:
                return None
            late[k] = late[k + 1] = when[k][at] - 1
        stages.append(when[k][at])
    return stages if all(a <= b + 1 for a, b in zip(early, late, strict=True)) else None


def _eliminated(
    pairs: Pairs, path: list[int], word: list[_Zero], stages: list[int], target: Array
) -> list[Array]:
    """Zero the entries in order; the innermost blocks absorb the remaining signs or phases."""
    matrix = target[np.ix_(path, path)]
    inner = [(-1, False)] * len(
        path
    )  # the stage of the latest rotation, and whether it rotates columns
    for zero, stage in zip(word, stages, strict=True):
        k = zero.first
        both = slice(k, k + 2)
        if zero.by_columns:
            a, b = matrix[zero.row, both]
            block = _rotation(b, -a).conj()
            matrix[:, both] = matrix[:, both] @ block.conj().T
        else:
            block = _rotation(*matrix[both, zero.column]).T
            matrix[both] = block.conj().T @ matrix[both]
        pairs.put(stage, path[k], block)
        inner[k] = inner[k + 1] = (stage, zero.by_columns)
    for place, (stage, by_columns) in enumerate(inner):
        pairs.scale(stage, path[place], matrix[place, place], output=by_columns)
    return pairs.blocks()


def _rotation(a: np.inexact, b: np.inexact) -> Array:
    """Return the rotation whose first row is (a, b), normalised."""
    length = np.hypot(abs(a), abs(b))
    if 0 < length < _TINY:  # a quotient of such numbers is inaccurate, and may overflow
        return _rotation(a / _TINY, b / _TINY)
    if length == 0:
        return np.eye(2, dtype=np.asarray(a).dtype)
    return np.asarray(np.array([[a, b], [-np.conj(b), np.conj(a)]]) / length)
