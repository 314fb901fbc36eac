"""Adapters for mixtures of experts, whose stacked weights are selected by `target_parameters`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from structmat.adapters.distributed import unwrapped
from structmat.adapters.layouts import Stack, StackLayout, named_layers
from structmat.adapters.selection import ends_with
from structmat.errors import StructmatError, suggest
from structmat.nn.torch_internals import own_modules
from structmat.peft.layer import StructmatExperts, StructmatLayer

TRAINED_WHOLE = ("modules_to_save", "original_module")  # PEFT's names for copies of modules


def selected(
    model: nn.Module, config: Any, index: Callable[[str, Any], int | None]
) -> dict[str, Stack]:
    """Return the stacked weights that a configuration targets, by their names in the plain model.

    Parameters
    ----------
    model : nn.Module
        A model with or without adapters.
    config : StructmatConfig
    index : callable (name, layers_pattern) → int or None
        The index of a layer in the model's list of layers.

    Raises
    ------
    StructmatError
        If a name matches no stacked weight, the model itself is the experts module, or the
        configuration would train the experts' biases.
    """
    asked: Sequence[str] = config.target_parameters or ()
    if not asked:
        return {}
    every = {
        name.replace(".base_layer.", "."): layer
        for name, layer in named_layers(model)
        if isinstance(layer, Stack) and not set(TRAINED_WHOLE) & set(name.split("."))
    }
    if any("." not in full for full in every):
        raise StructmatError(
            "target_parameters: the model itself is the experts module, which cannot be replaced;"
            " wrap it in another module, or use structmat.adapters.adapt"
        )
    for name in asked:
        if not any(ends_with(full, name) for full in every):
            known = {part for full in every for part in (full, ".".join(full.split(".")[-2:]))}
            raise StructmatError(
                f"target_parameters: {name!r} is not a stacked expert weight in this model"
                f"{suggest(name, known) if known else ', which has none'}; list layers in"
                " target_modules"
            )
    found = {full: s for full, s in every.items() if any(ends_with(full, name) for name in asked)}
    biased = next((full for full, stack in found.items() if stack.bias is not None), None)
    if biased is not None and config.bias == "structmat_only":
        raise StructmatError(
            f"bias='structmat_only': {biased} has expert biases, which PEFT would train but not"
            " save; use bias='none'"
        )
    if numbers := config.layer_numbers:
        found = {f: s for f, s in found.items() if index(f, config.layers_pattern) in numbers}
    return found


def put(model: nn.Module, name: str, stack: Stack) -> StructmatLayer:
    """Return the adapter layer of a stacked weight, inserting it into the model if needed.

    Parameters
    ----------
    model : nn.Module
    name : str
        The name of the parameter in the plain model.
    stack : Stack
    """
    place, _, part = name.rpartition(".")
    above, _, own = place.rpartition(".")
    inside = unwrapped(model)
    held = inside.get_submodule(place)
    if not isinstance(held, StructmatExperts):
        held = StructmatExperts(stack.owner, {})
        setattr(inside.get_submodule(above), own, held)
    layer = own_modules(held).get(part)
    if not isinstance(layer, StructmatLayer):
        layer = StructmatLayer(stack, StackLayout)
        own_modules(held)[part] = layer
    return layer
