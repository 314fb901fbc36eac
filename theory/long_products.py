"""Repeated often enough, a network represents all of SO on each connected component of its wires.

Statement. Let two wires be neighbours when they share a switch in some stage, and let C_1, C_2, …
be the connected components. The matrices of a network of rotations are in ∏SO(C_k), and for some
number of repetitions the network represents all of ∏SO(C_k). The dimension of the repeated network
grows to Σ|C_k|(|C_k|−1)/2.

Proof. Stages do not mix the coordinates of different components. Let i–j–k be neighbours: with Q
the quarter turn in the plane of j and k, QᵀR_ij(θ)Q is the rotation R_ik(±θ). Along paths, the
rotation in the plane of any two wires of one component is a product of rotations in the planes of
neighbours. Each of the latter is represented by some stage while the other stages are the identity.
Every element of SO(C) is a product of |C|(|C|−1)/2 plane rotations (T31). The lengths of all these
products are bounded.

Source: classical; [E_ij, E_jk] = E_ik is the corresponding identity in the Lie algebra.
"""

from __future__ import annotations

from math import comb

import networkx as nx
import numpy as np
import sympy

import structmat as sm
from theory._tools import pairs

NUMBER = "T15"
STATUS = "proved"


def check() -> str:
    """Conjugate symbolically; repeat networks until they have full dimension."""
    conjugated = sm.symbolic(sm.Network.of(3, [[[1, 2]], [[0, 1]], [[1, 2]]]))
    first, t, last = conjugated.symbols
    rotated = conjugated.subs({first: sympy.pi / 2, last: -sympy.pi / 2}).matrix()
    direct = sm.symbolic(sm.Network.of(3, [[[0, 2]]]))
    assert rotated in [direct.subs([sign * t]).matrix() for sign in (1, -1)]

    def plane(i: int, j: int) -> sympy.Matrix:
        return sympy.Matrix(3, 3, lambda a, b: int((a, b) == (i, j)) - int((a, b) == (j, i)))

    assert plane(0, 1) * plane(1, 2) - plane(1, 2) * plane(0, 1) == plane(0, 2)
    nets = [sm.butterfly(8), sm.brickwall(7, 2), sm.gossip(9), sm.shuffle(12, 3, 2)]
    nets += [sm.butterfly(16, depth=2), sm.random(10, 3, 2, rng=0)]
    nets += [sm.Network.of(9, [[[0, 1, 2], [4, 5]], [[2, 3], [5, 6]]])]
    most = 0
    for net in nets:
        graph = nx.Graph(pair for stage in pairs(net) for pair in stage)
        full = sum(comb(len(part), 2) for part in nx.connected_components(graph))
        values = []
        while not values or values[-1] < full:
            values.append(sm.dimension(net.repeat(len(values) + 1)).lower)
            assert len(values) <= net.width, (net, values)
        assert np.all(np.diff(values) > 0), (net, values)
        assert sm.dimension(net.repeat(len(values) + 1)).value == full, net
        most = max(most, len(values))
    return f"planes symbolically; {len(nets)} networks, full after at most {most} repetitions"
