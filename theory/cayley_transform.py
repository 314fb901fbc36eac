"""The Cayley transform is a bijection, and truncating its Neumann series costs exactly ‖Q‖^(k+1).

Statement. (1) Q → R = (I+Q)(I−Q)⁻¹ maps the skew-symmetric matrices bijectively onto the rotations
without the eigenvalue −1; its inverse is R → (R−I)(R+I)⁻¹. (2) Truncate the series of (I−Q)⁻¹ after
Q^k: R_k = (I+Q)(I + Q + ⋯ + Q^k). Then R − R_k = R·Q^(k+1), so in the spectral norm ‖R − R_k‖ =
‖Q‖^(k+1), and R_kᵀR_k − I has norm at most 2‖Q‖^(k+1) + ‖Q‖^(2k+2). R_k is in general not
orthogonal; as k grows, it diverges if ‖Q‖ > 1.

Proof. (1) The non-zero eigenvalues of Q come in pairs ±iθ, so I−Q is invertible, with determinant
∏(1 + θ²) ≥ 1. Q commutes with (I−Q)⁻¹, so RᵀR = (I+Q)⁻¹(I−Q)(I+Q)(I−Q)⁻¹ = I; det(I+Q) = det(I−Q)
by transposition; R + I = 2(I−Q)⁻¹ is invertible, so −1 is not an eigenvalue, and (R−I)(R+I)⁻¹ = Q.
Conversely, for every rotation R without the eigenvalue −1 the last formula defines a skew-symmetric
matrix Q, whose Cayley transform is R. (2) The sum is (I − Q^(k+1))(I−Q)⁻¹, so R_k = R(I − Q^(k+1)).
R preserves norms and Q is normal. R_kᵀR_k is (I − Q^(k+1))ᵀ(I − Q^(k+1)).

Source: classical (Cayley 1846). The frequently quoted bound 2‖Q‖^(k+1)/(1−‖Q‖) follows from (2) if
‖Q‖ < 1.
"""

from __future__ import annotations

import numpy as np
import sympy

from structmat.linalg.blocks import cayley, skew

NUMBER = "T25"
STATUS = "proved"


def generic(size: int) -> sympy.Matrix:
    """Return a skew-symmetric matrix of symbols."""
    upper = sympy.Matrix(size, size, lambda i, j: sympy.Symbol(f"q{i}{j}") if i < j else 0)
    return upper - upper.T


def check() -> str:
    """Simplify symbolically up to size 3, and measure the norms on random blocks."""
    for size in (2, 3):
        q, one = generic(size), sympy.eye(size)
        r = ((one + q) * (one - q).inv()).applyfunc(sympy.cancel)
        assert (r.T * r - one).applyfunc(sympy.cancel).is_zero_matrix
        assert sympy.cancel(r.det()) == 1
        back = ((r - one) * (r + one).inv() - q).applyfunc(sympy.cancel)
        assert back.is_zero_matrix
        for k in range(4):
            cut = (one + q) * sum((q**i for i in range(k + 1)), sympy.zeros(size))
            assert (r - cut - r * q ** (k + 1)).applyfunc(sympy.cancel).is_zero_matrix
    rng = np.random.default_rng(0)
    for radix in (2, 4, 8):
        for size in (0.1, 0.33, 0.9, 1.5):
            g = rng.standard_normal(radix * (radix - 1) // 2)
            q = skew(g * size / np.linalg.norm(skew(g, radix), 2), radix)
            upper = q[np.triu_indices(radix, 1)]
            for k in (0, 3, 4):
                cut = (np.eye(radix) + q) @ sum(np.linalg.matrix_power(q, i) for i in range(k + 1))
                limit = 100 * radix * np.finfo(float).eps * (1 + size ** (k + 1)) ** 2
                error = np.linalg.norm(cayley(upper, radix) - cut, 2)
                assert abs(error - size ** (k + 1)) <= limit, (radix, size, k)
                defect = np.linalg.norm(cut.T @ cut - np.eye(radix), 2)
                assert defect <= 2 * size ** (k + 1) + size ** (2 * k + 2) + limit, (radix, size, k)
    return "sizes 2 and 3 symbolically, and 36 random cases of size 2 to 8"
