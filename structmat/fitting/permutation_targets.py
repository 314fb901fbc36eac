"""Exact fits of permutations with signs or phases, by routing."""

from __future__ import annotations

import numpy as np

from structmat.errors import RoutingError, UndecidedError
from structmat.linalg.blocks import Array
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.routing import route


def routed(net: Network, target: Array) -> list[Array] | None:
    """Return blocks whose product is a signed permutation, or None if no routing is found.

    Parameters
    ----------
    net : Network
        A straight network.
    target : (width, width)

    Examples
    --------
    >>> from structmat.families import benes
    >>> from structmat.linalg.factors import matrix_of
    >>> target = np.diag([1.0, -1.0, 1.0, 1.0])[[2, 0, 3, 1]]
    >>> bool((matrix_of(benes(4), routed(benes(4), target)) == target).all())
    True
    """
    found = _signed(target)
    if found is None:
        return None
    p, signs = found
    try:
        blocks = [array.astype(target.dtype) for array in route(net, p)]
    except (RoutingError, UndecidedError):
        return None
    left = signs.copy()  # signs not yet absorbed by a switch, from the last stage back
    for bank, array in zip(net.banks[::-1], blocks[::-1], strict=True):
        array *= left[bank.reads][:, :, None]
        left[bank.reads] = 1
    return blocks if (left == 1).all() else None


def _signed(target: Array) -> tuple[Index, Array] | None:
    """Return (p, signs) with target = diag(signs) · eye[p], or None."""
    rows, columns = np.nonzero(target)
    wires = np.arange(len(target))
    if not (np.array_equal(rows, wires) and np.array_equal(np.sort(columns), wires)):
        return None
    signs = target[rows, columns]
    return (columns, signs) if (np.abs(signs) == 1).all() else None
