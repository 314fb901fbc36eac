"""Kronecker products of orthogonal matrices, such as Walsh–Hadamard, are mixed-radix networks.

Statement. Let A_0, …, A_(m−1) be orthogonal or unitary matrices of orders r_0, …, r_(m−1) ≥ 2. Then
A_(m−1) ⊗ ⋯ ⊗ A_0 is the matrix of mixed_radix(d, (r_0, …, r_(m−1))) in which all blocks of stage t
are A_t, without any permutation. In particular, Sylvester's Hadamard matrix of order 2^m, divided
by 2^(m/2), is the matrix of the butterfly in which all blocks are [[1, 1], [1, −1]]/√2. If m ≥ 2
and its rows are rearranged in dyadic order (by bit-reversed index) or in sequency order (by the
number of sign changes), it is no longer a matrix of the butterfly.

Proof. In stage t the switches of the network join the wires that differ in the digit a_t only, so
with equal blocks A_t the factor is I ⊗ ⋯ ⊗ A_t ⊗ ⋯ ⊗ I, and the product of these is the Kronecker
product of all. Sylvester's matrix is the m-th Kronecker power of [[1, 1], [1, −1]]. For the last
part, let C = {0, 1}, and O the even wires, which the stages after the first one connect. All paths
from C to O pass through wire 0, so a matrix of the butterfly has rank 1 on O × C. Row k of
Sylvester's matrix is (1, (−1)^b) on C, where b is the last bit of k. In dyadic order, output k is
the row whose index is k with its bits reversed, so b is the first bit of k. In sequency order, the
index is the bit-reversed Gray code of k, so b is the first bit of the Gray code, which is that of
k. If m ≥ 2, there are even k with both values of the first bit, so the rank on O × C is 2.

Source: classical; J. J. Sylvester 1867 for the matrices, and C. K. Yuen 1972 for the Gray code.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import sympy

import structmat as sm
from structmat.analysis.symbolic import SymbolicMatrix
from structmat.linalg.hadamard import hadamard_factors, hadamard_matrix

NUMBER = "T46"
STATUS = "proved"


def product(net: sm.Network, matrices: list[sympy.Matrix]) -> sympy.Matrix:
    """Return the product of the factors of a network with equal blocks in each stage."""
    blocks = [[block] * bank.count for bank, block in zip(net.banks, matrices, strict=True)]
    return SymbolicMatrix(net, blocks).matrix()


def check() -> str:
    """Compare products of symbolic blocks with Kronecker products, and ranks in other orders."""
    for radices in [(2,), (2, 2), (2, 3), (3, 2), (2, 2, 2), (2, 3, 2), (4, 3)]:
        blocks = [
            sympy.Matrix(r, r, sympy.symbols(f"a{t}_:{r * r}")) for t, r in enumerate(radices)
        ]
        net = sm.mixed_radix(int(np.prod(radices)), radices)
        expected = sympy.kronecker_product(*blocks[::-1]) if len(blocks) > 1 else blocks[0]
        assert (product(net, blocks) - expected).expand().is_zero_matrix, radices
    two = sympy.Matrix([[1, 1], [1, -1]])
    for m in range(1, 5):
        made = product(sm.butterfly(2**m), [two] * m)
        assert np.array_equal(np.array(made, dtype=int), scipy.linalg.hadamard(2**m)), m
    for n in (64, 96, 144, 240, 1024):
        r = sm.transforms.hadamard(n)
        factors = hadamard_factors(n)
        assert r.network == sm.mixed_radix(n, factors[::-1]), n
        assert all((bank == bank[0]).all() for bank in r.blocks), n
        gap = r(np.eye(n)).T - hadamard_matrix(n) / np.sqrt(n)
        assert np.abs(gap).max() <= 1e-15 * len(factors), n
    for m in range(2, 9):
        for ordering in ("dyadic", "sequency"):
            rows = sm.transforms.hadamard(2**m, ordering).matrix()
            assert np.linalg.matrix_rank(rows[::2, :2]) == 2, (m, ordering)
        assert np.linalg.matrix_rank(sm.transforms.hadamard(2**m).matrix()[::2, :2]) == 1, m
    return "symbolic blocks up to width 12, Sylvester's matrices to 16, transforms up to 1024"
