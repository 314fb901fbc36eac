"""Checks that the tensors of a saved adapter fit a model."""

from __future__ import annotations

import functools
import inspect
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers.integrations.peft import PeftAdapterMixin

from structmat.adapters.adapted_layer import PREFIX
from structmat.adapters.distributed import is_torch_wrapper, plain_name
from structmat.adapters.saved_tensors import BROKEN, mismatches
from structmat.errors import FileError, StructmatError
from structmat.nn.torch_internals import own_modules
from structmat.peft.base_models import check_fingerprints
from structmat.peft.config import StructmatConfig
from structmat.peft.layer import StructmatLayer
from structmat.peft.names import StructmatType
from structmat.peft.planned_networks import factor

_HELD = ("", "original_module")
_PLACE = ("subfolder", "revision", "cache_dir", "token", "local_files_only")


def checked(model: nn.Module, tensors: Mapping[str, Tensor], adapter: str) -> dict[str, Tensor]:
    """Check that tensors fit a model, and return them under all of their names in it.

    If a layer has several names, a file stores its tensors under one of them only.

    Parameters
    ----------
    model : nn.Module
    tensors : mapping from the name of a tensor in the model to a saved one
    adapter : str

    Raises
    ------
    FileError
        If tensors are missing, have another shape or an unsuitable dtype, are not in the model or
        are not finite; the message lists up to eight.
    """
    _refuse(_wrong(model, tensors, adapter).values())
    return _by_every_name(model, tensors, adapter)


def fitting(model: nn.Module, tensors: Mapping[str, Tensor], adapter: str) -> dict[str, Tensor]:
    """Return the tensors of the layers whose tensors all fit, and warn about the other layers.

    PEFT itself checks modules that are trained in full.

    Raises
    ------
    FileError
        If a tensor is not finite.
    """
    wrong = _wrong(model, tensors, adapter)
    _refuse(said for said in wrong.values() if said.endswith(BROKEN))
    wrong = {name: said for name, said in wrong.items() if PREFIX in name}
    layers = {name.partition(f".{PREFIX}")[0] for name in wrong}
    if layers:
        warnings.warn(
            f"ignore_mismatched_sizes: no adapter is loaded for {', '.join(sorted(layers))}:"
            f" {'; '.join(wrong.values())}",
            stacklevel=2,
        )
    kept = {n: v for n, v in tensors.items() if n.partition(f".{PREFIX}")[0] not in layers}
    return _by_every_name(model, kept, adapter)


def _wrong(model: nn.Module, tensors: Mapping[str, Tensor], adapter: str) -> dict[str, str]:
    """Return a message for each tensor that does not fit the model, by name."""
    own, mine = model.state_dict(keep_vars=True), names_of(model, adapter)
    given = _given(own, tensors, mine)
    # A tensor with several names is needed under one of them; PEFT checks modules trained in full.
    needed = {name for name in mine if given.get(id(own[name]), name) == name}
    theirs = {n: v for n, v in tensors.items() if n in own or f".{PREFIX}" in n}
    expected = {name: own[name] for name in needed | (own.keys() & theirs.keys())}
    wrong = mismatches(theirs, expected, mine)
    for name in sorted(theirs.keys() & own.keys() - wrong.keys()):
        first = given.get(id(own[name]), name)
        if first != name and not torch.equal(tensors[name], tensors[first]):
            wrong[name] = (
                f"{name} and {first} are the same tensor in the model, but differ in the file"
            )
    return wrong


def _given(own: Mapping[str, Tensor], tensors: Iterable[str], mine: set[str]) -> dict[int, str]:
    """Return the name of each adapter tensor in the file, by the tensor's identity in the model."""
    return {id(own[name]): name for name in sorted(mine & set(tensors))}


def _by_every_name(
    model: nn.Module, tensors: Mapping[str, Tensor], adapter: str
) -> dict[str, Tensor]:
    own, mine = model.state_dict(keep_vars=True), names_of(model, adapter)
    given = _given(own, tensors, mine)
    more = {name: given[id(own[name])] for name in mine if id(own[name]) in given}
    return {**tensors, **{name: tensors[first] for name, first in more.items()}}


def names_of(model: nn.Module, adapter: str) -> set[str]:
    """Return the names of the tensors of an adapter in a model."""
    return {
        f"{name}.{key}" if name else key
        for name, layer in model.named_modules(remove_duplicate=False)
        if isinstance(layer, StructmatLayer)  # other modules may have names with this prefix
        for key in layer.state_dict()
        if _is_mine(key, adapter)
    }


def _refuse(messages: Iterable[str]) -> None:
    if wrong := list(messages):
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise FileError(f"the saved adapter does not fit this model: {'; '.join(wrong[:8])}{more}")


def _is_mine(name: str, adapter: str) -> bool:
    _, found, rest = f".{name}".partition(f".{PREFIX}")
    return bool(found) and f"{rest.partition('.')[2]}.".startswith(f"{adapter}.")


def name_offloaded(model: Any, saved: Mapping[str, str], adapter: str) -> None:
    """Let a model that is partly offloaded to disk find the offloaded tensors of an adapter.

    PEFT inserts the adapter name before the last part of a tensor's name, where its own methods
    have it; the names of structmat tensors may contain it elsewhere.

    Parameters
    ----------
    model : PeftModel
    saved : mapping from the name of a tensor in the model to that in the file
    adapter : str
    """
    places = set((getattr(model, "hf_device_map", None) or {}).values())
    if not (places & {"cpu", "disk"} and hasattr(type(model), "_update_offload")):
        return

    def update(index: Any, tensors: Any) -> Any:
        del model._update_offload  # restores the method of the class
        made = model._update_offload(index, tensors)
        for name, own in saved.items():
            head, _, tail = own.rpartition(".")
            written = f"{head}.{adapter}.{tail}"
            if index and written in index:
                index[name] = index[written]
        return made

    model._update_offload = update


def install() -> None:
    """Correct `load_adapter` of PEFT and of transformers for structmat adapters, and check weights.

    In a compiled model, PEFT looks up modules trained in full by their compiled names, which files
    do not contain; transformers ignores missing tensors. Both also warn if the base weights differ
    from those that the adapter was trained on. Other adapters are not affected.
    """
    peft_loads: Any = PeftModel.load_adapter
    transformers_loads: Any = PeftAdapterMixin.load_adapter
    if hasattr(peft_loads, "_structmat"):
        return

    @functools.wraps(peft_loads)
    def load_adapter(self: Any, *args: Any, **kwargs: Any) -> Any:
        ours = self.peft_type == StructmatType.STRUCTMAT
        if ours:
            given = inspect.signature(peft_loads).bind(self, *args, **kwargs).arguments
            _check_factors(self, given)
        if ours and (renamed := _compiled_names(self.base_model.model)):
            kwargs["key_mapping"] = {**(kwargs.get("key_mapping") or {}), **renamed}
        try:
            info = peft_loads(self, *args, **kwargs)
        except KeyError as error:  # PEFT looks up the tensors of modules trained in full
            name = error.args[0] if error.args else None
            if ours and isinstance(name, str) and name.startswith("base_model."):
                _refuse([f"{name} is not in the file"])
            raise
        if ours:
            check_fingerprints(self, given["adapter_name"])
        return info

    @functools.wraps(transformers_loads)
    def load_into(self: Any, *args: Any, **kwargs: Any) -> Any:
        info = transformers_loads(self, *args, **kwargs)
        adapter = _adapter_name(transformers_loads, self, *args, **kwargs)
        missing = sorted(name for name in info.missing_keys if _is_mine(name, adapter))
        _refuse([f"{name} is not in the file" for name in missing])
        check_fingerprints(self, adapter)
        return info

    marked: Any = load_adapter
    marked._structmat = True
    PeftModel.load_adapter = load_adapter  # type: ignore[method-assign]
    PeftAdapterMixin.load_adapter = load_into  # type: ignore[method-assign]


def _adapter_name(load: Any, *args: Any, **kwargs: Any) -> str:
    """Return the name of the adapter that a call of `load_adapter` loads."""
    given = inspect.signature(load).bind(*args, **kwargs).arguments.get("adapter_name")
    return str(given or "default")


def _check_factors(model: Any, given: Mapping[str, Any]) -> None:
    """Raise an error if an existing adapter has other factors of the generators than a saved one.

    PEFT loads only tensors into an existing adapter, as trainers do when they resume. The tensors
    are not converted, because the optimiser's state refers to them as they are stored.

    Raises
    ------
    FileError
        If the factors differ.
    """
    name, folder = given["adapter_name"], given["model_id"]
    if name not in model.peft_config:
        return
    try:
        options = {key: given["kwargs"][key] for key in _PLACE if key in given.get("kwargs", {})}
        config = StructmatConfig.from_pretrained(folder, **options)
    except StructmatError:
        raise
    except ValueError:  # there is no configuration next to the tensors
        return
    for place, layer in model.base_model.adapted().items():
        for rotation in layer.rotations(name):
            field = "complex" if rotation.unitary else "real"
            own, theirs = rotation.generator_scale, factor(config, rotation.network, field=field)
            if not math.isclose(own, theirs, rel_tol=1e-9):
                scaling = config.generator_scaling
                same = scaling == model.peft_config[name].generator_scaling
                option = "" if same else f"StructmatConfig(generator_scaling={scaling!r}) or "
                raise FileError(
                    f"{folder}: its tensors are multiplied by {theirs:.6g}, but those of adapter"
                    f" {name!r} by {own:.6g} ({place}); create the model with {option}"
                    f"PeftModel.from_pretrained(model, {str(folder)!r}, is_trainable=True)"
                )


def _compiled_names(model: nn.Module) -> dict[str, str]:
    """Return a mapping from patterns of names in a file to names in a partly compiled model."""
    names = [
        # A module that is trained in full is saved under its original name.
        ".".join(
            part
            for part in (*name.split("."), next(iter(own_modules(module))))
            if part not in _HELD
        )
        for name, module in model.named_modules()
        if is_torch_wrapper(module) and ".modules_to_save." not in name
    ]
    return {
        "^" + re.escape(f"{plain_name(name)}." if plain_name(name) else ""): f"{name}."
        for name in sorted(names, key=len, reverse=True)
    }
