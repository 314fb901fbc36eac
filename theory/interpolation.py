"""A network represents R with its factors replaced by their powers, but in general not R^α.

Statement. Let R = B_m ⋯ B_1 be a matrix represented by a straight network of rotations, with blocks
exp(Q). (1) If any B_t is replaced by I or by B_t^α = exp(αQ_t), α real, the same network represents
the result: it is orthogonal, and zero wherever all matrices of the network are. So setting the
trained factors to I one by one leads from R, the finetuned model, to I, the pretrained one, through
matrices of the network, and decreasing α from 1 to 0 does so continuously. (2) R^α is in general
not represented by the network: there is a matrix of the butterfly on 4 wires whose square root is
not.

Proof. (1) exp(αQ) is a block on the same wires, and I is the case α = 0. (2) Between the outputs
{0, 2} and the inputs {0, 1} the butterfly has a cut of one wire, so by T23 the submatrix of these
rows and columns has rank at most 1 in any butterfly matrix, and its determinant is zero. The check
exhibits a rotation R with rational blocks. In its square root, the exponential of half its
logarithm, this submatrix has a non-zero determinant.

Source: (1) is the weight interpolation of Liu et al., arXiv 2311.06243; (2) is derived here.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

import structmat as sm
from structmat.linalg import factors as stagewise
from structmat.linalg.blocks import exponential, generators_per_block
from theory._tools import rounding

NUMBER = "T32"
STATUS = "proved"


def check() -> str:
    """Interpolate factors of many networks; compute the square root of a butterfly matrix."""
    rng = np.random.default_rng(0)
    nets = [sm.butterfly(16), sm.shuffle(24, 4, 2), sm.random(9, 3, 2, rng=0), sm.brickwall(7, 3)]
    for net in nets:
        reached = sm.reach(net)
        made = [
            rng.standard_normal((bank.count, generators_per_block(bank.radix)))
            for bank in net.banks
        ]
        for alpha in (0.0, 0.3, -1.0, 2.5):
            for k in range(len(made)):
                factors = [alpha if t <= k else 1.0 for t in range(len(made))]
                blocks = [
                    exponential(f * g, bank.radix)
                    for f, g, bank in zip(factors, made, net.banks, strict=True)
                ]
                r = stagewise.matrix_of(net, blocks)
                assert np.abs(r.T @ r - np.eye(net.width)).max() <= rounding(net), net
                assert not r[~reached].any(), net
        assert np.array_equal(
            stagewise.matrix_of(net, sm.identity_blocks(net)), np.eye(net.width)
        ), net
    net = sm.butterfly(4)
    outputs, inputs = [0, 2], [0, 1]
    assert sm.rank_bound(net, outputs, inputs) == 1
    part = np.ix_(outputs, inputs)
    block = np.array([[4.0, -3.0], [3.0, 4.0]]) / 5
    r = stagewise.matrix_of(net, [np.stack([block, block @ block])] * 2)
    root = scipy.linalg.expm(scipy.linalg.logm(r) / 2)
    assert np.abs(root @ root - r).max() <= rounding(net)
    assert abs(np.linalg.det(r[part])) <= rounding(net)
    assert abs(np.linalg.det(root[part])) > 0.01, np.linalg.det(root[part])
    return f"every factor of {len(nets)} networks at four powers, a root of a 4-wire butterfly"
