"""R is Lipschitz in its generators Q_t: ‖R − R'‖ ≤ c·Σ‖Q_t − Q'_t‖, c = 1 for exp and 2 for Cayley.

Statement. Let R and R' be two matrices represented by the same network, with factors B_t and B'_t,
and let ‖·‖ be the spectral or the Frobenius norm. (1) ‖R − R'‖ ≤ Σ_t ‖B_t − B'_t‖, and so ‖R W − R'
W‖ ≤ Σ_t ‖B_t − B'_t‖·‖W‖ with the spectral norm of W. (2) For blocks exp(Q), ‖B − B'‖ ≤ ‖Q − Q'‖;
for Cayley blocks (I+Q)(I−Q)⁻¹, ‖B − B'‖ ≤ 2‖Q − Q'‖. So R is Lipschitz in its generators, with a
constant that does not depend on them. (3) Both bounds are sharp: at Q = Q' = 0 the derivatives have
norm 1 and 2.

Proof. (1) R − R' is the sum over t of B_m ⋯ B_(t+1)·(B_t − B'_t)·B'_(t−1) ⋯ B'_1, and orthogonal
factors change neither norm. (2) exp(Q) − exp(Q') is the integral over s from 0 to 1 of exp(sQ)(Q −
Q')exp((1−s)Q'), with orthogonal factors. The Cayley block is 2(I−Q)⁻¹ − I, so the difference is
2(I−Q)⁻¹(Q − Q')(I−Q')⁻¹; and ‖(I−Q)⁻¹‖ ≤ 1 since I − Q has the eigenvalues 1 − iθ and is normal.
(3) exp(Q) = I + Q + …, and the Cayley block is I + 2Q + ….

Source: classical; the BOFT paper, arXiv 2311.06243, argues by such bounds that products of few
factors train stably.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy

import structmat as sm
from structmat.analysis.jacobian import lipschitz
from structmat.linalg import factors as stagewise
from structmat.linalg.blocks import cayley, exponential, generators_per_block, skew
from theory._tools import rounding
from theory.cayley_transform import generic

NUMBER = "T19"
STATUS = "proved"

Blocks = Callable[[np.ndarray, int], np.ndarray]


def check() -> str:
    """Verify the identity for Cayley blocks symbolically; compare many pairs of matrices."""
    q = generic(3)
    other = q.subs(
        {x: sympy.Symbol(f"p{k}") for k, x in enumerate(sorted(q.free_symbols, key=str))}
    )
    one = sympy.eye(3)
    left = (one + q) * (one - q).inv() - (one + other) * (one - other).inv()
    right = 2 * (one - q).inv() * (q - other) * (one - other).inv()
    assert (left - right).applyfunc(sympy.cancel).is_zero_matrix
    rng = np.random.default_rng(0)
    nets = [sm.butterfly(16), sm.butterfly(24, 6, 2), sm.shuffle(12, 3), sm.random(10, 4, 3, rng=0)]
    cases = 0
    for net in nets:
        for size in (0.01, 0.3, 3.0):
            for blocks, factor in ((exponential, 1), (cayley, 2)):
                _check_pair(net, size, blocks, factor, rng)
                cases += 1
    return f"the identity at size 3 symbolically, {cases} pairs of matrices, {len(nets)} networks"


def _check_pair(
    net: sm.Network, size: float, blocks: Blocks, factor: int, rng: np.random.Generator
) -> None:
    """Compare two matrices of a network with generators of this size."""
    first, second = [], []
    for bank in net.banks:
        g = size * rng.standard_normal((bank.count, generators_per_block(bank.radix)))
        first.append(g)
        second.append(g + size * rng.uniform(0, 1) * rng.standard_normal(g.shape))
    made = [
        [blocks(g, b.radix) for g, b in zip(gs, net.banks, strict=True)] for gs in (first, second)
    ]
    r, other = (stagewise.matrix_of(net, m) for m in made)
    weight = rng.standard_normal((net.width, 5))
    for order in (2, "fro"):
        stages = [
            np.linalg.norm((b - c).toarray(), order)
            for b, c in zip(
                stagewise.factors(net, made[0]), stagewise.factors(net, made[1]), strict=True
            )
        ]
        apart = np.linalg.norm(r - other, order)
        assert apart <= sum(stages) + rounding(net), net
        difference = np.linalg.norm(r @ weight - other @ weight, order)
        assert difference <= (sum(stages) + rounding(net)) * np.linalg.norm(weight, 2), net
    moved = np.sqrt(sum(((g - h) ** 2).sum() for g, h in zip(first, second, strict=True)))
    bound = lipschitz(net, "exp" if factor == 1 else "cayley") * moved
    assert np.linalg.norm(r - other) <= bound + rounding(net), net
    for g, h, b, c, bank in zip(first, second, *made, net.banks, strict=True):
        moved = np.linalg.norm(skew(g - h, bank.radix), 2, axis=(1, 2))
        assert (np.linalg.norm(b - c, 2, axis=(1, 2)) <= factor * moved + rounding(net)).all(), net
        small = 1e-6 * g / np.linalg.norm(skew(g, bank.radix), 2, axis=(1, 2))[:, None]
        far = np.linalg.norm(blocks(small, bank.radix) - np.eye(bank.radix), 2, axis=(1, 2))
        assert np.abs(far / (factor * 1e-6) - 1).max() < 1e-5, net
