"""A frozen layer behind a chain of lazylinop's Kronecker-sparse factors."""

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
    """Multiply by trained Kronecker-sparse factors, through lazylinop's operator.

    The factors have the shape of `mixed_radix(width, radices)`: the one of radix r that comes
    after strides of d wires is I ⊗ (r×r blocks) ⊗ I_d. They start as identities and are not kept
    orthogonal: lazylinop has no such factors. Its default backend runs torch's own products, and
    autograd goes through.

    Parameters
    ----------
    radices : sequence of int
        Of the factors, first applied first; their product is the width.
    device, dtype
        Of the values, as torch takes them.

    Raises
    ------
    MissingExtraError
        When lazylinop is not installed.

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
        # lazylinop takes the factor that is applied last first, as a product is written.
        self.values = nn.ParameterList(reversed(values))
        self._kept: tuple[tuple[int, ...], Any] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the product with each vector: x (tokens, width) → (tokens, width)."""
        product: Tensor = self._operator() @ x.T  # its vectors are columns
        return product.T

    def _operator(self) -> Any:
        """Return the operator; it copies the values, so that new ones need another."""
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
            f"{error.name} is not installed; it comes with: pip install lazylinop"
        ) from error


def _quietly(function: Any, *arguments: Any) -> Any:
    """Call without warnings, of libraries it looks for or of torch's new default in a copy.

    Nor does lazylinop's recursion limit stay for the rest of the program.
    """
    limit = sys.getrecursionlimit()
    try:
        with warnings.catch_warnings(record=True):  # lazylinop's import shows its own in any case
            warnings.simplefilter("ignore")
            return function(*arguments)
    finally:
        sys.setrecursionlimit(limit)
