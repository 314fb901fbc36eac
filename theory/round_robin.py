"""Conjecture: the round-robin network covers every rotation.

Statement. Join d wires pairwise in the rounds of a round-robin tournament, each pair once, in d − 1
rounds (even d) or d rounds (odd d). The matrices of this network are all of SO(d).

Evidence. The network has d(d−1)/2 parameters, the dimension of SO(d), and the derivative at the
identity is invertible because every pair is joined (T2); so it covers a neighbourhood of the
identity. For d ≤ 4 it covers SO(d): d = 2 is one switch; for d = 3 the three planes in sequence are
the Tait–Bryan angles; for d = 4, SO(4) consists of pairs of unit quaternions up to a common sign; a
round {a, b}, {c, d} multiplies each quaternion of a pair by a rotation about one axis, with
independent angles; the three rounds have the three axes, and Tait–Bryan angles cover the unit
quaternions. For d ≥ 5 no proof is known to us. The degree modulo 2 of the map from the torus of
angles is zero for d ≥ 3, because the square of a class of degree 1 is zero on the torus but not on
SO(d); so this degree does not decide the question. Newton's method from a few random starts has
reached each of several hundred random targets of 5 to 10 wires.

Source: derived here.
"""

from __future__ import annotations

from math import comb

import numpy as np

import structmat as sm
from theory._tools import rotation

NUMBER = "T14"
STATUS = "conjecture"
STARTS, STEPS = 200, 200


def check() -> str:
    """Compute dimensions, and try to reach random targets."""
    for d in range(2, 25):
        assert sm.dimension(sm.families.round_robin(d)).lower == comb(d, 2), d
    _check_axes()
    reached = _reach(range(3, 9), 6)
    return f"dimensions up to 24 wires, {reached} random targets of 3 to 8 wires, all reached"


def thorough() -> str:
    """Try many targets."""
    return f"{_reach(range(5, 11), 100)} random targets of 5 to 10 wires, all reached"


def _check_axes() -> None:
    """Project the rounds of 4 wires onto both ideals of so(4); check that the three axes differ."""
    ideals: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for stage in sm.families.round_robin(4).stages:
        (a, b), (c, d) = stage.banks[0].reads.tolist()
        sign = round(np.linalg.det(np.eye(4)[[a, b, c, d]]))
        for ideal, other in zip(ideals, (sign, -sign), strict=True):
            axis = np.zeros((4, 4), dtype=int)
            axis[[a, c], [b, d]] = 1, other
            ideal.append(axis - axis.T)
    for one, other in (ideals, ideals[::-1]):
        for k, axis in enumerate(one):
            assert np.array_equal(axis @ axis, -np.eye(4))
            assert all(np.array_equal(axis @ x, x @ axis) for x in other), "unit quaternions apart"
            assert all(np.array_equal(axis @ x, -x @ axis) for x in one[:k]), "axes at right angles"


def _reach(widths: range, targets: int) -> int:
    rng = np.random.default_rng(0)
    for d in widths:
        net = sm.families.round_robin(d)
        for _ in range(targets):
            target = rotation(d, rng)
            starts = (rng.uniform(0, 2 * np.pi, net.parameters) for _ in range(STARTS))
            assert any(_arrives(net, target, start) for start in starts), (d, target.tolist())
    return len(widths) * targets


def _arrives(net: sm.Network, target: np.ndarray, angle: np.ndarray) -> bool:
    """Return whether damped Newton steps on the angles lead from a start to the target."""
    pairs = np.triu_indices(net.width, 1)
    r, moves = _member(net, angle)
    distance, damping = np.linalg.norm(r - target), 0.01
    for _ in range(STEPS):
        wanted = ((r.T @ target - target.T @ r) / 2)[pairs]
        square = moves @ moves.T + damping * np.eye(len(wanted))
        further = angle + moves.T @ np.linalg.solve(square, wanted)
        r_there, moves_there = _member(net, further)
        there = np.linalg.norm(r_there - target)
        if there < distance:
            angle, r, moves, distance, damping = further, r_there, moves_there, there, damping / 5
        else:
            damping *= 4
        if distance < 1e-11:
            return True
        if damping > 1e4:
            return False
    return False


def _member(net: sm.Network, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return R and the columns of Rᵀ dR, one for each angle."""
    r = np.eye(net.width)
    first, second = np.triu_indices(net.width, 1)
    moves = []
    done = 0
    for stage in net.stages:
        (bank,) = stage.banks
        theta = angle[done : done + bank.count, None]
        done += bank.count
        here, there = r[bank.reads[:, 0]], r[bank.reads[:, 1]]
        here, there = (
            np.cos(theta) * here - np.sin(theta) * there,
            np.sin(theta) * here + np.cos(theta) * there,
        )
        r[bank.reads[:, 0]], r[bank.reads[:, 1]] = here, there
        moves.append(there[:, first] * here[:, second] - here[:, first] * there[:, second])
    return r, np.concatenate(moves).T
