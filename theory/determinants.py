"""Matrices of straight networks of rotations have determinant 1; a swap or a Hadamard block has −1.

Statement. Cayley and exponential blocks have determinant 1, hence so does the matrix of every
straight network of them. Therefore no single 2×2 rotation exchanges its two wires without a sign or
equals (1, 1; 1, −1)/√2, and the matrix of a straight network of rotations is never an odd
permutation. A quarter turn exchanges the wires and negates one of them. With blocks from O(r), of
either determinant, networks represent swaps, Hadamard blocks and odd permutations as well.

Proof. det exp(Q) = exp(tr Q) = 1, and det(I+Q) = det((I−Q)ᵀ) = det(I−Q) for skew Q. Determinants
multiply over switches and stages. The swap and the Hadamard block have determinant −1.

Source: classical.
"""

from __future__ import annotations

import itertools

import numpy as np
import sympy

import structmat as sm
from structmat.linalg import factors as stagewise

NUMBER = "T28"
STATUS = "proved"


def check() -> str:
    """Solve for the swap, enumerate the quarter turns, and compute determinants of networks."""
    c, s = sympy.symbols("c s", real=True)
    rotation = sympy.Matrix([[c, -s], [s, c]])
    circle = c**2 + s**2 - 1
    swap = sympy.Matrix([[0, 1], [1, 0]])
    hadamard = sympy.Matrix([[1, 1], [1, -1]]) / sympy.sqrt(2)
    assert sympy.solve([*(rotation - swap), circle], [c, s]) == []
    assert sympy.solve([*(rotation - hadamard), circle], [c, s]) == []
    quarter = sympy.Matrix([[0, -1], [1, 0]])
    assert sympy.solve([*(rotation - quarter), circle], [c, s]) == [(0, 1)]

    quarter_turns = [np.array([[x, -y], [y, x]]) for x, y in [(1, 0), (0, 1), (-1, 0), (0, -1)]]
    net = sm.Network.of(3, [[[0, 1]], [[1, 2]], [[0, 1]]])
    made = {
        tuple(map(tuple, stagewise.matrix_of(net, [t[None] for t in chosen]).astype(int).tolist()))
        for chosen in itertools.product(quarter_turns, repeat=3)
    }
    plain = [m for m in made if all(entry >= 0 for row in m for entry in row)]
    assert len(made) == 24, "every signed permutation of determinant 1"
    assert len(plain) == 3, "of the permutations only the even ones"

    for net in (sm.butterfly(16), sm.mixed_radix(12), sm.shuffle(12, 3), sm.random(9, 4, 3, rng=0)):
        limit = 100 * net.depth * net.width * np.finfo(float).eps
        r = stagewise.matrix_of(net, sm.random_blocks(net, rng=0))
        assert abs(np.linalg.det(r) - 1) <= limit, net
    signs = {
        round(np.linalg.det(stagewise.matrix_of(net, sm.random_blocks(net, rng=k, special=False))))
        for k in range(40)
    }
    assert signs == {-1, 1}, "blocks of O(r) give both signs"
    return "the equations, 64 choices of quarter turns on 3 wires, and 4 networks of rotations"
