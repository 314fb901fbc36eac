"""Products of r reflections have determinant (−1)^r and cover r·d − r(r+1)/2 dimensions.

Statement. The products of r reflections I − 2uuᵀ/uᵀu on d coordinates, r ≤ d, have determinant
(−1)^r and fix a subspace of dimension at least d − r. They form a set of dimension r·d − r(r+1)/2,
although they have r(d−1) parameters: r(r−1)/2 of these are redundant. The dimension is d(d−1)/2 for
r = d − 1 and for r = d.

Proof. A reflection has the eigenvalue −1 once, and all vectors orthogonal to u_1, …, u_r are fixed.
For independent u_k the product is determined by the r-dimensional space that they span and by an
isometry of this space that fixes only 0; conversely every such isometry in r dimensions is a
product of r reflections, and has determinant (−1)^r. So the set is, up to parts of smaller
dimension, a bundle over the Grassmannian of r-dimensional subspaces, which has dimension r(d−r);
its fibre is an open part of a component of O(r), of dimension r(r−1)/2. The sum is r·d − r(r+1)/2.

Source: É. Cartan and J. Dieudonné, in the sharp form of P. Scherk 1950; as adapters, Yuan et al.,
arXiv 2405.17484 (HRA).
"""

from __future__ import annotations

import numpy as np
import sympy

from structmat.linalg import modular
from structmat.linalg.modular import MERSENNE

NUMBER = "T21"
STATUS = "proved"


def rank(count: int, width: int, rng: np.random.Generator) -> int:
    """Return the rank modulo a prime of the derivative of the product, at a random point.

    A small change of u_k in the direction x changes the product R by a multiple of R·(w ∧ v), where
    w = u_kᵀP, v = xᵀP, and P is the product of the reflections before reflection k.
    """
    first, second = np.triu_indices(width, 1)
    rows = np.eye(width)
    wedges = []
    for _ in range(count):
        u = rng.integers(1, 1000, width).astype(float)
        w = modular.product(u[None], rows, MERSENNE)[0]
        wedge = modular.times(w[None, first], rows[:, second], MERSENNE)
        wedge -= modular.times(w[None, second], rows[:, first], MERSENNE)
        wedges.append(wedge + (wedge < 0) * float(MERSENNE))
        factor = modular.times(2 * w, np.array([modular.inverse(int(u @ u), MERSENNE)]), MERSENNE)
        rows = rows - modular.times(u[:, None], factor[None], MERSENNE)
        rows += (rows < 0) * float(MERSENNE)
    squares = modular.product(rows, rows.T, MERSENNE)
    assert np.array_equal(squares, np.eye(width)), "reflections are orthogonal"
    return modular.rank(np.concatenate(wedges), MERSENNE)


def check() -> str:
    """Multiply small reflections exactly; compute ranks modulo a prime, which are lower bounds."""
    rng = np.random.default_rng(0)
    for d in (2, 3, 4):
        product = sympy.eye(d)
        for r in range(1, d + 1):
            u = sympy.Matrix(rng.integers(-9, 10, d).tolist()) + sympy.eye(d).col(0) * 20
            product = (sympy.eye(d) - 2 * u * u.T / (u.T * u)[0]) * product
            assert product * product.T == sympy.eye(d)
            assert product.det() == (-1) ** r
            assert (product - sympy.eye(d)).rank() == r
    cases = 0
    for d in range(2, 17):
        for r in range(1, d + 1):
            assert rank(r, d, rng) == r * d - r * (r + 1) // 2, (r, d)
            cases += 1
    assert all(
        r * d - r * (r + 1) // 2 == d * (d - 1) // 2 for d in range(2, 99) for r in (d - 1, d)
    )
    return f"exact products up to size 4, ranks in {cases} cases up to size 16"
