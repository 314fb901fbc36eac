"""The weight that the adapters of a layer make."""

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
    """A layer with adapters, as far as its weight and its outputs depend on it."""

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
        """The layer's own weight, or the quantised layer that holds it."""

    @property
    def merged(self) -> bool:
        """Whether adapters are merged."""

    @property
    def disable_adapters(self) -> bool:
        """Whether no adapter acts."""

    def acting(self, names: Iterable[str]) -> list[str]:
        """Return those of some adapters that the layer has."""

    def turns(self, name: str) -> list[Turn]:
        """Return the rotations of an adapter."""

    def outputs_turned(self, y: Tensor, name: str) -> Tensor:
        """Return outputs rotated and scaled by an adapter."""

    def effective(self, names: Iterable[str]) -> Tensor:
        """Return the weight that adapters make."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Return the parameters and their names."""


def effective(layer: Adapted, names: Iterable[str]) -> Tensor:
    """Return the weight that adapters make, one after the other, in the layout of the layer's.

    Parameters
    ----------
    layer : Adapted
    names : iterable of str
        Adapters that the layer has.
    """
    if is_offloaded(layer.base_layer):
        with loaded(layer.base_layer):
            return effective(layer, names)
    base, kind = layer.base_layer, layer.kind
    weight = floating(layer)
    neurons = kind.neurons(base, weight).to(at_least_float32(weight.dtype))
    for name in names:
        if name in layer.structmat_inputs:
            turned = layer.structmat_inputs[name](kind.rows(base, neurons))
            neurons = kind.from_rows(base, turned)
        turned = layer.outputs_turned(kind.by_outputs(base, neurons), name)
        neurons = kind.from_outputs(base, turned)
    return kind.from_neurons(base, neurons).to(weight.dtype)


def floating(layer: Adapted) -> Tensor:
    """Return the layer's own weight in floating point, whether adapters are merged or not."""
    own: Tensor = in_floating_point(layer.own) if layer.quantised else layer.own
    return own


def loads_another(layer: Adapted, state: Mapping[str, Tensor], prefix: str) -> bool:
    """Return whether loading a state changes what is merged: the weight, or an adapter's tensors.

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
    """Return whether two tensors hold the same numbers."""
    if held.is_meta or other.is_meta or held.shape != other.shape:
        return False
    return torch.equal(held, other.to(held.device, held.dtype))


@torch.no_grad()
def merged(layer: Adapted, names: Iterable[str]) -> Tensor:
    """Return the same without dropout, as a tensor of its own.

    Raises
    ------
    StructmatError
        When it holds NaN or infinity.
    """
    chosen = list(names)
    turns = [turn for name in chosen for turn in layer.turns(name)]
    modes = [turn.training for turn in turns]
    try:
        for turn in turns:
            turn.eval()
        made = effective(layer, chosen).clone(memory_format=torch.contiguous_format)
    finally:
        for turn, mode in zip(turns, modes, strict=True):
            turn.train(mode)
    if not made.is_meta and not torch.isfinite(made).all():
        raise StructmatError(
            "NaNs detected in the merged weights: the weight would hold NaN or infinity. The"
            f" adapter {' or '.join(chosen)} seems to be broken, or the model itself is"
        )
    return made
