"""Assertions about matrices and networks, with messages that locate the failure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from structmat.analysis.reachability import is_dense, reach, why_not_dense
from structmat.networks.network import Network


def assert_orthogonal(matrix: npt.ArrayLike, ulps: float = 100.0) -> None:
    """Assert that a matrix is orthogonal, or unitary when complex, up to rounding.

    Parameters
    ----------
    matrix : (d, d) real or complex
    ulps : float
        The maximum error of an entry of RᴴR, in units of the dtype's machine epsilon. Rounding
        errors accumulate: for a product of m factors, allow a multiple of m.

    Raises
    ------
    AssertionError
        If the matrix is not orthogonal; the message states where the error is, and its size.

    Examples
    --------
    >>> assert_orthogonal([[0.6, -0.8], [0.8, 0.6]])
    >>> assert_orthogonal([[1.0, 0.5], [0.0, 1.0]])
    Traceback (most recent call last):
    ...
    AssertionError: not orthogonal: columns 0 and 1 have product 0.5 instead of 0, \
    an error of 2.25e+15 ulps of float64 (100 allowed)
    """
    r = np.asarray(matrix)
    if r.ndim != 2 or r.shape[0] != r.shape[1]:
        raise AssertionError(f"not orthogonal: a matrix of shape {r.shape} is not square")
    if r.dtype.kind not in "fc":
        r = r.astype(float)
    wide = r.astype(
        np.result_type(r.dtype, np.float64)
    )  # the check itself must have smaller rounding errors
    product = np.conj(wide.T) @ wide
    error = np.abs(product - np.eye(len(r)))
    row, column = np.unravel_index(int(np.argmax(error)), error.shape)  # argmax finds NaN first
    size = float(error[row, column] / np.finfo(r.dtype).eps)
    if not size <= ulps:
        who = f"column {row}" if row == column else f"columns {row} and {column}"
        squared = "has squared norm" if row == column else "have product"
        raise AssertionError(
            f"not orthogonal: {who} {squared} {product[row, column]:.6g} instead of"
            f" {int(row == column)}, an error of {size:.3g} ulps of {r.dtype} ({ulps:g} allowed)"
        )


def assert_dense(net: Network) -> None:
    """Assert that every input of a network influences every output.

    Raises
    ------
    AssertionError
        If the network is not dense; the message names an input that does not influence some output,
        and counts such pairs.

    Examples
    --------
    >>> assert_dense(Network.of(2, [[[0, 1]]]))
    >>> assert_dense(Network.of(3, [[[0, 1]], [[1, 2]]]))
    Traceback (most recent call last):
    ...
    AssertionError: not dense: input 2 does not influence output 0; 1 of 9 pairs are not connected \
in Network(width=3, depth=2, parameters=2); its switches join all wires, so more stages can make \
it dense
    """
    if is_dense(net):
        return
    missing = np.argwhere(~reach(net))
    output, source = missing[0].tolist()
    why = str(why_not_dense(net)).rpartition("; ")[2]
    raise AssertionError(
        f"not dense: input {source} does not influence output {output}; {len(missing)} of"
        f" {net.width**2} pairs are not connected in {net!r}; {why}"
    )
