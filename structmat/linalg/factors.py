"""The matrix of a network with given blocks: applied, dense, as sparse factors, as an operator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy

from structmat.errors import BlockError
from structmat.families.topology import checked
from structmat.linalg.blocks import Array, checked_blocks
from structmat.networks.network import Network

Blocks = Sequence[npt.ArrayLike]


def apply(net: Network, blocks: Blocks, x: npt.ArrayLike) -> Array:
    """Return R x for each vector along the last axis, applying one stage after the other.

    This is the reference implementation that faster ones are compared with: for each switch, gather
    its wires, multiply by its block, scatter.

    Parameters
    ----------
    net : Network
    blocks : one (n, r, r) array for each bank
    x : (..., width)

    Returns
    -------
    (..., width), of the dtype to which x and the blocks promote

    Raises
    ------
    BlockError
        If the blocks or x do not fit the network.

    Examples
    --------
    >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> quarter = [[[0.0, -1.0], [1.0, 0.0]]]
    >>> apply(net, [quarter, quarter], [1.0, 0.0, 0.0])
    array([0., 0., 1.])
    """
    net = checked(net, "apply")
    arrays = checked_blocks(net, blocks)
    y = np.asarray(x)
    if y.ndim < 1 or y.shape[-1] != net.width:
        raise BlockError(f"x of shape {y.shape}: its last axis must be the width {net.width}")
    if y.dtype.kind not in "biufc":
        raise BlockError(f"x of dtype {y.dtype}: it must hold real or complex numbers")
    y = y.astype(np.result_type(np.float32, y, *arrays))
    return _apply(net, arrays, y)


def _apply(net: Network, arrays: list[Array], y: Array) -> Array:
    rest = iter(arrays)
    for stage in net.stages:
        after = y.copy()
        after[..., stage.moves[:, 1]] = y[..., stage.moves[:, 0]]
        for bank in stage.banks:
            z = y[..., bank.reads]
            after[..., bank.writes] = np.einsum("nij,...nj->...ni", next(rest), z)
        y = after
    return y


def matrix_of(net: Network, blocks: Blocks) -> Array:
    """Return R = B_m ⋯ B_1 as a (width, width) array.

    Examples
    --------
    >>> from structmat.linalg.blocks import random_blocks
    >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> r = matrix_of(net, random_blocks(net, rng=0))
    >>> bool(np.allclose(r.T @ r, np.eye(3))), bool(r[0, 2] == 0)
    (True, True)
    """
    net = checked(net, "matrix_of")
    arrays = checked_blocks(net, blocks)
    dtype = np.result_type(np.float32, *arrays) if arrays else np.dtype(float)
    return np.ascontiguousarray(_apply(net, arrays, np.eye(net.width, dtype=dtype)).T)


def factors(net: Network, blocks: Blocks) -> list[scipy.sparse.csr_array]:
    """Return the sparse factors B_1, …, B_m, in the order in which they are applied.

    Each is a (width, width) scipy.sparse.csr_array whose stored entries are those of the switches
    and of the remaining wires: `stage.nonzeros` of them, including explicit zeros.

    Examples
    --------
    >>> from structmat.linalg.blocks import identity_blocks
    >>> net = Network.of(4, [[[0, 1], [2, 3]], [[0, 2], [1, 3]]])
    >>> [b.nnz for b in factors(net, identity_blocks(net))]
    [8, 8]
    """
    net = checked(net, "factors")
    arrays = checked_blocks(net, blocks)
    dtype = np.result_type(np.float32, *arrays) if arrays else np.dtype(float)
    rest = iter(arrays)
    made = []
    for stage in net.stages:
        start, end = stage.passing
        rows, columns, values = [end], [start], [np.ones(len(start), dtype=dtype)]
        for bank in stage.banks:
            block = next(rest)
            rows.append(np.broadcast_to(bank.writes[:, :, None], block.shape).ravel())
            columns.append(np.broadcast_to(bank.reads[:, None, :], block.shape).ravel())
            values.append(block.ravel())
        coordinates = (np.concatenate(rows), np.concatenate(columns))
        made.append(
            scipy.sparse.coo_array(
                (np.concatenate(values), coordinates), shape=(net.width, net.width)
            ).tocsr()
        )
    return made
