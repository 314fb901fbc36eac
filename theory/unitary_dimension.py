"""Over unitary blocks, the dimension is a rank over ℂ at invertible blocks, at most d + Σ r(r−1).

Statement. Let a network of width d have the switches S, of radix r_S. (1) The dimension of the set
of unitary matrices that it represents, as a real manifold, is the maximal rank over ℂ of the
derivative of the product map ∏ GL(r_S, ℂ) → GL(d, ℂ), and at least the rank at any integer point
modulo any prime. (2) It is at most Σ r_S² − Σ k², where the second sum is over all pairs of
switches that k ≥ 1 wires join directly. (3) It is at most Σ r_S(r_S − 1) + d. Hence a network of
2×2 switches that covers U(d) has at least d(d−1)/2 of them, and d − 1 stages (d for odd d), as for
SO(d). (4) The brick-wall and the triangle mesh cover U(d).

Proof. (1) The product map f is polynomial. At unitary blocks the tangent space of ∏ GL is that of
∏ U(r_S), extended to complex numbers, since every matrix is A + iB with skew-Hermitian A and B; the
same holds for GL(d) and U(d) at f. The derivative of f is complex-linear, and maps the tangent
space of ∏ U(r_S) into that of U(d); so its complex rank equals the real rank of its restriction.
The points of rank below the maximum are the zeros of some polynomials, minors of the derivative. A
polynomial that vanishes on U(r) is zero, because the coefficients of exp(Σ z_g A_g), with the A_g a
basis of the skew-Hermitian matrices, vanish for real z and hence for complex z, and these matrices
fill an open set. So the maximal rank is attained at unitary blocks, on a dense open set; and the
dimension of the image of a smooth map of compact manifolds is its maximal rank (Sard). Minors have
integer coefficients; if one is not zero modulo p, it is not zero.

(2) A unitary transformation of the k wires can be applied after the first switch and undone before
the second. All such pairs together give a group of dimension Σ k² that acts on ∏ U(r_S) without
changing R. Only the identity of this group fixes a point: an element leaves the block of a switch
unchanged only if the transformation of the outputs of the switch is that of its inputs, conjugated
by the block. The transformations at the inputs of the network are the identity, and so, by
induction along the wires, are all others. So every fibre of f has at least the dimension Σ k².

(3) On a wire in c ≥ 1 switches there are c − 1 direct links, and a link of k wires removes k² ≥ k
parameters: the dimension is at most Σ r² − Σ_wires (c − 1) ≤ Σ r(r−1) + d. For 2×2 switches, 2n + d
≥ d² follows, and a stage has at most ⌊d/2⌋ of the n switches.

(4) Nulling entries one by one reduces a unitary matrix to a diagonal one by 2×2 unitary blocks in
the order of the triangle, or of the brick wall (Reck; Clements); the phases left over become part
of the last blocks.

Source: Weyl's unitary trick; M. Reck et al., Physical Review Letters 73, 1994; W. R. Clements et
al., arXiv 1603.08788.
"""

from __future__ import annotations

import itertools

import numpy as np
import sympy

import structmat as sm
from structmat.analysis.symbolic import SymbolicMatrix
from structmat.linalg.blocks import cayley
from theory._tools import switches

NUMBER = "T47"
STATUS = "proved"


def check() -> str:
    """Compare ranks over ℚ at integer matrices with real ranks at unitary ones, and with bounds."""
    nets = [
        sm.Network.of(3, [[[0, 1]], [[1, 2]], [[0, 1]]]),
        sm.Network.of(3, [[[0, 1], [2]], [[0, 2]], [[0], [1]]]),
        sm.Network.of(4, [[[0, 1], [2, 3]], [[0, 2], [1, 3]]]),
        sm.Network.of(4, [[[0, 1, 2]], [[2, 3]], [[1, 2]]]),
    ]
    rng = np.random.default_rng(0)
    for net in nets:
        found = sm.dimension(net, field="complex")
        assert found.value == _exact(net, rng) == _numerical(net, rng), net
        _check_bounds(net, found.value)
    for width in range(2, 7):
        for mesh in (sm.brickwall(width), sm.families.triangle(width)):
            found = sm.dimension(mesh, field="complex")
            assert (found.value, found.proved) == (width**2, True), mesh
            _check_bounds(mesh, found.value)
    return f"exact ranks over ℚ and unitary ranks of {len(nets)} networks, meshes of 2 to 6 wires"


def _check_bounds(net: sm.Network, value: int) -> None:
    radices = [len(row) for bank in net.banks for row in bank.reads.tolist()]
    assert value <= sum(r * (r - 1) for r in radices) + net.width
    assert value <= sm.reduced(net, field="complex").parameters <= sum(r * r for r in radices)


def _exact(net: sm.Network, rng: np.random.Generator) -> int:
    """Return the rank over ℚ of the derivative at random integer matrices."""
    blocks = [[_invertible(bank.radix, rng) for _ in range(bank.count)] for bank in net.banks]
    factors = SymbolicMatrix(net, blocks).factors()
    rows = []
    for t, stage in enumerate(switches(net)):
        before = after = sympy.eye(net.width)
        for factor in factors[:t]:
            before = factor * before
        for factor in factors[t + 1 :]:
            after = factor * after
        for row in stage:
            for i, j in itertools.product(row, repeat=2):
                rows.append(list(after[:, i] * before[j, :]))
    return int(sympy.Matrix(rows).rank())


def _invertible(radix: int, rng: np.random.Generator) -> sympy.Matrix:
    while True:
        drawn = sympy.Matrix(rng.integers(-99, 100, (radix, radix)).tolist())
        if drawn.det() != 0:
            return drawn


def _numerical(net: sm.Network, rng: np.random.Generator) -> int:
    """Return the real rank at random unitary blocks, by central differences."""
    blocks = sm.random_blocks(net, rng, complex)
    rows = []
    for k, bank in enumerate(net.banks):
        for one in np.eye(bank.count * bank.radix**2):
            generators = 1e-5 * one.reshape(bank.count, -1)
            sides = []
            for sign in (1, -1):
                moved = list(blocks)
                moved[k] = cayley(sign * generators, bank.radix) @ moved[k]
                sides.append(sm.Rotation(net, moved).matrix())
            change = (sides[0] - sides[1]).ravel() / 4e-5
            rows.append(np.concatenate([change.real, change.imag]))
    values = np.linalg.svd(np.array(rows), compute_uv=False)
    return int((values > 1e-7).sum())
