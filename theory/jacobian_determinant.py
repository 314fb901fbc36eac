"""The triangle's Jacobian determinant is ±∏ sin^i θ over its switches {i, i+1}: tiny for large d.

Statement. Let R be the matrix of triangle(d), with an angle θ for each switch, and let J be the
matrix with a column for each angle that contains the entries of RᵀdR in the d(d−1)/2 coordinate
planes. Then |det J| is the product over the switches of |sin θ|^i, where the switch joins wires i
and i+1. Its geometric mean over independent uniform angles is 2^(−d(d−1)(d−2)/6). Up to a constant,
|det J| is also the density of the Haar measure in the angles. So for large d the matrix with random
blocks, whose angles are independent and uniform, is far from Haar distributed, and the derivative
is nearly singular.

Proof. R = R'·S, where S is the first sweep, switches {0, 1}, {1, 2}, …, {d−2, d−1}, and R' is a
triangle on d−1 wires. RᵀdR = Sᵀ(R'ᵀdR')S + SᵀdS; conjugation by S has determinant ±1, and R'ᵀdR'
does not involve the last axis. So det J is the determinant for R' times that of the map from the
angles of S to the last row of S, which is also the last row of R. This row is the point with
spherical coordinates …, sin θ_(d−2) cos θ_(d−3), cos θ_(d−2), with the volume element ∏ sin^i θ_i.
The mean of log₂|sin θ| is −1, and the exponents of all sweeps add up to Σ_k k(k−1)/2 =
d(d−1)(d−2)/6, k = 1 … d−1.

Source: A. Hurwitz 1897, for the measure; the mean is derived here.
"""

from __future__ import annotations

from math import comb

import numpy as np
import sympy

import structmat as sm
from structmat.analysis.symbolic import SymbolicMatrix
from theory._tools import switches
from theory.ruler_covers import plane_rotations

NUMBER = "T38"
STATUS = "proved"


def logarithm(net: sm.Network, angles: np.ndarray) -> float:
    """Return log₂ of |det J|, in floating point."""
    rows = np.eye(net.width)
    first, second = np.triu_indices(net.width, 1)
    columns = []
    for (i, j), givens in zip(_pairs(net), plane_rotations(angles), strict=True):
        rows[[i, j]] = givens @ rows[[i, j]]
        columns.append(rows[j, first] * rows[i, second] - rows[i, first] * rows[j, second])
    return float(np.linalg.slogdet(np.array(columns))[1] / np.log(2))


def check() -> str:
    """Simplify the determinant for 3 wires, and compare with the product for more."""
    _check_three()
    rng = np.random.default_rng(0)
    for d in range(3, 10):
        net = sm.families.triangle(d)
        pairs = _pairs(net)
        assert sum(i for i, _ in pairs) == comb(d, 3)
        angles = rng.uniform(0.3, np.pi - 0.3, len(pairs))
        product = sum(i * np.log2(np.sin(a)) for (i, _), a in zip(pairs, angles, strict=True))
        assert abs(logarithm(net, angles) - product) <= 1e-6, (
            d
        )  # the condition number is far below 1e6
    d, net = 7, sm.families.triangle(7)
    found = [logarithm(net, rng.uniform(0, 2 * np.pi, net.parameters)) for _ in range(400)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) + comb(d, 3)) <= 5 * error
    return "3 wires symbolically, up to 9 in floating point, the mean for 7"


def _check_three() -> None:
    """Compute with the cosines and sines as unknowns, modulo c² + s² = 1."""
    cosines, sines = sympy.symbols("c:3"), sympy.symbols("s:3")
    circles = [c**2 + s**2 - 1 for c, s in zip(cosines, sines, strict=True)]
    blocks = [[[[c, s], [-s, c]]] for c, s in zip(cosines, sines, strict=True)]
    r = SymbolicMatrix(sm.families.triangle(3), blocks).matrix()
    rows = []
    for c, s in zip(cosines, sines, strict=True):
        moved = r.T * (r.diff(s) * c - r.diff(c) * s)
        rows.append([moved[0, 1], moved[0, 2], moved[1, 2]])
    square = sympy.expand(sympy.Matrix(rows).det() ** 2 - sines[1] ** 2)
    assert sympy.reduced(square, circles, *cosines, *sines)[1] == 0


def _pairs(net: sm.Network) -> list[list[int]]:
    return [row for stage in switches(net) for row in stage]
