"""Sampling m outputs of a flat R with random signs distorts squared lengths by ≤ √(2/m) in rms.

Statement. Let y = R D x with independent random signs D and ‖x‖ = 1, S a uniformly random set of m
of the d outputs, and Z = (d/m)·Σ_{i in S} y_i². Then E Z = 1 and E(Z−1)² = (d−m)/((d−1)m)·
(d·Σ_i E y_i⁴ − 1), which is at most (d−m)/((d−1)m)·(3d·max_j Σ_i R_ij⁴ − 1). If all R_ij² = 1/d,
this is at most 2/m. Moreover, let K = √d·max |R_ij|, 0 < δ < 1, ℓ = ln(4N/δ), L = min(d, 2K²·
ln(4dN/δ)) and b = max(L−1, 1). For N vectors x fixed in advance, with probability at least 1 − δ
all have |Z−1| ≤ (bℓ/3 + √((bℓ/3)² + 2m(L−1)ℓ))/m. For unitary R and random phases the same holds
with |y_i| for y_i and 2 in place of 3 in the mean square.

Proof. Given y, Z is the mean of a sample without replacement of the numbers v_i = d·y_i², whose
mean is 1: its variance is (d−m)/((d−1)m) times that of the v_i, which is d·Σ y_i⁴ − 1. The bound
follows from E y_i⁴ ≤ 3(Σ_j R_ij² x_j²)² (T43) and from convexity, (Σ_j R_ij² x_j²)² ≤ Σ_j R_ij⁴
x_j². For the second part, P(|y_i| ≥ t) ≤ 2·exp(−t²/(2σ²)) by Hoeffding's inequality, with σ² =
Σ_j R_ij² x_j² ≤ K²/d; for phases, E|y_i|^(2p) ≤ p!·σ^(2p) implies E exp(|y_i|²/(2σ²)) ≤ 2 and the
same inequality. So all v_i ≤ L for all N vectors, except with probability dN·2·exp(−L/(2K²)) = δ/2,
and v_i ≤ d anyway. Then |v_i − 1| ≤ b, and the variance of the v_i is at most L − 1, because v_i² ≤
L·v_i. By Hoeffding's comparison of samples without and with replacement, Bernstein's inequality
applies to Z: P(|Z−1| ≥ ε) ≤ 2·exp(−mε²/(2(L−1) + 2bε/3)), and the stated ε makes this δ/(2N).

Source: Ailon and Chazelle (2009) for the method, Hoeffding (1963) for both inequalities without
replacement; the constants are derived here.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import sympy
from scipy.linalg import hadamard

import structmat as sm
from structmat.analysis.distortion import distortion, rms_distortion
from structmat.analysis.sign_moments import fourth_moment
from theory._tools import rotation

NUMBER = "T44"
STATUS = "proved"


def check() -> str:
    """Average over all signs and samples, solve for ε symbolically, and sample large matrices."""
    m, step, variance, log, eps = sympy.symbols("m b v l epsilon", positive=True)
    root = (step * log / 3 + sympy.sqrt((step * log / 3) ** 2 + 2 * m * variance * log)) / m
    exponent = m * eps**2 - log * (2 * variance + 2 * step * eps / 3)
    assert sympy.simplify(exponent.subs(eps, root)) == 0
    rng = np.random.default_rng(0)
    cases = 0
    for width in (2, 3, 5, 8):
        matrices = [rotation(width, rng) for _ in range(3)]
        matrices += [hadamard(8) / 8**0.5] if width == 8 else []
        for r, outputs in itertools.product(matrices, range(1, width + 1)):
            _check_mean_square(r, outputs, rng)
            cases += 1
    wide = sm.mixed_radix(4096)
    blocks = [np.tile(hadamard(2) / 2**0.5, (bank.count, 1, 1)) for bank in wide.banks]
    r = sm.Rotation(wide, blocks)
    bound = distortion(4096, 2048, 1.0, vectors=40)
    assert bound < 0.7
    x = rng.standard_normal((40, 4096))
    x[:20] = np.eye(4096)[:20]
    x /= np.linalg.norm(x, axis=1)[:, None]
    energy = r(x * rng.choice([-1, 1], 4096))[:, rng.choice(4096, 2048, replace=False)] ** 2
    assert np.abs(2 * energy.sum(axis=1) - 1).max() <= bound
    return f"all signs and samples of {cases} cases to width 8, and 40 vectors of width 4,096"


def _check_mean_square(r: np.ndarray, outputs: int, rng: np.random.Generator) -> None:
    width = len(r)
    x = rng.standard_normal(width)
    x /= np.linalg.norm(x)
    signs = np.array(list(itertools.product([1, -1], repeat=width)))
    energy = ((signs * x) @ r.T) ** 2
    samples = itertools.combinations(range(width), outputs)
    z = np.array([energy[:, s].sum(axis=1) * width / outputs for s in map(list, samples)])
    exact = width * float(fourth_moment(r**2, x).sum()) - 1
    exact *= (width - outputs) / ((width - 1) * outputs)
    found = float(((z - 1) ** 2).mean())
    assert math.isclose(float(z.mean()), 1, abs_tol=1e-12)
    assert math.isclose(found, exact, abs_tol=1e-12)
    assert found <= rms_distortion(width, outputs, float((r**4).sum(axis=0).max())) ** 2 + 1e-12
