"""The ruler network covers SO(d), d = 2^n, with d(d−1)/2 parameters in d − 1 stages.

Statement. Let d = 2^n, and let stage t = 1 … d−1 join the wires whose numbers differ in one bit
only, the one at the position of the last set bit of t. Every R in SO(d) is the matrix of this
network for some blocks; no network with this property has fewer parameters, and none with 2×2
switches has fewer stages (T13).

Proof. By the cosine–sine decomposition R = diag(U_1, U_2)·C·diag(V_1, V_2), where all four are
orthogonal of size d/2 and C rotates wire i and wire i + d/2 by an angle. Their determinants
multiply to 1, so an even number of them is −1. Reversing the sign of column i of U_1 and of row i
of V_1 replaces the angle θ_i by −θ_i; so does reversing those of U_2 and V_2; and reversing column
i of U_1 and of U_2 replaces it by θ_i + π. Combined, these three operations change the determinants
of any two of the four, so all four may be taken from SO(d/2). C is a stage of stride d/2. By
induction diag(V_1, V_2) is represented by two ruler networks of d/2 wires side by side, with
strides below d/2, and so is diag(U_1, U_2): together these are the strides of the ruler. For d = 2
a rotation is one switch. The number f(d) of parameters satisfies f(d) = 4f(d/2) + d/2 and f(2) = 1,
so it is d(d−1)/2, the dimension of SO(d).

Source: the decomposition is classical, C. C. Paige and M. Wei 1994; recursion to single angles is
known from quantum circuits, M. Möttönen et al. 2004.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import sympy

import structmat as sm
from structmat.linalg import factors as stagewise
from theory._tools import rotation

NUMBER = "T12"
STATUS = "proved"

Halves = tuple[np.ndarray, np.ndarray]


def angles(r: np.ndarray) -> list[np.ndarray]:
    """Return the angles of each stage in order, by the recursion of the proof."""
    width = len(r)
    if width == 2:
        return [np.array([np.arctan2(r[1, 0], r[0, 0])])]
    (u1, u2), theta, (v1, v2) = decomposed(r)
    first = [np.concatenate(pair) for pair in zip(angles(v1), angles(v2), strict=True)]
    last = [np.concatenate(pair) for pair in zip(angles(u1), angles(u2), strict=True)]
    return [*first, theta, *last]


def decomposed(r: np.ndarray) -> tuple[Halves, np.ndarray, Halves]:
    """Return the cosine–sine decomposition of a rotation, with rotations of half the width."""
    half = len(r) // 2
    (u1, u2), theta, (v1, v2) = scipy.linalg.cossin(r, p=half, q=half, separate=True)
    theta = theta.copy()
    if np.linalg.det(u1) < 0:  # change the signs of U_1 and U_2, or of U_1 and V_1
        if np.linalg.det(u2) < 0:
            u1[:, 0], u2[:, 0], theta[0] = -u1[:, 0], -u2[:, 0], theta[0] + np.pi
        else:
            u1[:, 0], v1[0], theta[0] = -u1[:, 0], -v1[0], -theta[0]
    if np.linalg.det(u2) < 0:
        u2[:, 0], v2[0], theta[0] = -u2[:, 0], -v2[0], -theta[0]
    if np.linalg.det(v1) < 0:  # change the signs of V_1 and V_2
        v1[0], v2[0], theta[0] = -v1[0], -v2[0], theta[0] + np.pi
    return (u1, u2), theta, (v1, v2)


def plane_rotations(angle: np.ndarray) -> np.ndarray:
    """Return a stage of 2×2 rotations."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], axis=-1), np.stack([s, c], axis=-1)], axis=-2)


def check() -> str:
    """Decompose random rotations and signed permutations; count and compare dimensions."""
    n = sympy.Symbol("n", integer=True)
    formula = 2**n * (2**n - 1) / 2
    step = 4 * formula.subs(n, n - 1) + 2 ** (n - 1)
    assert sympy.simplify(formula - step) == 0
    rng = np.random.default_rng(0)
    for d in (2, 4, 8, 16, 32, 64, 128):
        net = sm.ruler(d)
        assert net.depth == d - 1
        assert net.parameters == d * (d - 1) // 2
        targets = [rotation(d, rng), rotation(d, rng), np.eye(d)]
        sign = np.diag(rng.permutation([-1.0, -1.0] + [1.0] * (d - 2)))
        targets.append(sign)
        swaps = sign[rng.permutation(d)]
        swaps[0] *= np.linalg.det(swaps)
        targets.append(swaps)
        for target in targets:
            r = stagewise.matrix_of(net, [plane_rotations(stage) for stage in angles(target)])
            assert np.abs(r - target).max() <= 100 * d * np.finfo(float).eps, d
    for d in (2, 4, 8, 16, 32):
        assert sm.dimension(sm.ruler(d)).lower == d * (d - 1) // 2
    return "random rotations and signed permutations of up to 128 wires, dimensions up to 32"
