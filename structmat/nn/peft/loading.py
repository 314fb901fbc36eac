"""Whether the tensors of a saved adapter fit the model that is to have them."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers.integrations.peft import PeftAdapterMixin

from structmat.errors import FileError
from structmat.nn.peft.names import PREFIX, StructmatType
from structmat.nn.sharded import is_around, plain_name


def check(
    model: nn.Module, tensors: Mapping[str, Tensor], adapter: str, *, shapes: bool = True
) -> None:
    """Refuse tensors that do not fit.

    Parameters
    ----------
    model : nn.Module
    tensors : mapping from the name of a tensor in the model to a saved one
    adapter : str
    shapes : bool
        Whether to compare shapes.

    Raises
    ------
    FileError
        Naming every tensor that is missing, has another shape, has no place or is not finite.
    """
    own = model.state_dict()
    mine = {name for name in own if _is_mine(name, adapter)}
    wrong = [f"{name} is missing" for name in sorted(mine - set(tensors))]
    for name, value in tensors.items():
        if name not in own:
            if f".{PREFIX}" in name:
                wrong.append(f"{name} has no place in the model")
        elif own[name].shape != value.shape and shapes:
            wrong.append(
                f"{name} has shape {tuple(value.shape)} in the file, {tuple(own[name].shape)} in"
                " the model"
            )
        elif name in mine and not torch.isfinite(value).all():
            wrong.append(f"{name} holds NaN or infinity")
    _refuse(wrong)


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise FileError(f"the saved adapter does not fit this model: {'; '.join(wrong[:8])}{more}")


def _is_mine(name: str, adapter: str) -> bool:
    _, found, rest = f".{name}".partition(f".{PREFIX}")
    return bool(found) and f"{rest.partition('.')[2]}.".startswith(f"{adapter}.")


def install() -> None:
    """Let the `load_adapter` of PEFT and of transformers load what does fit, and only that.

    PEFT's looks for modules that are trained whole by their names in a compiled model, which no
    file has; transformers' goes on when tensors are missing. For other adapters nothing changes.
    """
    peft_loads: Any = PeftModel.load_adapter
    transformers_loads: Any = PeftAdapterMixin.load_adapter
    if hasattr(peft_loads, "_structmat"):
        return

    @functools.wraps(peft_loads)
    def load_adapter(self: Any, *args: Any, **kwargs: Any) -> Any:
        ours = self.peft_type == StructmatType.STRUCTMAT
        if ours and (ways := _ways_inside(self.base_model.model)):
            kwargs["key_mapping"] = {**(kwargs.get("key_mapping") or {}), **ways}
        return peft_loads(self, *args, **kwargs)

    @functools.wraps(transformers_loads)
    def load_into(self: Any, *args: Any, **kwargs: Any) -> Any:
        info = transformers_loads(self, *args, **kwargs)
        adapter = (
            inspect.signature(transformers_loads)
            .bind(self, *args, **kwargs)
            .arguments.get("adapter_name")
        )
        missing = sorted(name for name in info.missing_keys if _is_mine(name, adapter or "default"))
        _refuse([f"{name} is missing" for name in missing])
        return info

    marked: Any = load_adapter
    marked._structmat = True
    PeftModel.load_adapter = load_adapter  # type: ignore[method-assign]
    PeftAdapterMixin.load_adapter = load_into  # type: ignore[method-assign]


def _ways_inside(model: nn.Module) -> dict[str, str]:
    """Return patterns for names in a file, and the names in a model that is partly compiled."""
    around = [name for name, module in model.named_modules() if is_around(module)]
    found = {}
    for name in sorted(around, key=len, reverse=True):
        inside = [f"{name}.{part}" if name else part for part in model.get_submodule(name)._modules]
        plain = plain_name(inside[0])
        found["^" + re.escape(f"{plain}." if plain else "")] = f"{inside[0]}."
    return found
