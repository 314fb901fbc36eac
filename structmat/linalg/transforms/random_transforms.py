"""Random rotations with few parameters: Householder reflections and Kac's walk."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from structmat.errors import checked_integer, random_source
from structmat.linalg.transforms.assembly import Factored, Part, chained, staged, transposed
from structmat.linalg.transforms.transform import Transform, checked_size, named
from structmat.networks.network import check_size


def householder(n: int, count: int, rng: Any = None) -> Transform:
    """Return the product of random reflections I − 2vvᵀ, with v uniform on the sphere.

    A reflection is a tree of rotations that moves v to the span of two coordinates, a 2×2
    reflection, and the rotations back: 2⌈log₂ n⌉ − 1 stages with 2n − 3 switches of radix 2.

    Parameters
    ----------
    n : int
        From 2 to 65,536.
    count : int
        The number of reflections, at least 1. The determinant is (−1)^count, and n reflections are
        enough for every orthogonal matrix (theory, claim T21).
    rng : seed or numpy Generator, optional

    Raises
    ------
    StructmatError
        If an argument is not an integer or out of range, or `rng` is not a seed.

    References
    ----------
    A. S. Householder, Unitary triangularization of a nonsymmetric matrix, 1958. The published
    operation count is that of x − 2v(vᵀx), 4n for each reflection.

    Examples
    --------
    >>> r = householder(6, 1, rng=0)
    >>> bool(np.allclose((r @ r).matrix(), np.eye(6))), round(float(np.trace(r.matrix())), 12)
    (True, 4.0)
    """
    width = checked_size(n, 2)
    reflections = checked_integer(count, "count", 1)
    source = random_source(rng)
    depth = 2 * (width - 1).bit_length() - 1
    check_size(f"householder({width}, {count})", width, depth * reflections)
    made = chained(*[_reflection(source.standard_normal(width)) for _ in range(reflections)])
    return named(made, f"householder({width}, {reflections})", published=4 * width * reflections)


def kac_walk(n: int, steps: int, rng: Any = None) -> Transform:
    """Return a product of rotations by uniform angles in uniformly random pairs of coordinates.

    Each rotation is put into the first stage after all previous rotations of its two wires;
    rotations of one stage commute.

    Parameters
    ----------
    n : int
        From 2 to 65,536.
    steps : int
        The number of rotations, at least 1. For the image of a vector to be nearly uniform on the
        sphere, about ½ n ln n of them are necessary.
    rng : seed or numpy Generator, optional

    Raises
    ------
    StructmatError
        If an argument is not an integer or out of range, or `rng` is not a seed.

    References
    ----------
    N. S. Pillai and A. Smith, Kac's walk on n-sphere mixes in n log n steps, Annals of Applied
    Probability 27, 2017, arXiv 1507.08554. The published operation count is 6 for each rotation.

    Examples
    --------
    >>> r = kac_walk(8, 20, rng=0)
    >>> r.network.parameters, bool(r.network.depth < 20)
    (20, True)
    """
    width = checked_size(n, 2)
    count = checked_integer(steps, "steps", 1)
    source = random_source(rng)
    check_size(f"kac_walk({width}, {steps})", 2, count)
    first = source.integers(width, size=count)
    second = (first + source.integers(1, width, size=count)) % width  # uniform among the others
    angles = source.uniform(0, 2 * math.pi, size=count)
    free = [0] * width  # for each wire, the first stage after its last rotation
    times = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        time = max(free[a], free[b])
        free[a] = free[b] = time + 1
        times.append(time)
    order = np.argsort(times, kind="stable")
    check_size(f"kac_walk({width}, {steps})", width, max(times) + 1)
    wires = np.stack([first, second], axis=1)[order]
    cos, sin = np.cos(angles[order]), np.sin(angles[order])
    blocks = np.stack([cos, -sin, sin, cos], axis=1).reshape(-1, 2, 2)
    cuts = np.cumsum(np.bincount(times))[:-1]
    parts = zip(np.split(wires, cuts), np.split(blocks, cuts), strict=True)
    made = staged(width, [[Part(*part)] for part in parts])
    return named(made, f"kac_walk({width}, {count})", published=6 * count)


def _reflection(v: np.ndarray[Any, np.dtype[np.float64]]) -> Factored:
    """Return I − 2vvᵀ/‖v‖²."""
    width = len(v)
    values = v.copy()
    stages = []
    size = width
    while size > 2:
        half = (size + 1) // 2
        low, high = np.arange(size - half), np.arange(half, size)
        a, b = values[low], values[high]
        norm = np.hypot(a, b)
        blocks = np.stack([a / norm, b / norm, -b / norm, a / norm], axis=1).reshape(-1, 2, 2)
        stages.append([Part(np.stack([low, high], axis=1), blocks)])
        values[low] = norm
        size = half
    a, b = values[:2] / np.hypot(*values[:2])
    middle = np.array([[[b * b - a * a, -2 * a * b], [-2 * a * b, a * a - b * b]]])
    down = staged(width, stages)
    return chained(down, staged(width, [[Part(np.array([[0, 1]]), middle)]]), transposed(down))
