"""The orthogonal Procrustes problem: the nearest orthogonal matrix, for stacks of matrices."""

from __future__ import annotations

import numpy as np

from structmat.linalg.blocks import Array


def polar(matrices: Array, *, special: bool = False) -> Array:
    """Return the orthogonal or unitary Q that maximises Re tr(Qᴴ M), for each matrix M.

    If M = U Σ Vᴴ, then Q = U Vᴴ is the polar factor of M, which is also the orthogonal matrix
    nearest to M. With `special`, Q is the best rotation: if the polar factor has determinant −1,
    the direction of the smallest singular value is reversed.

    Parameters
    ----------
    matrices : (..., r, r) real or complex
    special : bool
        Whether real results must have determinant 1.

    References
    ----------
    P. H. Schönemann, A generalized solution of the orthogonal Procrustes problem, 1966.
    W. Kabsch, A solution for the best rotation to relate two sets of vectors, 1976.

    Examples
    --------
    >>> polar(np.array([[0.0, 2.0], [3.0, 0.0]]))
    array([[0., 1.],
           [1., 0.]])
    >>> bool(np.linalg.det(polar(np.array([[0.0, 2.0], [3.0, 0.0]]), special=True)) > 0)
    True
    """
    left, _, right = np.linalg.svd(matrices)
    if special and matrices.dtype.kind == "f":
        left[..., -1] *= np.sign(np.linalg.det(left) * np.linalg.det(right))[..., None]
    return np.asarray(left @ right)
