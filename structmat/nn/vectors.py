"""Vectors along the last axis of a tensor: checks, and rotation of real and complex ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from structmat.errors import BlockError
from structmat.nn import torch_internals


def check_vectors(x: Any, width: int) -> None:
    """Raise an error unless x is a floating tensor of vectors of this width.

    Raises
    ------
    BlockError
        If x is not a tensor, or its last axis or its dtype does not fit.

    Examples
    --------
    >>> check_vectors(torch.ones(2, 3), 3)
    """
    if not isinstance(x, Tensor):
        raise BlockError(
            f"x has type {type(x).__name__}: the layer takes a torch.Tensor; make one with"
            " torch.as_tensor(x, dtype=torch.float32)"
        )
    if x.ndim < 1 or torch_internals.sizes(x)[-1] != width:
        raise BlockError(f"x of shape {tuple(x.shape)}: its last axis must be the width {width}")
    if not (x.is_floating_point() or x.is_complex()):
        raise BlockError(f"x of dtype {x.dtype}: it must be floating; use x.float()")


def rotate_parts(
    x: Tensor, rotate: Callable[[Tensor], Tensor], unitary: torch.dtype | None
) -> Tensor:
    """Rotate vectors by a function that takes real ones, or, for unitary blocks, complex ones.

    Parameters
    ----------
    x : (..., width) real or complex
    rotate : function
    unitary : dtype, optional
        The complex dtype of the blocks if they are unitary, else None.

    Returns
    -------
    (..., width) of the dtype of x, or of `unitary` for real x

    Examples
    --------
    >>> rotate_parts(torch.tensor([1 + 2j]), lambda real: 3 * real, None)
    tensor([3.+6.j])
    """
    if unitary is not None:
        made = rotate(x.to(unitary))
        return made.to(x.dtype) if x.is_complex() else made
    if not x.is_complex():
        return rotate(x)
    # Not view_as_real, whose backward pass fails for no vectors.
    return torch.complex(*rotate(torch.stack([x.real, x.imag])))
