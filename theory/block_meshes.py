"""Brick-wall and ruler with blocks of b wires cover SO(d), in 2d/b and 2d/b − 1 stages.

Statement. Let h = b/2 divide d, with D = d/h ≥ 2 bundles of h wires. The brick-wall mesh of D
bundles, in D stages (1 if D = 2) whose switches join neighbouring bundles, represents every R in
SO(d). Let d = b·2^k, for any b ≥ 2. The network in which every other stage joins b neighbours, and
the stages between them join pairs of wires at the strides b, 2b, b, 4b, …, represents every R in
SO(d), with exactly d(d−1)/2 parameters in 2d/b − 1 stages.

Proof. Brick-wall. Let G_i be the group SO(2h) that acts on bundles i and i + 1. G_i and G_j
commute for |i − j| > 1, and G_i·G_i = G_i. Moreover G_i·G_(i+1)·G_i is all of SO(3h): given R in
SO(3h), the last h rows of R are multiplied from the right by an element of G_i, so that their block
in bundle i becomes zero (h rows of 2h entries span at most h dimensions; as the complement has
dimension h ≥ 1, the determinant can be 1), then by one of G_(i+1), so that they become (0, 0, I);
what remains is in G_i. Transposed, with the roles of the bundles exchanged, G_(i+1)·G_i·G_(i+1) is
SO(3h) as well. These are the three relations that the proof of T31 uses for SO(2) in place of
SO(2h); so the set of matrices depends only on the list of T31, for the numbers of the bundles. The
triangle of D bundles represents every rotation, by nulling block rows as above, and the brick-wall
has the same list.

Ruler. The recursion of T12 ends at d = b, where one switch represents any rotation. With f(d) =
4·f(d/2) + d/2 and f(b) = b(b−1)/2, the number of parameters is d(d−1)/2; with s(d) = 2·s(d/2) + 1
and s(b) = 1, the number of stages is 2d/b − 1.

Source: derived here from T12 and T31.
"""

from __future__ import annotations

from math import comb

import numpy as np

import structmat as sm
from structmat.linalg import factors as stagewise
from theory._tools import rotation, rounding
from theory.ruler_covers import decomposed, plane_rotations

NUMBER = "T57"
STATUS = "proved"


def ruler_blocks(r: np.ndarray, block: int) -> list[np.ndarray]:
    """Return the blocks of each stage of the ruler, (switches, b, b) or angles (d/2,)."""
    if len(r) == block:
        return [r[None]]
    left, theta, right = decomposed(r)
    first, last = (
        [np.concatenate(pair) for pair in zip(*(ruler_blocks(x, block) for x in both), strict=True)]
        for both in (right, left)
    )
    return [*first, theta, *last]


def nulling_blocks(r: np.ndarray, half: int) -> list[tuple[int, np.ndarray]]:
    """Return the switches of the triangle of bundles, in order, as (first bundle, block)."""
    bundles = len(r) // half
    r, found = r.copy(), []
    for last in range(bundles - 1, 0, -1):
        rows = slice(last * half, (last + 1) * half)
        for i in range(last):
            columns = slice(i * half, (i + 2) * half)
            q, corner = np.linalg.qr(r[rows, columns].T, mode="complete")  # rows·q = (cornerᵀ, 0)
            if i == last - 1:  # the rows are orthonormal: make them the identity
                q[:, :half] = q[:, :half] @ corner[:half]
            rotated = np.roll(q, half, axis=1)  # (0, cornerᵀ)
            rotated[:, 0] *= np.linalg.det(rotated)
            if last == 1:  # what remains is one switch
                rotated = r[columns, columns].T.copy()
            r[:, columns] = r[:, columns] @ rotated
            found.append((i, rotated.T))
    return found


def check() -> str:
    """Decompose random rotations; fit brick-walls; compare dimensions."""
    rng = np.random.default_rng(0)
    for d, block in [(4, 4), (8, 4), (16, 4), (64, 16), (12, 3), (40, 5), (6, 6)]:
        net, target = sm.ruler(d, block=block), rotation(d, rng)
        assert (net.depth, net.parameters) == (2 * d // block - 1, comb(d, 2))
        blocks = [x if x.ndim == 3 else plane_rotations(x) for x in ruler_blocks(target, block)]
        assert np.abs(stagewise.matrix_of(net, blocks) - target).max() <= rounding(net), net
    for d, half in [(4, 2), (6, 2), (9, 3), (20, 4), (30, 5)]:
        target, product = rotation(d, rng), np.eye(d)
        for i, block in nulling_blocks(target, half):
            assert abs(np.linalg.det(block) - 1) < 1e-9
            wires = slice(i * half, (i + 2) * half)
            product[wires] = block @ product[wires]
        assert np.abs(product - target).max() < 1e-12 * d, (d, half)
    for d, block in [(6, 4), (8, 4), (10, 4), (12, 6), (16, 8), (20, 8)]:
        net = sm.brickwall(d, block=block)
        assert net.depth == (2 * d // block if 2 * d // block > 2 else 1)
        assert sm.dimension(net).lower == comb(d, 2), net
        assert sm.fit(net, rotation(d, rng), rng=0, special=True, progress=False).error < 1e-5, net
    return "rulers up to 64 wires, block triangles up to 30, brick-walls up to 20"
