"""The derivative is orthonormal at all blocks if and only if no input has two paths to an output.

Statement. Let J be the derivative of R with respect to rotations of its blocks, R to R·exp(εK),
with one row for each generator (see `jacobian`). (1) If there is at most one path from each input
to each output, the rows of J are orthonormal at all blocks. All its singular values are 1, no
parameter is redundant, and the set of matrices is locally isometric to the product of the groups
SO(r) of its switches; it is flat if all radices are 2. (2) Otherwise the rows of J are not
orthonormal at almost all blocks. (3) At the identity, the non-zero singular values are √k, one for
each pair of wires that share a switch in k > 0 stages.

So as long as b^m ≤ d, where b divides d, m stages of `shuffle`, and of `mixed_radix` if d = b^n,
have both the largest dimension that m stages of radices up to b can have, m·d(b−1)/2, and the best
conditioning, everywhere. No m full stages of switches of radix b with b^m > d satisfy (1), since
they give an input b^m paths; but networks in which no two wires meet twice still have singular
values of 1 at the identity, where finetuning begins.

Proof. The rows of J are K = u_i·u_jᵀ − u_j·u_iᵀ for the pairs of wires i, j of a switch S, where
u_i and u_j are the rows of i and j in the product of the factors up to the stage t of S. The rows u
of all wires are orthonormal, so the K of one stage are, in the norm ‖K‖/√2. For another pair k, l
of a switch S' in a later stage, with rows v_k and v_l, the inner product is (u_i·v_k)(u_j·v_l) −
(u_i·v_l)(u_j·v_k). It is a 2×2 minor of the product of the factors between: v_k is a combination of
the rows after stage t, and u_i·v_k is its coefficient of u_i. (1) The coefficient is 0 unless a
path leads from i to k, hence to S'. If i and j both had paths to S', an input of S would have two
paths to each wire of S'. So one of them has none, and both products vanish. (2) Two paths from an
input to an output part at a switch S, which they leave by wires i and j, and next meet in a switch
S'. Between these they are disjoint, so by T23 the factors up to and including S' have generic rank
2 between i, j and the wires of S', and the minor for some pair k, l of these is not identically 0.
It is analytic in the blocks, which form a connected manifold, so it is not 0 at almost all. (3) At
R = I, K is E_ij − E_ji in every stage. These are orthogonal for different pairs, and the Gram
matrix has a block of ones of size k×k for each pair, with the eigenvalues k and 0. Finally, b^m
consecutive wires, modulo d, are influenced by each input after m stages of the network of Kautz,
which equals `shuffle` up to relabelling; and a stage has at most d(b−1)/2 parameters.

Source: derived here.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

import structmat as sm
from structmat.analysis.jacobian import jacobian
from structmat.linalg.blocks import identity_blocks
from theory._tools import every_network, pairs
from theory.unique_paths import all_unique

NUMBER = "T53"
STATUS = "proved"
TINY = 1e-12


def check() -> str:
    """Compare J Jᵀ with numbers of paths, and singular values at the identity with pairs."""
    small = [net for d, m in [(3, 3), (4, 2)] for net in every_network(d, m)]
    unique = [
        *(sm.butterfly(16)[:m] for m in range(1, 5)),
        *(sm.shuffle(d, b, m) for d, b, m in [(12, 2, 3), (12, 3, 2), (20, 2, 4), (36, 6, 2)]),
        sm.mixed_radix(24),
        *all_unique(8)[::60],
    ]
    crossed = [sm.butterfly(8).repeat(2)[:4], sm.butterfly(16, block=4), sm.random(12, 4, 3, rng=0)]
    for net in [*small, *unique, *crossed]:
        j = jacobian(net, sm.random_blocks(net, rng=0))
        orthonormal = np.allclose(j @ j.T, np.eye(len(j)), rtol=0, atol=TINY)
        assert orthonormal == bool(sm.path_counts(net).max() <= 1), net
        met = Counter(pair for stage in pairs(net) for pair in stage)
        values = np.linalg.svd(jacobian(net, identity_blocks(net)), compute_uv=False)
        wanted = sorted((k**0.5 for k in met.values()), reverse=True)
        assert np.allclose(values[: len(wanted)], wanted, rtol=0, atol=TINY), net
        assert np.allclose(values[len(wanted) :], 0, rtol=0, atol=TINY), net
    for net in unique:
        assert sm.dimension(net).lower == net.parameters, net
    return f"{len(small)} small networks, {len(unique) + len(crossed)} others"
