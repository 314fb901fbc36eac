"""The recursive cosine–sine decomposition, which is exact on the ruler network.

Any orthogonal matrix of even size is (U₁ ⊕ U₂) · [C −S; S C] · (V₁ ⊕ V₂), partitioned into halves.
The middle factor is a stage of rotations between the halves; the outer factors are decomposed
recursively, down to single 2×2 blocks. A network can thus represent every orthogonal matrix if its
middle stage pairs two halves of the wires, and the stages before and after it have the same
structure within each half.
"""

from __future__ import annotations

import numpy as np
import scipy

from structmat.fitting.givens_networks import Pairs, pairs_of
from structmat.linalg.blocks import Array
from structmat.networks.network import Network
from structmat.networks.permutation import Index


def cosine_sine_blocks(net: Network, target: Array) -> list[Array] | None:
    """Return blocks whose product is an orthogonal target, or None if the structure does not fit.

    All blocks are rotations except for the innermost blocks, in stages 1, 3, 5, …, which are in
    O(2).

    Parameters
    ----------
    net : Network
        A straight network: the ruler network up to a relabelling of its wires.
    target : (width, width), orthogonal or unitary

    References
    ----------
    C. C. Paige and M. Wei, History and generality of the CS decomposition, 1994.

    Examples
    --------
    >>> from structmat.families import ruler
    >>> from structmat.linalg.factors import matrix_of
    >>> target = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    >>> bool(np.allclose(matrix_of(ruler(8), cosine_sine_blocks(ruler(8), target)), target))
    True
    """
    if net.depth != net.width - 1 or net.width < 2:
        return None
    pairs = pairs_of(net, target.dtype)
    if pairs is None:
        return None
    left = [(0, net.depth, np.arange(net.width), target)]
    while left:
        first, last, wires, matrix = left.pop()
        middle = (first + last) // 2
        halves = _halves(pairs, first, middle, wires)
        if halves is None:
            return None
        a, b = wires[halves]
        if len(wires) == 2:
            pairs.put(middle, a[0], matrix[np.ix_(halves.ravel(), halves.ravel())])
            continue
        order = halves.ravel()
        (ua, ub), angle, (va, vb) = scipy.linalg.cossin(
            matrix[np.ix_(order, order)], p=len(a), q=len(a), separate=True
        )
        cosine, sine = np.cos(angle), np.sin(angle)
        rotations = np.stack([cosine, -sine, sine, cosine], axis=1).reshape(-1, 2, 2)
        pairs.put(middle, a, rotations)
        left += [(first, middle, a, va), (first, middle, b, vb)]
        left += [(middle + 1, last, a, ua), (middle + 1, last, b, ub)]
    return pairs.blocks()


def _halves(pairs: Pairs, first: int, middle: int, wires: Index) -> Index | None:
    """Return the positions of both halves of some wires, with partners in one order, or None.

    One half consists of the wires that the first wire influences before the middle stage, and the
    other of their partners.
    """
    reached = np.zeros(pairs.mates.shape[1], dtype=bool)
    reached[wires[0]] = True
    for mates in pairs.mates[first:middle]:
        met = mates[reached]
        reached[met[met >= 0]] = True
    place = np.full(len(reached), -1)
    place[wires] = np.arange(len(wires))
    here = np.flatnonzero(reached)
    there = pairs.mates[middle, here]
    halves = np.stack([place[here], np.where(there >= 0, place[there], -1)])
    if not np.array_equal(np.sort(halves, axis=None), np.arange(len(wires))):
        return None
    return halves
