"""Energies |R_ij|² of a matrix in factored form: exactly, and on average over random signs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy

from structmat.analysis.mixing import mean_deviation
from structmat.errors import checked_field
from structmat.linalg.blocks import by_stage
from structmat.linalg.factors import product
from structmat.networks import permutation
from structmat.networks.network import Network
from structmat.networks.permutation import Index

Array: TypeAlias = npt.NDArray[Any]

_DENSE = 512  # largest width at which all singular values are computed, not only the largest
_CHUNK = 512  # columns computed at once
_RARE = 1e-3  # maximum probability that some entry of a Haar matrix exceeds the limit


class Extreme(NamedTuple):
    """The largest energy on one output, with the inputs and the output where it occurs."""

    energy: float
    inputs: tuple[int, ...]
    output: int


def energies(net: Network, blocks: Sequence[Array], inputs: Index) -> Array:
    """Return |R_ij|² for all outputs i and the given inputs j, (width, inputs).

    The blocks must be in double precision.

    Examples
    --------
    >>> net = Network.of(2, [[[0, 1]]])
    >>> energies(net, [np.array([[[0.6, -0.8], [0.8, 0.6]]])], np.array([0])).round(2)
    array([[0.36],
           [0.64]])
    """
    found = np.empty((net.width, len(inputs)))
    for some, columns in _columns(net, blocks, inputs):
        found[:, some] = np.abs(columns) ** 2
    return found


def expected_energies(net: Network, squares: Sequence[Array], inputs: Index) -> Array:
    """Return E|R_ij|² over independent random signs or phases of all wires before every stage.

    Two different paths from j to i are multiplied by different signs in some stage, so their
    contributions are uncorrelated. E|R_ij|² is therefore an entry of the product of the stages'
    matrices of squared absolute values.

    Parameters
    ----------
    net : Network
    squares : sequence of (n, r, r) arrays
        The squared absolute values of the entries of the blocks.
    inputs : (inputs,) integers

    Returns
    -------
    (width, inputs)
    """
    found = np.empty((net.width, len(inputs)))
    for some, columns in _columns(net, squares, inputs):
        found[:, some] = columns
    return found


def _columns(net: Network, blocks: Sequence[Array], inputs: Index) -> Iterator[tuple[slice, Array]]:
    """Yield slices of the inputs, and the columns of the matrix for each."""
    dtype = np.result_type(np.float64, *blocks)
    for first in range(0, len(inputs), _CHUNK):
        some = slice(first, first + _CHUNK)
        wires = inputs[some]
        units = np.zeros((net.width, len(wires)), dtype=dtype)
        units[wires, np.arange(len(wires))] = 1
        yield some, product(net, blocks, units)


def largest(energies: Array, inputs: Index) -> Extreme:
    """Return the largest energy of one input on one output."""
    output, column = np.unravel_index(int(energies.argmax()), energies.shape)
    return Extreme(float(energies[output, column]), (int(inputs[column]),), int(output))


def largest_pair(energies: Array, inputs: Index) -> Extreme | None:
    """Return the largest energy of two inputs on one output, or None if there is one input.

    A unit vector on the inputs j and k leaves at most |R_ij|² + |R_ik|² on output i, by the
    Cauchy–Schwarz inequality, with equality for the normalised conjugates of these two entries.
    """
    if len(inputs) < 2:
        return None
    both = np.partition(energies, -2, axis=1)[:, -2:].sum(axis=1)
    output = int(both.argmax())
    columns = np.argsort(-energies[output], kind="stable")[:2]
    return Extreme(float(both[output]), tuple(sorted(inputs[columns].tolist())), output)


def deviation(energies: Array) -> float:
    """Return ‖|R|² − J/d‖₂, or that of some of its columns, which is at most as large."""
    width, count = energies.shape
    if count < width or width <= _DENSE:
        return float(np.linalg.norm(energies - 1 / width, 2))
    return mean_deviation(width, lambda x: energies @ x, lambda x: energies.T @ x)


def expected_deviation(net: Network, squares: Sequence[Array]) -> float:
    """Return ‖E|R|² − J/d‖₂ for the expectation of `expected_energies`, at any width."""
    width = net.width
    if width <= _DENSE:
        return deviation(expected_energies(net, squares, permutation.identity(width)))
    back = net.inverse()
    transposed = [
        np.swapaxes(b, -1, -2) for stage in reversed(by_stage(net, squares)) for b in stage
    ]

    def applied(to: Network, blocks: Sequence[Array], x: Array) -> Array:
        return np.reshape(np.asarray(product(to, blocks, np.reshape(x, (width, -1)))), x.shape)

    return mean_deviation(
        width, lambda x: applied(net, squares, x), lambda x: applied(back, transposed, x)
    )


def haar_limit(width: int, *, field: str = "real") -> float:
    """Return an energy that, with probability at least 99.9 %, no entry of a Haar matrix exceeds.

    The energy of one entry has the distribution Beta(1/2, (d−1)/2), or Beta(1, d−1) if unitary; a
    union bound covers all d² entries.

    Examples
    --------
    >>> [round(haar_limit(width), 4) for width in (64, 1024)]
    [0.347, 0.0359]
    """
    if width == 1:
        return 1.0
    one, rest = (1.0, width - 1.0) if checked_field(field) == "complex" else (0.5, (width - 1) / 2)
    return float(1 - scipy.special.betaincinv(rest, one, _RARE / width**2))
