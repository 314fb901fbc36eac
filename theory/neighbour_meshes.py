"""Triangle and brick-wall cover SO(d); a neighbour mesh has dimension ℓ(w), a count of inversions.

Statement. A neighbour mesh is a network in which every switch joins two neighbours i, i+1. Start
with the list 0, 1, …, d−1, and let each switch in order exchange the numbers at its two places if
the first is smaller. Let w be the resulting list and ℓ(w) its number of inversions. The set of
matrices depends only on w, its dimension is ℓ(w), and it is SO(d) exactly when the list ends in
reverse order. This is the case for triangle and brickwall(d). The dimension of the first t stages
of the brick-wall is the number of inversions after t rounds of odd–even transposition, which equals
the number of their parameters as long as t ≤ d.

Proof. Write G_i for the rotations in the plane of i and i+1, and X_w for the set of products of
elements of the G_i along a word of w with ℓ(w) letters. (1) X_w depends only on w: reduced words of
the same w are connected by G_i G_j = G_j G_i for |i−j| > 1 and G_i G_(i+1) G_i = G_(i+1) G_i
G_(i+1) (Matsumoto), and both hold, the second because both sides are SO(3), by Euler angles. (2)
Let s_i be the exchange of places i and i+1. If ℓ(w s_i) < ℓ(w), some reduced word of w ends in i,
and G_i G_i = G_i implies X_w G_i = X_w. Otherwise the extended word is reduced. So X depends only
on the list w. (3) The triangle is a reduced word of the reversed list, and represents SO(d): its
first sweep, of d − 1 switches, nulls the last row of R entry by entry, with signs that leave +1 as
its last entry, and the rest is in SO(d−1). (4) A reduced word has ℓ(w) parameters, and can be
extended to one of the reversed list, whose d(d−1)/2 parameters are independent because they cover
SO(d); so dim X_w = ℓ(w). Hence only the reversed list has dimension d(d−1)/2.

Source: M. Reck et al. 1994 and W. R. Clements et al. 2016, arXiv 1603.08788, for the two meshes; H.
Matsumoto 1964 and M. Demazure 1974 for words; (2) and (4) are derived here.
"""

from __future__ import annotations

from math import comb

import numpy as np

import structmat as sm
from structmat.linalg import factors as stagewise
from theory._tools import every_network, rotation, rounding, switches
from theory.ruler_covers import plane_rotations

NUMBER = "T31"
STATUS = "proved"


def sorted_by(net: sm.Network) -> list[int]:
    """Return the list w of the statement."""
    numbers = list(range(net.width))
    for i, j in (sorted(row) for stage in switches(net) for row in stage):
        assert j == i + 1, "neighbours only"
        if numbers[i] < numbers[j]:
            numbers[i], numbers[j] = numbers[j], numbers[i]
    return numbers


def inversions(numbers: list[int]) -> int:
    """Return the number of inversions."""
    return sum(a > b for k, b in enumerate(numbers) for a in numbers[:k])


def nulling_angles(r: np.ndarray) -> list[np.ndarray]:
    """Return the angles of the triangle, one array per stage."""
    width = len(r)
    angles = [np.zeros(len(s.banks[0].reads)) for s in sm.families.triangle(width).stages]
    r = r.copy()
    for sweep in range(width - 1):
        last = width - 1 - sweep
        for i in range(last):
            # R = R'·G: choose G so that R' = R·Gᵀ has a zero at i in row `last`
            a, b = r[last, i], r[last, i + 1]
            angle = np.arctan2(a, b)
            givens = plane_rotations(np.array([angle]))[0]
            r[:, i : i + 2] = r[:, i : i + 2] @ givens.T
            angles[i + 2 * sweep][i // 2] = angle
    return angles


def check() -> str:
    """Compare exact dimensions with inversions; factorise random rotations; fit both meshes."""
    rng = np.random.default_rng(0)
    small = [net for net in every_network(4, 3) if _of_neighbours(net)]
    drawn = [_random_mesh(d, 4 * d, rng) for d in (5, 6, 8, 10) for _ in range(10)]
    walls = [sm.brickwall(d, t) for d in (5, 8, 12) for t in range(1, d + 3)]
    for net in [*small, *drawn, *walls]:
        assert sm.dimension(net).value == inversions(sorted_by(net)), net
    for d in range(3, 100, 7):
        assert (
            sorted_by(sm.families.triangle(d)) == sorted_by(sm.brickwall(d)) == list(range(d))[::-1]
        ), d
        for t in (1, d // 2, d - 1):
            wall = sm.brickwall(d, t)
            assert inversions(sorted_by(wall)) == wall.parameters, wall
    for d in (3, 4, 7, 16, 24):
        net, target = sm.families.triangle(d), rotation(d, rng)
        r = stagewise.matrix_of(net, [plane_rotations(angle) for angle in nulling_angles(target)])
        assert np.abs(r - target).max() <= rounding(net), d
        for mesh in (net, sm.brickwall(d)):
            found = sm.fit(mesh, target, rng=0)
            assert np.abs(stagewise.matrix_of(mesh, found.blocks) - target).max() <= rounding(
                mesh
            ), mesh
    assert inversions(sorted_by(sm.families.triangle(9))) == comb(9, 2)
    return f"{len(small) + len(drawn) + len(walls)} meshes, and rotations of up to 24 wires"


def _of_neighbours(net: sm.Network) -> bool:
    return all(len(row) == 2 and row[1] - row[0] == 1 for stage in switches(net) for row in stage)


def _random_mesh(width: int, count: int, rng: np.random.Generator) -> sm.Network:
    starts = rng.integers(0, width - 1, count).tolist()
    return sm.Network.of(width, [[[i, i + 1]] for i in starts])
