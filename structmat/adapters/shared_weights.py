"""Rules for adapting, training, merging and saving weights that several modules share.

Interchangeable layers (of the same class, with equal settings and the same weight and bias) count
as one layer with several names, and share one adapter. Every other use of a weight, such as an
output head tied to an embedding, is a separate layer, which keeps its weight when another use is
adapted. Merging therefore breaks the tie, and `untie` records this in the configuration of a
transformers model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import combinations
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from structmat.errors import StructmatError
from structmat.nn.torch_internals import has_hooks, own_buffers, own_modules, own_parameters

Slot: TypeAlias = tuple[int, str]  # the identity of a module, and the name of one of its parameters


def shared_tensors(tensors: Mapping[Any, Tensor]) -> list[list[Any]]:
    """Return the groups of two or more keys whose tensors share memory, ordered by key.

    Tensors share memory if they are the same object, or views of one storage with an element in
    common. Views of one storage without a common element do not, since they change independently.

    Parameters
    ----------
    tensors : mapping from any key to a tensor

    Examples
    --------
    >>> table = torch.zeros(4, 2)
    >>> shared_tensors({"a": table[:2], "b": table[2:], "c": table.T[:, 1:], "d": torch.ones(2)})
    [['a', 'c'], ['b', 'c']]
    """
    first: dict[int, Any] = {}
    same: dict[Any, list[Any]] = {}
    for key, tensor in tensors.items():
        same.setdefault(first.setdefault(id(tensor), key), []).append(key)
    homes: dict[Any, list[Any]] = {}
    for key in same:
        if (home := _storage(tensors[key])) is not None:
            homes.setdefault(home, []).append(key)
    groups = [keys for keys in same.values() if len(keys) > 1]
    for keys in homes.values():
        views = {key: _view(tensors[key]) for key in keys}
        groups += [
            [*same[a], *same[b]]
            for a, b in combinations(keys, 2)
            if np.shares_memory(views[a], views[b])
        ]
    return groups


def _storage(tensor: Tensor) -> tuple[str, int] | None:
    """Return the device and address of the storage of a tensor, if it has one."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
        return None  # tensors of other libraries are compared by identity only
    address = 0 if tensor.is_meta else tensor.untyped_storage().data_ptr()
    return (str(tensor.device), address) if address and tensor.numel() else None


def _view(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return an array at the addresses of a tensor on any device; the memory is never read."""
    size = tensor.element_size()
    described = {
        "data": (tensor.data_ptr(), True),
        "shape": tuple(tensor.shape),
        "strides": tuple(step * size for step in tensor.stride()),
        "typestr": f"|V{size}",
        "version": 3,
    }
    return np.asarray(SimpleNamespace(__array_interface__=described))


# One layer under several names -----------------------------------------------------------------


def same_layers(model: nn.Module) -> dict[int, nn.Module]:
    """Return, by the identity of each module, the first module that is the same layer.

    For most modules, this is the module itself. Two modules are the same layer if they are
    interchangeable: of the same class, with equal settings, and with the same weight and bias.

    Examples
    --------
    >>> model = nn.ModuleDict({"a": nn.Embedding(4, 2), "b": nn.Embedding(4, 2)})
    >>> model["b"].weight = model["a"].weight
    >>> same_layers(model)[id(model["b"])] is model["a"]
    True
    """
    by_weight: dict[int, list[nn.Module]] = {}
    first: dict[int, nn.Module] = {}
    for module in model.modules():
        weight = own_parameters(module).get("weight")
        if weight is None or own_modules(module):
            first[id(module)] = module
            continue
        others = by_weight.setdefault(id(weight), [])
        first[id(module)] = next((m for m in others if _interchangeable(m, module)), module)
        if first[id(module)] is module:
            others.append(module)
    return first


def names_of_layers(model: nn.Module) -> list[list[str]]:
    """Return all names of each layer of a model, in the order of the model.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> names_of_layers(nn.Sequential(layer, nn.ReLU(), layer))
    [[''], ['0', '2'], ['1']]
    """
    first = same_layers(model)
    found: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        found.setdefault(id(first[id(module)]), []).append(name)
    return list(found.values())


def _interchangeable(one: nn.Module, other: nn.Module) -> bool:
    if type(one) is not type(other) or any(map(has_hooks, (one, other))):
        return False
    mine, theirs = (own_parameters(module) for module in (one, other))
    if mine.keys() != theirs.keys() or any(mine[name] is not theirs[name] for name in mine):
        return False
    mine, theirs = (_settings(module) for module in (one, other))
    return mine.keys() == theirs.keys() and all(_equal(mine[k], theirs[k]) for k in mine)


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return the settings of a layer: its attributes and buffers, without its parameters."""
    own = {k: v for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
    return own | own_buffers(module)


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        both = isinstance(one, Tensor) and isinstance(other, Tensor)
        return both and not one.is_meta and not other.is_meta and torch.equal(one, other)
    try:
        return bool(one == other)
    except (TypeError, ValueError, RuntimeError):  # types that cannot be compared
        return False


# Parameters that are trained while others are frozen -------------------------------------------


def check_apart(model: nn.Module, trained: Mapping[Slot, str]) -> None:
    """Raise an error if trained parameters share memory with frozen ones.

    Parameters
    ----------
    model : nn.Module
    trained : mapping from a slot to text
        The parameters to train, with the option and the name given by the user.

    Raises
    ------
    StructmatError
        If a trained and a frozen parameter share memory; the message names both.
    """
    if not trained:
        return
    slots = dict(_slots(model))
    for group in shared_tensors({slot: tensor for slot, (_, tensor) in slots.items()}):
        mine = [slot for slot in group if slot in trained]
        others = [slot for slot in group if slot not in trained]
        if mine and others:
            raise StructmatError(
                f"{trained[mine[0]]} shares memory with {slots[others[0]][0]}, which is frozen and"
                " would change with it; train all modules that share it in full, or first give"
                " each its own tensor (in transformers: tie_word_embeddings=False)"
            )


def shared_slots(model: nn.Module) -> set[Slot]:
    """Return the slots of all parameters that share memory with another parameter.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> model[1].weight = model[0].weight
    >>> {name for _, name in shared_slots(model)}
    {'weight'}
    """
    tensors = {slot: tensor for slot, (_, tensor) in _slots(model)}
    return {slot for group in shared_tensors(tensors) for slot in group}


def slots_in(module: nn.Module) -> Iterator[Slot]:
    """Yield the slots of all parameters in a module and its submodules."""
    for part in module.modules():
        yield from ((id(part), name) for name, p in own_parameters(part).items() if p is not None)


def biases(model: nn.Module, layers: Mapping[str, Any], option: str) -> dict[Slot, str]:
    """Return a description of each layer's bias by slot, for `check_apart`; it names the option."""
    names = {id(layer): name for name, layer in layers.items()}
    slots: dict[Slot, str] = {
        (id(layer.owner), f"{layer.part}_bias"): name  # of a stacked expert weight
        for name, layer in layers.items()
        if not isinstance(layer, nn.Module)
    }
    for module, first in same_layers(model).items():
        if id(first) in names:
            slots[module, "bias"] = names[id(first)]
    return {slot: f"{option}: the bias of {name}" for slot, name in slots.items()}


def check_norms(model: nn.Module, layers: Mapping[str, Any]) -> None:
    """Raise an error if an embedding scales rows of a shared weight in place.

    A lookup in an embedding with `max_norm` writes to its weight. Merging gives the embedding its
    own weight, so layers that shared the old one would no longer see the change.

    Raises
    ------
    StructmatError
        If another layer reads such a weight; the message names both layers.
    """
    kept = {n: m for n, m in layers.items() if getattr(m, "max_norm", None) is not None}
    if not kept:
        return
    first, slots = same_layers(model), dict(_slots(model))
    for group in shared_tensors({slot: tensor for slot, (_, tensor) in slots.items()}):
        for name, layer in kept.items():
            others = [slot for slot in group if first[slot[0]] is not first[id(layer)]]
            if others and len(others) < len(group):
                raise StructmatError(
                    f"{name}: an embedding with max_norm={layer.max_norm} writes to its weight on"
                    f" each lookup, but {slots[others[0]][0]}, which shares this weight, would no"
                    " longer change with it after merging; exclude this layer"
                )


def _slots(model: nn.Module) -> Iterator[tuple[Slot, tuple[str, Tensor]]]:
    """Yield every parameter, once for each module that contains it."""
    for place, module in model.named_modules():
        for name, value in own_parameters(module).items():
            if value is not None:
                yield (id(module), name), (f"{place}.{name}" if place else name, value)


# Ties that a configuration declares ------------------------------------------------------------

FLAG = "tie_word_embeddings"


def untie(model: nn.Module) -> None:
    """Remove the ties that a transformers model declares but its weights no longer satisfy.

    The flag `tie_word_embeddings` becomes false, and all other parameters that it tied get their
    own tensors, since the flag applies to all of them. In an encoder–decoder model, the flag is
    kept: there, it also selects a factor for the outputs (T5), and transformers does not tie
    weights that differ in the files.

    Parameters
    ----------
    model : nn.Module
        A model without adapters. Models from other libraries declare no ties.
    """
    parts = {name: module for name, module in model.named_modules() if _declares(module)}
    for name in sorted(parts, key=lambda name: -len(name.split(".")) if name else 0):
        module: Any = parts[name]
        ties: dict[str, str] = module.all_tied_weights_keys
        broken = [t for t, s in ties.items() if not _is_tied(module, t, s)]
        if not broken:
            continue
        kept = is_kept(module.config)
        for target in list(ties):
            if kept and target not in broken:
                continue
            if target not in broken:
                _part(module, target, ties[target])
            full = f"{name}.{target}" if name else target
            for place, other in parts.items():
                held: dict[str, str] = other.all_tied_weights_keys
                if not place or f"{name}.".startswith(f"{place}."):
                    held.pop(full.removeprefix(f"{place}."), None)
        if kept:
            setattr(module.config, FLAG, True)  # PEFT has set it to false
        else:
            clear_flags(module.config)


def is_kept(config: Any) -> bool:
    """Return whether a configuration keeps its flag when a tie is broken."""
    return bool(getattr(config, "is_encoder_decoder", False))


def clear_flags(config: Any) -> None:
    """Set the flag to false in a configuration and in nested ones."""
    for part in _configs(config):
        if getattr(part, FLAG, False):
            setattr(part, FLAG, False)


def _configs(config: Any) -> Iterator[Any]:
    yield config
    for value in list(vars(config).values()):
        if hasattr(value, "to_dict") and hasattr(value, FLAG):
            yield from _configs(value)


def _declares(module: nn.Module) -> bool:
    declared = vars(module).get("all_tied_weights_keys")
    return isinstance(declared, dict) and hasattr(module, "config")


def _is_tied(module: nn.Module, target: str, source: str) -> bool:
    one, other = (_found(module, name) for name in (target, source))
    return one is None or other is None or one is other or _storage_of(one) == _storage_of(other)


def _storage_of(tensor: Tensor) -> Any:
    return _storage(tensor) or id(tensor)


def _found(module: nn.Module, name: str) -> Tensor | None:
    """Return the parameter or buffer of this name, or None."""
    place, _, part = name.rpartition(".")
    try:
        owner = module.get_submodule(place)
    except AttributeError:
        return None
    value = getattr(owner, part, None)
    return value if isinstance(value, Tensor) else None


def _part(module: nn.Module, target: str, source: str) -> None:
    """Give a parameter that is tied to another its own tensor."""
    place, _, part = target.rpartition(".")
    above, _, own = place.rpartition(".")
    owner = module.get_submodule(place)
    value = getattr(owner, part)
    if owner is module.get_submodule(source.rpartition(".")[0]):
        setattr(module.get_submodule(above), own, copy.deepcopy(owner))
        return
    copied = value.detach().clone()
    if isinstance(value, nn.Parameter):
        copied = nn.Parameter(copied, requires_grad=value.requires_grad)
    setattr(owner, part, copied)
