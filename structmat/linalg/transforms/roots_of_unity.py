"""Cosines and sines of rational multiples of 2π, with all symmetries exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def cos_sin(k: npt.ArrayLike, n: int) -> tuple[Array, Array]:
    """Return cos(2πk/n) and sin(2πk/n) for integers k, to within an ulp.

    The angle is reduced to the first octant in integer arithmetic. The values at angles related by
    a symmetry of the octants therefore agree exactly up to sign, and those at multiples of π/2 are
    exact.

    Examples
    --------
    >>> cos, sin = cos_sin([0, 1, 2, 3], 4)
    >>> cos.tolist(), sin.tolist()
    ([1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0])
    """
    index = np.asarray(k) % n
    if index.size > n:
        table = cos_sin(np.arange(n), n)
        return table[0][index], table[1][index]
    octant, rest = np.divmod(8 * index, n)
    eighths = np.where(octant % 2, n - rest, rest)  # angle from the nearest axis, in units of π/4n
    angle = eighths * (math.pi / 4 / n)
    diagonal = eighths == n
    near = np.where(diagonal, math.sqrt(0.5), np.cos(angle))
    far = np.where(diagonal, math.sqrt(0.5), np.sin(angle))
    quadrant, odd = np.divmod(octant, 2)
    first = np.where(odd, far, near), np.where(odd, near, far)  # of the angle within its quadrant
    swapped = quadrant % 2 == 1
    cos = np.where(swapped, first[1], first[0]) * np.where((quadrant == 1) | (quadrant == 2), -1, 1)
    sin = np.where(swapped, first[0], first[1]) * np.where(quadrant >= 2, -1, 1)
    return cos + 0.0, sin + 0.0  # no negative zeros


def root(k: npt.ArrayLike, n: int) -> Array:
    """Return exp(−2πi k/n) for integers k, with the accuracy of `cos_sin`.

    Examples
    --------
    >>> root([1, 2], 4).tolist()
    [-1j, (-1+0j)]
    """
    cos, sin = cos_sin(k, n)
    made = np.empty(cos.shape, dtype=complex)
    made.real, made.imag = cos, 0.0 - sin
    return made
