"""Mixtures of experts with adapters, whose stacked weights are given by `target_parameters`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from structmat.adapters.distributed import unwrapped
from structmat.adapters.layouts import Stack, StackAdapter, named_layers
from structmat.errors import StructmatError, suggest
from structmat.nn.offloading import is_offloaded, loaded
from structmat.peft import weights
from structmat.peft.layer import Around, StructmatLayer

TRAINED_WHOLE = ("modules_to_save", "original_module")  # PEFT's names of copies


class StructmatExperts(Around):
    """Experts whose own forward method is called with weights rotated by adapters.

    It contains a `StructmatLayer` for each adapted weight, by the name of the parameter, which PEFT
    treats as the adapted layers. Each call rotates the weights of all experts; merging avoids this
    cost.

    Parameters
    ----------
    base_layer : nn.Module
        The module of the experts.
    """

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.train(base_layer.training)

    def stacks(self) -> Iterator[tuple[str, StructmatLayer]]:
        """Yield the adapted weights by the name of the parameter."""
        for name, module in self._modules.items():
            if isinstance(module, StructmatLayer):
                yield name, module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of the experts with the rotated weights."""
        if is_offloaded(self.base_layer):  # its hooks would restore the unrotated weights
            with loaded(self.base_layer):
                return self._run(*args, **kwargs)
        return self._run(*args, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        rotated: dict[str, torch.Tensor] = {}
        for name, layer in self.stacks():
            if not (layer.disable_adapters or layer.merged):
                names = layer.acting(layer.active_adapters)
                rotated |= {name: layer.effective(names)} if names else {}
        if not rotated:
            return self.base_layer(*args, **kwargs)
        # Without tie_weights, so that other parameters sharing the tensor keep their values.
        return torch.func.functional_call(self.base_layer, rotated, args, kwargs, tie_weights=False)

    def unload_and_optionally_merge_module(
        self,
        merge: bool,  # noqa: FBT001 (PEFT's signature)
        safe_merge: bool,  # noqa: FBT001
        adapter_names: list[str] | None,
    ) -> nn.Module:
        """Return the experts, with merged weights if requested."""
        if merge:
            for _, layer in self.stacks():
                layer.merge(safe_merge=safe_merge, adapter_names=adapter_names)
        return self.base_layer

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, layer in self.stacks():
            held = layer.base_layer.weight
            if layer.merged and not weights.same(
                held, state.get(f"{prefix}base_layer.{name}", held)
            ):
                layer.unmerge()  # the state contains the experts' original weight
        super()._load_from_state_dict(state, prefix, *args)


def chosen(
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
        If a name matches no stacked weight, the model itself is the module of experts, or their
        biases are to be trained.
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
            "target_parameters: the model itself is the module of experts, which cannot be"
            " replaced; put it into another module, or use structmat.adapters.adapt"
        )
    for name in asked:
        if not any(_ends(full, name) for full in every):
            known = {part for full in every for part in (full, ".".join(full.split(".")[-2:]))}
            raise StructmatError(
                f"target_parameters: {name!r} is not a stacked weight of experts in this model"
                f"{suggest(name, known) if known else ', which has none'}; list layers in"
                " target_modules"
            )
    found = {full: s for full, s in every.items() if any(_ends(full, name) for name in asked)}
    biased = next((full for full, stack in found.items() if stack.bias is not None), None)
    if biased is not None and config.bias == "structmat_only":
        raise StructmatError(
            f"bias='structmat_only': {biased} has biases of experts, which PEFT would train but"
            " not save; use bias='none'"
        )
    numbers = config.layers_to_transform
    if numbers is not None and numbers != []:
        numbers = [numbers] if isinstance(numbers, int) else list(numbers)
        found = {f: s for f, s in found.items() if index(f, config.layers_pattern) in numbers}
    return found


def put(model: nn.Module, name: str, stack: Stack) -> StructmatLayer:
    """Return the layer with adapters of a stacked weight, inserting it into the model if needed.

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
        held = StructmatExperts(stack.owner)
        setattr(inside.get_submodule(above), own, held)
    layer = held._modules.get(part)
    if not isinstance(layer, StructmatLayer):
        layer = StructmatLayer(stack, StackAdapter)
        layer.train(stack.owner.training)
        held._modules[part] = layer  # add_module would conflict with the parameter's name
    return layer


def _ends(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")
