"""The tuner layer of PEFT: a layer with the rotations of several adapters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from structmat.adapters.layouts import (
    Adapter,
    Layer,
    LinearAdapter,
    QuantisedLinearAdapter,
    own_behaviour,
    sees_weight,
)
from structmat.adapters.layouts.quantised import backend, in_floating_point, requantised
from structmat.errors import StructmatError, suggest
from structmat.networks.network import Network
from structmat.nn.offloading import Factors, applied, hold, is_offloaded, loaded
from structmat.nn.parametrizations import at_least_float32
from structmat.nn.stage_selection import checked_stages
from structmat.peft import forward as running
from structmat.peft import weights
from structmat.peft.config import StructmatConfig
from structmat.peft.networks import LayerPlan
from structmat.peft.partial_rotation import Turn


class Around(nn.Module):
    """A wrapper of a module that forwards the lookup of missing attributes to it."""

    base_layer: Layer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Only public attributes: others may have been attached by other libraries.
            if name.startswith("_") or name == "base_layer":
                raise
            return getattr(self.base_layer, name)


class StructmatLayer(Around, BaseTunerLayer):
    """A layer with weight W' = s ⊙ (P·W·Rᵀ): R rotates neurons, P and s rotate and scale outputs.

    Layers are created by `peft.get_peft_model`. Several active adapters act one after the other,
    each on the weight produced by the previous ones; the order is the same for merging and for
    activations. `weight` is the effective weight, so that modules that read it instead of calling
    the layer, such as `nn.MultiheadAttention`, get the right one.

    Parameters
    ----------
    base_layer : nn.Module
        A layer supported by `structmat.adapters.layouts`; its weight is not modified.
    kind : type of Adapter
        The kind of adapter, which defines the layout of the weight.
    """

    adapter_layer_names = ("structmat_inputs", "structmat_outputs", "structmat_scale")
    other_param_names = ("structmat_power", "r")

    # Required by `peft.helpers.disable_input_dtype_casting`; it has no effect, since a rotation
    # preserves the dtype of activations.
    cast_input_dtype_enabled = True

    # Whether something may read the weight instead of calling the layer.
    weight_is_read = True

    def __init__(self, base_layer: Layer, kind: type[Adapter]) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.kind = kind
        self.stock = own_behaviour(base_layer, kind.takes) is None
        self.sees_weight = kind.calls_base and sees_weight(base_layer, kind.takes)
        self.structmat_inputs = nn.ModuleDict()
        self.structmat_outputs = nn.ModuleDict()
        self.structmat_scale = Factors()
        self.structmat_power: dict[str, float] = {}
        # The number of stages of each adapter; diffusers counts the adapters by it.
        self.r: dict[str, int] = {}
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._aside: Any = None  # while merged: the original or merged weight, whichever is unused
        self.quantised = issubclass(kind, QuantisedLinearAdapter)
        self._backend: Any = None  # assigned from outside, overriding that of the layer
        self.requantise: Callable[[], Any] | None = None  # as in `QuantisedLinearAdapter`

    def update_layer(self, name: str, plan: LayerPlan, config: StructmatConfig) -> None:
        """Add an adapter, or replace the one of this name.

        Parameters
        ----------
        name : str
        plan : LayerPlan
            The networks.
        config : StructmatConfig
            All other settings.
        """
        dtype, device = self.kind.number_type(self.base_layer)
        dtype = at_least_float32(dtype)

        def rotation(net: Network) -> Turn:
            return Turn(
                net,
                parametrization=config.parametrization,
                dtype=dtype,
                device=device,
                dropout=config.dropout,
                reduced=config.reduced,
                plan=config.plan,
            )

        if plan.inputs is not None:
            self.structmat_inputs[name] = rotation(plan.inputs)
        if plan.outputs is not None:
            self.structmat_outputs[name] = rotation(plan.outputs)
        if config.scale:
            outputs = self.kind.output_width(self.base_layer)
            self.structmat_scale[name] = nn.Parameter(
                torch.ones(outputs, dtype=dtype, device=device)
            )
        self.structmat_power[name] = 1.0
        self.r[name] = max((made.network.depth for made in self.turns(name)), default=0)
        if not (config.init_weights or config._from_file):
            self._disturb(name)
        for module in self.turns(name):
            module.train(self.training)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    @torch.no_grad()
    def _disturb(self, name: str) -> None:
        """Draw random rotations, for `init_weights=False`."""
        for module in self.turns(name):
            for g in module.generators:
                g.normal_(std=0.2)
        if name in self.structmat_scale:
            self.structmat_scale[name].add_(0.2 * torch.randn_like(self.structmat_scale[name]))

    def turns(self, name: str) -> list[Turn]:
        """Return the rotations of an adapter, that of the inputs first."""
        sides = (self.structmat_inputs, self.structmat_outputs)
        found = [side[name] for side in sides if name in side]
        return [rotation for rotation in found if isinstance(rotation, Turn)]

    # The forward pass -----------------------------------------------------------------------

    def acting(self, names: Iterable[str]) -> list[str]:
        """Return those of the given adapters that the layer has."""
        return [name for name in names if name in self.structmat_power]

    def forward(
        self, x: Tensor, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any
    ) -> Tensor:
        """Return the layer's outputs with the active adapters, or with one for each sample.

        Parameters
        ----------
        x : (batch, ...)
        adapter_names : list of str, optional
            The adapter of each sample, "__base__" for none.
        """
        if adapter_names is not None:
            return running.mixed(self, x, adapter_names, *args, **kwargs)
        if is_offloaded(self.base_layer):
            with loaded(self.base_layer):
                return self._run(x, *args, **kwargs)
        return self._run(x, *args, **kwargs)

    def _run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters or self.merged:
            plain: Tensor = self.base_layer(x, *args, **kwargs)
            return plain
        return running.adapted(self, x, self.acting(self.active_adapters), *args, **kwargs)

    def outputs_turned(self, y: Tensor, name: str) -> Tensor:
        """Return activations (..., out) rotated and scaled by an adapter."""
        if name in self.structmat_outputs:
            y = self.structmat_outputs[name](y)
        factors = self.factors(name)
        return y if factors is None else (y * factors).to(y.dtype)

    def factors(self, name: str) -> Tensor | None:
        """Return the output factors of an adapter, 1 + power·(s − 1), or None."""
        if name not in self.structmat_scale:
            return None
        scale = self.structmat_scale()[name]
        power = self.structmat_power[name]
        return scale if power == 1 else 1 + power * (scale - 1)

    # The weight -----------------------------------------------------------------------------

    # A layer is merged, disabled, both or neither. Code that reads its weight, under any name,
    # gets the effective weight: the layer contains the merged one only while adapters are enabled.

    def effective(self, names: Iterable[str]) -> Tensor:
        """Return the effective weight for given adapters, in the layer's layout and dtype."""
        return weights.effective(self, names)

    @property
    def weight(self) -> Tensor:
        """The effective weight, with gradients."""
        names = self.acting(self.active_adapters)
        if self.merged or self.disable_adapters or not names or not self.weight_is_read:
            plain: Tensor = self.base_layer.weight
            return plain
        return self.effective(names)

    @property
    def own(self) -> Any:
        """The layer's original weight, merged or not; for a quantised layer, the original layer."""
        return self._aside if self.merged and not self.disable_adapters else self._held()

    def _held(self) -> Any:
        return self.base_layer if self.quantised else self.base_layer.weight

    def _hold(self, value: Any) -> None:
        if self.quantised:
            self.base_layer = value
        else:
            hold(self.base_layer, value)

    def _set_aside(self, value: Any) -> None:
        object.__setattr__(self, "_aside", value)  # not registered as a parameter of this module

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:  # noqa: ARG002, FBT001, FBT002 (PEFT's signature)
        """Replace the layer's weight by the effective one; `unmerge` restores the original exactly.

        While adapters are disabled, the merged weight is stored until they are enabled.

        Parameters
        ----------
        safe_merge : bool
            Ignored: a merged weight is always checked before it replaces the original.
        adapter_names : list of str, optional
            The adapters to merge; by default the active ones.

        Raises
        ------
        StructmatError
            If the merged weight contains NaN or infinity. The layer is unchanged.
        """
        names = self.acting(check_adapters_to_merge(self, adapter_names))
        if names:
            self._merge([*self.merged_adapters, *names])

    def _merge(self, names: list[str]) -> None:
        own = self.own
        merged = self.merged_weight(names)
        if self.quantised:
            made = requantised(own, merged, self.requantise)
        else:
            # A new parameter, so that layers sharing the weight, as tied embeddings, keep theirs.
            made = nn.Parameter(merged, requires_grad=own.requires_grad)
        self.merged_adapters[:] = names
        self._hold(own if self.disable_adapters else made)
        self._set_aside(made if self.disable_adapters else own)

    def merged_weight(self, names: Iterable[str]) -> Tensor:
        """Return the effective weight for given adapters, without dropout.

        Raises
        ------
        StructmatError
            If it contains NaN or infinity.
        """
        return weights.merged(self, names)

    def unmerge(self) -> None:
        """Restore the layer's original weight exactly."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        self._hold(self.own)
        self._set_aside(None)
        self.merged_adapters.clear()

    def enable_adapters(self, enabled: bool) -> None:  # noqa: FBT001 (PEFT's signature)
        """Enable or disable adapters; disabling restores the original weight of a merged layer."""
        if self.merged and not enabled:
            self.unmerge()
        elif self.merged and self.disable_adapters:  # merged while disabled
            made, own = self._aside, self._held()
            self._hold(made)
            self._set_aside(own)
        super().enable_adapters(enabled)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return the change of the layer's weight by one adapter, in its layout and dtype.

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
        return self.merged_weight([adapter]) - weights.floating(self)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:  # noqa: ARG002 (PEFT's signature)
        """Return whether PEFT can approximate the adapter by LoRA, as for linear layers only."""
        return issubclass(self.kind, LinearAdapter)

    def get_base_weight(self) -> Tensor:
        """Return the layer's current weight in floating point."""
        if self.quantised:
            return in_floating_point(self.base_layer)
        weight: Tensor = self.base_layer.weight.data
        return weight

    def set_base_weight(self, weight_data: Tensor) -> None:
        """Replace the layer's current weight; a quantised layer quantises it."""
        if self.quantised:
            self.base_layer = requantised(self.base_layer, weight_data, self.requantise)
        else:
            self.base_layer.weight.data = weight_data

    # Powers and stages -----------------------------------------------------------------------

    def set_scale(self, adapter: str, scale: float) -> None:
        """Raise an adapter to a power: 0 is the identity, 1 the adapter, 0.5 halves every angle.

        The rotation angles of each block are multiplied by the power, so the weight stays a
        rotation of W. Output factors become 1 + scale·(s − 1). Unknown adapters are ignored.
        """
        if adapter not in self.structmat_power:
            return
        value = float(scale)
        if not torch.isfinite(torch.tensor(value)):
            raise StructmatError(f"scale={scale!r}: it must be a finite number, such as 0.5")
        self.structmat_power[adapter] = value
        for rotation in self.turns(adapter):
            rotation.set_power(value)
        self._merge_again(adapter)

    def _merge_again(self, adapter: str) -> None:
        """Merge again after a change of a merged adapter."""
        if adapter in self.merged_adapters:
            self._merge(self.acting(self.merged_adapters))

    def scale_layer(self, scale: float) -> None:
        """Multiply the powers of the active adapters by a number."""
        for name in self.acting(self.active_adapters):
            self.set_scale(name, self.structmat_power[name] * scale)

    def unscale_layer(self, scale: float | None = None) -> None:
        """Divide the powers of the active adapters by a number, or set them to 1."""
        for name in self.acting(self.active_adapters):
            self.set_scale(name, 1.0 if scale is None else self.structmat_power[name] / scale)

    def keep_stages(self, adapter: str, stages: Iterable[int] | slice | None) -> None:
        """Keep only some stages of an adapter's rotations; None restores all.

        The other stages are replaced by the identity, so the weight stays a rotation of W. The
        generators are kept, and this setting is not saved. Unknown adapters are ignored.

        Parameters
        ----------
        adapter : str
        stages : iterable of int, slice or None
            0 is the first stage to act.

        Raises
        ------
        StructmatError
            If a network has no stage with a given index. The layer is unchanged.
        """
        wanted = stages if stages is None or isinstance(stages, slice) else list(stages)
        rotations = self.turns(adapter)
        if wanted is not None:
            for rotation in rotations:
                checked_stages(wanted, rotation.network.depth)
        for rotation in rotations:
            rotation.set_stages(wanted)
        self._merge_again(adapter)

    # The interface of PEFT and torch --------------------------------------------------------

    @property
    def in_features(self) -> int:
        """The number of inputs in PEFT's sense, such as the channels of a convolution."""
        return self.kind.features(self.base_layer)[0]

    @property
    def out_features(self) -> int:
        """The number of outputs in PEFT's sense, such as channels or the embedding dimension."""
        return self.kind.features(self.base_layer)[1]

    @property
    def quantization_backend(self) -> Any:
        """PEFT's backend for the quantisation of the layer, which its reports name, or None."""
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
        target = self.kind.number_type(self.base_layer)[1] if device is None else device
        tensors = [p for rotation in self.turns(adapter_name) for p in rotation.parameters()]
        if target.type == "meta" or any(p.is_meta for p in tensors):
            return
        for rotation in self.turns(adapter_name):
            rotation.to(target)
        if adapter_name in self.structmat_scale:
            scale = self.structmat_scale[adapter_name]
            scale.data = scale.data.to(target)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        super()._apply(fn, recurse)
        if self.merged:
            if self.quantised:
                self._aside._apply(fn)
            else:
                self._set_aside(applied(self._aside, fn))
        return self

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.merged and weights.loads_another(self, state, prefix):
            self.unmerge()  # the state contains another weight or adapter
        super()._load_from_state_dict(state, prefix, *args)

    def __repr__(self) -> str:
        return f"structmat.{super().__repr__()}"


class StructmatLinear(StructmatLayer):
    """A linear layer with adapters, which PEFT's "all-linear" recognises by its class name."""
