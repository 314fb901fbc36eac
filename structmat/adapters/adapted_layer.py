"""A layer with adapters: its effective weight, its forward pass, merging and unmerging."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from structmat.adapters.distributed import is_sharded
from structmat.adapters.layouts import (
    Adapter,
    Layer,
    Layout,
    QuantisedLinearLayout,
    Stack,
    own_behaviour,
    sees_weight,
)
from structmat.adapters.layouts.quantised import in_floating_point, requantised
from structmat.adapters.partial_rotation import PartialRotation
from structmat.adapters.recipes import Recipe
from structmat.errors import StructmatError, abbreviated
from structmat.nn.offloading import Factors, applied, hold, is_held, is_offloaded, loaded
from structmat.nn.orthogonal_layer import Orthogonal, shapes_of
from structmat.nn.parametrizations import at_least_float32
from structmat.nn.parametrizations.generators import real_dtype
from structmat.nn.stage_selection import listed

PREFIX = "structmat_"  # begins the names of an adapter's parameters
INPUTS, OUTPUTS, SCALE = (PREFIX + part for part in ("inputs", "outputs", "scale"))
_LARGEST = 1_000_000  # maximum magnitude of the power of an adapter
ONLY = "default"  # the name of the adapter that `adapt` adds


class Wrapper(nn.Module):
    """A wrapper of a module in which missing public attributes are looked up."""

    base_layer: Layer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Only public attributes: others may have been attached by other libraries.
            if name.startswith("_") or name in ("base_layer", "rotation"):
                raise
            return getattr(self.base_layer, name)


class AdaptedLayer(Wrapper):
    """A layer with weight W' = s ⊙ (P·W·Rᵀ), where R rotates neurons, and P and s act on outputs.

    If the weight is complex, R and P are unitary, and W' = s ⊙ (P·W·Rᴴ).

    A bias is neither rotated nor scaled. `adapt` adds one adapter, PEFT any number of them. If
    several are active, each acts on the weight that the previous ones produced; the order is the
    same whether they are merged or applied to activations.

    Other public attributes are looked up in the wrapped layer. `weight` is the effective weight W',
    with gradients, so that a module that reads a layer's weight instead of calling the layer (as
    `nn.MultiheadAttention` does) gets the right one.

    Parameters
    ----------
    base_layer : nn.Module
        A layer supported by `structmat.adapters.layouts`; its weight is not modified.
    layout : type of Layout
        The layout of its weight.

    Notes
    -----
    Rotating neurons follows the BOFT paper, (R W0)ᵀ with neurons as the columns of W0, and PEFT's
    BOFT, W' = (W Rᵀ) ⊙ s for each output. Rotating outputs follows LyCORIS.
    """

    # Whether another module may read the weight instead of calling the layer.
    weight_is_read = True
    # Whether files contain whole networks, so that a network with fewer stages can be saved.
    saves_networks = True

    # Whether the state dict of a merged layer contains the original weight.
    saves_original = True

    # As in PEFT's layers.
    _disable_adapters = False
    _active_adapter: str | list[str] = ONLY

    def __init__(self, base_layer: Layer, layout: type[Layout]) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.layout = layout
        self.quantised = issubclass(layout, QuantisedLinearLayout)
        self._stock = own_behaviour(base_layer, layout.layer_classes) is None
        self._sees_weight = sees_weight(base_layer, layout.layer_classes)
        self.structmat_inputs = nn.ModuleDict()
        self.structmat_outputs = nn.ModuleDict()
        self.structmat_scale = Factors()
        self.structmat_power: dict[str, float] = {}
        self.merged_adapters: list[str] = []
        self.trains_bias = False
        self.saves_base = False  # whether the layer's own weight is saved with the adapter
        self.untied = False  # whether that weight replaced one that other layers share
        # A function that returns the torchao config, which quantised tensors do not record; a model
        # that transformers quantised stores the config.
        self.requantise: Callable[[], Any] | None = None
        self._aside: Any = None  # while merged: the original or merged weight, whichever is unused
        self.register_state_dict_post_hook(_with_own_weight)
        self.train(base_layer.training)

    def add(self, name: str, recipe: Recipe) -> None:
        """Add an adapter, replacing any adapter of the same name.

        Raises
        ------
        StructmatError
            If a network does not have the width of its side of the layer, or another adapter of the
            layer has a different `field`.
        """
        dtype, device = self.layout.number_type(self.base_layer)
        dtype = at_least_float32(dtype)
        for side, network in recipe.networks.items():
            width = self.layout.rotated_width(self.base_layer, side)
            if network.width != width and recipe.field != self.layout.field:
                raise StructmatError(
                    f"field={recipe.field!r}: the layer has an adapter with"
                    f" field={self.layout.field!r}, and all adapters of a convolution need the same"
                    " field"
                )
            if network.width != width:
                raise StructmatError(
                    f"the network has width {network.width}, but the layer has {width} {side}; the"
                    " two must be equal"
                )
            rotation = PartialRotation(
                network,
                parametrization=recipe.parametrization,
                dtype=dtype,
                device=device,
                dropout=recipe.dropout,
                reduced=recipe.reduced,
                generator_scaling=recipe.scaling_of(side),
                plan=recipe.plan,
            )
            getattr(self, PREFIX + side)[name] = rotation.train(self.training)
        if recipe.scale:
            outputs = self.layout.output_width(self.base_layer)
            ones = torch.ones(outputs, dtype=real_dtype(dtype), device=device)
            self.structmat_scale[name] = nn.Parameter(ones)
        self.structmat_power[name] = 1.0
        self.trains_bias = recipe.bias and self.bias is not None
        self.saves_base, self.untied = recipe.base, recipe.untied

    # The adapters ---------------------------------------------------------------------------

    @property
    def merged(self) -> bool:
        """Whether adapters are merged into the weight."""
        return bool(self.merged_adapters)

    @property
    def active_adapters(self) -> list[str]:
        """The names of the active adapters, in the order in which they act."""
        active = self._active_adapter
        return [active] if isinstance(active, str) else active

    def acting(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the given adapters (by default the active ones) that this layer has."""
        wanted = self.active_adapters if names is None else names
        return [name for name in wanted if name in self.structmat_power]

    def adapter(self, name: str) -> Adapter:
        """Return the rotations and output factors of an adapter, raised to its current power."""
        modules = self._modules  # directly, since this runs in every forward pass
        inputs, outputs = (modules[side]._modules for side in (INPUTS, OUTPUTS))  # type: ignore[union-attr]
        return Adapter(inputs.get(name), outputs.get(name), self.factors(name))  # type: ignore[arg-type]

    def factors(self, name: str) -> Tensor | None:
        """Return the output factors of an adapter, 1 + power·(s − 1), or None."""
        if name not in self.structmat_scale:
            return None
        scale = self.structmat_scale()[name]
        power = self.structmat_power[name]
        return scale if power == 1 else 1 + power * (scale - 1)

    def by_side(self, name: str = ONLY) -> dict[str, Orthogonal]:
        """Return the rotations of an adapter by attribute name, inputs first."""
        sides = {side: getattr(self, side) for side in (INPUTS, OUTPUTS)}
        return {side: held[name] for side, held in sides.items() if name in held}

    def rotations(self, name: str = ONLY) -> list[Orthogonal]:
        """Return the rotations of an adapter, inputs first."""
        return list(self.by_side(name).values())

    @property
    def rotation(self) -> Orthogonal:
        """The only rotation; a layer with several has no such attribute (see `rotations`)."""
        found = [r for name in self.structmat_power for r in self.rotations(name)]
        if len(found) != 1:
            raise AttributeError(name="rotation", obj=self)
        return found[0]

    @property
    def scale(self) -> nn.Parameter | None:
        """The trained output factors of the adapter that `adapt` added, or None."""
        return self.structmat_scale.get(ONLY)

    @property
    def bias(self) -> Any:
        """The layer's bias, or None."""
        return getattr(self.base_layer, "bias", None)

    # The forward pass -----------------------------------------------------------------------

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's outputs with the active adapters."""
        if is_offloaded(self.base_layer):
            self.drop_stale()
            with loaded(self.base_layer):
                return self._run(x, self.unmerged_adapters(), *args, **kwargs)
        return self._run(x, self.unmerged_adapters(), *args, **kwargs)

    def unmerged_adapters(self) -> list[str]:
        """Return the adapters that act on the layer's current weight."""
        return [] if self.merged_adapters or self._disable_adapters else self.acting()

    def _run(self, x: Tensor, names: list[str], *args: Any, **kwargs: Any) -> Tensor:
        base = self.base_layer
        if not names:
            plain: Tensor = base(x, *args, **kwargs)
            return plain
        if self._sees_weight:
            # tie_weights=False, so that other parameters sharing the tensor keep their values.
            given = {"weight": self.effective(names)}
            run: Tensor = torch.func.functional_call(
                base, given, (x, *args), kwargs, tie_weights=False
            )
            return run
        adapters = [self.adapter(name) for name in names]
        return self.layout.forward(base, x, adapters, *args, stock=self._stock, **kwargs)

    # The weight -----------------------------------------------------------------------------

    # A layer is merged, disabled, both or neither. Code that reads its weight, under any name, gets
    # the effective weight: the layer contains the merged weight only while adapters are enabled.

    @property
    def weight(self) -> Tensor:
        """The effective weight, with gradients, in floating point."""
        if not self.weight_is_read:
            plain: Tensor = self.base_layer.weight
            return plain
        if is_offloaded(self.base_layer):
            self.drop_stale()
            with loaded(self.base_layer):
                return self._weight()
        return self._weight()

    def _weight(self) -> Tensor:
        names = self.unmerged_adapters()
        return self.effective(names) if names else self._floating(self._held())

    def effective(self, names: Iterable[str], weight: Tensor | None = None) -> Tensor:
        """Return the effective weight for given adapters, in the layer's layout and dtype.

        `weight`, if given, replaces the original weight, and its dtype is that of the result.
        """
        if is_offloaded(self.base_layer):
            with loaded(self.base_layer):
                return self.effective(names, weight)
        adapters = [self.adapter(name) for name in names]
        own = self._floating(self.own) if weight is None else weight
        return self.layout.effective(self.base_layer, own, adapters)

    def untie(self) -> None:
        """Give the layer its own copy of a weight that other layers share."""
        weight = self.base_layer.weight
        hold(self.base_layer, nn.Parameter(weight.detach().clone(), weight.requires_grad))
        self.untied = True

    @property
    def own(self) -> Any:
        """The layer's original weight, merged or not; for a quantised layer, the original layer."""
        return self._aside if self.merged and not self._disable_adapters else self._held()

    @property
    def own_weight(self) -> Tensor:
        """The layer's original weight in floating point, merged or not."""
        return self._floating(self.own)

    def _floating(self, held: Any) -> Tensor:
        weight: Tensor = in_floating_point(held) if self.quantised else held
        return weight

    def _held(self) -> Any:
        return self.base_layer if self.quantised else self.base_layer.weight

    def _hold(self, value: Any) -> None:
        if self.quantised:
            self.base_layer = value
        else:
            hold(self.base_layer, value)

    def _set_aside(self, value: Any) -> None:
        object.__setattr__(self, "_aside", value)  # not registered as a parameter of this module

    @torch.no_grad()
    def merged_weight(
        self, names: Iterable[str] | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Return the effective weight for given adapters without dropout, as a new tensor.

        `weight`, if given, replaces the original weight, and its dtype is that of the result.

        Raises
        ------
        StructmatError
            If the weight contains NaN or infinity.
        """
        names = self.acting(names)
        rotations = [rotation for name in names for rotation in self.rotations(name)]
        modes = [rotation.training for rotation in rotations]
        try:
            for rotation in rotations:
                rotation.eval()
            made = self.effective(names, weight).clone(memory_format=torch.contiguous_format)
        finally:
            for rotation, mode in zip(rotations, modes, strict=True):
                rotation.train(mode)
        _check_finite([made], names)
        return made

    def check_finite(self, names: Iterable[str] | None = None) -> None:
        """Raise an error if parameters of the given (by default, active) adapters are not finite.

        Raises
        ------
        StructmatError
            If a parameter contains NaN or infinity.
        """
        for name in self.acting(names):
            parts: list[Tensor] = [g for r in self.rotations(name) for g in r.generators]
            parts += [self.structmat_scale[name]] if name in self.structmat_scale else []
            _check_finite(parts, [name])

    def merge_adapters(self, names: Iterable[str] | None = None) -> None:
        """Replace the layer's weight by the effective one; `restore` restores the original exactly.

        The layer gets a new parameter, so other layers that share its weight keep the original.
        While adapters are disabled, the merged weight is stored until they are enabled.

        Parameters
        ----------
        names : iterable of str, optional
            The adapters to merge in addition to those already merged; by default the active ones.

        Raises
        ------
        StructmatError
            If the merged weight contains NaN or infinity, or the torchao config is unknown. The
            layer is unchanged.
        """
        if names := self.acting(names):
            self._merge([*self.merged_adapters, *names])

    # Tensors made in inference mode could not be trained or differentiated later.
    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def _merge(self, names: list[str]) -> None:
        own = self.own
        merged = self.merged_weight(names)
        if self.quantised:
            made = requantised(own, merged, self.requantise)
        else:
            made = nn.Parameter(merged, requires_grad=own.requires_grad)
        self.merged_adapters[:] = names
        self._hold(own if self._disable_adapters else made)
        self._set_aside(made if self._disable_adapters else own)

    def restore(self) -> None:
        """Restore the layer's original weight exactly, if it is merged."""
        if self.merged:
            self._hold(self.own)
            self._set_aside(None)
            self.merged_adapters.clear()

    def drop_stale(self) -> None:
        """Unmerge a layer that was offloaded after merging.

        Accelerate offloads the state dict, which contains the original weight, and would load that
        instead of the merged one.
        """
        if self.merged and not is_held(self.base_layer):
            self.restore()

    # Powers and stages ----------------------------------------------------------------------

    def set_scale(self, adapter: str, scale: float) -> None:
        """Raise an adapter to a power: 0 gives the identity, 1 the adapter, 0.5 half of each angle.

        The rotation angles of each block are multiplied by the power, so the weight stays a
        rotation of W. Output factors become 1 + scale·(s − 1). Unknown adapters are ignored.

        Raises
        ------
        StructmatError
            If the scale is not a finite number up to 10⁶ in magnitude, or a block has no such
            power. The layer is unchanged.
        """
        self.set_scales({adapter: scale})

    def set_scales(self, scales: Mapping[str, float]) -> None:
        """Raise several adapters to powers, all of them or none; see `set_scale`.

        Raises
        ------
        StructmatError
            As for `set_scale`.
        """
        powers = {n: checked_power(p) for n, p in scales.items() if n in self.structmat_power}
        with self._changing(powers):
            for name, value in powers.items():
                self.structmat_power[name] = value
                for rotation in self._partial(name):
                    rotation.set_power(value)

    def keep_stages(self, adapter: str, stages: Iterable[int] | slice | None) -> None:
        """Keep only some stages of an adapter's rotations; None restores all stages.

        The other stages act as the identity, so the weight stays a rotation of W. Their generators
        are kept, and the setting is not saved. Unknown adapters are ignored.

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
        wanted = None if stages is None else listed(stages)
        with self._changing([adapter]):
            for rotation in self._partial(adapter):
                rotation.set_stages(wanted)

    def _partial(self, adapter: str) -> list[PartialRotation]:
        return [r for r in self.rotations(adapter) if isinstance(r, PartialRotation)]

    @contextmanager
    def _changing(self, adapters: Iterable[str]) -> Iterator[None]:
        """Check changes that a `with` block makes to adapters, and merge again; undo on error."""
        names = list(adapters)
        powers = dict(self.structmat_power)
        before = [(r, r.power, r.kept) for name in names for r in self._partial(name)]
        try:
            yield
            with torch.no_grad():
                for rotation, power, kept in before:
                    changed = (rotation.power, rotation.kept) != (power, kept)
                    if changed and _is_whole(rotation):
                        rotation.blocks()  # raises an error for powers that do not exist
            if not set(names).isdisjoint(self.merged_adapters):
                self._merge(self.acting(self.merged_adapters))
        except BaseException:
            self.structmat_power.update(powers)
            for rotation, power, kept in before:
                rotation.power, rotation.kept = power, kept
            raise

    # The interface of torch -----------------------------------------------------------------

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        super()._apply(fn, recurse)
        if self.merged:
            if self.quantised:
                self._aside._apply(fn)
            else:
                self._set_aside(applied(self._aside, fn))
        return self

    def weight_key(self, prefix: str) -> str:
        """Return the name of the layer's weight in a state dict."""
        if isinstance(self.base_layer, Stack):
            part = self.base_layer.part
            return f"{prefix.removesuffix(f'{part}.')}base_layer.{part}"
        return f"{prefix}base_layer.weight"

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.merged and any(self._replaces(prefix, *item) for item in state.items()):
            self.restore()  # the state contains the original weight, or other merged adapters
        super()._load_from_state_dict(state, prefix, *args)

    def _replaces(self, prefix: str, key: str, value: Tensor) -> bool:  # noqa: ARG002 (for PEFT)
        """Return whether loading this tensor from a state dict changes the merged weight."""
        names = set(self.merged_adapters)
        return key.startswith(f"{prefix}base_layer.") or bool(
            key.startswith(prefix + PREFIX) and names & set(key.split("."))
        )


def _is_whole(rotation: Orthogonal) -> bool:
    """Return whether this process has all values of the generators, which may be sharded."""
    shapes = shapes_of(rotation)
    own = zip(rotation.generators, shapes, strict=True)
    return all(tuple(g.shape) == shape and not is_sharded(g) for g, shape in own)


def checked_power(scale: Any, name: str = "scale") -> float:
    """Return the power of an adapter as a float.

    Raises
    ------
    StructmatError
        If it is not a finite number up to 10⁶ in magnitude.
    """
    try:
        value = math.nan if isinstance(scale, str) else float(scale)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        value = math.nan
    if not abs(value) <= _LARGEST:
        raise StructmatError(
            f"{name}={abbreviated(scale)}: it must be a finite number of at most {_LARGEST:,} in"
            " magnitude, such as 0.5; larger multiples of an angle are not accurate"
        )
    return value


def _check_finite(tensors: Iterable[Tensor], names: Iterable[str]) -> None:
    if not all(t.is_meta or bool(torch.isfinite(t).all()) for t in tensors):
        raise StructmatError(
            f"NaNs detected in the merged weights. The adapter {' or '.join(names)} or the model"
            " itself contains NaN or infinity, as after training has diverged; lower the learning"
            " rate"
        )


def _with_own_weight(layer: AdaptedLayer, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Save the original weight of a merged layer, since its adapters are saved as well."""
    if not layer.merged or layer._disable_adapters or not layer.saves_original:
        return
    key = layer.weight_key(prefix)
    if layer.quantised:
        mine = f"{prefix}base_layer."
        for name in [name for name in state if name.startswith(mine)]:
            del state[name]
        layer.own.state_dict(destination=state, prefix=mine)  # HQQ needs the prefix as a keyword
    elif key in state:
        kept = isinstance(state[key], nn.Parameter)  # keep_vars
        state[key] = layer.own if kept else layer.own.detach()


@contextmanager
def all_or_none(layers: Mapping[str, AdaptedLayer], names: Iterable[str] | None) -> Iterator[None]:
    """Check adapters before they are merged, and undo the merge if the `with` block fails.

    Parameters
    ----------
    layers : mapping from a name to a layer
    names : iterable of str, optional
        The adapters to merge; by default the active ones.

    Raises
    ------
    StructmatError
        If a parameter contains NaN or infinity; the message names the layer.
    """
    chosen = None if names is None else list(names)
    for place, layer in layers.items():
        try:
            layer.check_finite(chosen)
        except StructmatError as error:
            raise StructmatError(f"{place}: {error}") from None
    before = [(layer, list(layer.merged_adapters)) for layer in layers.values()]
    try:
        yield
    except BaseException:
        for layer, merged in before:
            if layer.merged_adapters != merged:
                layer.restore()
                layer.merge_adapters(merged)
        raise
