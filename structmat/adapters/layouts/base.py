"""The base class of adapters: the rotation, the output scale, merging and unmerging."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from structmat.adapters.layouts.requirements import (
    Layer,
    checked_side,
    named,
    own_behaviour,
    plain_weight,
    sees_weight,
)
from structmat.errors import StructmatError
from structmat.networks.network import Network
from structmat.nn.offloading import applied, device_of, hold, is_offloaded, loaded
from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.parametrizations import at_least_float32


class Adapter(nn.Module):
    """A layer whose weight is rotated: W' = s ⊙ W·Rᵀ, with an optional trained output scale s.

    With `side="outputs"`, it is W' = s ⊙ R·W; a bias is not rotated.

    Adapters are created by `adapt`; the subclasses define how a kind of layer lays out its weight.
    Other attributes are looked up in the layer. `weight` is the effective weight W', with
    gradients, so that code that reads the weight of a layer (as `nn.MultiheadAttention` does) gets
    the right one.

    Parameters
    ----------
    base : nn.Module
        The layer, whose weight is not modified.
    network : Network
        A network of width `turned_width(base, side)`.
    side : {"inputs", "outputs"}
        Whether to rotate the inputs that each neuron reads, or the outputs of all neurons.
    parametrization, dropout, reduced, plan
        As for `Orthogonal`.
    scale : bool
        Whether to train a factor for each output, initially 1; a bias is not scaled.
    bias : bool
        Whether the layer's bias, if any, is trained with the adapter and saved with it.

    Notes
    -----
    The convention is that of the BOFT paper, (R W0)ᵀ with neurons as the columns of W0, and of
    PEFT's BOFT: W' = (W Rᵀ) ⊙ s for each output. Rotated outputs are the convention of LyCORIS.
    """

    base: Layer
    calls_base: ClassVar[bool] = True  # whether activations go through the layer's own forward
    scales_outputs: ClassVar[bool] = False  # whether the scale is applied to the layer's outputs
    takes: ClassVar[str]  # the class name of the layer, since transformers may not be installed
    field: ClassVar[str] = "receptive"  # what a rotation acts on, if there is a choice

    def __init__(
        self,
        base: Layer,
        network: Network,
        *,
        side: str = "inputs",
        parametrization: str = "cayley",
        scale: bool = False,
        bias: bool = False,
        dropout: tuple[float, float] = (0.0, 0.0),
        reduced: bool = False,
        plan: str = "auto",
    ) -> None:
        super().__init__()
        width = self.turned_width(base, side)
        if network.width != width:
            has = "reads" if side == "inputs" else "has"
            raise StructmatError(
                f"a network of width {network.width} for a layer that {has} {width} {side}: the"
                " two must be equal"
            )
        # Adapters that scale the layer's outputs also rotate them.
        products = scale or (side == "outputs" and not self.scales_outputs)
        check_layer(base, type(self), products=products)
        dtype, device = self.number_type(base)
        dtype = at_least_float32(dtype)
        self._stock = own_behaviour(base, self.takes) is None
        self._sees_weight = self.calls_base and sees_weight(base, self.takes)
        self.base = base
        self.side = side
        self.rotation = Orthogonal(
            network,
            parametrization=parametrization,
            dtype=dtype,
            device=device,
            dropout=dropout,
            reduced=reduced,
            plan=plan,
        )
        outputs = self.output_width(base)
        self.scale = (
            nn.Parameter(torch.ones(outputs, dtype=dtype, device=device)) if scale else None
        )
        self.trains_bias = bias and self.bias is not None
        self.saves_base = False  # whether a saved adapter replaced the layer's own weight
        self._plain: Any = None  # the layer's own weight, while merged
        self.register_state_dict_post_hook(_with_plain_weight)
        self.train(base.training)

    # Defined for each kind of layer --------------------------------------------------------

    @classmethod
    def accepts(cls, layer: Layer) -> bool:
        """Return whether this adapter supports the layer."""
        return cls.takes in map(named, type(layer).__mro__)

    @classmethod
    def check_weight(cls, base: Layer, *, products: bool) -> None:  # noqa: ARG003 (for some kinds)
        """Raise an error for a weight that cannot be rotated; `products` is as for `check_layer`.

        Raises
        ------
        StructmatError
            If the weight cannot be rotated.
        """
        plain_weight(base)

    @classmethod
    def number_type(cls, base: Layer) -> tuple[torch.dtype, torch.device]:
        """Return the dtype and the device in which the layer computes."""
        return base.weight.dtype, device_of(base, base.weight)

    @classmethod
    def weight_shape(cls, base: Layer) -> tuple[int, ...]:
        """Return the shape of the weight."""
        return tuple(base.weight.shape)

    @classmethod
    def copies(cls, base: Layer) -> int:  # noqa: ARG003
        """Return the number of equal, independent parts of the layer, each with its rotation."""
        return 1

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return the number of inputs that are rotated together."""
        raise NotImplementedError

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return the number of outputs (channels) of the layer."""
        raise NotImplementedError

    @classmethod
    def features(cls, base: Layer) -> tuple[int, int]:
        """Return the numbers of input and output features in PEFT's sense."""
        return cls.input_width(base), cls.output_width(base)

    @classmethod
    def turned_width(cls, base: Layer, side: str) -> int:
        """Return the width of a network that rotates this side of the layer."""
        return cls.input_width(base) if checked_side(side) == "inputs" else cls.output_width(base)

    @classmethod
    def neurons(cls, base: Layer, weight: Tensor) -> Tensor:  # noqa: ARG003 (for some kinds)
        """Return the weight with a row for each output: (out, field)."""
        return weight

    @classmethod
    def from_neurons(cls, base: Layer, neurons: Tensor) -> Tensor:  # noqa: ARG003
        """Return neurons (out, field) in the layout of the weight."""
        return neurons

    @classmethod
    def rows(cls, base: Layer, neurons: Tensor) -> Tensor:  # noqa: ARG003
        """Return the rows (…, inputs) that the rotation of the inputs acts on."""
        return neurons

    @classmethod
    def from_rows(cls, base: Layer, rows: Tensor) -> Tensor:  # noqa: ARG003
        """Return the neurons (out, field), the inverse of `rows`."""
        return rows

    @classmethod
    def by_outputs(cls, base: Layer, neurons: Tensor) -> Tensor:  # noqa: ARG003
        """Return the neurons with the outputs as the last axis."""
        return neurons.mT

    @classmethod
    def from_outputs(cls, base: Layer, outputs: Tensor) -> Tensor:  # noqa: ARG003
        """Return the neurons, the inverse of `by_outputs`."""
        return outputs.mT

    @classmethod
    def run(cls, base: Layer, x: Tensor, weight: Tensor) -> Tensor:
        """Return the outputs of the layer with another weight."""
        raise NotImplementedError

    def _rotated(self, weight: Tensor) -> Tensor:
        """Return the weight with each neuron rotated, or with the outputs rotated."""
        base, neurons = self.base, self.neurons(self.base, weight)
        if self.side == "inputs":
            neurons = self.from_rows(base, self.rotation(self.rows(base, neurons)))
        else:
            neurons = self.from_outputs(base, self.rotation(self.by_outputs(base, neurons)))
        return self.from_neurons(base, neurons)

    def _output_axis(self, values: Tensor) -> Tensor:
        """Return one number for each output, shaped to multiply the weight."""
        raise NotImplementedError

    def _forward(self, x: Tensor) -> Tensor:
        """Return the outputs for activations x, unmerged."""
        return self.run(self.base, x, self.weight)

    # Common to all kinds -------------------------------------------------------------------

    @property
    def merged(self) -> bool:
        """Whether the layer currently contains the effective weight."""
        return self._plain is not None

    @property
    def weight(self) -> Tensor:
        """The effective weight, in the layout and dtype of the layer's weight."""
        if is_offloaded(self) or is_offloaded(self.base):
            self.offloaded()
            with loaded(self), loaded(self.base):
                return self._effective()
        return self._effective()

    def _effective(self) -> Tensor:
        weight = self.own_weight
        if self.merged:
            return weight
        rotated = self._rotated(weight)
        if self.scale is None:
            return rotated
        return (rotated * self._output_axis(self.scale)).to(weight.dtype)

    @property
    def own_weight(self) -> Tensor:
        """The layer's current weight in floating point, original or merged."""
        weight: Tensor = self.base.weight
        return weight

    @property
    def bias(self) -> nn.Parameter | None:
        """The layer's bias."""
        bias: nn.Parameter | None = getattr(self.base, "bias", None)
        return bias

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base":
                raise
            return getattr(self.base, name)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's outputs with the rotated weight."""
        if is_offloaded(self.base):
            self.offloaded()
            with loaded(self.base):
                return self._outputs(x)
        return self._outputs(x)

    def _outputs(self, x: Tensor) -> Tensor:
        if self._sees_weight and not self.merged:
            # Without tie_weights, so that other parameters sharing the tensor keep their values.
            given = {"weight": self.weight}
            run: Tensor = torch.func.functional_call(self.base, given, (x,), tie_weights=False)
            return run
        outputs: Tensor = self.base(x) if self.merged else self._forward(x)
        return outputs

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        """Return the effective weight without dropout and gradients.

        Raises
        ------
        StructmatError
            If it contains NaN or infinity.
        """
        training = self.rotation.training
        self.rotation.eval()
        try:
            weight = self.weight.detach().clone(memory_format=torch.contiguous_format)
        finally:
            self.rotation.train(training)
        if not weight.is_meta and not torch.isfinite(weight).all():
            raise StructmatError(
                "the merged weight contains NaN or infinity: the adapter diverged in training;"
                " lower the learning rate"
            )
        return weight

    def set_weight(self, merged: Tensor) -> None:
        """Replace the layer's weight by the merged one; `restore_weight` restores the original.

        The layer gets a new parameter, so other layers that share its weight keep the original.
        """
        plain = self._held()
        self._hold(nn.Parameter(merged, requires_grad=False))
        object.__setattr__(self, "_plain", plain)  # not registered as a parameter of the adapter

    def _held(self) -> Any:
        """Return the object that merging replaces."""
        return self.base.weight

    def _hold(self, weight: Any) -> None:
        hold(self.base, weight)

    @contextmanager
    def unmerged(self) -> Iterator[None]:
        """Restore the layer's original weight within a `with` statement."""
        held, plain = self._held(), self._plain
        self.restore_weight()
        try:
            yield
        finally:
            if plain is not None:
                self._hold(held)
                object.__setattr__(self, "_plain", plain)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        super()._apply(fn, recurse)
        if self._plain is not None:
            object.__setattr__(self, "_plain", applied(self._plain, fn))
        return self

    def _put_plain(self, state: dict[str, Any], prefix: str) -> None:
        """Replace the merged weight in a state dict by the layer's original one."""
        key = self._weight_key(prefix)
        kept = isinstance(state.get(key), nn.Parameter)  # keep_vars
        state[key] = self._plain if kept else self._plain.detach()

    def _weight_key(self, prefix: str) -> str:
        return f"{prefix}base.weight"

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.restore_weight()  # the state contains the layer's original weight
        super()._load_from_state_dict(*args, **kwargs)

    def offloaded(self) -> None:
        """Unmerge an offloaded layer, as accelerate offloads the original weight of the state dict.

        Loading then restores the original weight, and the merged one is lost.
        """
        if is_offloaded(self.base):
            self.restore_weight()

    def restore_weight(self) -> None:
        """Restore the layer's original weight exactly."""
        if self._plain is not None:
            self._hold(self._plain)
            object.__setattr__(self, "_plain", None)


def check_layer(base: Layer, kind: type[Adapter], *, products: bool) -> None:
    """Raise an error for a layer that cannot be rotated, or whose custom behaviour would be lost.

    Parameters
    ----------
    base : nn.Module
    kind : type of Adapter
    products : bool
        Whether the adapter modifies the products with the weight, before the bias is added.

    Raises
    ------
    StructmatError
        If the weight cannot be rotated, or the layer has a custom method or forward hooks.
    """
    kind.check_weight(base, products=products)
    bypassed = not kind.calls_base or (products and not kind.scales_outputs)
    own = own_behaviour(base, kind.takes) if bypassed else None
    if own is not None:
        raise StructmatError(
            f"{type(base).__name__} overrides {own}, which the adapter would bypass; exclude this"
            " layer"
        )
    if base._forward_hooks or base._forward_pre_hooks:
        raise StructmatError(
            f"{type(base).__name__} has forward hooks, which would see different activations before"
            " and after merging; remove them, or exclude this layer"
        )


def _with_plain_weight(
    adapter: Adapter, state: dict[str, Any], prefix: str, _metadata: dict[str, Any]
) -> None:
    """Save the original weight of a merged adapter's layer, as the rotation is saved as well."""
    if adapter.merged:
        adapter._put_plain(state, prefix)
