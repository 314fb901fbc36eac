"""A matrix as a small picture in HTML, which requires no further dependencies."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_CELLS = 256  # maximum number of rows and columns that are shown individually
_SIDE = 256  # side length in pixels
_NEGATIVE, _ZERO, _POSITIVE = (0, 114, 178), (255, 255, 255), (213, 94, 0)  # Okabe and Ito, 2008


def heat_map(matrix: npt.ArrayLike) -> str:
    """Return a matrix as one `<img>` element: blue for negative entries, orange for positive ones.

    The entry of largest magnitude has the full colour. For complex entries the magnitude is shown.
    If there are more than 256 rows or columns, each pixel shows the entry of largest magnitude
    among several.

    Parameters
    ----------
    matrix : (n, m) real or complex

    Examples
    --------
    >>> heat_map(np.eye(3)).startswith('<img alt="3 × 3 matrix')
    True
    """
    values = np.asarray(matrix)
    rows, columns = values.shape
    real = np.abs(values) if np.iscomplexobj(values) else values
    small = _reduced(_reduced(np.asarray(real, dtype=float), 0), 1)
    largest = float(np.abs(small).max(initial=0)) or 1.0
    data = base64.b64encode(_png(_coloured(small / largest))).decode()
    alt = f"{rows} × {columns} matrix, entries up to {largest:.3g} in magnitude"
    return (
        f'<img alt="{alt}" title="{alt}" width="{_SIDE}" height="{_SIDE}"'
        f' style="image-rendering:pixelated" src="data:image/png;base64,{data}">'
    )


def _reduced(values: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Return the entries of largest magnitude of neighbouring rows, at most 256 of them."""
    size = values.shape[axis]
    if size <= _CELLS:
        return values
    starts = np.arange(_CELLS) * size // _CELLS
    high = np.maximum.reduceat(values, starts, axis=axis)
    low = np.minimum.reduceat(values, starts, axis=axis)
    return np.where(high >= -low, high, low)


def _coloured(parts: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return RGB values for numbers from −1 to 1."""
    share = np.abs(parts)[..., None]
    end = np.where(parts[..., None] < 0, _NEGATIVE, _POSITIVE)
    made: npt.NDArray[np.uint8] = np.rint(_ZERO + share * (end - np.array(_ZERO))).astype(np.uint8)
    return made


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return a PNG file of RGB pixels (rows, columns, 3); see the PNG specification, W3C 2003."""
    rows, columns, _ = pixels.shape
    lines = np.concatenate(
        [np.zeros((rows, 1), np.uint8), pixels.reshape(rows, columns * 3)], axis=1
    )  # each row begins with its filter type, 0

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 9)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
