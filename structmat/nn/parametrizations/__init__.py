"""Parametrizations of orthogonal and unitary blocks by generators, in torch with gradients.

The layout of the generators is that of `structmat.linalg.blocks`, whose numpy functions are the
reference implementations. Whatever the dtype of the generators, blocks are computed in at least
float32.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from structmat.errors import BlockError, suggest
from structmat.linalg.blocks import KINDS as REFERENCE_KINDS
from structmat.nn.parametrizations.cayley_transform import cayley
from structmat.nn.parametrizations.generators import at_least_float32, skew
from structmat.nn.parametrizations.givens_householder import givens, householder
from structmat.nn.parametrizations.matrix_exponential import exponential
from structmat.nn.parametrizations.neumann import cayley_neumann

__all__ = ["KINDS", "at_least_float32", "cayley", "checked_kind", "exponential", "skew"]


KINDS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "cayley": cayley,
    "exp": exponential,
    "givens": givens,
    "householder": householder,
    "cayley_neumann": cayley_neumann,
}
assert KINDS.keys() == REFERENCE_KINDS.keys()


def checked_kind(name: str) -> str:
    """Return the name of a parametrization after checking that it exists.

    Raises
    ------
    BlockError
        If there is no such parametrization; the message suggests similar names.

    Examples
    --------
    >>> checked_kind("cayley")
    'cayley'
    """
    if name not in list(KINDS):  # a list, because the name may be unhashable
        raise BlockError(f"blocks={name!r}: no such parametrization{suggest(str(name), KINDS)}")
    return name
