"""Removing gauge-redundant generators loses no matrix if the blocks are exp(Q).

Statement. In each switch keep only the generators of those pairs of wires that are not direct, that
is, do not come directly from one common switch (T2). Their number is the number of parameters minus
D, the number of direct pairs. (1) With blocks exp(Q) of these generators the network represents all
matrices that it can represent with all generators. (2) With blocks Cayley(Q) it represents all
matrices obtained from blocks near the identity; in BOFT, all those for which the blocks found in
(3) do not have the eigenvalue −1. (3) In BOFT, where in all stages but the first the generators
kept are [[0, −Aᵀ], [A, 0]], the cosine–sine decomposition computes them.

Proof. (1) Let H = ∏SO(k_i) act on the wires that enter a switch of r wires, k_i of them from a
common switch. SO(r)/H, with the metric induced by the bi-invariant one on SO(r), has the geodesics
exp(sQ)H from the base point, with Q orthogonal to the Lie algebra of H, that is, in the span of the
generators kept. It is compact, so by the theorem of Hopf and Rinow geodesics from the base point
reach every other point: each block is exp(Q)·h with h in H. From the last switch to the first,
write the block in this form and absorb h into the switches before. (2) At Q = 0 and h = 1 the
derivative of Cayley(Q)·h is invertible, so near the identity every block is of this form. In BOFT,
exp(Q) = Cayley(tanh(Q/2)) unless it has the eigenvalue −1, and tanh, an odd function, preserves the
form of (3). (3) B = diag(U_1, U_2)·C·diag(V_1, V_2) is exp(Q)·diag(U_1 V_1, U_2 V_2), where exp(Q)
= diag(U_1, U_2)·C·diag(U_1, U_2)ᵀ, and the signs can be chosen so that U_1 V_1 and U_2 V_2 are
rotations, as in T12.

Source: derived here; normal homogeneous spaces and the theorem of Hopf and Rinow are classical.
"""

from __future__ import annotations

import itertools

import numpy as np
import scipy.linalg
import scipy.optimize

import structmat as sm
from structmat.linalg import factors as stagewise
from structmat.linalg.blocks import exponential
from theory._tools import rotation, rounding
from theory.gauge_bound import direct

NUMBER = "T37"
STATUS = "proved"


def check() -> str:
    """Reduce random BOFT matrices to this form, and factorise rotations by other subgroups H."""
    rng = np.random.default_rng(0)
    sizes_of_boft = [(16, 4, 3), (32, 8, 3), (24, 6, 3), (48, 4, 3), (64, 16, 3)]
    for width, block, depth in sizes_of_boft:
        net = sm.butterfly(width, block, depth)
        blocks = sm.random_blocks(net, rng=rng)
        r = stagewise.matrix_of(net, blocks)
        _fix(net, blocks)
        form = sm.reduced(net)
        assert form.parameters == net.parameters - direct(net), net
        values = np.concatenate(
            [_generators(b)[kept] for b, kept in zip(blocks, form.kept, strict=True)]
        )
        made = [
            exponential(g, bank.radix) if t else blocks[0]
            for t, (g, bank) in enumerate(zip(form.spread(values), net.banks, strict=True))
        ]
        assert np.abs(stagewise.matrix_of(net, made) - r).max() <= 10 * rounding(net), net
    subgroups = [(2, 2), (2, 1, 1), (3, 2), (2, 2, 1), (3, 3), (2, 2, 2)]
    for sizes, _ in itertools.product(subgroups, range(5)):
        assert _is_reached(sizes, rotation(sum(sizes), rng), rng), sizes
    return f"{len(sizes_of_boft)} BOFT matrices, 30 rotations by {len(subgroups)} other subgroups"


def _generators(blocks: np.ndarray) -> np.ndarray:
    upper = np.triu_indices(blocks.shape[1], 1)
    return np.array([scipy.linalg.logm(b).real[upper] for b in blocks])


def _fix(net: sm.Network, blocks: list[np.ndarray]) -> None:
    """Absorb rotations of half-blocks into the previous stage, from the last stage on, in place."""
    half = net.banks[0].radix // 2
    for t in range(net.depth - 1, 0, -1):
        given = np.zeros((net.width, net.width))
        for block, wires in zip(blocks[t], net.banks[t].reads, strict=True):
            us, theta, vs = scipy.linalg.cossin(block, p=half, q=half, separate=True)
            u, v = scipy.linalg.block_diag(*us), scipy.linalg.block_diag(*vs)
            if np.linalg.det(us[0] @ vs[0]) < 0:
                u[:, [0, half]] *= -1
                theta[0] += np.pi
            c, s = np.diag(np.cos(theta)), np.diag(np.sin(theta))
            block[:] = u @ np.block([[c, -s], [s, c]]) @ u.T
            given[np.ix_(wires, wires)] = u @ v
        before = net.banks[t - 1].reads
        blocks[t - 1][:] = given[before[:, :, None], before[:, None, :]] @ blocks[t - 1]


def _is_reached(sizes: tuple[int, ...], target: np.ndarray, rng: np.random.Generator) -> bool:
    """Return whether a Q in the span of the kept generators with exp(−Q)·target in H is found."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    first, second = np.triu_indices(len(owner), 1)
    kept = owner[first] != owner[second]
    across = owner[:, None] != owner
    cuts = np.cumsum(sizes)[:-1]

    def left(values: np.ndarray) -> np.ndarray:
        generators = np.zeros(len(first))
        generators[kept] = values
        return exponential(-generators, len(owner)) @ target

    for _ in range(200):
        start = rng.uniform(-2, 2, kept.sum())
        found = scipy.optimize.least_squares(
            lambda x: left(x)[across], start, xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        h = left(found.x)
        rows = zip(np.split(h, cuts), (0, *cuts), sizes, strict=True)
        if np.abs(h[across]).max() < 1e-9 and all(
            np.linalg.det(part[:, k : k + n]) > 0 for part, k, n in rows
        ):
            return True
    return False
