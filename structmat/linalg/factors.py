"""The matrix of a network with given blocks: its products, its dense form, its sparse factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt
import scipy

from structmat.families.resolution import checked
from structmat.linalg.blocks import Array, checked_blocks
from structmat.linalg.schedule import Gather, schedule
from structmat.networks.network import Network

Blocks = Sequence[npt.ArrayLike]


def product(net: Network, blocks: Sequence[Any], columns: Any) -> Any:
    """Return R X for columns X (width, k), by the schedule of the network, without any checks.

    The blocks and X are arrays of one dtype, of any library that follows the array API standard. A
    bank of equal blocks may be given as one block (1, r, r).
    """
    xp, device = array_api_compat.array_namespace(columns), array_api_compat.device(columns)
    y, (width, k) = columns, columns.shape
    for step in schedule(net).steps:
        if not isinstance(step, Gather):
            parts = [
                xp.reshape(
                    xp.matmul(
                        blocks[s.bank], xp.reshape(y[s.start : s.end, :], (s.count, s.radix, k))
                    ),
                    (s.end - s.start, k),
                )
                for s in step.segments
            ]
            end = step.segments[-1].end
            y = xp.concat([*parts, y[end:, :]], axis=0) if end < width or parts[1:] else parts[0]
        elif step.view is None:
            y = xp.take(y, xp.asarray(step.index, device=device, copy=True), axis=0)
        else:
            shape, axes = step.view
            seen = xp.permute_dims(xp.reshape(y, (*shape, k)), (*axes, len(axes)))
            y = xp.reshape(seen, (width, k))
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
    one: Array = np.eye(net.width, dtype=arrays[0].dtype if arrays else float)
    return np.ascontiguousarray(product(net, arrays, one))


def factors(net: Network, blocks: Blocks) -> list[scipy.sparse.csr_array]:
    """Return the sparse factors B_1, …, B_m, in the order in which they are applied.

    Each is a (width, width) scipy.sparse.csr_array that stores the entries of the switches and of
    the remaining wires, `stage.nonzeros` in number, including explicit zeros.

    Examples
    --------
    >>> from structmat.linalg.blocks import identity_blocks
    >>> net = Network.of(4, [[[0, 1], [2, 3]], [[0, 2], [1, 3]]])
    >>> [b.nnz for b in factors(net, identity_blocks(net))]
    [8, 8]
    """
    net = checked(net, "factors")
    arrays = checked_blocks(net, blocks)
    dtype = arrays[0].dtype if arrays else np.dtype(float)
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
