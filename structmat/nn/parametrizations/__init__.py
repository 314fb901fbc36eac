"""Parametrizations of orthogonal and unitary blocks by generators, in torch with gradients.

Generators are laid out as in `structmat.linalg.blocks`, whose numpy functions are the reference
implementations. Whatever the dtype of the generators, blocks are computed in at least float32.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from structmat.linalg.blocks import PARAMETRIZATIONS as REFERENCE
from structmat.linalg.blocks import checked_parametrization
from structmat.nn.parametrizations.cayley_transform import cayley, cayley_neumann
from structmat.nn.parametrizations.generators import at_least_float32, skew
from structmat.nn.parametrizations.givens_householder import givens, householder
from structmat.nn.parametrizations.matrix_exponential import exponential

__all__ = [
    "PARAMETRIZATIONS",
    "at_least_float32",
    "cayley",
    "checked_parametrization",
    "exponential",
    "skew",
]


PARAMETRIZATIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "cayley": cayley,
    "exp": exponential,
    "givens": givens,
    "householder": householder,
    "cayley_neumann": cayley_neumann,
}
assert PARAMETRIZATIONS.keys() == REFERENCE.keys()
