"""Entry (i, j) of R is not identically zero exactly when there is a path from input j to output i.

Statement. Let R = B_m ⋯ B_1 be the matrix of a network in which the block of each switch may be any
rotation of its wires. Entry (i, j) of R is zero for all rotations if there is no path from input j
to output i in the grid graph; if there is one, some choice of rotations makes the entry ±1.

Proof. The entry is the sum, over all paths from j to i, of the products of the entries on the path:
without a path it is an empty sum. Given a path, let each switch in which it moves from wire p to
another wire q rotate the plane of p and q by a quarter turn, and let every other switch be the
identity, including any in which the path stays on its wire. Each stage then maps the basis vector
of the path's wire to plus or minus the basis vector of its next wire, so R maps the basis vector j
to plus or minus the basis vector i. A quarter turn is a rotation: it has determinant 1.

An entry is a polynomial in the entries of the blocks, and products of rotation groups are
irreducible varieties, so an entry that is not identically zero is non-zero for almost all blocks.

Source: derived here; counting paths is the information transmission view of Liu et al., arXiv
2311.06243.
"""

from __future__ import annotations

import itertools

import numpy as np
import sympy

import structmat as sm
from theory._tools import partitions

NUMBER = "T1"
STATUS = "proved"


def quarter_turns(stages: list[list[list[int]]], path: list[int], width: int) -> np.ndarray:
    """Return R as integers, with quarter turns along the path and identities elsewhere."""
    r = np.eye(width, dtype=int)
    for parts, p, q in zip(stages, path, path[1:], strict=False):
        assert any(p in part and q in part for part in parts)
        factor = np.eye(width, dtype=int)
        if p != q:
            factor[[p, q, p, q], [p, q, q, p]] = 0, 0, -1, 1
        r = factor @ r
    return r


def some_path(stages: list[list[list[int]]], start: int, end: int) -> list[int] | None:
    """Return the wires of a path, found by enumeration."""
    if not stages:
        return [start] if start == end else None
    (part,) = (part for part in stages[0] if start in part)
    tails = (some_path(stages[1:], wire, end) for wire in part)
    return next(([start, *tail] for tail in tails if tail is not None), None)


def check() -> str:
    """Test all pairs of wires in every straight network of some sizes; expand some products."""
    networks = 0
    for width, depth in [(2, 3), (3, 3), (4, 2)]:
        for stages in itertools.product(partitions(list(range(width))), repeat=depth):
            net = sm.Network.of(width, [[p for p in parts if len(p) > 1] for parts in stages])
            reached, counts = sm.reach(net), sm.path_counts(net)
            networks += 1
            for j, i in itertools.product(range(width), repeat=2):
                path = some_path(list(stages), j, i)
                assert reached[i, j] == (path is not None) == (counts[i, j] > 0), (net, i, j)
                if path is not None:
                    r = quarter_turns(list(stages), path, width)
                    assert np.array_equal(r @ r.T, np.eye(width)), (net, i, j)
                    assert round(np.linalg.det(r)) == 1, (net, i, j)
                    assert abs(r[i, j]) == 1, (net, i, j)
    for net in (sm.benes(4), sm.mixed_radix(6), sm.random(5, 3, 3, rng=0)):
        r = sm.symbolic(net, parametrization="entries")
        product = sympy.prod(reversed(r.factors())).expand()
        assert product == r.matrix(), "the sum over all paths"
    return f"all {networks} networks of up to 4 wires and 3 stages, the sum in symbols for 3 more"
