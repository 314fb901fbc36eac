"""At the identity, the derivative has the singular value √k for each pair that meets k times.

Statement. At identity blocks, the non-zero singular values of the derivative of R with respect to
its generators are √k, one for each pair of wires that share a switch in k > 0 stages. If no pair
meets twice, they are all 1, and no parameter is redundant. So the first m rounds of a round-robin
tournament, m ≤ d − 1 and d even, have the largest dimension m·d/2 that m stages of 2×2 switches can
have, and are perfectly conditioned at the identity, where finetuning begins; and so are the first m
classes of parallel lines (T58) for larger blocks. Elsewhere they are not (T54).

Proof. At R = I the derivative along the generator of the pair {i, j} is E_ij − E_ji in every stage,
and these matrices are orthogonal, with the same norm, for different pairs. With that norm as the
unit, the Gram matrix of the derivatives consists of a k×k block of ones for each pair, with the
eigenvalues k and 0. If k ≤ 1 throughout, the rank is Σ|E_t|, which is the number of parameters, and
the dimension by T2. A stage of 2×2 switches has at most d/2 parameters.

Source: derived here.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

import structmat as sm
from structmat.analysis.jacobian import jacobian
from structmat.linalg.blocks import identity_blocks
from theory._tools import every_network, pairs

NUMBER = "T53"
STATUS = "proved"


def check() -> str:
    """Compare singular values with counts of pairs, and dimensions with parameters."""
    small = [net for d, m in [(3, 3), (4, 2)] for net in every_network(d, m)]
    drawn = [sm.random(12, b, 3, rng=b) for b in (2, 3, 4)]
    nets = [*small, *drawn, sm.butterfly(16).repeat(2), sm.brickwall(9), sm.butterfly(32, block=8)]
    for net in nets:
        _check(net)
    prefixes = [sm.families.round_robin(d)[:m] for d in range(2, 17, 2) for m in range(1, d)]
    for net in prefixes:
        _check(net)
        found = sm.dimension(net)
        assert found.proved, net
        assert found.value == net.parameters == net.depth * net.width // 2, net
    return f"{len(nets)} networks, and {len(prefixes)} in which no pair meets twice"


def _check(net: sm.Network) -> None:
    met = Counter(pair for stage in pairs(net) for pair in stage)
    values = np.linalg.svd(jacobian(net, identity_blocks(net)), compute_uv=False)
    wanted = sorted((k**0.5 for k in met.values()), reverse=True)
    assert np.allclose(values[: len(wanted)], wanted, rtol=0, atol=1e-12), net
    assert np.allclose(values[len(wanted) :], 0, rtol=0, atol=1e-12), net
