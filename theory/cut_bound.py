"""The generic rank of a submatrix of R is the minimum cut between its inputs and its outputs.

Statement. Let c be the smallest number of nodes (t, wire) of the grid graph, which may belong to T
or S, whose removal separates the inputs T from the outputs S. Then rank R[S, T] ≤ c for all blocks,
whether orthogonal or not, with equality for almost all choices of rotations as blocks. T1 is the
case of one input and one output. Hence, for any matrix A and any matrix R of the network, ‖A − R‖²
(in the Frobenius norm) is at least the sum of the squares of the singular values of A[S, T] beyond
the c-th. This lower bound on the error requires no fitting.

Proof. R[S, T] is the sum over paths from T to S of products of entries; every path passes through a
node of the cut, so R[S, T] is a sum of c terms, one for each node, each a column times a row. By
Menger's theorem there are c paths that share no node. Let each switch permute its wires, up to
signs, so that it follows these paths: then R[S, T] has c entries ±1 in different rows and columns,
and no other non-zeros in these rows and columns, since R is a signed permutation. The sign of one
entry per switch can be chosen so that each block is a rotation. A minor that is not identically
zero is non-zero for almost all choices of rotations. The lower bound on the error follows from the
theorem of Eckart and Young for A[S, T].

Source: K. Menger 1927; C. Eckart and G. Young 1936.
"""

from __future__ import annotations

import itertools
from math import comb

import networkx as nx
import numpy as np

import structmat as sm
from structmat.analysis.min_cut import rank_bounds
from structmat.linalg import factors as stagewise
from structmat.linalg import modular
from structmat.linalg.modular import MERSENNE
from theory._tools import every_network, rotation

NUMBER = "T23"
STATUS = "proved"


def random_matrix(net: sm.Network, rng: np.random.Generator) -> np.ndarray:
    """Return the matrix R of the network with random Cayley blocks, modulo a prime."""
    rows = np.eye(net.width)
    for stage in net.stages:
        after = rows.copy()
        after[stage.moves[:, 1]] = rows[stage.moves[:, 0]]
        for bank in stage.banks:
            i, j = np.triu_indices(bank.radix, 1)
            skew = np.zeros((bank.count, bank.radix, bank.radix))
            skew[:, i, j] = rng.integers(1, MERSENNE, (bank.count, comb(bank.radix, 2)))
            skew[:, j, i] = MERSENNE - skew[:, i, j]
            blocks = modular.cayley(skew, MERSENNE)
            assert blocks is not None
            after[bank.writes] = modular.product(blocks, rows[bank.reads], MERSENNE)
        rows = after
    return rows


def least_cut(net: sm.Network, outputs: list[int], inputs: list[int]) -> int:
    """Return the minimum cut, by networkx on the grid graph with every node split in two."""
    graph = nx.DiGraph()
    for (t, j), (later, i) in net.to_networkx().edges:
        graph.add_edge((t, j, "out"), (later, i, "in"))
    for t, i in itertools.product(range(net.depth + 1), range(net.width)):
        graph.add_edge((t, i, "in"), (t, i, "out"), capacity=1)
    for j in inputs:
        graph.add_edge("source", (0, j, "in"))
    for i in outputs:
        graph.add_edge((net.depth, i, "out"), "sink")
    return nx.maximum_flow_value(graph, "source", "sink")


def check() -> str:
    """Compare cuts and exact ranks on small networks, for all submatrices; then on large ones."""
    rng = np.random.default_rng(0)
    cases = 0
    small = [*every_network(3, 2), *itertools.islice(every_network(4, 2), 0, None, 15)]
    for net in small:
        r = random_matrix(net, rng)
        some = [list(s) for k in range(1, net.width + 1) for s in _sets(net.width, k)]
        pairs = list(itertools.product(some, some))
        for (outputs, inputs), bound in zip(pairs, rank_bounds(net, pairs), strict=True):
            assert modular.rank(r[np.ix_(outputs, inputs)], MERSENNE) == bound, (net, inputs)
            cases += 1
    for net in (
        sm.butterfly(32),
        sm.families.omega(27, 3),
        sm.gossip(20),
        sm.random(24, 3, 3, rng=0),
    ):
        r = random_matrix(net, rng)
        for _ in range(10):
            outputs, inputs = (
                rng.choice(net.width, rng.integers(1, net.width), replace=False).tolist()
                for _ in range(2)
            )
            found = modular.rank(r[np.ix_(outputs, inputs)], MERSENNE)
            assert found == sm.rank_bound(net, outputs, inputs) == least_cut(net, outputs, inputs)
            cases += 1
    _check_lower_bound(rng)
    return f"{cases} submatrices of {len(small)} small networks and 4 large ones; a Haar target"


def _sets(width: int, size: int) -> itertools.combinations[tuple[int, ...]]:
    return itertools.combinations(range(width), size)


def _check_lower_bound(rng: np.random.Generator) -> None:
    """Compare the lower bound of one submatrix with the error of a fit."""
    net, target = sm.butterfly(16), rotation(16, rng)
    outputs, inputs = list(range(0, 16, 2)), list(range(8))
    values = np.linalg.svd(target[np.ix_(outputs, inputs)], compute_uv=False)
    bound = float(np.sqrt((values[sm.rank_bound(net, outputs, inputs) :] ** 2).sum()))
    for k in range(20):
        r = stagewise.matrix_of(net, sm.random_blocks(net, rng=k))
        assert np.linalg.norm(r - target) >= bound > 0.1
    found = sm.fit(net, target, rng=0)
    assert np.linalg.norm(stagewise.matrix_of(net, found.blocks) - target) >= bound
