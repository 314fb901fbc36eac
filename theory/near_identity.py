"""Near the identity, entry (i, j) of R is of order ε^k, k being the fewest moves from j to i.

Statement. Let all blocks be exp(εQ) or the Cayley transform of εQ, for generic skew-symmetric Q.
Say that a path makes a move in each stage in which it changes its wire, and let k be the smallest
number of moves of any path from j to i. Then entry (i, j) of R has the leading term c·ε^k, where c
is a polynomial in the generators, not identically zero; the entry is identically zero if there is
no path from j to i.

Proof. A block is I + aεQ + O(ε²), a = 1 or 2. The entry is the sum over paths of the products of
the block entries on them. A path with k' moves contributes O(ε^k'), so the leading term comes from
the paths with k moves: it is the sum over these paths of the product of aQ_pq over their moves from
q to p. Where such a path stays on its wire it has a factor 1 + O(ε²). A path is determined by its
moves, so different paths contribute different monomials in the generators, and the sum is not
identically zero.

Source: derived here.
"""

from __future__ import annotations

import numpy as np
import sympy

import structmat as sm
from theory._tools import every_network, switches

NUMBER = "T33"
STATUS = "proved"


def moves(net: sm.Network) -> np.ndarray:
    """Return the fewest moves from each input to each output, or −1 where there is no path."""
    least = np.where(np.eye(net.width, dtype=bool), 0, net.width + net.depth)
    for stage in switches(net):
        after = least.copy()
        for wires in stage:
            after[wires] = np.minimum(least[wires], least[wires].min(axis=0) + 1)
        least = after
    return np.where(least <= net.depth, least, -1)


def leading(net: sm.Network, rng: np.random.Generator, order: int) -> list[np.ndarray]:
    """Return the coefficients of ε^0 … ε^order in R, exactly, for Cayley blocks of integer Q."""
    terms = [np.eye(net.width, dtype=object).astype(int).astype(object)]
    terms += [terms[0] * 0 for _ in range(order)]
    for stage in switches(net):
        q = np.zeros((net.width, net.width), dtype=object)
        for wires in stage:
            for k, i in enumerate(wires):
                for j in wires[:k]:
                    q[i, j] = int(rng.integers(1, 10**6))
                    q[j, i] = -q[i, j]
        series = [terms[0] * 0 + np.eye(net.width, dtype=int)]
        power = series[0]
        for _ in range(order):
            power = power @ q
            series.append(2 * power)
        terms = [sum(series[a] @ terms[n - a] for a in range(n + 1)) for n in range(order + 1)]
    return terms


def check() -> str:
    """Expand in ε, exactly, for all small networks and some larger ones."""
    rng = np.random.default_rng(0)
    epsilon, q = sympy.symbols("e q")
    entry = (1 + sympy.I * epsilon * q) / (1 - sympy.I * epsilon * q)
    assert entry.series(epsilon, 0, 3).removeO().coeff(epsilon, 2) == 2 * sympy.I**2 * q**2
    cases = 0
    larger = [sm.butterfly(8), sm.brickwall(6, 4), sm.gossip(7), sm.random(8, 3, 3, rng=0)]
    for net in [*every_network(3, 2), *every_network(4, 2), *larger]:
        least = moves(net)
        terms = np.stack(leading(net, rng, net.depth)) != 0
        assert np.array_equal(least >= 0, sm.reach(net)), net
        first = np.where(terms.any(axis=0), terms.argmax(axis=0), -1)
        assert np.array_equal(first, least), net
        cases += 1
    return f"{cases} networks, expanded exactly"
