"""The free edges of the BOFT paper are exactly twice the free parameters.

Statement. A stage on d wires with n_r switches of radix r has Σ n_r·r(r−1)/2 parameters and Σ
n_r·r² + (d − Σ n_r·r) non-zeros, of which each idle wire contributes one. The paper (Liu et al.,
arXiv 2311.06243, section 3.1) does not count the d edges of a bijection between two columns of the
grid graph, since they cannot be trained. The number of remaining edges is twice the number of
parameters, for each stage and thus for each network.

Proof. Σ n_r·r² + d − Σ n_r·r − d = Σ n_r·r(r−1).

At d = 4: one dense stage has 12 free edges, the butterfly 8.

Source: the definition is the paper's; the identity is immediate.
"""

from __future__ import annotations

import sympy

import structmat as sm
from structmat.linalg import factors as stagewise

NUMBER = "T26"
STATUS = "proved"


def check() -> str:
    """Simplify the difference to zero; count the edges of actual networks."""
    width = sympy.Symbol("d")
    counts, radices = sympy.symbols("n:3"), sympy.symbols("r:3")
    switches = list(zip(counts, radices, strict=True))
    parameters = sum(n * r * (r - 1) / 2 for n, r in switches)
    nonzeros = sum(n * r**2 for n, r in switches) + width - sum(n * r for n, r in switches)
    assert sympy.expand(nonzeros - width - 2 * parameters) == 0
    assert (sm.block_diagonal(4, 4).free_edges, sm.butterfly(4).free_edges) == (12, 8)
    nets = [sm.mixed_radix(384), sm.benes(16), sm.random(11, 4, 3, rng=0), sm.shuffle(48, 6)]
    for net in nets:
        layers = [len(edges) for edges in _edges(net)]
        assert sum(layers) - net.depth * net.width == 2 * net.parameters == net.free_edges, net
    return f"three radices symbolically, {len(nets)} networks, and the paper's d = 4"


def _edges(net: sm.Network) -> list[set[tuple[int, int]]]:
    """Return the non-zeros of every factor, computed with blocks of ones."""
    ones = [block * 0 + 1 for block in sm.identity_blocks(net)]
    factors = [factor.tocoo() for factor in stagewise.factors(net, ones)]
    return [set(zip(*(c.tolist() for c in f.coords), strict=True)) for f in factors]
