"""Permutations as index arrays, in gather form: `y = x[p]`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from structmat.errors import WiringError

Index: TypeAlias = npt.NDArray[np.int64]


def identity(width: int) -> Index:
    """Return the identity permutation.

    Examples
    --------
    >>> identity(3)
    array([0, 1, 2])
    """
    return np.arange(width, dtype=np.int64)


def checked(values: npt.ArrayLike, width: int) -> Index:
    """Return `values` as an int64 permutation of `width` wires.

    Raises
    ------
    WiringError
        If a wire is missing, repeated or out of range.

    Examples
    --------
    >>> checked([1, 0], 2)
    array([1, 0])
    """
    p = indices(values, "permutation")
    if p.shape != (width,) or not np.array_equal(np.sort(p), identity(width)):
        raise WiringError(
            f"permutation of shape {p.shape}: it must name each of the {width} wires once"
        )
    return p


def indices(values: npt.ArrayLike, name: str) -> Index:
    """Return `values` as an int64 array, and reject anything that does not consist of integers.

    Raises
    ------
    WiringError
        For floats, NaN, booleans, strings and ragged lists.

    Examples
    --------
    >>> indices([[0, 1], [2, 3]], "reads").dtype
    dtype('int64')
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise WiringError(f"{name}: rows must be of equal length and consist of integers") from None
    if array.size == 0:
        return np.zeros(array.shape, dtype=np.int64)
    if array.dtype.kind in "US":
        texts = array.ravel().tolist()
        text = next((text for text in texts if not text.isdigit()), texts[0])
        raise WiringError(
            f"{name}: wires must be integers, not {text!r}; if the network has labels,"
            f" net.labels.index({text!r}) is the number of the wire"
        )
    if array.dtype.kind not in "iu":
        raise WiringError(f"{name}: wires must be integers, not {array.dtype}")
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise WiringError(f"{name}: wire {array.max()} is too large")
    return array.astype(np.int64)


def some(values: npt.ArrayLike, width: int, name: str) -> Index:
    """Return `values` as an int64 array of wires of a network of this width.

    They may be in any order, and repeated.

    Raises
    ------
    WiringError
        If `values` is not a list of wires of the network.

    Examples
    --------
    >>> some([2, 0], 2, "outputs")
    Traceback (most recent call last):
    ...
    structmat.errors.WiringError: outputs: wire 2: the network has wires 0 to 1
    """
    wires = indices(values, name)
    if wires.ndim != 1:
        raise WiringError(f"{name} of shape {wires.shape}: give a list of wires")
    if len(wires) and not 0 <= wires.min() <= wires.max() < width:
        bad = int(wires.max() if wires.max() >= width else wires.min())
        raise WiringError(f"{name}: wire {bad}: the network has wires 0 to {width - 1}")
    return wires


def frozen(array: Index) -> Index:
    """Return a read-only copy that shares no memory with the input.

    Examples
    --------
    >>> frozen(identity(2)).flags.writeable
    False
    """
    array = np.array(array, dtype=np.int64, order="C")
    array.setflags(write=False)
    return array


def inverse(p: Index) -> Index:
    """Return the inverse of the permutation `p`.

    Examples
    --------
    >>> inverse(np.array([2, 0, 1]))
    array([1, 2, 0])
    """
    q = np.empty_like(p)
    q[p] = identity(len(p))
    return q


def perfect_shuffle(width: int, block: int) -> Index:
    """Return where each wire goes when `width` wires are dealt out: i → (i mod r)·b + ⌊i/r⌋.

    Here b is `block` and r = width / b. The array contains destinations: wire i moves to `p[i]`.

    Examples
    --------
    >>> perfect_shuffle(6, 3)
    array([0, 3, 1, 4, 2, 5])
    """
    wires = identity(width)
    hands = width // block
    return (wires % hands) * block + wires // hands


def digit_reversal(radices: Sequence[int]) -> Index:
    """Return the permutation that reverses the mixed-radix digits of each wire's number.

    Wire a_0 + r_0·(a_1 + r_1·(a_2 + …)) takes the value of the wire whose last digit is the first,
    a_(m−1) + r_(m−1)·(… + r_1·a_0). For radices 2 it is the bit reversal.

    Examples
    --------
    >>> digit_reversal((2, 3)), digit_reversal((2, 2, 2))
    (array([0, 3, 1, 4, 2, 5]), array([0, 4, 2, 6, 1, 5, 3, 7]))
    """
    sizes = tuple(int(radix) for radix in radices)
    return np.arange(math.prod(sizes), dtype=np.int64).reshape(sizes).T.ravel()


def strides(p: Index, most: int = 6) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the view by which a permutation transposes axes and so needs no index array, if any.

    Returns
    -------
    (shape, axes) or None
        Such that `x[p] == x.reshape(shape).transpose(axes).ravel()`; None if `p` is not such a
        permutation, or needs more than `most` axes.

    Examples
    --------
    >>> strides(np.array([0, 3, 1, 4, 2, 5]))
    ((2, 3), (1, 0))
    >>> strides(np.array([1, 0, 2])) is None
    True
    """
    shape: list[int] = []  # of the result, innermost axis first
    steps: list[int] = []
    rest = p
    while len(rest) > 1:
        if rest[0] != 0 or len(shape) == most:
            return None
        step = int(rest[1])
        breaks = np.flatnonzero(rest != np.arange(len(rest)) * step)
        run = int(breaks[0]) if len(breaks) else len(rest)
        if len(rest) % run:
            return None
        rows = rest.reshape(-1, run)
        if not np.array_equal(rows, rows[:, :1] + np.arange(run) * step):
            return None
        shape.append(run)
        steps.append(step)
        rest = rows[:, 0]
    shape.reverse()
    steps.reverse()
    order = sorted(range(len(shape)), key=lambda axis: -steps[axis])  # outermost in x first
    axes = tuple(order.index(axis) for axis in range(len(shape)))
    return tuple(shape[axis] for axis in order), axes
