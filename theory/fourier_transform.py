"""The Fourier transform of r_0⋯r_(m−1) points is a digit reversal, then a mixed-radix network.

Statement. Let F be the unitary n×n matrix with entries ω^(jk)/√n, ω = exp(−2πi/n), and P the
permutation that reverses the mixed-radix digits, (P x)_w = x_j with w = Σ a_t·r_0⋯r_(t−1) and j = Σ
a_t·r_(t+1)⋯r_(m−1). Then F = R P, where R is the matrix of mixed_radix(n, (r_0, …, r_(m−1))) with
unitary blocks; for n = 2^m, R is a matrix of the butterfly and P the bit reversal. By transposition
F = Pᵀ Rᵀ, with a matrix Rᵀ of the reversed network. If m ≥ 2, no permutation Q of the outputs makes
Q F a matrix of mixed_radix(n, (r_0, …, r_(m−1))).

Proof. By induction on m. Let M = r_0⋯r_(m−2) and r = r_(m−1). The inputs j = s + r·i with the same
s, 0 ≤ s < r, are on the wires sM, …, sM + M − 1 of P x, digit-reversed for the first m − 1 radices.
By the induction hypothesis the first m − 1 stages, which do not join these wires with others,
compute y_s[k] = Σ_i ω^(r·ik) x_(s + ri) / √M on them. Output k + Mq, 0 ≤ k < M, 0 ≤ q < r, of F is
r^(−1/2)·Σ_s ω^(s(k + Mq)) y_s[k], because ω^(rMi) = 1. The last stage joins the wires sM + k,
0 ≤ s < r, and its blocks with entries r^(−1/2)·ω^(s(k + Mq)) are unitary: each is the product of a
diagonal matrix of phases ω^(sk) and the Fourier transform of r points, because ω^M is a primitive
r-th root of unity. For the last part, let O be a component of the outputs as connected by the
stages after the first one,
and C = {0, …, r_0 − 1}. All paths from C to O pass through the wire in O ∩ C, so a matrix of the
network has rank 1 on O × C. But in columns 0 and 1 any two rows k, k' of F are (1, ω^k) and (1,
ω^(k')), and O has n/r_0 ≥ 2 wires.

Source: J. W. Cooley and J. W. Tukey 1965; I. J. Good 1958 for the form with sparse factors.
"""

from __future__ import annotations

from math import isqrt, prod

import numpy as np
import sympy

import structmat as sm
from structmat.analysis.symbolic import SymbolicMatrix
from structmat.families.number_theory import factorizations
from structmat.linalg.symbolic_blocks import expressions
from structmat.networks.permutation import digit_reversal

NUMBER = "T45"
STATUS = "proved"
W = sympy.Symbol("w")


def stages(radices: tuple[int, ...]) -> list[sympy.Matrix]:
    """Return √r times each factor of R on the network, with entries that are powers of w."""
    n, inner = prod(radices), 1
    net = sm.mixed_radix(n, radices)
    blocks = []
    for radix, bank in zip(radices, net.banks, strict=True):
        size = radix * inner
        k = bank.reads % size
        s = k // inner
        exponents = n // size * s[:, None, :] * k[:, :, None] % n
        blocks.append(expressions((W ** int(e) for e in exponents.flat), exponents.shape))
        inner = size
    return SymbolicMatrix(net, blocks).factors()


def check() -> str:
    """Multiply the factors in the field of the n-th roots of unity; compare transforms with FFTs.

    The symbolic products are compared for all ordered factorizations of seven small numbers.
    """
    checked = 0
    for n in (2, 3, 4, 6, 8, 9, 12):
        minimal = sympy.cyclotomic_poly(n, W)
        fourier = sympy.Matrix(n, n, lambda k, j, n=n: W ** (j * k % n))
        for radices in factorizations(n):
            product = sympy.eye(n)
            for radix, factor in zip(radices, stages(radices), strict=True):
                conjugate = factor.T.applyfunc(lambda e, n=n: e.subs(W, W ** (n - 1)))
                gram = factor * conjugate - radix * sympy.eye(n)
                assert all(sympy.rem(e, minimal, W) == 0 for e in gram), radices
                product = factor * product
            difference = product[:, :] - fourier[:, digit_reversal(radices).tolist()]
            assert all(sympy.rem(e, minimal, W) == 0 for e in difference), radices
            checked += 1
    rng = np.random.default_rng(0)
    for n in (60, 128, 243, 360, 1000, 1024):
        r = sm.transforms.dft(n)
        straight, _, outputs = r.network.straightened()
        assert straight == sm.mixed_radix(n).relabel(outputs), n
        x = rng.standard_normal(n)
        member = sm.Rotation(sm.mixed_radix(n), r.blocks)
        error = np.abs(member(x[outputs]) - np.fft.fft(x, norm="ortho")).max()
        assert error <= 1e-14 * (1 + isqrt(n)), n
    for n in (4, 8, 16, 32):
        assert sm.mixed_radix(n) == sm.butterfly(n)
        fourier = np.fft.fft(np.eye(n), norm="ortho")
        assert sm.fit(sm.butterfly(n), fourier, starts=1, sweeps=1).lower_bound > 0.4, n
    return f"{checked} factorizations of numbers up to 12 symbolically, widths up to 1024 with FFTs"
