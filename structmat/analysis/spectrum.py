"""Eigenangles of a network with random blocks, compared with those of Haar matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import pi
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from structmat._util.text_table import Printed, Table, cell, in_html
from structmat.errors import (
    BlockError,
    WidthError,
    checked_field,
    checked_integer,
    random_source,
)
from structmat.families.resolution import checked
from structmat.linalg.blocks import random_blocks
from structmat.linalg.factors import matrix_of
from structmat.networks.network import Network

Array = npt.NDArray[np.float64]

LEAST_WIDTH = {"real": 6, "complex": 3}  # minimum width of a matrix with two gaps to compare
_ANGLES = 10_000  # default number of angles drawn, which determines the number of matrices
_CLOSE = 1e-12  # tolerance for equal angles


def eigenangles(matrix: npt.ArrayLike) -> Array:
    """Return the angles θ of the eigenvalues exp(iθ) of an orthogonal or unitary matrix.

    Parameters
    ----------
    matrix : (d, d) real or complex

    Returns
    -------
    (d,)
        The angles in ascending order, from −π to π. Those of a real matrix form pairs ±θ, except
        for 0 and π.

    Raises
    ------
    BlockError
        If the matrix is not orthogonal: its eigenvalues do not lie on the unit circle.

    Examples
    --------
    >>> eigenangles([[0.6, -0.8], [0.8, 0.6]])
    array([-0.92729522,  0.92729522])
    """
    r = _numbers(matrix, "matrix")
    if r.ndim != 2 or r.shape[0] != r.shape[1] or r.dtype.kind not in "iufc":
        raise BlockError(f"matrix {r.shape} of dtype {r.dtype}: it must be square and numeric")
    r = r.astype(np.result_type(r.dtype, np.float32))
    deviation = float(np.abs(np.conj(r.T) @ r - np.eye(len(r))).max(initial=0.0))
    if not deviation <= np.finfo(r.dtype).eps ** 0.5:
        raise BlockError(
            f"matrix deviates from orthogonality by {deviation:.3g}: it must be orthogonal"
        )
    angles: Array = np.sort(np.angle(np.linalg.eigvals(r))).astype(float)
    return angles


def haar_angles(angles: npt.ArrayLike, width: int, *, field: str = "real") -> Array:
    """Return the fraction of Haar eigenangles in (0, π) that lie below the given angles.

    It is the exact distribution function of the angles θ of the ⌊d/2⌋ pairs ±θ. Their density is
    (2n − 1 + sin((2n−1)θ)/sin θ)/(2πn) for d = 2n, and (2n − sin(2nθ)/sin θ)/(2πn) for d = 2n + 1.
    The d angles of a unitary matrix are uniformly distributed in (−π, π), each by itself (Dyson's
    circular unitary ensemble).

    References
    ----------
    N. Katz, P. Sarnak, Random matrices, Frobenius eigenvalues, and monodromy, 1999.

    Examples
    --------
    >>> haar_angles([0.0, np.pi / 2, np.pi], 4)
    array([0. , 0.5, 1. ])
    """
    theta = np.asarray(angles, dtype=float)
    if checked_field(field) == "complex":
        return np.asarray((theta + pi) / (2 * pi))
    pairs = checked_integer(width, "width", 2) // 2
    result = 2 * pairs * theta
    if width % 2:
        for k in range(1, 2 * pairs, 2):
            result -= 2 / k * np.sin(k * theta)
    else:
        for k in range(1, pairs):
            result += np.sin(2 * k * theta) / k
    return result / (2 * pi * pairs)


def spacing_ratio(angles: npt.ArrayLike) -> float:
    """Return the mean ratio of adjacent gaps between angles, the smaller to the larger.

    It is about 0.60 for Haar rotations of many wires, whose angles repel each other, and
    2·log 2 − 1 = 0.386 for independent angles. It is scale-invariant.

    Parameters
    ----------
    angles : (..., n)
        The angles of each matrix along the last axis, in ascending order, with one angle for each
        pair ±θ; at least 3.

    Raises
    ------
    BlockError
        For fewer than 3 angles, or values that are not real numbers.

    References
    ----------
    Y. Y. Atas, E. Bogomolny, O. Giraud, G. Roux, Distribution of the ratio of consecutive level
    spacings in random matrix ensembles, Physical Review Letters 110, 2013.

    Examples
    --------
    >>> spacing_ratio([0.0, 1.0, 3.0])
    0.5
    """
    found = _numbers(angles, "angles")
    if found.ndim == 0 or found.shape[-1] < 3 or found.size == 0 or found.dtype.kind not in "iuf":
        raise BlockError(
            f"angles {found.shape} of dtype {found.dtype}: two gaps need at least 3 real angles per"
            " matrix, along the last axis"
        )
    gaps = np.diff(found.astype(float), axis=-1)
    smaller = np.minimum(gaps[..., 1:], gaps[..., :-1])
    larger = np.maximum(gaps[..., 1:], gaps[..., :-1])
    return float(np.mean(smaller / np.where(larger > _CLOSE, larger, np.inf)))


def _numbers(values: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:  # raised by numpy for rows of different lengths
        raise BlockError(f"{name}: all rows must have the same length") from None


@dataclass(frozen=True)
class SpectralStatistics(Printed):
    """The result of `spectral_statistics`, with the statistics of equally many Haar matrices.

    Attributes
    ----------
    width, samples : int
    ratio, haar_ratio : float
        The mean `spacing_ratio`.
    angle_distance, haar_angle_distance : float
        The maximum difference between the distribution function of the angles and `haar_angles`.
    spacing_distance, haar_spacing_distance : float
        The maximum difference between the distribution functions of the gaps, in units of their
        Haar mean, and of the gaps of a sample of Haar matrices.
    """

    width: int
    samples: int
    ratio: float
    haar_ratio: float
    angle_distance: float
    haar_angle_distance: float
    spacing_distance: float
    haar_spacing_distance: float

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as a JSON-serialisable dict."""
        return dict(vars(self))

    def _table(self) -> list[tuple[str, str, str]]:
        names = ("ratio", "angle_distance", "spacing_distance")
        values = self.to_dict()
        rows = [
            (name.replace("_", " "), f"{values[name]:.3f}", f"{values['haar_' + name]:.3f}")
            for name in names
        ]
        return [("", "network", "Haar"), *rows]

    def _parts(self) -> list[object]:
        head, *rows = self._table()
        return [Table(head, rows)]

    def _repr_html_(self) -> str:
        return in_html("".join(cell("td", text) for text in row) for row in self._table())


def spectral_statistics(
    net: Network,
    *,
    field: str = "real",
    samples: int | None = None,
    rng: np.random.Generator | int | None = None,
) -> SpectralStatistics:
    """Compare the eigenangles of a network with random blocks with those of Haar matrices.

    The blocks are independent Haar rotations, or Haar unitary matrices. Two samples of equally many
    Haar matrices of all wires are also drawn: one as the reference for the gaps, the other to show
    how much two samples of this size differ by chance.

    Parameters
    ----------
    net : Network
        If it is not straight, its straight form is used, without the end permutations.
    field : {"real", "complex"}
    samples : int, optional
        The number of matrices drawn, each in time cubic in the width; by default enough for about
        10,000 angles, at least ten.
    rng : Generator, int or None

    Raises
    ------
    WidthError
        If there are fewer than 6 wires (3 for unitary blocks), and so no two gaps to compare.

    Examples
    --------
    >>> from structmat.families import block_diagonal
    >>> print(spectral_statistics(block_diagonal(32, block=4), samples=100, rng=0))
                      network   Haar
    ratio               0.388  0.602
    angle distance      0.075  0.009
    spacing distance    0.299  0.027
    """
    net = checked(net, "spectral_statistics")
    least = LEAST_WIDTH[checked_field(field)]
    if net.width < least:
        raise WidthError(
            f"width={net.width}: comparing gaps between eigenangles needs width {least} or more"
        )
    source = random_source(rng)
    rotation = Network.of(net.width, [[range(net.width)]])
    found = angles_of(net, samples, field=field, rng=source)
    count = len(found)
    chance, haar = (angles_of(rotation, count, field=field, rng=source) for _ in range(2))
    gaps = _gaps(haar, net.width, field)

    def from_angles(angles: Array) -> float:
        cdf: Any = partial(haar_angles, width=net.width, field=field)  # vectorised
        return float(scipy.stats.ks_1samp(angles.ravel(), cdf).statistic)

    def from_gaps(angles: Array) -> float:
        return float(scipy.stats.ks_2samp(_gaps(angles, net.width, field), gaps).statistic)

    return SpectralStatistics(
        width=net.width,
        samples=count,
        ratio=spacing_ratio(found),
        haar_ratio=spacing_ratio(chance),
        angle_distance=from_angles(found),
        haar_angle_distance=from_angles(chance),
        spacing_distance=from_gaps(found),
        haar_spacing_distance=from_gaps(chance),
    )


def angles_of(
    net: Network,
    samples: int | None = None,
    *,
    field: str = "real",
    rng: np.random.Generator | int | None = None,
) -> Array:
    """Return the eigenangles in (0, π) of matrices with random blocks, one for each pair ±θ.

    For unitary blocks, all eigenangles are returned, from −π to π.

    Parameters
    ----------
    net : Network
        If it is not straight, its straight form is used, without the end permutations.
    samples : int, optional
        The number of matrices drawn, with Haar blocks; by default enough for about 10,000 angles,
        at least ten.
    field : {"real", "complex"}
    rng : Generator, int or None

    Returns
    -------
    (samples, width // 2), or (samples, width) for unitary blocks
        The angles of each matrix, in ascending order.

    Raises
    ------
    WidthError
        For a single wire, which has no rotations, and real blocks.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> angles_of(butterfly(8), 3, rng=0).shape
    (3, 4)
    """
    net = checked(net, "angles_of")
    is_complex = checked_field(field) == "complex"
    each = net.width if is_complex else net.width // 2
    if each == 0:
        raise WidthError("width=1: a single wire has no rotations; use at least two wires")
    count = max(10, _ANGLES // each) if samples is None else checked_integer(samples, "samples", 1)
    straight, source = net.straightened().network, random_source(rng)
    dtype = complex if is_complex else float
    drawn = (
        eigenangles(matrix_of(straight, random_blocks(straight, source, dtype)))
        for _ in range(count)
    )
    if is_complex:
        return np.stack(list(drawn))
    return np.stack([np.sort(np.abs(angles))[net.width % 2 :: 2] for angles in drawn])


def _gaps(angles: Array, width: int, field: str) -> Array:
    """Return the gaps of all matrices, each in units of the mean Haar gap at that place."""
    each = width if field == "complex" else width // 2
    return np.diff(haar_angles(angles, width, field=field) * each, axis=-1).ravel()
