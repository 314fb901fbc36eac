"""What the tests of this folder fit to."""

import numpy as np


def haar(width, seed=0, *, dtype=float):
    """A Haar random orthogonal or unitary matrix."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((width, width))
    if np.dtype(dtype).kind == "c":
        normal = normal + 1j * rng.standard_normal((width, width))
    q, r = np.linalg.qr(normal)
    return (q * (np.diagonal(r) / np.abs(np.diagonal(r)))).astype(dtype)


def distance(a, b):
    """‖A − B‖_F."""
    return float(np.linalg.norm(a - b))
