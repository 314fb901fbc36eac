"""Scaling of the target to the norm of an orthogonal matrix, and the errors on both scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.errors import StructmatError, abbreviated
from structmat.linalg.blocks import Array
from structmat.linalg.factors import matrix_of
from structmat.networks.network import Network

LARGEST = 1e300  # bounds of the largest entry: this and 1 / LARGEST, so that errors do not overflow


@dataclass(frozen=True, eq=False)
class Scaled:
    """A target T = s W with ‖W‖_F = √d.

    The orthogonal matrix nearest to W is also nearest to T, because ‖R‖ is the same for all R:
    ‖R − T‖² / ‖T‖² = ‖R − W‖² / (s d) + (1 − 1/s)².

    Attributes
    ----------
    matrix : (width, width) float64 or complex128
        W.
    size : float
        s.
    dtype : dtype
        The dtype of the blocks: that of the target, unless it is a half, integer or long double
        type.
    """

    matrix: Array
    size: float
    dtype: np.dtype[Any]

    @property
    def eps(self) -> float:
        """The machine epsilon of the blocks."""
        return float(np.finfo(self.dtype).eps)

    def relative(self, distance: float) -> float:
        """Return the error ‖R − T‖_F / ‖T‖_F of an orthogonal R at a given distance from W."""
        near = distance / np.sqrt(self.size) / np.sqrt(len(self.matrix))
        return float(np.hypot(near, 1 - 1 / self.size))

    def product(self, net: Network, blocks: Sequence[Array]) -> Array:
        """Return R for the given blocks, accumulated in double precision."""
        return matrix_of(net, [array.astype(self.matrix.dtype) for array in blocks])

    def error(self, net: Network, blocks: Sequence[Array]) -> float:
        """Return the error ‖R − T‖_F / ‖T‖_F of the given blocks."""
        more, less = max(self.size, 1.0), min(self.size, 1.0)
        gap = np.linalg.norm(self.product(net, blocks) / more - less * self.matrix)
        return float(gap / np.linalg.norm(self.matrix) / less)

    def scaled_error(self, net: Network, blocks: Sequence[Array]) -> float:
        """Return the error ‖R − W‖_F / √d of the given blocks."""
        gap = np.linalg.norm(self.product(net, blocks) - self.matrix)
        return float(gap / len(self.matrix) ** 0.5)

    def rounded(self, blocks: Sequence[Array]) -> list[Array]:
        """Return the blocks in the precision of the target."""
        return [array.astype(self.dtype) for array in blocks]


def scaled(target: npt.ArrayLike, width: int) -> Scaled:
    """Return the target scaled to the norm of an orthogonal matrix, rejecting invalid targets.

    Raises
    ------
    StructmatError
        If the shape is wrong, values are not finite numbers, or magnitudes are so extreme that
        errors would overflow.

    Examples
    --------
    >>> found = scaled([[2e99, 0], [0, 2e99]], 2)
    >>> found.matrix.tolist(), found.size
    ([[1.0, 0.0], [0.0, 1.0]], 2e+99)
    """
    try:
        given = np.asarray(target)
    except ValueError:
        given = np.empty(0)
    if given.dtype == object and not given.shape:
        raise StructmatError(
            f"target={abbreviated(target)}: it must be an array of shape {(width, width)}, or a"
            " Rotation"
        )
    if given.shape != (width, width):
        raise StructmatError(
            f"target of shape {given.shape}: this network has matrices of shape {(width, width)}"
        )
    if given.dtype.kind not in "biufc":
        raise StructmatError(
            f"target of dtype {given.dtype}: it must consist of real or complex numbers"
        )
    if not np.isfinite(given).all():
        raise StructmatError("the target contains NaN or infinity: every entry must be finite")
    if not given.any():
        raise StructmatError("the target is zero: the relative error of a fit is undefined")
    double = np.dtype(np.complex128 if given.dtype.kind == "c" else np.float64)
    dtype = min(np.result_type(np.float32, given.dtype), double, key=lambda kind: kind.itemsize)
    with np.errstate(over="ignore", under="ignore"):
        wide = given.astype(double)
        largest = float(np.abs(wide).max())
    if not 1 / LARGEST <= largest <= LARGEST:
        raise StructmatError(
            f"the target has entries up to {largest}: errors would overflow; scale it"
            " to the size of an orthogonal matrix"
        )
    unit = wide / largest
    norm = float(np.linalg.norm(unit))
    size = largest * (norm / width**0.5)
    if abs(size - 1) <= np.finfo(dtype).eps * width:
        return Scaled(wide, 1.0, dtype)  # an orthogonal matrix is kept exactly as it is
    return Scaled(unit / (norm / width**0.5), size, dtype)
