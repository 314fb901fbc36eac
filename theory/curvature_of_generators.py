"""The curvature in the generators grows as n₁ for inputs in one direction, but not for white ones.

Statement. Let L be the loss ½·E‖R x − x‖² of a straight network on d wires, and κ the derivative of
its blocks as in T60. Let k be the number of switches that contain a given pair of wires, n₁ the
mean over the wires of Σ k over the pairs of a wire, and H the Hessian of L with respect to the
generators at zero. (1) If E xxᵀ = I, the largest eigenvalue of H is 2κ²·max k: it is 2κ² for every
network in which no pair meets twice, however many pairs there are. (2) If E xxᵀ = d·uuᵀ with ‖u‖ =
1, it is κ²·d·λ, where λ is the largest eigenvalue of Σ k·(u_j·e_i − u_i·e_j)(u_j·e_i − u_i·e_j)ᵀ
over all pairs. If all entries of u have the same magnitude, this matrix is, up to signs, 1/d times
the Laplacian of the graph whose edges are the pairs, with weights k. In that case n₁·d/(d − 1) ≤
λ·d ≤ 2·max Σ k, the maximum over the wires. (3) Hence with generators that are multiplied by
1/(κ·√n₁), gradient descent in case (2) is stable for rates below 2/(λ·d/n₁), which lies between 1
and 2·(1 − 1/d) for every network in which all wires have equal Σ k. Without this factor the bound
is inversely proportional to κ²·n₁. In case (1) it is the other way round: without the factor the
bound is 1/(κ²·max k), independent of n₁.

Proof. R = I + κ·Σ_p S_p·Σ g + O(g²), where p is a pair, S_p = e_i·e_jᵀ − e_j·e_iᵀ, and the inner
sum extends over the k generators of the pair, with signs. So L = ½κ²·E‖Σ_p a_p·S_p x‖² + O(g³),
where a_p = Σ ±g. The map g → (a_p) has orthogonal rows of squared norm k. (1) E‖Σ a_p S_p x‖² = ‖Σ
a_p S_p‖_F² = 2Σ a_p². (2) E‖Σ a_p S_p x‖² = d·‖Σ a_p S_p u‖² with S_p u = u_j·e_i − u_i·e_j. The
largest squared singular value of the map from g to Σ a_p S_p u is the largest eigenvalue λ of the
stated matrix. For u_i = ±1/√d it is D(Δ/d)D, where Δ is the weighted Laplacian and D = diag(±1). Δ
has trace d·n₁ and the eigenvalue 0, which proves the lower bound, and its largest eigenvalue is at
most twice the largest weighted degree, because (x_i − x_j)² ≤ 2x_i² + 2x_j². (3) Gradient descent
on a quadratic function is stable for rates below 2 divided by the largest eigenvalue of its
Hessian, and a factor s of the generators multiplies the Hessian by s².

Source: derived here.
"""

from __future__ import annotations

import networkx as nx
import numpy as np
import sympy

import structmat as sm
from structmat.analysis.generator_scale import SLOPES
from structmat.linalg import factors as stagewise
from structmat.linalg.blocks import PARAMETRIZATIONS, generators_per_block
from theory._tools import every_network, switches
from theory.step_rotation import times_met

NUMBER = "T61"
STATUS = "proved"


def tangents(net: sm.Network) -> np.ndarray:
    """Return the derivative of R for each generator, for blocks of derivative 1: integers."""
    found = []
    for stage in switches(net):
        for wires in stage:
            for a, i in enumerate(wires):
                for j in wires[a + 1 :]:
                    found.append(np.zeros((net.width, net.width), dtype=np.int64))
                    found[-1][i, j], found[-1][j, i] = 1, -1
    return np.array(found).reshape(-1, net.width, net.width)


def hessian(net: sm.Network, root: np.ndarray) -> np.ndarray:
    """Return H for blocks of derivative 1 and inputs with E xxᵀ = root·rootᵀ."""
    moved = (tangents(net) @ root).reshape(-1, net.width * root.shape[1])
    return np.asarray(moved @ moved.T)


def check() -> str:
    """Compare eigenvalues exactly or to rounding, and the Hessian with the loss at small steps."""
    cases = 0
    larger = [sm.butterfly(16, 8), sm.shuffle(16, 4, 3), sm.mixed_radix(12), sm.gossip(9)]
    for net in (*every_network(3, 2), *every_network(4, 2), *larger):
        met = times_met(net)
        if not met:
            continue
        graph = nx.Graph()
        graph.add_nodes_from(range(net.width))
        graph.add_weighted_edges_from((i, j, k) for (i, j), k in met.items())
        laplacian = nx.laplacian_matrix(graph, nodelist=range(net.width)).toarray()
        white = np.linalg.eigvalsh(hessian(net, np.eye(net.width)))[-1]
        assert np.isclose(white, 2 * max(met.values())), net
        ones = np.ones((net.width, 1))  # √d·u
        largest = np.linalg.eigvalsh(laplacian)[-1]
        assert np.isclose(np.linalg.eigvalsh(hessian(net, ones))[-1], largest), net
        degrees = np.diag(laplacian)
        low, high = degrees.mean() * net.width / (net.width - 1), 2 * degrees.max()
        assert low - 1e-9 <= largest <= high + 1e-9, net
        cases += 1
    _check_exactly(sm.butterfly(8, 4))
    for net in larger:
        _check_loss(net)
    return f"{cases} networks; the Laplacian exactly once, the loss of {len(larger)} at small steps"


def _check_exactly(net: sm.Network) -> None:
    """Compare characteristic polynomials, whose non-zero roots agree, in integers."""
    x = sympy.Symbol("x")
    moved = sympy.Matrix(tangents(net).sum(axis=2))  # S_p·√d·u
    laplacian = sympy.zeros(net.width)
    for (i, j), k in times_met(net).items():
        edge = sympy.zeros(net.width, 1)
        edge[i], edge[j] = 1, -1
        laplacian += k * edge * edge.T
    assert (moved.T * moved).charpoly(x) == laplacian.charpoly(x)


def _check_loss(net: sm.Network) -> None:
    """Compare the loss with ½·gᵀHg, for inputs with a random second moment."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((net.width, net.width))
    matrix, step = hessian(net, root), 1e-5
    for name, blocks in PARAMETRIZATIONS.items():
        g = [
            rng.standard_normal((bank.count, generators_per_block(bank.radix)))
            for bank in net.banks
        ]
        made = [blocks(step * one, b.radix) for one, b in zip(g, net.banks, strict=True)]
        moved = (stagewise.matrix_of(net, made) - np.eye(net.width)) @ root / step
        every = np.concatenate([one.ravel() for one in g])
        expected = SLOPES[name] ** 2 * every @ matrix @ every / 2
        assert np.isclose((moved**2).sum() / 2, expected, rtol=1e-2 * net.depth), (net, name)
