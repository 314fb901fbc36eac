"""The second moments of R equal those of the Haar measure exactly when mixing is perfect (T9).

Statement. Let the blocks of a straight network be independent and Haar distributed on O(r), and let
W be the product of the averaging projections of its stages (T9). Then E[R_ij²] = W_ij, and the
whole matrix E[R⊗R] equals that of the Haar measure on O(d), E[R_ij R_kl] = [i=k][j=l]/d, if and
only if W = J/d. The same is true of Haar distributed rotations, from SO(r), for d ≥ 3.

Proof. For Haar B in O(r), E[B_ij B_kl] = [i=k][j=l]/r, because the distribution is invariant under
reversing the sign of a row or column, and under permuting them. So E[B_t⊗B_t] maps e_w⊗e_w to the
mean of e_v⊗e_v over the wires v of the switch of w, and, for w ≠ v, e_w⊗e_v to itself if both are
idle and to 0 otherwise. The matrices of independent stages multiply. The first of these rules
implies E[R_ij²] = W_ij, which is 1/d for the Haar measure: so W = J/d is necessary. It is
sufficient: the only other fixed vectors are e_w⊗e_v for two wires that are idle in every stage, and
there are none if W = J/d and d ≥ 2. SO(r) has the same second moments for r ≥ 3, since two signs
can be reversed at a time. For r = 2, E[B⊗B] also preserves e_1⊗e_2 − e_2⊗e_1. All stages preserve
such a vector only for two wires that in every stage are both idle or form a switch by themselves;
such a pair is joined to no other wire, so W ≠ J/d when d ≥ 3.

Source: derived here; the moments of one block are classical.
"""

from __future__ import annotations

import numpy as np
import sympy

import structmat as sm
from structmat.analysis.mixing import energy
from structmat.linalg import factors as stagewise
from theory._tools import every_network, switches

NUMBER = "T10"
STATUS = "proved"


def second(net: sm.Network, *, special: bool) -> np.ndarray:
    """Return E[R⊗R] as a d²×d² matrix, from the moments of the blocks."""
    width = net.width
    product = np.eye(width * width)
    for stage in switches(net):
        factor = np.eye(width * width)
        for wires in stage:  # first, products that involve a wire of a switch become zero
            for w in wires:
                for v in range(width):
                    factor[w * width + v] = factor[v * width + w] = 0
        for wires in stage:
            same = [w * width + w for w in wires]
            factor[np.ix_(same, same)] = 1 / len(wires)
            if special and len(wires) == 2:
                a, b = wires
                crossed = [a * width + b, b * width + a]
                factor[np.ix_(crossed, crossed)] = [[0.5, -0.5], [-0.5, 0.5]]
        product = factor @ product
    return product


def check() -> str:
    """Integrate over one block; compare all small networks, and samples of large ones."""
    _check_two_by_two()
    cases, perfect = 0, 0
    for d, m in [(2, 2), (3, 3), (4, 2)]:
        same = np.arange(d) * (d + 1)
        haar = np.zeros((d * d, d * d))
        haar[np.ix_(same, same)] = 1 / d
        for net in every_network(d, m):
            for special in (False, True):
                if special and d < 3:
                    continue
                found = second(net, special=special)
                w = found[np.ix_(same, same)]
                assert np.allclose(w, energy(net), rtol=0, atol=1e-12), net
                mixed = np.allclose(w, 1 / d, rtol=0, atol=1e-12)
                assert np.allclose(found, haar, rtol=0, atol=1e-12) == mixed, net
                perfect += mixed
                cases += 1
    for net in (sm.butterfly(16), sm.shuffle(24, 4, 2), sm.gossip(12), sm.random(10, 3, 2, rng=0)):
        _check_sample(net)
    return f"one block symbolically, {cases} small cases, {perfect} of them equal to Haar, samples"


def _check_two_by_two() -> None:
    net = sm.Network.of(2, [[[0, 1]]])
    symbolic = sm.symbolic(net)
    rotation, [angle] = symbolic.matrix(), symbolic.symbols
    mirror = rotation * sympy.diag(1, -1)
    moments = [
        (sympy.kronecker_product(b, b) / (2 * sympy.pi)).applyfunc(
            lambda x: sympy.integrate(x, (angle, 0, 2 * sympy.pi))
        )
        for b in (rotation, mirror)
    ]
    for special, mean in [(True, moments[0]), (False, (moments[0] + moments[1]) / 2)]:
        assert np.array_equal(np.array(mean, dtype=float), second(net, special=special))


def _check_sample(net: sm.Network, count: int = 1000) -> None:
    """Compare E[R_ij²] with W, within five standard errors."""
    rng = np.random.default_rng(0)
    squares = np.zeros((net.width, net.width))
    fourth = np.zeros_like(squares)
    for _ in range(count):
        r = stagewise.matrix_of(net, sm.random_blocks(net, rng=rng))
        squares += r**2 / count
        fourth += r**4 / count
    same = np.arange(net.width) * (net.width + 1)
    w = second(net, special=True)[np.ix_(same, same)]
    error = np.sqrt(np.maximum(fourth - squares**2, 0) / count)
    assert (np.abs(squares - w) <= 5 * error + 1e-12).all(), net
