"""Random targets, distances and tolerances for the fitting tests."""

import numpy as np


def haar(width, seed=0, *, dtype=float):
    """Return a Haar random orthogonal or unitary matrix."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((width, width))
    if np.dtype(dtype).kind == "c":
        normal = normal + 1j * rng.standard_normal((width, width))
    q, r = np.linalg.qr(normal)
    return (q * (np.diagonal(r) / np.abs(np.diagonal(r)))).astype(dtype)


def distance(a, b):
    """Return ‖A − B‖_F."""
    return float(np.linalg.norm(a - b))


def rounding(net):
    """Return the tolerance for fitting a matrix that the network can represent exactly.

    Ten ulps of ‖R‖_F for every stage, times √r for sums of r products.
    """
    radix = max((bank.radix for bank in net.banks), default=1)
    return float(10 * np.finfo(float).eps * net.width**0.5 * (1 + net.depth * radix**0.5))
