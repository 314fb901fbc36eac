"""If no two wires meet twice, dim = parameters, and at the identity all singular values are 1.

Statement. Let R have m stages of switches of at most b wires on d wires. (1) The singular values of
the derivative of R at identity blocks are √k, one for each pair of wires that share a switch in k >
0 stages, and zeros. If no pair shares a switch twice, they are all 1, and the dimension is the
number of parameters. (2) No network of m stages and switches of at most b wires has more than
m·d(b−1)/2 dimensions; if b² > d and all switches have radix b, at least (b² − d)/2 parameters are
redundant between any two neighbouring stages. (3) Full stages of b wires per switch in which no
pair meets twice exist for b = 2, even d and all m ≤ d − 1; and for b = 2^k, d = 2^n with k dividing
n, and all m ≤ (d−1)/(b−1). So for every depth up to this, these networks have the largest dimension
of all, all d(d−1)/2 of SO(d) at m = (d−1)/(b−1), which is the smallest possible depth by T13; for
instance 5 stages of 4×4 switches at d = 16. Whether they then cover SO(d) is open even for b = 2
(T14).

Proof. (1) At R = I the derivative along the generator of the pair {i, j} is E_ij − E_ji in every
stage, so the Gram matrix of the rows of the derivative has a block of ones of size k × k for each
pair, with the eigenvalues k and 0. If k ≤ 1 throughout, the dimension is Σ|E_t| by T2. (2) A stage
has at most d(b−1)/2 parameters. Let x_ST be the number of wires common to switch S of a stage and T
of the next. There are (d/b)² such numbers, and their sum is d, so Σ x_ST² ≥ b² and, by T2, Σ
x_ST(x_ST − 1)/2 ≥ (b² − d)/2 parameters are redundant. (3) For b = 2 take the rounds of a
round-robin tournament. For b = 2^k, let the wires be the elements of the field with 2^n elements,
which contains that with 2^k. The sets aF, where F is the smaller field and a ≠ 0, are subspaces of
b elements which have only 0 in common or are equal, because the a form a group, which the non-zero
elements of F divide into (d−1)/(b−1) cosets. Let the switches of a stage be the cosets x + aF. Two
wires x, y share a switch if x − y is in aF, which holds for one stage only.

Source: (3) are the classical resolvable designs; the parallel classes of lines of an affine space.
The link to dimensions and conditioning is derived here.
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
FIELD = {2: 0b111, 3: 0b1011, 4: 0b10011, 6: 0b1000011, 8: 0b100011101}  # primitive polynomials


def affine(width: int, block: int) -> sm.Network:
    """Return the (d−1)/(b−1) stages of part (3), for d = 2^n and b = 2^k where k divides n."""
    power = [1]
    while len(power) < width - 1:
        double = power[-1] << 1
        power.append(double ^ FIELD[width.bit_length() - 1] if double & width else double)
    count = (width - 1) // (block - 1)
    stages = []
    for first in range(count):
        subspace = [0, *power[first::count]]
        cosets = {tuple(sorted(x ^ y for y in subspace)) for x in range(width)}
        stages.append(sorted(cosets))
    return sm.Network.of(width, stages)


def check() -> str:
    """Compare singular values and dimensions with counts of pairs."""
    small = [net for d, m in [(3, 3), (4, 2)] for net in every_network(d, m)]
    nets = [*small, sm.butterfly(16), sm.brickwall(9), sm.butterfly(32, block=8), sm.ruler(8)]
    for net in nets:
        _check_at_identity(net)
    for net in (sm.random(16, 8, 3, rng=0), sm.shuffle(32, 16, 3), sm.butterfly(32, 16)):
        b = max(bank.radix for bank in net.banks)
        redundant = (net.depth - 1) * (b * b - net.width) // 2
        assert sm.dimension(net).upper <= net.parameters - redundant, net
    classes = [affine(d, b) for d, b in [(4, 2), (16, 4), (64, 4), (64, 8), (256, 16)]]
    full = [*classes, *(sm.families.round_robin(d) for d in range(2, 21, 2))]
    for net in full:
        d, b = net.width, net.banks[0].radix
        met = Counter(pair for stage in pairs(net) for pair in stage)
        assert len(met) == net.parameters == d * (d - 1) // 2, net
        assert net.depth == (d - 1) // (b - 1), net
        for m in range(1, net.depth + 1) if d <= 20 else ():
            assert sm.dimension(net[:m]).proved, net
            assert sm.dimension(net[:m]).value == m * d * (b - 1) // 2, net
            _check_at_identity(net[:m])
    return f"{len(nets)} networks at the identity, {len(full)} in which all pairs meet once"


def _check_at_identity(net: sm.Network) -> None:
    met = Counter(pair for stage in pairs(net) for pair in stage)
    values = np.linalg.svd(jacobian(net, identity_blocks(net)), compute_uv=False)
    wanted = sorted((k**0.5 for k in met.values()), reverse=True)
    assert np.allclose(values[: len(wanted)], wanted, rtol=0, atol=1e-12), net
    assert np.allclose(values[len(wanted) :], 0, rtol=0, atol=1e-12), net
