"""Levenberg–Marquardt on the generators of all blocks, for convergence where sweeps are slow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy

from structmat.fitting.alternating_procrustes import rotate_stage
from structmat.linalg.blocks import Array, by_stage, cayley
from structmat.networks.network import Network

LARGEST = 1 << 21  # maximum number of entries in the Jacobian, which takes a few seconds
_STEPS = 200


def refinable(net: Network, target: Array) -> bool:
    """Return whether the network is small enough to refine and the target is real.

    Examples
    --------
    >>> refinable(Network.of(2, [[[0, 1]]]), np.eye(2))
    True
    """
    return target.dtype.kind == "f" and 0 < net.parameters * net.width**2 <= LARGEST


def refined(
    net: Network, target: Array, blocks: Sequence[Array]
) -> Iterator[tuple[list[Array], float]]:
    """Yield the blocks and the distance ‖R − T‖_F after each step that lowers it.

    A step multiplies every block by a rotation, so determinants do not change. If the target is
    attainable, convergence is quadratic near it.

    Parameters
    ----------
    net : Network
        A straight network that is `refinable`.
    target : (width, width) real
    blocks : one array for each bank

    References
    ----------
    J. J. Moré, The Levenberg–Marquardt algorithm: implementation and theory, 1978.

    Examples
    --------
    >>> net = Network.of(2, [[[0, 1]]])
    >>> target = np.array([[0.0, -1.0], [1.0, 0.0]])
    >>> begin = [np.array([[[0.6, -0.8], [0.8, 0.6]]])]
    >>> bool([distance for _, distance in refined(net, target, begin)][-1] < 1e-14)
    True
    """
    current = list(blocks)
    matrix, jacobian = _jacobian(net, current, target.dtype)
    best = float(np.linalg.norm(matrix - target))
    damping = 1e-3
    for _ in range(_STEPS):
        gradient = jacobian.T @ (matrix - target).ravel()
        normal = jacobian.T @ jacobian
        scale = float(np.trace(normal)) / len(normal)
        while damping < 1e6:
            damped = normal + damping * scale * np.eye(len(normal), dtype=normal.dtype)
            step = -scipy.linalg.solve(damped, gradient, assume_a="pos")
            tried = _stepped(net, current, step)
            matrix, jacobian = _jacobian(net, tried, target.dtype)
            distance = float(np.linalg.norm(matrix - target))
            if distance < best:
                break
            damping *= 8
        else:
            return
        current, best = tried, distance
        damping = max(damping / 8, 1e-9)
        yield current, best


def _stepped(net: Network, blocks: Sequence[Array], step: Array) -> list[Array]:
    made = []
    first = 0
    for bank, array in zip(net.banks, blocks, strict=True):
        generators = step[first : first + bank.parameters].reshape(bank.count, -1)
        first += bank.parameters
        made.append(cayley(generators / 2, bank.radix) @ array)
    return made


def _jacobian(net: Network, blocks: Sequence[Array], dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return R, and its derivatives (width², parameters) by generators on the left of each block.

    For the generator that rotates wires a and b in stage t, the derivative is L E P, where L is the
    product of the later stages, P that of the other stages, and E = e_a e_bᵀ − e_b e_aᵀ.
    """
    d = net.width
    products = [np.eye(d, dtype=dtype)]
    stages = by_stage(net, blocks)
    for stage, arrays in zip(net.stages, stages, strict=True):
        after = products[-1].copy()
        rotate_stage(stage, arrays, after)
        products.append(after)
    jacobian = np.empty((d * d, net.parameters), dtype=dtype)
    last = net.parameters
    total = products[-1]
    for t in range(net.depth - 1, -1, -1):
        # R = L P, and P is orthogonal: hence L = R Pᵀ.
        before = products[t + 1]
        later = total @ before.T
        for bank in net.stages[t].banks[::-1]:
            upper, lower = np.triu_indices(bank.radix, 1)
            a, b = bank.reads[:, upper].ravel(), bank.reads[:, lower].ravel()
            columns = later[:, None, a] * before[b].T[None] - later[:, None, b] * before[a].T[None]
            jacobian[:, last - len(a) : last] = columns.reshape(d * d, -1)
            last -= len(a)
    return total, jacobian
