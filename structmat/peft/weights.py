"""The effective weight of a layer with adapters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from structmat.adapters.layouts import Adapter
from structmat.adapters.layouts.quantised import in_floating_point
from structmat.errors import StructmatError
from structmat.nn.offloading import Factors, is_offloaded, loaded
from structmat.nn.parametrizations import at_least_float32
from structmat.peft.names import PREFIX
from structmat.peft.partial_rotation import Turn


class Adapted(Protocol):
    """The interface of a layer with adapters on which its weight and outputs depend."""

    base_layer: Any
    kind: type[Adapter]
    quantised: bool
    stock: bool
    sees_weight: bool
    structmat_inputs: nn.ModuleDict
    structmat_outputs: nn.ModuleDict
    structmat_scale: Factors
    merged_adapters: list[str]

    @property
    def own(self) -> Any:
        """The layer's original weight, or the original quantised layer."""

    @property
    def merged(self) -> bool:
        """Whether adapters are merged."""

    @property
    def disable_adapters(self) -> bool:
        """Whether adapters are disabled."""

    def acting(self, names: Iterable[str]) -> list[str]:
        """Return those of the given adapters that the layer has."""

    def turns(self, name: str) -> list[Turn]:
        """Return the rotations of an adapter."""

    def outputs_turned(self, y: Tensor, name: str) -> Tensor:
        """Return outputs rotated and scaled by an adapter."""

    def effective(self, names: Iterable[str]) -> Tensor:
        """Return the effective weight for given adapters."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Return the parameters and their names."""


def effective(layer: Adapted, names: Iterable[str]) -> Tensor:
    """Return the weight after applying adapters one after the other, in the layer's layout.

    Parameters
    ----------
    layer : Adapted
    names : iterable of str
        Adapters of the layer.
    """
    if is_offloaded(layer.base_layer):
        with loaded(layer.base_layer):
            return effective(layer, names)
    base, kind = layer.base_layer, layer.kind
    weight = floating(layer)
    neurons = kind.neurons(base, weight).to(at_least_float32(weight.dtype))
    for name in names:
        if name in layer.structmat_inputs:
            rows = layer.structmat_inputs[name](kind.rows(base, neurons))
            neurons = kind.from_rows(base, rows)
        outputs = layer.outputs_turned(kind.by_outputs(base, neurons), name)
        neurons = kind.from_outputs(base, outputs)
    return kind.from_neurons(base, neurons).to(weight.dtype)


def floating(layer: Adapted) -> Tensor:
    """Return the layer's original weight in floating point, whether adapters are merged or not."""
    own: Tensor = in_floating_point(layer.own) if layer.quantised else layer.own
    return own


def loads_another(layer: Adapted, state: Mapping[str, Tensor], prefix: str) -> bool:
    """Return whether a state differs from a merged layer in its weight or in a merged adapter.

    Parameters
    ----------
    layer : Adapted
        A merged layer.
    state : mapping from a name to a tensor
    prefix : str
        The prefix of the layer's names in the state.
    """
    if layer.quantised and any(key.startswith(f"{prefix}base_layer.") for key in state):
        return True
    names = set(layer.merged_adapters)
    return any(
        f"{prefix}{name}" in state and not same(value, state[f"{prefix}{name}"])
        for name, value in layer.named_parameters()
        if name == "base_layer.weight" or (name.startswith(PREFIX) and names & set(name.split(".")))
    )


def same(held: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same values."""
    if held.is_meta or other.is_meta or held.shape != other.shape:
        return False
    return torch.equal(held, other.to(held.device, held.dtype))


@torch.no_grad()
def merged(layer: Adapted, names: Iterable[str]) -> Tensor:
    """Return the effective weight for given adapters without dropout, as a new tensor.

    Raises
    ------
    StructmatError
        If it contains NaN or infinity.
    """
    chosen = list(names)
    rotations = [rotation for name in chosen for rotation in layer.turns(name)]
    modes = [rotation.training for rotation in rotations]
    try:
        for rotation in rotations:
            rotation.eval()
        made = effective(layer, chosen).clone(memory_format=torch.contiguous_format)
    finally:
        for rotation, mode in zip(rotations, modes, strict=True):
            rotation.train(mode)
    if not made.is_meta and not torch.isfinite(made).all():
        raise StructmatError(
            "NaNs detected in the merged weights: the weight would contain NaN or infinity. The"
            f" adapter {' or '.join(chosen)} seems to be broken, or the model itself is"
        )
    return made
