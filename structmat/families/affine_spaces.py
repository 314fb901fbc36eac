"""Networks whose switches are the lines of a finite affine space."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np

from structmat.errors import StructmatError, checked_integer
from structmat.families.number_theory import ceil_log, is_power, prime_factors
from structmat.families.registry import Claims, family
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Bank, Stage

_LARGEST = 256  # the largest field


def _affine_refuses(width: int, block: int, depth: int | None) -> str | None:
    size = checked_integer(block, "block", 2)
    if size > _LARGEST or len(set(prime_factors(size))) > 1:
        raise StructmatError(
            f"block={size}: block must be the size of a field, a power of a prime up to {_LARGEST}"
        )
    if not is_power(width, size):
        return f"width must be {size}^n with n ≥ 1"
    most = (width - 1) // (size - 1)
    if depth is not None and checked_integer(depth, "depth", 1) > most:
        return f"width must be at least {size}^n with (width − 1)/{size - 1} ≥ depth"
    return None


def _affine_depth(width: int, block: int, depth: int | None) -> int:
    return (width - 1) // (block - 1) if depth is None else depth


def _affine_claims(width: int, block: int, depth: int | None) -> Claims:
    stages, least = _affine_depth(width, block, depth), ceil_log(width, block)
    dense = stages >= least
    parameters = stages * width * (block - 1) // 2
    return Claims(stages, parameters, dense=dense, dense_at=least if dense else None)


@family("block^n for a prime power block", _affine_refuses, claims=_affine_claims)
def affine(width: int, block: int = 2, depth: int | None = None) -> Network:
    """Join the points of each line of an affine space, one parallel class of lines per stage.

    The wires are the points of the n-dimensional affine space over the field of b elements, and the
    switches of a stage are the lines of one direction. Two points are on exactly one line, so the
    (d−1)/(b−1) stages join every two wires exactly once: the network has the d(d−1)/2 dimensions of
    SO(d) in the smallest number of stages possible with radices up to b. None of its d(d−1)/2
    parameters is redundant, nor is any parameter of its leading stages. Whether it covers every
    rotation is open. The first n stages are `mixed_radix` with n radices b, and are dense.

    Parameters
    ----------
    width : int
        b^n with n ≥ 1.
    block : int
        Wires per switch, a power of a prime.
    depth : int, optional
        The number of stages, at most (d−1)/(b−1), the default.

    Raises
    ------
    WidthError
        For any other width; StructmatError for a block that is not a power of a prime.

    References
    ----------
    C. J. Colbourn and J. H. Dinitz, Handbook of Combinatorial Designs, 2007, sections II.1 and
    II.7 (resolvable designs).

    Examples
    --------
    >>> affine(64, block=4)
    Network(width=64, depth=21, parameters=2016)
    >>> [stage.banks[0].reads.tolist() for stage in affine(4).stages]
    [[[0, 1], [2, 3]], [[0, 2], [1, 3]], [[0, 3], [2, 1]]]
    """
    size = int(block)
    sums, products = finite_field(size)
    dimensions = ceil_log(width, size)
    powers = size ** np.arange(dimensions)
    points = np.arange(width)[:, None] // powers % size
    stages = []
    directions = itertools.islice(_directions(size, dimensions), _affine_depth(width, size, depth))
    for direction in directions:
        pivot = int(np.flatnonzero(direction)[0])
        starts = points[points[:, pivot] == 0]
        steps = products[np.arange(size)[:, None], direction]  # λ·v for every λ
        lines = sums[starts[:, None, :], steps] @ powers
        stages.append(Stage(width, [Bank(lines)]))
    return Network(width, stages)


def _directions(size: int, dimensions: int) -> Iterator[Index]:
    """Yield a vector with first non-zero entry 1 for each direction; the axes come first."""
    axes = np.eye(dimensions, dtype=np.int64)
    yield from axes
    for pivot in range(dimensions):
        for rest in itertools.product(range(size), repeat=dimensions - pivot - 1):
            if any(rest):
                yield np.array([*(0,) * pivot, 1, *rest], dtype=np.int64)


@functools.cache
def finite_field(size: int) -> tuple[Index, Index]:
    """Return the tables of addition and multiplication of the field of this size.

    Element Σ c_k·p^k stands for the polynomial Σ c_k·x^k over the integers modulo p. Products are
    taken modulo the first polynomial with which every non-zero element has an inverse.
    """
    prime, degree = prime_factors(size)[0], len(prime_factors(size))
    powers = prime ** np.arange(degree)
    digits = np.arange(size)[:, None] // powers % prime
    sums = (digits[:, None] + digits) % prime @ powers
    for tail in range(size):  # x^degree is minus this polynomial
        shifted = [digits]
        for _ in range(degree - 1):  # multiply by x
            last = shifted[-1]
            moved = np.concatenate([np.zeros((size, 1), dtype=int), last[:, :-1]], axis=1)
            shifted.append((moved - last[:, -1:] * digits[tail]) % prime)
        products = np.einsum("ak,kbj->abj", digits, np.array(shifted)) % prime @ powers
        if all(1 in row for row in products[1:]):
            return sums, products
    raise AssertionError("there is an irreducible polynomial of every degree")
