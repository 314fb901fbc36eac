"""A chain of Kronecker-sparse factors from lazylinop, which precedes a frozen layer."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from structmat.errors import MissingExtraError


class KroneckerChain(nn.Module):
    """A product with trained Kronecker-sparse factors, computed by lazylinop's operator.

    The factors have the shapes of `mixed_radix(width, radices)`: a factor of radix r at stride s
    has the support of I ⊗ J_r ⊗ I_s, where J_r is the r×r matrix of ones. The factors are
    initialised to the identity and not kept orthogonal, since lazylinop has no orthogonal factors.
    Its default backend uses torch's own products and supports autograd.

    Parameters
    ----------
    radices : sequence of int
        The radices of the factors, in the order of application; their product is the width.
    device, dtype
        The device and dtype of the factors' values.

    Raises
    ------
    MissingExtraError
        If lazylinop is not installed.

    References
    ----------
    Gonon, Zheng, Carrivain and Le, "Fast inference with Kronecker-sparse matrices", 2024
    (arXiv:2405.15013).
    """

    def __init__(
        self,
        radices: Sequence[int],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._ksm = _operator_of()
        stride = 1
        width = torch.Size(radices).numel()
        values = []
        for radix in radices:
            one = torch.eye(radix, device=device, dtype=dtype)[None, :, :, None]
            values.append(one.repeat(width // (radix * stride), 1, 1, stride))
            stride *= radix
        # lazylinop expects factors in the order in which a product is written, the last to act
        # first.
        self.values = nn.ParameterList(reversed(values))
        self._kept: tuple[tuple[int, ...], Any] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the product with each vector: x (tokens, width) → (tokens, width)."""
        product: Tensor = self._operator() @ x.T  # lazylinop's vectors are columns
        return product.T

    def _operator(self) -> Any:
        """Return the operator, which copies the values and so is recreated when they change."""
        values = list(self.values)
        if torch.is_grad_enabled():
            return _quietly(self._ksm, values)
        versions = tuple(value._version for value in values)
        if self._kept is None or self._kept[0] != versions:
            self._kept = versions, _quietly(self._ksm, values)
        return self._kept[1]


def _operator_of() -> Any:
    try:
        return _quietly(importlib.import_module, "lazylinop.butterfly").ksm
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed; install it with: pip install lazylinop"
        ) from error


def _quietly(function: Any, *arguments: Any) -> Any:
    """Call a lazylinop function without warnings, and restore the recursion limit afterwards."""
    limit = sys.getrecursionlimit()
    try:
        with warnings.catch_warnings(record=True):  # importing lazylinop overrides filters
            warnings.simplefilter("ignore")
            return function(*arguments)
    finally:
        sys.setrecursionlimit(limit)
