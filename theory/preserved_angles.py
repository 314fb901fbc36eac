"""Rotating a weight preserves its singular values and the angles between its neurons.

Statement. For R orthogonal and any W with neurons as columns, (R W)ᵀ(R W) = WᵀW. Hence R W has
the same singular values as W, and its neurons have the same norms, pairwise angles and
hyperspherical energy. Orthogonal finetuning preserves these properties of the pretrained weight.

Proof. Wᵀ(RᵀR)W = WᵀW, and each of these quantities is a function of this matrix.

Source: Qiu et al., arXiv 2306.07280 (OFT); Liu et al., arXiv 2311.06243.
"""

from __future__ import annotations

import numpy as np
import sympy

import structmat as sm
from structmat.linalg import factors as stagewise

NUMBER = "T29"
STATUS = "proved"


def exact(net: sm.Network, rng: np.random.Generator) -> sympy.Matrix:
    """Return R of a network with random rational Cayley blocks, in exact arithmetic."""
    r = sm.symbolic(net, parametrization="cayley")
    return r.subs([_number(rng) for _ in r.symbols]).matrix()


def _number(rng: np.random.Generator) -> sympy.Rational:
    return sympy.Rational(int(rng.integers(-9, 10)), int(rng.integers(1, 5)))


def check() -> str:
    """Multiply in rational arithmetic; measure singular values and angles in floating point."""
    rng = np.random.default_rng(0)
    nets = [sm.butterfly(4), sm.mixed_radix(6), sm.benes(4), sm.random(5, 3, 2, rng=0)]
    for net in nets:
        r = exact(net, rng)
        w = sympy.Matrix(net.width, 3, lambda *_: _number(rng))
        assert r.T * r == sympy.eye(net.width), net
        assert (r * w).T * (r * w) == w.T * w, net
    for net in (sm.butterfly(64, block=8), sm.shuffle(48, 4), sm.monarch(36)):
        r = stagewise.matrix_of(net, sm.random_blocks(net, rng))
        w = rng.standard_normal((net.width, 20))
        before, after = _shape(w), _shape(r @ w)
        for old, new in zip(before, after, strict=True):
            scale = 100 * net.depth * net.width * np.finfo(float).eps
            assert np.abs(new - old).max() <= scale * np.abs(old).max(), net
    return f"{len(nets)} networks in rational arithmetic, 3 in floating point"


def _shape(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the singular values and the cosines between neurons."""
    unit = w / np.linalg.norm(w, axis=0)
    return np.linalg.svd(w, compute_uv=False), unit.T @ unit
