"""What an adapter asks of a layer before it takes it."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from structmat.errors import StructmatError

# torch types an attribute of a module as Tensor | Module; which ones a layer has is known from
# its class, which `kind_for` has looked at.
Layer: TypeAlias = Any

ROTATED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_LISTED = ", ".join(str(dtype).removeprefix("torch.") for dtype in ROTATED)
# The libraries whose layers or tensors hold numbers that stand for others.
QUANTISERS = ("bitsandbytes", "torchao", "hqq", "gptqmodel", "aqlm", "eetq", "auto_round_extension")


def checked_side(side: str) -> str:
    """Return the side of a layer that is rotated, if it is one.

    Raises
    ------
    StructmatError
        When it is none.

    Examples
    --------
    >>> checked_side("outputs")
    'outputs'
    """
    if side not in ("inputs", "outputs"):
        raise StructmatError(f'side={side!r}: a layer\'s "inputs" or its "outputs" are rotated')
    return side


def runs_together(base: Layer, x: Tensor, *, stock: bool) -> bool:
    """Return whether a rotation and the linear layer after it may run as one operation.

    On a CPU that saves the memory of the rotated activations. The layer must be frozen, have the
    dtype of its inputs, and have no hooks or behaviour of its own (`stock`).
    """
    kept = (base.weight, base.bias)
    return (
        x.device.type == "cpu"
        and x.dtype == base.weight.dtype
        and not torch.is_autocast_enabled("cpu")
        and not any(t is not None and t.requires_grad for t in kept)
        and "forward" not in base.__dict__
        and stock
        and not (base._forward_hooks or base._forward_pre_hooks)
        and not (base._backward_hooks or base._backward_pre_hooks)
        and not torch.nn.modules.module._has_any_global_hook()
    )


def own_behaviour(base: Layer, takes: str) -> str | None:
    """Return the name of a method that a layer's class does not have from its kind, if any."""
    stock = next((c for c in type(base).__mro__ if named(c) == takes), None)
    for name in ("forward", "_conv_forward"):
        if getattr(type(base), name, None) is not getattr(stock, name, None):
            return name
    return None


def sees_weight(base: Layer, takes: str) -> bool:
    """Return whether a layer must run with its rotated weight, and not on rotated activations.

    That is so where a subclass changes inputs or outputs in a way that need not commute with a
    rotation. The embeddings of transformers do commute, as they multiply by a number or shift
    indices, unless they have other parameters as well.
    """
    if own_behaviour(base, takes) is None or quantiser(base) is not None:
        return False
    if getattr(base, "max_norm", None) is not None:  # it writes to the weight
        return False
    trusted = type(base).__module__.startswith("transformers.") and hasattr(base, "embedding_dim")
    return not trusted or len(list(base.parameters())) > 1


def named(cls: type) -> str:
    """Return the full name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def plain_weight(base: Layer) -> None:
    """Refuse a weight that is no plain floating-point parameter.

    Raises
    ------
    StructmatError
    """
    weight = base.weight
    plain = isinstance(weight, nn.Parameter) and is_rotated(weight.dtype)
    if not plain or quantiser(base) is not None:
        raise StructmatError(
            f"a weight of {type(weight).__name__} and dtype {weight.dtype}: only plain"
            f" floating-point parameters ({_LISTED}) can be rotated; exclude quantised and"
            " parametrized layers, or adapt the model before it is quantised or cast"
        )


def is_rotated(dtype: torch.dtype) -> bool:
    """Return whether weights of this dtype are rotated.

    Those of 8 bits or fewer are not: their rounding errors are as large as the changes made by
    training, and their scales, if any, are stored elsewhere.

    Examples
    --------
    >>> is_rotated(torch.bfloat16), is_rotated(torch.float8_e4m3fn), is_rotated(torch.complex64)
    (True, False, False)
    """
    return dtype in ROTATED


def quantiser(layer: Layer) -> str | None:
    """Return the name of the library that holds the weight of a layer in few bits, if one does.

    Examples
    --------
    >>> quantiser(nn.Linear(2, 2)) is None
    True
    """
    weight = getattr(layer, "weight", None)
    tops = [c.__module__.partition(".")[0] for c in (type(layer), type(weight))]
    return next((top for top in tops if top in QUANTISERS), None)
