"""The tuner layer for PEFT: `AdaptedLayer` with the methods that PEFT calls."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor

from structmat.adapters.adapted_experts import AdaptedExperts
from structmat.adapters.adapted_layer import INPUTS, OUTPUTS, SCALE, AdaptedLayer, checked_power
from structmat.adapters.layouts import Layer, Layout, LinearLayout
from structmat.adapters.layouts.quantised import backend, requantised
from structmat.adapters.recipes import Recipe
from structmat.errors import StructmatError, suggest
from structmat.nn.offloading import is_offloaded, loaded
from structmat.peft.config import StructmatConfig

BASE = "__base__"  # PEFT's name for no adapter, in mixed batches


class StructmatLayer(AdaptedLayer, BaseTunerLayer):
    """A layer with any number of adapters, created by `peft.get_peft_model`; see `AdaptedLayer`.

    Parameters
    ----------
    base_layer : nn.Module
        A layer supported by `structmat.adapters.layouts`; its weight is not modified.
    layout : type of Layout
        The layout of its weight.
    """

    adapter_layer_names = (INPUTS, OUTPUTS, SCALE)
    other_param_names = ("structmat_power", "r")
    saves_networks = False
    saves_original = False  # trainers send the merged weights of a state dict to other processes

    # Required by `peft.helpers.disable_input_dtype_casting`; it has no effect, since a rotation
    # preserves the dtype of activations.
    cast_input_dtype_enabled = True

    def __init__(self, base_layer: Layer, layout: type[Layout]) -> None:
        super().__init__(base_layer, layout)
        # The number of stages of each adapter; diffusers counts the entries to count the adapters.
        self.r: dict[str, int] = {}
        self._backend: Any = None  # if assigned, overrides the layer's backend

    def update_layer(self, name: str, recipe: Recipe, config: StructmatConfig) -> None:
        """Add an adapter, replacing any adapter of the same name.

        Parameters
        ----------
        name : str
        recipe : Recipe
        config : StructmatConfig
            PEFT's own settings.
        """
        self.add(name, recipe)
        self.r[name] = max((made.network.depth for made in self.rotations(name)), default=0)
        if not (config.init_weights or config._from_file):
            self._randomise(name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    @torch.no_grad()
    def _randomise(self, name: str) -> None:
        """Draw random rotations, for `init_weights=False`."""
        for module in self.rotations(name):
            for g in module.generators:
                g.normal_(std=0.2 / module.generator_scale)
        if name in self.structmat_scale:
            self.structmat_scale[name].add_(0.2 * torch.randn_like(self.structmat_scale[name]))

    def forward(
        self, x: Tensor, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any
    ) -> Tensor:
        """Return the outputs with the active adapters, or with a separate adapter for each sample.

        Parameters
        ----------
        x : (batch, ...)
        adapter_names : list of str, optional
            The adapter for each sample; "__base__" means none.

        Raises
        ------
        StructmatError
            If the numbers of names and samples differ, or adapters are merged.
        """
        if adapter_names is None:
            return super().forward(x, *args, **kwargs)
        return self._mixed(x, adapter_names, *args, **kwargs)

    def _mixed(self, x: Tensor, adapter_names: list[str], *args: Any, **kwargs: Any) -> Tensor:
        """Return the outputs with a separate adapter for each sample.

        Raises
        ------
        StructmatError
            If the numbers of names and samples differ, or adapters are merged.
        """
        if is_offloaded(self.base_layer):
            with loaded(self.base_layer):
                return self._mixed(x, adapter_names, *args, **kwargs)
        if len(x) == 1:  # shared by all samples, such as positions
            x = x.expand(len(adapter_names), *x.shape[1:])
        if len(adapter_names) != len(x):
            raise StructmatError(
                "Length of `adapter_names` should be the same as the number of inputs, but got"
                f" {len(adapter_names)} and {len(x)}: give one for each sample, {BASE!r} for no"
                " adapter"
            )
        if self.merged and not self.disable_adapters:
            raise StructmatError(
                "Cannot pass `adapter_names` when there are merged adapters, please call"
                " `unmerge_adapter` first."
            )
        parts, places = [], []
        for name in dict.fromkeys(adapter_names):
            rows = [k for k, other in enumerate(adapter_names) if other == name]
            places.append(torch.tensor(rows, device=x.device))
            names = [] if self.disable_adapters else self.acting([name])
            parts.append(self._run(x[places[-1]], names, *args, **kwargs))
        return torch.cat(parts)[torch.cat(places).argsort()]

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:  # noqa: ARG002, FBT001, FBT002 (PEFT's signature)
        """Merge adapters, by default the active ones; `safe_merge` is always implied."""
        self.merge_adapters(check_adapters_to_merge(self, adapter_names))

    def unmerge(self) -> None:
        """Restore the layer's original weight exactly."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
        self.restore()

    def enable_adapters(self, enabled: bool) -> None:  # noqa: FBT001 (PEFT's signature)
        """Enable or disable adapters; disabling restores the original weight of a merged layer."""
        if not enabled:
            self.restore()
        elif self.merged and self.disable_adapters:  # merged while adapters were disabled
            made, own = self._aside, self._held()
            self._hold(made)
            self._set_aside(own)
        super().enable_adapters(enabled)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return the change that one adapter makes to the layer's weight, in its layout and dtype.

        Parameters
        ----------
        adapter : str
            An adapter of the layer.

        Raises
        ------
        StructmatError
            If the layer has no such adapter, or the weight would contain NaN or infinity.
        """
        if adapter not in self.structmat_power:
            raise StructmatError(
                f"adapter {adapter!r}: this layer has no adapter of this name"
                f"{suggest(adapter, self.structmat_power)}"
            )
        return self.merged_weight([adapter]) - self.own_weight

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:  # noqa: ARG002 (PEFT's signature)
        """Return whether PEFT can approximate the adapter by LoRA: only for linear layers."""
        return issubclass(self.layout, LinearLayout)

    def get_base_weight(self) -> Tensor:
        """Return the layer's current weight in floating point."""
        return self._floating(self._held()).data

    def set_base_weight(self, weight_data: Tensor) -> None:
        """Replace the layer's current weight; for a quantised layer, the new one is quantised."""
        if self.quantised:
            self.base_layer = requantised(self.base_layer, weight_data, self.requantise)
        else:
            self.base_layer.weight.data = weight_data

    def scale_layer(self, scale: float) -> None:
        """Multiply the powers of the active adapters by a number.

        Raises
        ------
        StructmatError
            As for `set_scale`.
        """
        factor = checked_power(scale)
        self.set_scales({name: self.structmat_power[name] * factor for name in self.acting()})

    def unscale_layer(self, scale: float | None = None) -> None:
        """Divide the powers of the active adapters by a number, or set them to 1.

        Raises
        ------
        StructmatError
            If the number is 0, or a block does not have the resulting power.
        """
        if scale is None:
            self.set_scales(dict.fromkeys(self.acting(), 1.0))
            return
        divisor = checked_power(scale)
        if divisor == 0:
            raise StructmatError(
                f"scale={scale!r}: powers cannot be divided by 0; unscale_layer() sets them to 1"
            )
        self.set_scales({name: self.structmat_power[name] / divisor for name in self.acting()})

    @property
    def in_features(self) -> int:
        """The number of inputs in PEFT's sense, such as the channels of a convolution."""
        return self.layout.features(self.base_layer)[0]

    @property
    def out_features(self) -> int:
        """The number of outputs in PEFT's sense, such as channels or the embedding dimension."""
        return self.layout.features(self.base_layer)[1]

    @property
    def quantization_backend(self) -> Any:
        """PEFT's quantisation backend for the layer, which PEFT's reports name, or None."""
        if self._backend is not None or not self.quantised:
            return self._backend
        return backend(self.base_layer, self.requantise)

    @quantization_backend.setter
    def quantization_backend(self, value: Any) -> None:
        self._backend = value

    def extra_repr(self) -> str:
        """Return the quantisation backend for the repr, as PEFT's own layers do."""
        known = self.quantization_backend
        return "" if known is None else f"quantization_backend={known.backend_name!r}"

    def _move_adapter_to_device_of_base_layer(
        self, adapter_name: str, device: torch.device | None = None
    ) -> None:
        """Move an adapter to the device of its layer, without casting it to the layer's dtype."""
        target = self.layout.number_type(self.base_layer)[1] if device is None else device
        rotations = self.rotations(adapter_name)
        tensors = [p for rotation in rotations for p in rotation.parameters()]
        if target.type == "meta" or any(p.is_meta for p in tensors):
            return
        for rotation in rotations:
            rotation.to(target)
        if adapter_name in self.structmat_scale:
            scale = self.structmat_scale[adapter_name]
            scale.data = scale.data.to(target)

    def _replaces(self, prefix: str, key: str, value: Tensor) -> bool:
        if not super()._replaces(prefix, key, value):
            return False
        name = key.removeprefix(prefix)
        if name.startswith("base_layer.") and (self.quantised or name != "base_layer.weight"):
            return self.quantised
        held = dict(self.named_parameters()).get(name)
        if held is None or held.is_meta or value.is_meta or held.shape != value.shape:
            return held is not None
        return not torch.equal(held, value.to(held.device, held.dtype))

    def __repr__(self) -> str:
        return f"structmat.{super().__repr__()}"


class StructmatLinear(StructmatLayer):
    """A linear layer with adapters, which PEFT's "all-linear" recognises by its class name."""


class StructmatExperts(AdaptedExperts):
    """Experts with adapters, which PEFT removes in the same way as its own module wrappers."""

    def unload_and_optionally_merge_module(
        self,
        merge: bool,  # noqa: FBT001 (PEFT's signature)
        safe_merge: bool,  # noqa: FBT001, ARG002
        adapter_names: list[str] | None,
    ) -> Any:
        """Return the experts, with merged weights if requested."""
        if merge:
            for _, layer in self.stacks():
                layer.merge_adapters(adapter_names)
        return self.base_layer
