"""Requirements that a layer must meet to be adapted."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from structmat.errors import StructmatError, checked_choice
from structmat.nn.torch_internals import has_hooks

# torch types the attributes of a module as Tensor | Module; `layout_for` checks the class of a
# layer, which determines its attributes.
Layer: TypeAlias = Any

COMPLEX = (torch.complex128, torch.complex64)  # of linear layers, rotated by unitary blocks
ROTATED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_LISTED = ", ".join(str(dtype).removeprefix("torch.") for dtype in ROTATED)
# The libraries whose layers or tensors are quantised.
QUANTISERS = ("bitsandbytes", "torchao", "hqq", "gptqmodel", "aqlm", "eetq", "auto_round_extension")


# The sides of a layer that each value of the option `side` rotates.
SIDES = {"inputs": ("inputs",), "outputs": ("outputs",), "both": ("inputs", "outputs")}


def checked_side(side: Any) -> str:
    """Return the option `side` after checking it.

    Raises
    ------
    StructmatError
        If it is none of "inputs", "outputs" and "both".

    Examples
    --------
    >>> checked_side("outputs")
    'outputs'
    """
    return checked_choice(side, "side", SIDES)


def runs_together(base: Layer, x: Tensor, *, stock: bool) -> bool:
    """Return whether a rotation and the linear layer after it run as one operation.

    This is done only on a CPU, where it saves the memory of the rotated activations. The layer must
    be frozen, have the dtype of its inputs, and have no hooks or custom behaviour (`stock`).
    """
    kept = (base.weight, base.bias)
    return (
        x.device.type == "cpu"
        and x.dtype == base.weight.dtype
        and not x.dtype.is_complex
        and not torch.is_autocast_enabled("cpu")
        and not any(t is not None and t.requires_grad for t in kept)
        and "forward" not in base.__dict__
        and stock
        and not has_hooks(base, of_all_modules=True)
    )


def own_behaviour(base: Layer, layer_classes: Container[str]) -> str | None:
    """Return the name of a method of the standard class that a layer overrides, or None."""
    stock = next((c for c in type(base).__mro__ if class_name(c) in layer_classes), None)
    for name in ("forward", "_conv_forward"):
        if getattr(type(base), name, None) is not getattr(stock, name, None):
            return name
    return None


def sees_weight(base: Layer, layer_classes: Container[str]) -> bool:
    """Return whether a layer must run with a rotated weight rather than on rotated activations.

    This is so if a subclass changes inputs or outputs in a way that may not commute with a
    rotation. The embedding classes of transformers do commute, because they multiply by a number or
    shift indices, unless they have further parameters.
    """
    if own_behaviour(base, layer_classes) is None or quantiser(base) is not None:
        return False
    if getattr(base, "max_norm", None) is not None:  # a lookup writes to the weight
        return False
    trusted = type(base).__module__.startswith("transformers.") and hasattr(base, "embedding_dim")
    return not trusted or len(list(base.parameters())) > 1


def class_name(cls: type) -> str:
    """Return the full name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def plain_weight(base: Layer, *, or_complex: bool = False) -> None:
    """Raise an error for a weight that is not a plain floating-point parameter.

    Parameters
    ----------
    base : nn.Module
    or_complex : bool
        Whether complex parameters are accepted as well.

    Raises
    ------
    StructmatError
        If the weight is quantised, parametrized or of a dtype that cannot be rotated.
    """
    weight = base.weight
    rotated = is_rotated(weight.dtype) or (or_complex and weight.dtype in COMPLEX)
    plain = isinstance(weight, nn.Parameter) and rotated
    if not plain or quantiser(base) is not None:
        raise StructmatError(
            f"a weight of type {type(weight).__name__} and dtype {weight.dtype}: only plain"
            f" floating-point parameters ({_LISTED}), and complex ones of linear layers, can be"
            " rotated; exclude quantised and parametrized layers, or adapt the model before it is"
            " quantised or cast"
        )


def is_rotated(dtype: torch.dtype) -> bool:
    """Return whether real weights of this dtype can be rotated.

    Weights of 8 bits or fewer cannot: their rounding errors are as large as the changes that
    training makes, and any scales are stored elsewhere.

    Examples
    --------
    >>> is_rotated(torch.bfloat16), is_rotated(torch.float8_e4m3fn), is_rotated(torch.complex64)
    (True, False, False)
    """
    return dtype in ROTATED


def quantiser(layer: Layer) -> str | None:
    """Return the name of the library that quantised a layer, or None.

    Examples
    --------
    >>> quantiser(nn.Linear(2, 2)) is None
    True
    """
    weight = getattr(layer, "weight", None)
    tops = [c.__module__.partition(".")[0] for c in (type(layer), type(weight))]
    return next((top for top in tops if top in QUANTISERS), None)
