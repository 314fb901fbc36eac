"""BOFT contains OFT; d − 1 pairs of butterflies B·B'ᵀ, and even d/2 − 1, represent all of SO(d).

Statement. Say that a network contains another if it represents all matrices of the other. (1)
BOFT(m, b) contains OFT with blocks of b, and BOFT(m', b) for every m' < m; if b is a power of two
and BOFT(m, b) is dense, it contains the radix-2 butterfly. (2) Let d = 2^n ≥ 4. The products of d −
1 pairs B·B'ᵀ of radix-2 butterflies represent all of SO(d), and all of O(d) if their blocks may be
reflections. So do the products of d/2 − 1 pairs, and those of d/2 butterflies. (3) Butterfly
matrices do not form a group: B·B' is in general not a butterfly matrix. Those in which all switches
of a stage have the same block do form a group: they are Kronecker products of rotations of the
plane.

Proof. (1) The first stage of BOFT is OFT; set the others to the identity. A block on b neighbouring
wires can represent whatever the radix-2 stages of strides below b can, and stage i > 0 of BOFT
joins half-blocks, so it can represent the radix-2 stage of stride b·2^(i−1). (2) By T12 the ruler
represents all of SO(d), and one reflection yields the rest of O(d). Each of its d − 1 stages has a
single stride, and every pair contains every stride, so d − 1 pairs suffice. The strides of the
ruler are 1, s, 1, s', …, 1 with d/2 − 1 strides s, s', … above 1. The strides of a butterfly are 1,
2, …, d/2: each of the first d/2 − 1 butterflies contains one run 1, s, and the last one contains
the final 1. The strides of a pair are 1, 2, …, d/2, d/2, …, 2, 1: each pair contains one run s, 1,
and the first pair also the 1 before it. (3) In a butterfly every path from the inputs 0 and 1 to
the outputs 0 and d/2 passes through wire 0 after the first stage, so by T23 this submatrix of B has
rank 1 at most. In B·B' two paths share no node: one stays on wire 0, and one goes from 1 to d/2 + 1
in the first butterfly and on to d/2 in the second; so for almost all matrices B·B' the rank is 2. A
stage whose switches all have the block B is I⊗B⊗I, so the product of all stages is ⊗B_t.

Source: (1) in part and d − 1 pairs in (2) are Theorem 1 of Liu et al., arXiv 2311.06243, based on
the kaleidoscopes of Dao et al., arXiv 2012.14966; d/2 − 1 is derived here.
"""

from __future__ import annotations

import numpy as np

import structmat as sm
from structmat.linalg import factors as stagewise
from theory._tools import rotation, rounding, switches
from theory.ruler_covers import angles, plane_rotations

NUMBER = "T18"
STATUS = "proved"


def places(net: sm.Network, other: sm.Network) -> list[int] | None:
    """Return, for each stage of `other`, a stage of `net` that can represent it, or None.

    The stages are in order. A switch can also represent several switches that it contains.
    """
    found = [0]
    for wanted in switches(other):
        later = range(found[-1], net.depth)
        t = next((t for t in later if _holds(switches(net[t : t + 1])[0], wanted)), None)
        if t is None:
            return None
        found.append(t)
    return found[1:]


def _holds(stage: list[list[int]], wanted: list[list[int]]) -> bool:
    return all(any(set(row) <= set(larger) for larger in stage) for row in wanted)


def check() -> str:
    """Embed the networks in one another, build random rotations, multiply Kronecker products."""
    for width, block in [(16, 4), (32, 8), (48, 6), (64, 16)]:
        deepest = 1
        while width % (block << deepest) == 0:
            deepest += 1
        boft = sm.butterfly(width, block, deepest)
        assert places(boft, sm.block_diagonal(width, block)) == [0]
        for depth in range(1, deepest):
            assert places(boft, sm.butterfly(width, block, depth)) == list(range(depth))
        if block & (block - 1) == 0:
            assert sm.is_dense(boft)
            assert places(boft, sm.butterfly(width)) is not None
    rng = np.random.default_rng(0)
    for n in range(2, 6):
        d = 1 << n
        one, ruler = sm.butterfly(d), sm.ruler(d)
        pairs = one.then(one.inverse())
        assert places(pairs.repeat(d - 1), ruler) is not None, d
        _check_rotation(pairs.repeat(d // 2 - 1), ruler, rng)
        _check_rotation(one.repeat(d // 2), ruler, rng)
        assert places(one.repeat(d // 2 - 1), ruler) is None, d
        part = [0, d // 2], [0, 1]
        assert (sm.rank_bound(one, *part), sm.rank_bound(one.repeat(2), *part)) == (1, 2), d
        assert sm.dimension(one.repeat(2)).value > one.parameters, d
        _check_kronecker(one, rng)
    return "BOFT of 16 to 64 wires; random rotations by pairs and repetitions of 4 to 32 wires"


def _check_rotation(net: sm.Network, ruler: sm.Network, rng: np.random.Generator) -> None:
    """Find blocks for a random rotation, by way of the ruler."""
    target = rotation(net.width, rng)
    where = places(net, ruler)
    assert where is not None, net
    blocks = sm.identity_blocks(net)
    for t, angle in zip(where, angles(target), strict=True):
        blocks[t] = plane_rotations(angle) @ blocks[t]
    assert np.abs(stagewise.matrix_of(net, blocks) - target).max() <= rounding(net), net


def _check_kronecker(net: sm.Network, rng: np.random.Generator) -> None:
    """Compare butterflies with one block per stage with Kronecker products; check they commute."""
    made = []
    for _ in range(2):
        rotations = plane_rotations(rng.uniform(0, 2 * np.pi, net.depth))
        blocks = [np.tile(b, (net.width // 2, 1, 1)) for b in rotations]
        r = stagewise.matrix_of(net, blocks)
        product = np.eye(1)
        for block in rotations:
            product = np.kron(block, product)
        assert np.abs(r - product).max() <= rounding(net), net
        made.append(r)
    assert np.abs(made[0] @ made[1] - made[1] @ made[0]).max() <= rounding(net), net
