"""A layer beside the rotations of several adapters, as PEFT's own tuner layers are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from structmat.errors import StructmatError, suggest
from structmat.network import Network
from structmat.nn.adapters import (
    Adapter,
    Layer,
    LinearAdapter,
    QuantisedLinearAdapter,
    own_behaviour,
    sees_weight,
)
from structmat.nn.adapters.quantised import backend, in_floating_point, requantised
from structmat.nn.blocks import at_least_float32
from structmat.nn.offloading import Factors, applied, hold, is_offloaded, loaded
from structmat.nn.peft import running, weights
from structmat.nn.peft.config import StructmatConfig
from structmat.nn.peft.planning import LayerPlan
from structmat.nn.peft.turning import Turn
from structmat.nn.stages import checked_stages


class Around(nn.Module):
    """A module around another, whose attributes it has where it has none of its own."""

    base_layer: Layer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Of the layer: what it says of itself. Not what other libraries hang on modules.
            if name.startswith("_") or name == "base_layer":
                raise
            return getattr(self.base_layer, name)


class StructmatLayer(Around, BaseTunerLayer):
    """A layer whose weight is W' = s ⊙ (P·W·Rᵀ): neurons turn by R, outputs by P and s.

    Made by `peft.get_peft_model`. Several active adapters act one after the other, each on the
    weight that those before it made: in their order for merging, and for activations, too.
    `weight` is the effective weight, so that modules which read it instead of calling the layer,
    as `nn.MultiheadAttention` does, get the right one.

    Parameters
    ----------
    base_layer : nn.Module
        Of a kind that `structmat.nn.adapters` knows; its weight is left as it is.
    kind : type of Adapter
        Which knows the layout of its weight.
    """

    adapter_layer_names = ("structmat_inputs", "structmat_outputs", "structmat_scale")
    other_param_names = ("structmat_power", "r")

    # Of PEFT's tuner layers, for `peft.helpers.disable_input_dtype_casting`. A rotation keeps the
    # dtype of activations, so nothing is cast either way.
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
        self._aside: Any = None  # while merged: the own or the merged weight, whichever is not used
        self.quantised = issubclass(kind, QuantisedLinearAdapter)
        self._backend: Any = None  # assigned by others, in place of the one of the layer
        self.requantise: Callable[[], Any] | None = None  # as in `QuantisedLinearAdapter`

    def update_layer(self, name: str, plan: LayerPlan, config: StructmatConfig) -> None:
        """Add an adapter, or replace the one of this name.

        Parameters
        ----------
        name : str
        plan : LayerPlan
            The networks.
        config : StructmatConfig
            All else.
        """
        dtype, device = self.kind.number_type(self.base_layer)
        dtype = at_least_float32(dtype)

        def turn(net: Network) -> Turn:
            return Turn(
                net,
                config.blocks,
                dtype=dtype,
                device=device,
                dropout=config.dropout,
                reduced=config.reduced,
                plan=config.plan,
            )

        if plan.inputs is not None:
            self.structmat_inputs[name] = turn(plan.inputs)
        if plan.outputs is not None:
            self.structmat_outputs[name] = turn(plan.outputs)
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
        """Draw random rotations, as `init_weights=False` asks."""
        for module in self.turns(name):
            for g in module.generators:
                g.normal_(std=0.2)
        if name in self.structmat_scale:
            self.structmat_scale[name].add_(0.2 * torch.randn_like(self.structmat_scale[name]))

    def turns(self, name: str) -> list[Turn]:
        """Return the rotations of an adapter, that of the inputs first."""
        sides = (self.structmat_inputs, self.structmat_outputs)
        found = [side[name] for side in sides if name in side]
        return [turn for turn in found if isinstance(turn, Turn)]

    # What acts ------------------------------------------------------------------------------

    def acting(self, names: Iterable[str]) -> list[str]:
        """Return those of some adapters that the layer has."""
        return [name for name in names if name in self.structmat_power]

    def forward(
        self, x: Tensor, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any
    ) -> Tensor:
        """Return the layer's outputs with the active adapters, or with one for each sample.

        Parameters
        ----------
        x : (batch, ...)
        adapter_names : list of str, optional
            An adapter for each sample, "__base__" for none.
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
        """Return activations (..., out) turned and scaled."""
        if name in self.structmat_outputs:
            y = self.structmat_outputs[name](y)
        factors = self.factors(name)
        return y if factors is None else (y * factors).to(y.dtype)

    def factors(self, name: str) -> Tensor | None:
        """Return the factors of the outputs, those of an adapter to a power drawn towards 1."""
        if name not in self.structmat_scale:
            return None
        scale = self.structmat_scale()[name]
        power = self.structmat_power[name]
        return scale if power == 1 else 1 + power * (scale - 1)

    # The weight -----------------------------------------------------------------------------

    # A layer is merged, disabled, both or neither. Code that reads its weight, under any name,
    # gets the weight in effect: the merged one is in the layer only while adapters are enabled.

    def effective(self, names: Iterable[str]) -> Tensor:
        """Return the weight that these adapters make, in the layout and dtype of the layer's."""
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
        """The layer's own weight, merged or not; for a quantised layer, the layer that holds it."""
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
        """Put the effective weight in the layer; `unmerge` restores the one before, exactly.

        While adapters are disabled, the merged weight is kept aside until they are enabled.

        Parameters
        ----------
        safe_merge : bool
            Of no consequence: a merged weight is always checked before it is put in place.
        adapter_names : list of str, optional
            Which adapters; by default the active ones.

        Raises
        ------
        StructmatError
            When the merged weight holds NaN or infinity. The layer is unchanged.
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
            # A new parameter: a layer that shares this weight, as a tied embedding, keeps it.
            made = nn.Parameter(merged, requires_grad=own.requires_grad)
        self.merged_adapters[:] = names
        self._hold(own if self.disable_adapters else made)
        self._set_aside(made if self.disable_adapters else own)

    def merged_weight(self, names: Iterable[str]) -> Tensor:
        """Return the weight that adapters make, without dropout.

        Raises
        ------
        StructmatError
            When it holds NaN or infinity.
        """
        return weights.merged(self, names)

    def unmerge(self) -> None:
        """Put the layer's own weight back, to the last bit."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        self._hold(self.own)
        self._set_aside(None)
        self.merged_adapters.clear()

    def enable_adapters(self, enabled: bool) -> None:  # noqa: FBT001 (PEFT's signature)
        """Enable adapters, or disable them, which puts the own weight of a merged layer back."""
        if self.merged and not enabled:
            self.unmerge()
        elif self.merged and self.disable_adapters:  # merged meanwhile
            made, own = self._aside, self._held()
            self._hold(made)
            self._set_aside(own)
        super().enable_adapters(enabled)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return what one adapter adds to the layer's own weight, in the weight's layout and dtype.

        Parameters
        ----------
        adapter : str
            An adapter of the layer.

        Raises
        ------
        StructmatError
            When the layer has no such adapter, or the weight would hold NaN or infinity.
        """
        if adapter not in self.structmat_power:
            raise StructmatError(
                f"adapter {adapter!r}: this layer has no adapter of this name"
                f"{suggest(adapter, self.structmat_power)}"
            )
        return self.merged_weight([adapter]) - weights.floating(self)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:  # noqa: ARG002 (PEFT's signature)
        """Return whether PEFT can approximate the adapter by LoRA: for linear layers only."""
        return issubclass(self.kind, LinearAdapter)

    def get_base_weight(self) -> Tensor:
        """Return the weight now in the layer, in floating point."""
        if self.quantised:
            return in_floating_point(self.base_layer)
        weight: Tensor = self.base_layer.weight.data
        return weight

    def set_base_weight(self, weight_data: Tensor) -> None:
        """Put another weight in the layer; a quantised layer quantises it."""
        if self.quantised:
            self.base_layer = requantised(self.base_layer, weight_data, self.requantise)
        else:
            self.base_layer.weight.data = weight_data

    # Powers and stages -----------------------------------------------------------------------

    def set_scale(self, adapter: str, scale: float) -> None:
        """Let an adapter act to a power: 0 the identity, 1 itself, 0.5 half of every angle.

        Each block turns by that part of its angles, so the weight stays a rotation of W. Factors
        of outputs go to 1 + scale·(s − 1). An adapter that is not here is passed over.
        """
        if adapter not in self.structmat_power:
            return
        value = float(scale)
        if not torch.isfinite(torch.tensor(value)):
            raise StructmatError(f"scale={scale!r}: it must be a finite number, such as 0.5")
        self.structmat_power[adapter] = value
        for turn in self.turns(adapter):
            turn.set_power(value)
        self._merge_anew(adapter)

    def _merge_anew(self, adapter: str) -> None:
        """Merge again when a merged adapter has changed."""
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
        """Let only some stages of an adapter's rotations act; None lets all of them act again.

        The others are the identity, so the weight stays a rotation of W. Nothing is lost, and
        nothing of it is saved. An adapter that is not here is passed over.

        Parameters
        ----------
        adapter : str
        stages : iterable of int, slice or None
            0 is the first that acts.

        Raises
        ------
        StructmatError
            When a number is no stage of a network. The layer is unchanged.
        """
        wanted = stages if stages is None or isinstance(stages, slice) else list(stages)
        turns = self.turns(adapter)
        if wanted is not None:
            for turn in turns:
                checked_stages(wanted, turn.network.depth)
        for turn in turns:
            turn.set_stages(wanted)
        self._merge_anew(adapter)

    # What PEFT and torch ask ----------------------------------------------------------------

    @property
    def in_features(self) -> int:
        """The inputs, as PEFT counts them, such as the channels of a convolution."""
        return self.kind.features(self.base_layer)[0]

    @property
    def out_features(self) -> int:
        """The outputs, channels or numbers of an embedding."""
        return self.kind.features(self.base_layer)[1]

    @property
    def quantization_backend(self) -> Any:  # type: ignore[override]
        """What PEFT has for a layer quantised like this one, which its reports name, or None."""
        if self._backend is not None or not self.quantised:
            return self._backend
        return backend(self.base_layer, self.requantise)

    @quantization_backend.setter
    def quantization_backend(self, value: Any) -> None:
        self._backend = value

    def extra_repr(self) -> str:
        """Say how the layer is quantised, as PEFT's own layers do."""
        known = self.quantization_backend
        return "" if known is None else f"quantization_backend={known.backend_name!r}"

    def _move_adapter_to_device_of_base_layer(
        self, adapter_name: str, device: torch.device | None = None
    ) -> None:
        """Move an adapter to where its layer is; PEFT would also cast it to the layer's dtype."""
        target = self.kind.number_type(self.base_layer)[1] if device is None else device
        tensors = [p for turn in self.turns(adapter_name) for p in turn.parameters()]
        if target.type == "meta" or any(p.is_meta for p in tensors):
            return
        for turn in self.turns(adapter_name):
            turn.to(target)
        if adapter_name in self.structmat_scale:
            scale = self.structmat_scale[adapter_name]
            scale.data = scale.data.to(target)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        super()._apply(fn, recurse)
        if self.merged:  # moves with the rest
            if self.quantised:
                self._aside._apply(fn)
            else:
                self._set_aside(applied(self._aside, fn))
        return self

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.merged and weights.loads_another(self, state, prefix):
            self.unmerge()  # the state holds the layer's own weight, or another adapter
        super()._load_from_state_dict(state, prefix, *args)

    def __repr__(self) -> str:
        return f"structmat.{super().__repr__()}"


class StructmatLinear(StructmatLayer):
    """A linear layer with adapters: by this name PEFT counts it among "all-linear"."""
