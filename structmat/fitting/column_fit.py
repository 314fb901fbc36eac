"""Fit the first columns of a network's matrix to given orthonormal columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.errors import StructmatError, checked_integer, random_source
from structmat.fitting.alternating_procrustes import procrustes_sweeps
from structmat.linalg.blocks import Array, identity_blocks, random_blocks
from structmat.linalg.rotation import Rotation
from structmat.networks.network import Network


def fit_columns(
    net: Network,
    target: npt.ArrayLike,
    *,
    rng: Any = None,
    starts: int = 1,
    sweeps: int = 50,
    tolerance: float = 1e-4,
) -> tuple[Rotation, float]:
    """Find blocks with which the first columns of a network's matrix are near given columns.

    Alternating Procrustes is applied to these columns alone, so a sweep takes time proportional to
    width × n × depth, and no square matrix is formed. Real blocks are rotations.

    Parameters
    ----------
    net : Network
        A straight or wired network.
    target : (width, n) real or complex, n ≤ width
    rng : seed or numpy Generator, optional
    starts : int
        The number of random starts, in addition to one from the identity.
    sweeps : int
        The maximum number of sweeps per start.
    tolerance : float
        A start ends when a sweep lowers the error by less than this fraction of it.

    Returns
    -------
    Rotation
    float
        The relative Frobenius error of the columns.

    Raises
    ------
    StructmatError
        If the target has another shape, is zero, or is not finite.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> columns = np.eye(8)[:, [1, 0]]
    >>> rotation, error = fit_columns(butterfly(8), columns, rng=0)
    >>> error < 1e-12
    True
    """
    matrix = np.asarray(target)
    if matrix.ndim != 2 or matrix.shape[0] != net.width or not 1 <= matrix.shape[1] <= net.width:
        raise StructmatError(
            f"target of shape {matrix.shape}: it must be ({net.width}, n) with n from 1 to"
            f" {net.width}"
        )
    matrix = matrix.astype(np.result_type(matrix, np.float64))
    norm = float(np.linalg.norm(matrix))
    if not (np.isfinite(norm) and norm > 0):
        raise StructmatError("the entries of the target must be finite, and not all zero")
    source = random_source(rng)
    straight, _, outputs = net.straightened()  # straightening leaves the inputs in place
    goal = np.empty_like(matrix)
    goal[outputs] = matrix
    best: tuple[list[Array], float] = ([], np.inf)
    begins: Iterable[list[Array]] = [
        identity_blocks(net, matrix.dtype),
        *(
            random_blocks(net, source, matrix.dtype)
            for _ in range(checked_integer(starts, "starts"))
        ),
    ]
    for begin in begins:
        before = np.inf
        for done, (blocks, distance) in enumerate(
            procrustes_sweeps(straight, goal, begin, special=True), 1
        ):
            if distance < best[1]:
                best = blocks, distance
            if done >= sweeps or distance > (1 - tolerance) * before:
                break
            before = distance
        if best[1] <= norm * 1e-12:
            break
    return Rotation(net, best[0]), best[1] / norm
