"""Walsh–Hadamard transforms and Haar wavelets."""

from __future__ import annotations

import math

import numpy as np

from structmat.errors import StructmatError, WidthError, abbreviated, checked_integer
from structmat.families.butterflies import digit_bank
from structmat.linalg.hadamard import hadamard_factors, hadamard_matrix, nearest_orders
from structmat.linalg.transforms.assembly import Part, permuted, staged
from structmat.linalg.transforms.transform import Transform, checked_size, named
from structmat.networks.permutation import digit_reversal

_ORDERINGS = ("natural", "dyadic", "sequency")


def hadamard(n: int, ordering: str = "natural") -> Transform:
    """Return the Walsh–Hadamard transform: a Hadamard matrix of order n, divided by √n.

    The matrix is `structmat.linalg.hadamard.hadamard_matrix(n)`, a Kronecker product, with one
    stage for each factor. For n = 2^k it is a matrix of `butterfly(n)` in which all blocks are the
    same, without any permutation.

    Parameters
    ----------
    n : int
        1, 2 or a multiple of 4 for which a construction of Sylvester or Paley is known.
    ordering : "natural", "dyadic" or "sequency"
        The order of the rows, for n = 2^k: as in Sylvester's matrix; with the bits of their indices
        reversed, as Paley ordered Walsh functions; or by their number of sign changes.

    Raises
    ------
    StructmatError
        If n is not an integer, or there is no construction; for any other ordering.
    WidthError
        For an ordering of rows other than the natural one, unless n = 2^k.

    References
    ----------
    The published operation count, for n = 2^k, is n log₂ n additions: K. G. Beauchamp, Walsh
    Functions and Their Applications, 1975.

    Examples
    --------
    >>> r = hadamard(8)
    >>> r
    hadamard(8): Transform(width=8, depth=3, parameters=12, dtype=float64)
    >>> np.round(np.sqrt(8) * r.matrix()[3]).astype(int).tolist()
    [1, -1, -1, 1, 1, -1, -1, 1]
    >>> rows = np.sign(hadamard(8, "sequency").matrix())
    >>> (np.diff(rows) != 0).sum(axis=1).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    width = checked_size(n)
    factors = hadamard_factors(width)
    if factors is None:
        raise StructmatError(f"n={width}: {nearest_orders(width)}")
    if ordering not in _ORDERINGS:
        raise StructmatError(
            f"ordering={abbreviated(ordering)}: it must be one of {', '.join(_ORDERINGS)}"
        )
    two = width & (width - 1) == 0
    stages, stride = [], 1
    for factor in reversed(factors):
        wires = digit_bank(width, factor, stride).reads
        block = hadamard_matrix(factor) / math.sqrt(factor)
        stages.append([Part(wires, np.broadcast_to(block, (len(wires), factor, factor)))])
        stride *= factor
    made = staged(width, stages)
    levels = width.bit_length() - 1
    published = width * levels if two else None
    if ordering == "natural":
        return named(made, f"hadamard({width})", published=published)
    if not two:
        raise WidthError(
            f"n={width}, ordering={ordering!r}: only matrices of order 2^k can be reordered; use"
            " ordering='natural'"
        )
    rows = np.arange(width)
    words = "the last stage writes the outputs in bit-reversed order"
    if ordering == "sequency":
        rows ^= rows >> 1
        words = "the last stage writes the outputs in the bit-reversed order of their Gray codes"
    made = permuted(made, outputs=digit_reversal([2] * levels)[rows])
    return named(made, f"hadamard({width}, {ordering!r})", words, published)


def haar(n: int, levels: int | None = None) -> Transform:
    """Return the orthonormal Haar wavelet transform.

    Each level replaces pairs of neighbouring averages by their sum and difference, both divided by
    √2. The outputs are the averages of the last level, then the differences of the last level, and
    so on to those of the first.

    Parameters
    ----------
    n : int
        A multiple of 2^levels, or 1.
    levels : int, optional
        By default, the number of factors 2 of n.

    Raises
    ------
    StructmatError
        If an argument is not an integer.
    WidthError
        If n is an odd number above 1, or not a multiple of 2^levels.

    References
    ----------
    A. Haar, Zur Theorie der orthogonalen Funktionensysteme, Mathematische Annalen 69, 1910. The
    published operation count is an addition, a subtraction and two multiplications for each pair.

    Examples
    --------
    >>> np.round(haar(4).matrix(), 3) + 0.0
    array([[ 0.5  ,  0.5  ,  0.5  ,  0.5  ],
           [ 0.5  ,  0.5  , -0.5  , -0.5  ],
           [ 0.707, -0.707,  0.   ,  0.   ],
           [ 0.   ,  0.   ,  0.707, -0.707]])
    """
    width = checked_size(n)
    most = (width & -width).bit_length() - 1
    count = most if levels is None else checked_integer(levels, "levels", 1)
    if count > most or (count == 0 and width > 1):
        asked = 1 if levels is None else count
        raise WidthError(
            f"n={width}: {asked} level{'s' if asked > 1 else ''} of Haar wavelets"
            f" need{'s' if asked == 1 else ''} a multiple of {abbreviated(2**asked)}"
        )
    block = np.array([[1.0, 1.0], [1.0, -1.0]]) * math.sqrt(0.5)
    averages = np.arange(width)  # the wires of the averages so far
    stages, outputs = [], [np.zeros(0, dtype=np.int64)]
    for _ in range(count):
        pairs = averages.reshape(-1, 2)
        stages.append([Part(pairs, np.broadcast_to(block, (len(pairs), 2, 2)))])
        averages = pairs[:, 0]
        outputs.insert(0, pairs[:, 1])
    made = permuted(staged(width, stages), outputs=np.concatenate([averages, *outputs]))
    given = "" if levels is None else f", levels={count}"
    return named(
        made,
        f"haar({width}{given})",
        "the last stage moves the outputs into the order of the levels, the coarsest first",
        4 * (width - (width >> count)),
    )
