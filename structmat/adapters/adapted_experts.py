"""Mixtures of experts with adapters: their own forward method runs with rotated weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from structmat.adapters.adapted_layer import AdaptedLayer, Wrapper
from structmat.nn.offloading import is_offloaded, loaded


class AdaptedExperts(Wrapper):
    """An experts module whose own forward method runs with weights rotated by adapters.

    It contains an `AdaptedLayer` for each adapted weight, under the name of the parameter. Each
    call rotates the weights of all experts; merging avoids this cost.

    Parameters
    ----------
    base_layer : nn.Module
        The experts module.
    layers : mapping from a parameter name to the layer with its adapters
    """

    def __init__(self, base_layer: nn.Module, layers: Mapping[str, AdaptedLayer]) -> None:
        super().__init__()
        self.base_layer = base_layer
        for name, layer in layers.items():
            self._modules[name] = layer  # add_module would reject the parameter's name
        self.train(base_layer.training)

    def stacks(self) -> Iterator[tuple[str, AdaptedLayer]]:
        """Yield the name and the layer of each adapted weight."""
        for name, module in self._modules.items():
            if isinstance(module, AdaptedLayer):
                yield name, module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of the experts with the rotated weights."""
        if is_offloaded(self.base_layer):  # its hooks would restore the unrotated weights
            for _, layer in self.stacks():
                layer.drop_stale()
            with loaded(self.base_layer):
                return self._run(*args, **kwargs)
        return self._run(*args, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        rotated: dict[str, Tensor] = {}
        for name, layer in self.stacks():
            if names := layer.unmerged_adapters():
                rotated[name] = layer.effective(names)
        if not rotated:
            return self.base_layer(*args, **kwargs)
        # tie_weights=False, so that other parameters sharing the tensor keep their values.
        return torch.func.functional_call(self.base_layer, rotated, args, kwargs, tie_weights=False)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, layer in self.stacks():
            if f"{prefix}base_layer.{name}" in state:
                layer.restore()  # the state contains the experts' original weight
        super()._load_from_state_dict(state, prefix, *args)
