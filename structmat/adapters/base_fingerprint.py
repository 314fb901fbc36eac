"""Fingerprints of weights, which show whether a model is the one that an adapter was trained on.

A hash would differ between copies of a model in several dtypes. A fingerprint is a linear sketch
instead: 32 random projections of up to 4,096 entries of the weight. The sketches of two weights
estimate the norm of their difference, and rounding to a narrower dtype changes a sketch by a
bounded amount.

The sampled entries are those in 64 rows and 64 columns (more columns if there are fewer rows), one
from each of as many equal intervals. Let E be the difference of the sampled entries of two weights,
and s that of their sketches. The projections are random signs, so the mean square of ‖s‖ is ‖E‖²,
and P(‖s‖² ≥ x·‖E‖²) ≤ exp(−k/2·(x − 1 − ln x)) for k = 32 projections and x > 1; see Achlioptas,
Database-friendly random projections (2003). Two weights are considered different if ‖s‖ exceeds
twice the sum of their unit roundoffs, relative to the norm of the entries. Rounding bounds ‖E‖ by
that sum, so x = 4, and copies of a weight are considered different with probability 6·10⁻¹² or
less. Copies of the same precision are equal, unless one was rounded to a third dtype first, which
changes few entries; half of the threshold applies to them. For entries of similar size s is nearly
Gaussian, so a difference of twice the threshold is missed with probability 5·10⁻⁶, and one of three
times the threshold with probability 10⁻¹⁰. A change of a few rows or columns may not be sampled.
"""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.errors import FileError, abbreviated

PROJECTIONS = 32
_ENTRIES, _ROWS = 4096, 64
_SEED = 20
# Unit roundoffs. The values of a float32 copy of a bfloat16 model have the precision of bfloat16.
_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}
_NARROW = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_UNDERFLOW = 2.0**-25  # the largest absolute rounding error of small numbers in float16
_LEAST = 1e-5  # smaller relative differences are ignored


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprint of a weight.

    Attributes
    ----------
    shape : tuple of int
        The shape of the weight.
    precision : {"bfloat16", "float16", "float32"}
        The first of these dtypes that represents all sampled entries exactly; else the last.
    norm : float
        The Frobenius norm of the sampled entries.
    sketch : tuple of 32 floats
        Random projections of these entries, scaled such that the expected square of the norm of
        the sketch is that of the entries.
    """

    shape: tuple[int, ...]
    precision: str
    norm: float
    sketch: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict, about 250 characters long."""
        numbers = np.array([self.norm, *self.sketch], dtype="<f4")
        return {
            "shape": list(self.shape),
            "precision": self.precision,
            "sketch": base64.b64encode(numbers.tobytes()).decode(),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Fingerprint:
        """Return the fingerprint in a dict made by `to_dict`.

        Raises
        ------
        FileError
            If the dict is not of this form.
        """
        try:
            numbers = np.frombuffer(base64.b64decode(data["sketch"], validate=True), dtype="<f4")
            shape = tuple(map(int, data["shape"]))
            precision = str(data["precision"])
            if len(numbers) != PROJECTIONS + 1 or precision not in _ROUNDOFF or min(shape) < 1:
                raise ValueError(precision)
            if not np.isfinite(numbers).all() or numbers[0] < 0:
                raise ValueError("numbers that are not finite, or a negative norm")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileError(
                f"the fingerprint of a base weight is invalid ({abbreviated(error)}); save the"
                " adapter again"
            ) from None
        norm, *sketch = numbers.astype(float).tolist()
        return cls(shape, precision, norm, tuple(sketch))

    @property
    def is_finite(self) -> bool:
        """Whether all sampled entries, and their norm in float32, are finite."""
        return math.isfinite(self.norm) and all(map(math.isfinite, self.sketch))

    def fits(self, shape: Sequence[int]) -> bool:
        """Return whether a weight of this shape can be compared: it may have additional rows."""
        own = self.shape
        return len(shape) == len(own) and tuple(shape[1:]) == own[1:] and shape[0] >= own[0]

    def distance(self, other: Fingerprint) -> float:
        """Return the estimated Frobenius norm of the difference of two weights of the same shape.

        The estimate is for the sampled entries, relative to the larger of their norms.
        """
        largest = max(self.norm, other.norm)
        return math.dist(self.sketch, other.sketch) / largest if largest else 0.0

    def difference(self, other: Fingerprint) -> float | None:
        """Return the distance to another weight, or None if rounding may explain it.

        Examples
        --------
        >>> weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        >>> one = fingerprint(weight)
        >>> print(one.difference(fingerprint(weight.bfloat16())))
        None
        >>> one.difference(fingerprint(-weight)) > 1
        True
        """
        change, largest = self.distance(other), max(self.norm, other.norm)
        roundoff = _ROUNDOFF[self.precision] + _ROUNDOFF[other.precision]
        if self.precision == other.precision:
            roundoff /= 2
        underflow = _UNDERFLOW * math.sqrt(_ENTRIES)
        most = max(2 * roundoff, _LEAST) * largest + 2 * underflow
        return None if change * largest <= most else change


def sampled_rows(shape: Sequence[int]) -> list[int]:
    """Return the indices along the first axis of a weight from which entries are sampled."""
    return _places(shape[0], _ROWS).tolist()


def fingerprint(weight: Tensor, shape: Sequence[int] | None = None) -> Fingerprint:
    """Return the fingerprint of a weight, or of the part of the given shape with fewer rows.

    Parameters
    ----------
    weight : (rows, ...)
        A real or complex floating-point tensor with values.
    shape : sequence of int, optional

    Examples
    --------
    >>> fingerprint(torch.ones(3, 3)).norm
    3.0
    """
    shape = tuple(weight.shape if shape is None else shape)
    return fingerprint_of_rows(weight.detach()[sampled_rows(shape)], shape)


def fingerprint_of_rows(rows: Tensor, shape: Sequence[int]) -> Fingerprint:
    """Return the fingerprint of a weight of the given shape, of which only some rows are given.

    Parameters
    ----------
    rows : (len(sampled_rows(shape)), ...)
        The entries at `sampled_rows(shape)`.
    shape : sequence of int
    """
    if rows.is_complex():
        rows = torch.view_as_real(rows.resolve_conj())
    flat = rows.reshape(len(rows), -1)
    columns = torch.from_numpy(_places(flat.shape[1], _ENTRIES // len(flat)))
    entries = flat[:, columns.to(flat.device)].cpu().to(torch.float64).flatten()
    sketch = _signs()[:, : len(entries)] @ entries.numpy() / PROJECTIONS**0.5
    # Rounded as in files, so that saving and loading a fingerprint preserves it.
    with np.errstate(over="ignore"):  # then the fingerprint is not finite, and is not compared
        numbers = np.array([float(entries.norm()), *sketch], dtype=np.float32).tolist()
    return Fingerprint(tuple(shape), _precision(entries), numbers[0], tuple(numbers[1:]))


def read_fingerprints(data: Any) -> dict[str, Fingerprint]:
    """Return the fingerprints in a JSON object by layer name.

    Raises
    ------
    FileError
        If it is not such an object.
    """
    if not isinstance(data, Mapping):
        raise FileError(
            f"fingerprints={abbreviated(data)}: they must be a JSON object with the names of layers"
        )
    return {str(name): Fingerprint.from_dict(value) for name, value in data.items()}


def _precision(entries: Tensor) -> str:
    for name, dtype in _NARROW.items():
        if torch.equal(entries.to(dtype).to(torch.float64), entries):
            return name
    return "float32"


@functools.lru_cache(maxsize=256)
def _places(size: int, count: int) -> np.ndarray:
    """Return one pseudo-random index from each of `count` equal intervals of a range."""
    count = min(size, count)
    ends = np.arange(count + 1) * size // count
    # numpy guarantees this stream of raw bits for every version (NEP 19).
    bits = np.atleast_1d(np.random.PCG64(_SEED).random_raw(count)) >> 33
    found: np.ndarray = ends[:-1] + bits.astype(np.int64) % np.diff(ends)
    return found


@functools.cache
def _signs() -> np.ndarray:
    """Return the signs ±1 of the projections, (32, 4096)."""
    bits = np.random.PCG64(_SEED + 1).random_raw(PROJECTIONS * _ENTRIES // 64)
    signs: np.ndarray = 2.0 * np.unpackbits(bits.astype("<u8").view(np.uint8)) - 1
    return signs.reshape(PROJECTIONS, _ENTRIES)
