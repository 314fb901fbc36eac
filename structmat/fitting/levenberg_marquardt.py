"""Levenberg–Marquardt on the generators of all blocks, for convergence where sweeps are slow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy

from structmat.fitting.alternating_procrustes import rotate_stage
from structmat.linalg.blocks import (
    Array,
    adjoint,
    by_stage,
    cayley,
    count_generators,
    generators_per_block,
)
from structmat.networks.network import Network
from structmat.networks.permutation import Index

LARGEST = 1 << 21  # maximum number of entries in the Jacobian, which takes a few seconds
_STEPS = 200


def refinable(net: Network, target: Array) -> bool:
    """Return whether the network is small enough to refine.

    Examples
    --------
    >>> refinable(Network.of(2, [[[0, 1]]]), np.eye(2))
    True
    """
    is_complex = target.dtype.kind == "c"
    entries = net.width**2 * (2 if is_complex else 1)
    return 0 < count_generators(net, field=_field(target.dtype)) * entries <= LARGEST


def refined(
    net: Network, target: Array, blocks: Sequence[Array]
) -> Iterator[tuple[list[Array], float]]:
    """Yield the blocks and the distance ‖R − T‖_F after each step that lowers it.

    A step multiplies every block by a rotation, so determinants do not change, or by a unitary
    matrix. If the target is attainable, convergence is quadratic near it.

    Parameters
    ----------
    net : Network
        A straight network that is `refinable`.
    target : (width, width) real or complex
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
        gradient = jacobian.T @ _flat(matrix - target)
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
        each = generators_per_block(bank.radix, field=_field(array.dtype))
        generators = step[first : first + bank.count * each].reshape(bank.count, each)
        first += bank.count * each
        made.append(cayley(generators / 2, bank.radix) @ array)
    return made


def _jacobian(net: Network, blocks: Sequence[Array], dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return R, and its derivatives by generators on the left of each block, one in each column.

    For a generator of wires a and b in stage t, the derivative is L E P, where L is the product of
    the later stages, P that of the other stages, and E = e_a e_bᵀ − e_b e_aᵀ. Unitary blocks also
    have the generators E = i(e_a e_bᵀ + e_b e_aᵀ) and E = i e_a e_aᵀ.
    """
    d, field = net.width, _field(dtype)
    products = [np.eye(d, dtype=dtype)]
    stages = by_stage(net, blocks)
    for stage, arrays in zip(net.stages, stages, strict=True):
        after = products[-1].copy()
        rotate_stage(stage, arrays, after)
        products.append(after)
    parameters = count_generators(net, field=field)
    jacobian = np.empty((len(_flat(products[0])), parameters), dtype=products[0].real.dtype)
    last = parameters
    total = products[-1]
    for t in range(net.depth - 1, -1, -1):
        # R = L P, and P is orthogonal: hence L = R Pᴴ.
        before = products[t + 1]
        later = total @ adjoint(before)
        for bank in net.stages[t].banks[::-1]:
            each = generators_per_block(bank.radix, field=field)
            first = last - bank.count * each
            made = _of_bank(later, before, bank.reads, field)
            jacobian[:, first:last] = _flat(made)
            last = first
    return total, jacobian


def _of_bank(later: Array, before: Array, wires: Index, field: str) -> Array:
    """Return the derivatives (d, d, n·g) for the generators of a bank."""
    upper, lower = np.triu_indices(wires.shape[1], 1)
    a, b = wires[:, upper], wires[:, lower]
    there = later[:, None, a] * before[b].transpose(2, 0, 1)[None]
    back = later[:, None, b] * before[a].transpose(2, 0, 1)[None]
    parts = [there - back]
    if field == "complex":
        own = later[:, None, wires] * before[wires].transpose(2, 0, 1)[None]
        parts += [1j * (there + back), 1j * own]
    return np.concatenate(parts, axis=3).reshape(*later.shape, -1)


def _field(dtype: np.dtype[Any]) -> str:
    return "complex" if dtype.kind == "c" else "real"


def _flat(array: Array) -> Array:
    """Return the entries of the first two axes, real parts before imaginary parts, in rows."""
    rows = array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
    return np.concatenate([rows.real, rows.imag]) if np.iscomplexobj(rows) else rows
