"""The squares of independent errors of n beam splitters add up: to first order, E‖ΔR‖² = 2nσ².

Statement. Let R have n switches of radix 2, real or unitary, and let every block B become
exp(σ ξ A)·B with A = [[0, 1], [−1, 0]] and independent ξ of mean 0 and variance 1. (1) To first
order in σ, E‖ΔR‖_F² = 2nσ² for all blocks: the relative Frobenius error is σ√(2n/d), which is
σ√(d−1) for meshes that cover SO(d) or U(d) with the fewest switches, and σ√(log₂ d) for the
butterfly. (2) If ξ is normal and every wire is in a switch in each of the m stages, then
E‖ΔR‖_F² = 2d(1 − e^(−mσ²/2)) exactly, and the mean of R' = R + ΔR is e^(−mσ²/2)·R.

Proof. (1) The derivative with respect to the error of one switch is L A B P with orthogonal or
unitary L, B and P, so its norm is ‖A‖_F = √2. The errors are independent with mean 0, so the
expectation of the square of the sum is the sum of the squares. (2) For normal ξ, E exp(σξA) =
E cos(σξ)·I + E sin(σξ)·A = e^(−σ²/2)·I. The factors are independent, hence E R' is the product of
their means, e^(−mσ²/2)·R; and E‖R' − R‖² = 2d − 2 Re tr(Rᴴ E R'), because R' is orthogonal or
unitary.

Source: classical; for interferometers see R. Hamerly, S. Bandyopadhyay and D. Englund,
Asymptotically fault-tolerant programmable photonics, arXiv 2109.05367.
"""

from __future__ import annotations

import numpy as np
import sympy

import structmat as sm
from structmat.analysis.jacobian import component_error
from structmat.linalg.blocks import exponential

NUMBER = "T48"
STATUS = "proved"


def check() -> str:
    """Take the expectation symbolically; compare with samples on five networks."""
    xi, sigma = sympy.symbols("xi sigma", real=True)
    density = sympy.exp(-(xi**2) / 2) / sympy.sqrt(2 * sympy.pi)
    mean = sympy.integrate(sympy.cos(sigma * xi) * density, (xi, -sympy.oo, sympy.oo))
    assert sympy.simplify(mean - sympy.exp(-(sigma**2) / 2)) == 0
    nets = [sm.butterfly(16), sm.brickwall(9), sm.families.triangle(6), sm.gossip(8), sm.ruler(8)]
    samples = 300
    for net in nets:
        for dtype in (float, complex):
            rng = np.random.default_rng(1)
            blocks = sm.random_blocks(net, rng, dtype)
            r = sm.Rotation(net, blocks).matrix()
            for size in (0.02, 0.5):
                moved = (_moved(net, blocks, size, rng) for _ in range(samples))
                found = np.array([np.linalg.norm(m - r) ** 2 for m in moved])
                expected = 2 * net.parameters * size**2
                assert np.isclose(expected, net.width * (size * component_error(net)) ** 2)
                near = 5 * found.std() / samples**0.5
                if size < 0.1:
                    assert abs(found.mean() - expected) < near + expected**2, net
                elif all(len(stage.idle) == 0 for stage in net.stages):
                    exact = 2 * net.width * (1 - np.exp(-net.depth * size**2 / 2))
                    assert abs(found.mean() - exact) < near, net
    return f"the mean of exp(σξA) symbolically, {samples} samples of {len(nets)} networks"


def _moved(
    net: sm.Network, blocks: list[np.ndarray], size: float, rng: np.random.Generator
) -> np.ndarray:
    """Return R + ΔR for random errors of this size."""
    errors = (size * rng.standard_normal((len(block), 1)) for block in blocks)
    moved = [exponential(e, 2) @ block for e, block in zip(errors, blocks, strict=True)]
    return sm.Rotation(net, moved).matrix()
