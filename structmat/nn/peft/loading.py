"""Whether the tensors of a saved adapter fit the model that is to have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from structmat.errors import FileError
from structmat.nn.peft.layer import StructmatLayer
from structmat.nn.peft.names import PREFIX


def checked(
    model: nn.Module, tensors: Mapping[str, Tensor], adapter: str, tuner: Any
) -> dict[str, Tensor]:
    """Return tensors that fit a model, or take the adapter that was made for them out again.

    A layer of several names has its tensors in the file under one of them, and here under all.

    Parameters
    ----------
    model : nn.Module
    tensors : mapping from the name of a tensor in the model to a saved one
    adapter : str
    tuner : StructmatModel or None
        The one that made the adapter, where it is known.

    Raises
    ------
    FileError
        Naming every tensor that is missing, has another shape, has no place or is not finite.
    """
    own = model.state_dict(keep_vars=True)
    mine = names_of(own, adapter)
    given: dict[int, str] = {id(own[name]): name for name in mine & set(tensors)}
    wrong = [f"{name} is missing" for name in sorted(mine) if id(own[name]) not in given]
    for name, value in tensors.items():
        if name not in own:
            if f".{PREFIX}" in name:
                wrong.append(f"{name} has no place in the model")
        elif own[name].shape != value.shape:
            wrong.append(
                f"{name} has shape {tuple(value.shape)} in the file, {tuple(own[name].shape)} in"
                " the model"
            )
        elif name in mine and not torch.isfinite(value).all():
            wrong.append(f"{name} holds NaN or infinity")
        elif name in mine and not torch.equal(value, tensors[first := given[id(own[name])]]):
            wrong.append(f"{name} and {first} are one tensor in the model, and differ in the file")
    before = None if tuner is None else tuner._before.get(adapter)
    if not wrong:
        if before is not None:
            tuner._before = {k: v for k, v in tuner._before.items() if k != adapter}
        return {**tensors, **{name: tensors[given[id(own[name])]] for name in mine}}
    if before is not None and _is_fresh(tuner.model, adapter):
        before.restore(tuner.model, adapter)
        del tuner.peft_config[adapter]
    shown = "; ".join(wrong[:8]) + (f"; and {len(wrong) - 8} more" if len(wrong) > 8 else "")
    raise FileError(f"the saved adapter does not fit this model: {shown}")


def names_of(state: Iterable[str], adapter: str) -> set[str]:
    """Return the names of the tensors of an adapter."""
    return {name for name in state if f".{PREFIX}" in f".{name}" and _of_adapter(name, adapter)}


def _of_adapter(name: str, adapter: str) -> bool:
    rest = name.split(PREFIX, 1)[1].split(".", 1)[1]
    return rest == adapter or rest.startswith(f"{adapter}.")


def _is_fresh(model: nn.Module, adapter: str) -> bool:
    """Return whether nothing would be lost: the adapter is the identity still."""
    layers = [m for m in model.modules() if isinstance(m, StructmatLayer)]
    parts = [g for layer in layers for turn in layer.turns(adapter) for g in turn.generators]
    return all(g.is_meta or not bool(g.any()) for g in parts)
