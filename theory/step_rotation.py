"""From the identity, steps of η in each generator rotate by κ·√n·η with n = (2/d)·Σ k² over pairs.

Statement. Let all blocks of a network on d wires begin as the identity, so that R = P, a
permutation, and let κ be the derivative of a block at the identity: dB = κ·dQ. It is 2 for Cayley
blocks, for their truncated series and for products of Householder reflections, and 1 for
exponentials and products of Givens rotations. Trace the wires back to the inputs, and let k be the
number of switches that contain a given pair of wires. (1) If every generator changes by ±η, with
signs that have equal effects on a pair of wires in all its switches, then ‖R − P‖_F² = κ²·η²·d·n +
O(η³) with n = (2/d)·Σ k² over all pairs. For x uniform on the unit sphere, R x and P x therefore
differ by the angle κ·√n·η in root mean square, up to O(η²). (2) For other signs ‖R − P‖_F² is
smaller or equal up to O(η³), and its mean over independent signs has k in place of k². (3) The
first step of Adam, or of descent by signs, satisfies the condition of (1) for every loss that is a
differentiable function of R, wherever the gradient is not zero. (4) Unitary blocks have two
generators for each pair and one for each wire, and n = (4/d)·Σ k² over pairs + (1/d)·Σ k² over
wires, for the switches that contain the wire.

Proof. To first order R = P·(I + κ·Σ_t S_t), where S_t contains the changes of the generators of
stage t at its pairs of wires, and is skew-symmetric. Entry (i, j) of the sum is the signed sum of k
changes, ±k·η under the condition of (1), and a pair has two entries. For x uniform on the sphere,
E‖(R − P)x‖² = ‖R − P‖_F²/d, and the angle equals the length of the difference to first order. For
(2), |Σ ±1| ≤ k, and E(Σ ±1)² = k for independent signs. For (3), all generators of a pair have the
same derivative of R at the identity except for its sign, which depends on the order in which the
switch contains the wires; their gradients differ by the same sign, and so do the signs of the
steps. For (4), the real and the imaginary part of an entry contribute separately, and the diagonal
entry of a wire once. The values of κ follow from B = I + 2Q + O(Q²) for the first three
parametrizations, and from B = I + Q + O(Q²) for the other two.

Source: derived here. For a single stage of blocks of b wires, κ·√n = 2·√(b − 1) is the divisor of
Scaled OFT (OneTrainer, pull request 1315), found there by experiment.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from math import comb

import numpy as np
import sympy

import structmat as sm
from structmat.analysis.generator_scale import SLOPES, step_rotation
from structmat.linalg import factors as stagewise
from structmat.linalg.blocks import PARAMETRIZATIONS, generators_per_block, skew
from theory._tools import every_network, switches
from theory.cayley_transform import generic

NUMBER = "T60"
STATUS = "proved"


def symbolic_blocks(q: sympy.Matrix) -> dict[str, sympy.Matrix]:
    """Return the blocks of a skew-symmetric matrix in every parametrization, up to O(Q³)."""
    size, one = q.rows, sympy.eye(q.rows)
    planes, reflections = one, -one
    for i, j in itertools.combinations(range(size), 2):
        plane = sympy.eye(size)
        c, s = sympy.cos(q[i, j]), sympy.sin(q[i, j])
        plane[i, i], plane[j, j], plane[i, j], plane[j, i] = c, c, s, -s
        planes = planes * plane
    for i in reversed(range(size)):
        v = sympy.Matrix([0] * i + [1] + list(q[i + 1 :, i]))
        reflections = (one - 2 / (v.T * v)[0] * v * v.T) * reflections
    return {
        "cayley": (one + q) * (one - q).inv(),
        "exp": one + q + q**2 / 2,
        "givens": planes,
        "householder": reflections,
        "cayley_neumann": one + 2 * q + 2 * q**2 + 2 * q**3 + q**4,
    }


def times_met(net: sm.Network) -> Counter[tuple[int, int]]:
    """Return the number of switches that contain each pair of wires of a straight network."""
    return Counter(
        pair
        for stage in switches(net)
        for wires in stage
        for pair in itertools.combinations(sorted(wires), 2)
    )


def first_order(net: sm.Network, rng: np.random.Generator | None = None) -> np.ndarray:
    """Return Σ_t S_t, with one sign for each pair of wires, or independent signs if given `rng`."""
    total = np.zeros((net.width, net.width), dtype=np.int64)
    for stage in switches(net):
        for wires in stage:
            for i, j in itertools.combinations(sorted(wires), 2):
                sign = (-1) ** (i + j) if rng is None else rng.choice([-1, 1])
                total[i, j] += sign
                total[j, i] -= sign
    return total


def check() -> str:
    """Differentiate the blocks symbolically; compare norms exactly and at small steps."""
    t, q = sympy.Symbol("t"), generic(3)
    for name, block in symbolic_blocks(t * q).items():
        derivative = block.diff(t).subs(t, 0).applyfunc(sympy.simplify)
        assert derivative == SLOPES[name] * q, name
    rng = np.random.default_rng(0)
    cases = 0
    for net in (*every_network(3, 2), *every_network(4, 2), sm.butterfly(16, 8), sm.shuffle(12, 4)):
        exact = 2 * sum(k * k for k in times_met(net).values())
        assert (first_order(net) ** 2).sum() == exact
        assert (first_order(net, rng) ** 2).sum() <= exact
        assert np.isclose(step_rotation(net, "exp") ** 2 * net.width, exact)
        cases += 1
    for k in range(20):
        assert sum(comb(k, j) * (k - 2 * j) ** 2 for j in range(k + 1)) == k * 2**k
    nets = [sm.butterfly(16, 4), sm.shuffle(16, 4, 3), sm.random(11, 4, 4, rng=0), sm.benes(8)]
    for net, (name, blocks), field in itertools.product(
        nets, PARAMETRIZATIONS.items(), ("real", "complex")
    ):
        _check_step(net, name, blocks, field, rng)
    return f"κ symbolically, {cases} networks exactly, {len(nets)} at small steps"


def _check_step(
    net: sm.Network,
    name: str,
    blocks: Callable[[np.ndarray, int], np.ndarray],
    field: str,
    rng: np.random.Generator,
) -> None:
    """Compare the rotation of a step by signs of a gradient with κ·√n·η."""
    step, generators = 1e-6, []
    gradient = rng.standard_normal((net.width,) * 2)  # of a loss, with respect to R
    if field == "complex":
        gradient = gradient + 1j * rng.standard_normal(gradient.shape)
    straight = net.straightened().network
    for bank in straight.banks:
        size = generators_per_block(bank.radix, field=field)
        every = skew(np.eye(size), bank.radix)
        inner = gradient[bank.reads[:, :, None], bank.reads[:, None, :]]
        slopes = np.einsum("nij,gij->ng", inner.conj(), every).real
        generators.append(-step * np.sign(slopes))
    made = [blocks(g, b.radix) for g, b in zip(generators, straight.banks, strict=True)]
    moved = np.linalg.norm(stagewise.matrix_of(straight, made) - np.eye(net.width))
    angle = step_rotation(net, name, field) * step
    assert np.isclose(moved / np.sqrt(net.width), angle, rtol=20 * step * net.depth * net.width), (
        net,
        name,
        field,
    )
