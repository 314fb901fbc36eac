"""The target in double precision at the size of an orthogonal matrix, and its errors again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.blocks import Array
from structmat.errors import StructmatError
from structmat.network import Network
from structmat.sparse import dense

LARGEST = 1e300  # of the entries' sizes; the smallest is 1 / LARGEST, lest errors overflow


@dataclass(frozen=True, eq=False)
class Scaled:
    """A target T = s W with ‖W‖_F = √d.

    What is nearest to W among orthogonal matrices is nearest to T, as ‖R‖ is the same for all of
    them: ‖R − T‖² / ‖T‖² = ‖R − W‖² / (s d) + (1 − 1/s)².

    Attributes
    ----------
    matrix : (width, width) float64 or complex128
        W.
    size : float
        s.
    dtype : dtype
        What the blocks are to be: that of the target, but for halves, integers and long doubles.
    """

    matrix: Array
    size: float
    dtype: np.dtype[Any]

    @property
    def eps(self) -> float:
        """The precision of the blocks."""
        return float(np.finfo(self.dtype).eps)

    def relative(self, distance: float) -> float:
        """Return the error ‖R − T‖_F / ‖T‖_F of an orthogonal R at a distance from W."""
        near = distance / np.sqrt(self.size) / np.sqrt(len(self.matrix))
        return float(np.hypot(near, 1 - 1 / self.size))

    def product(self, net: Network, blocks: Sequence[Array]) -> Array:
        """Return R of blocks as they are, summed in double precision."""
        return dense(net, [array.astype(self.matrix.dtype) for array in blocks])

    def error(self, net: Network, blocks: Sequence[Array]) -> float:
        """Return the error ‖R − T‖_F / ‖T‖_F of blocks as they are."""
        more, less = max(self.size, 1.0), min(self.size, 1.0)
        gap = np.linalg.norm(self.product(net, blocks) / more - less * self.matrix)
        return float(gap / np.linalg.norm(self.matrix) / less)

    def scaled_error(self, net: Network, blocks: Sequence[Array]) -> float:
        """Return the error ‖R − W‖_F / √d of blocks as they are."""
        gap = np.linalg.norm(self.product(net, blocks) - self.matrix)
        return float(gap / len(self.matrix) ** 0.5)

    def rounded(self, blocks: Sequence[Array]) -> list[Array]:
        """Return blocks in the precision that the target has."""
        return [array.astype(self.dtype) for array in blocks]


def scaled(target: npt.ArrayLike, width: int) -> Scaled:
    """Return the target at the size of an orthogonal matrix, refusing what has no error.

    Raises
    ------
    StructmatError
        For another shape, other values than finite numbers, or sizes so extreme that errors
        would overflow.

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
    if given.shape != (width, width):
        raise StructmatError(
            f"target of shape {given.shape}: this network has matrices of shape {(width, width)}"
        )
    if given.dtype.kind not in "biufc":
        raise StructmatError(f"target of dtype {given.dtype}: it must hold real or complex numbers")
    if not np.isfinite(given).all():
        raise StructmatError("the target holds NaN or infinity: every entry must be finite")
    if not given.any():
        raise StructmatError("the target is zero: the relative error of a fit has no meaning")
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
        return Scaled(wide, 1.0, dtype)  # an orthogonal matrix stays as it is, to the last bit
    return Scaled(unit / (norm / width**0.5), size, dtype)
