"""Fractional powers of orthogonal and unitary blocks."""

from __future__ import annotations

import numpy as np
import scipy

from structmat.errors import BlockError
from structmat.linalg.blocks import Array, adjoint


def powers(blocks: Array, t: float) -> Array:
    """Return each block to the power t, along the shortest path from the identity.

    A block rotates by t times its eigenangles, taken from (−π, π]. A pair of eigenvalues −1 of a
    real block is a rotation by π in the plane of the two Schur vectors.

    Parameters
    ----------
    blocks : (n, r, r)
        Orthogonal or unitary blocks.
    t : float

    Returns
    -------
    (n, r, r) of the same dtype

    Raises
    ------
    BlockError
        For a real block of determinant −1 if t is not an integer: its principal power is not real.

    References
    ----------
    N. J. Higham, Functions of Matrices, SIAM 2008, section 7.1: powers of a normal matrix are
    computed from its eigenvalues, which appear in its Schur form.

    Examples
    --------
    >>> quarter = np.array([[[0.0, -1.0], [1.0, 0.0]]])
    >>> np.round(powers(quarter, 0.5) * 2**0.5, 12).tolist()
    [[[1.0, -1.0], [1.0, 1.0]]]
    """
    if t == 1:
        return blocks
    if float(t).is_integer() and abs(t) < 2**31:
        return np.linalg.matrix_power(blocks, int(t)) if t >= 0 else powers(adjoint(blocks), -t)
    one = _complex_power if np.iscomplexobj(blocks) else _real_power
    wide = blocks.astype(np.result_type(blocks, np.float64))
    made = [one(block, t) for block in wide]
    return np.stack(made).astype(blocks.dtype) if made else blocks


def _complex_power(block: Array, t: float) -> Array:
    form, vectors = scipy.linalg.schur(block, output="complex")
    values = np.exp(1j * t * np.angle(np.diagonal(form)))
    made: Array = (vectors * values) @ vectors.conj().T
    return made


def _real_power(block: Array, t: float) -> Array:
    form, vectors = scipy.linalg.schur(block, output="real")
    r = len(block)
    made = np.eye(r)
    reversing: list[int] = []  # Schur vectors of the eigenvalue −1
    i = 0
    while i < r:
        if i + 1 < r and form[i + 1, i] != 0:
            angle = np.arctan2(form[i + 1, i] - form[i, i + 1], form[i, i] + form[i + 1, i + 1])
            made[i : i + 2, i : i + 2] = _rotation(t * angle)
            i += 2
            continue
        if form[i, i] < 0:
            reversing.append(i)
        i += 1
    if len(reversing) % 2:
        raise BlockError(
            f"a block {r}×{r} of determinant −1 to the power {t:g}: its principal power is not"
            " real; use blocks of determinant 1 (random_blocks(special=True), fit(special=True)),"
            " or complex ones"
        )
    for pair in zip(reversing[::2], reversing[1::2], strict=True):
        made[np.ix_(pair, pair)] = _rotation(t * np.pi)
    result: Array = vectors @ made @ vectors.T
    return result


def _rotation(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])
