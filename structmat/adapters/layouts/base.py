"""What all adapters share: the rotation, the output scale, merging and its undoing."""

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

    With `side="outputs"` it is W' = s ⊙ R·W; a bias is not rotated.

    Made by `adapt`; the subclasses say how a kind of layer lays out its weight. Attributes that
    it does not have are those of the layer. `weight` is the effective weight W', with gradients,
    so code that reads the weight of a layer (as `nn.MultiheadAttention` does) gets the right one.

    Parameters
    ----------
    base : nn.Module
        The layer; its weight is left as it is.
    network : Network
        Of width `turned_width(base, side)`.
    side : {"inputs", "outputs"}
        What is rotated: the inputs that each neuron reads, or the outputs of all neurons.
    blocks, dropout, reduced, plan
        As for `Orthogonal`.
    scale : bool
        Whether to train a factor for each output, 1 at the start; a bias is not scaled.
    bias : bool
        Whether the layer's bias, where it has one, is trained with the adapter and saved with it.

    Notes
    -----
    The convention is that of the BOFT paper, (R W0)ᵀ with neurons as the columns of W0, and of
    PEFT's BOFT: W' = (W Rᵀ) ⊙ s by output. Rotated outputs are the convention of LyCORIS.
    """

    base: Layer
    calls_base: ClassVar[bool] = True  # whether activations go through the layer's own forward
    scales_outputs: ClassVar[bool] = False  # whether a scale acts on what the layer returns
    takes: ClassVar[str]  # the layer's class by name, for transformers may not be installed
    field: ClassVar[str] = "receptive"  # what a rotation turns, where there is a choice

    def __init__(
        self,
        base: Layer,
        network: Network,
        *,
        side: str = "inputs",
        blocks: str = "cayley",
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
                f"a network of width {network.width} for a layer that {has} {width} {side}: both"
                " must be equal"
            )
        # A kind that scales what the layer returns rotates that, too.
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
            blocks,
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
        self.saves_base = False  # whether a saved adapter brought the layer's own weight
        self._plain: Any = None  # the layer's own weight, while merged
        self.register_state_dict_post_hook(_with_plain_weight)
        self.train(base.training)

    # What a kind of layer says about itself ------------------------------------------------

    @classmethod
    def accepts(cls, layer: Layer) -> bool:
        """Return whether the layer is of this kind."""
        return cls.takes in map(named, type(layer).__mro__)

    @classmethod
    def check_weight(cls, base: Layer, *, products: bool) -> None:  # noqa: ARG003 (for some kinds)
        """Refuse a weight that cannot be rotated; `products` as for `check_layer`.

        Raises
        ------
        StructmatError
        """
        plain_weight(base)

    @classmethod
    def number_type(cls, base: Layer) -> tuple[torch.dtype, torch.device]:
        """Return the dtype that the layer computes in, and the device it is on."""
        return base.weight.dtype, device_of(base, base.weight)

    @classmethod
    def weight_shape(cls, base: Layer) -> tuple[int, ...]:
        """Return the shape of the weight."""
        return tuple(base.weight.shape)

    @classmethod
    def copies(cls, base: Layer) -> int:  # noqa: ARG003
        """Return how many equal parts of the layer are kept apart, each with a rotation."""
        return 1

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return how many numbers each neuron reads."""
        raise NotImplementedError

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return how many outputs (channels) the layer has."""
        raise NotImplementedError

    @classmethod
    def features(cls, base: Layer) -> tuple[int, int]:
        """Return what PEFT calls the features in and out of the layer."""
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
        """Return the rows (…, inputs) that the rotation of the inputs turns."""
        return neurons

    @classmethod
    def from_rows(cls, base: Layer, rows: Tensor) -> Tensor:  # noqa: ARG003
        """Return the neurons (out, field) of such rows."""
        return rows

    @classmethod
    def by_outputs(cls, base: Layer, neurons: Tensor) -> Tensor:  # noqa: ARG003
        """Return the neurons with the outputs as the last axis."""
        return neurons.mT

    @classmethod
    def from_outputs(cls, base: Layer, outputs: Tensor) -> Tensor:  # noqa: ARG003
        """Return the neurons of such outputs."""
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

    # What they share -----------------------------------------------------------------------

    @property
    def merged(self) -> bool:
        """Whether the layer holds the effective weight already."""
        return self._plain is not None

    @property
    def weight(self) -> Tensor:
        """The effective weight, in the layout and dtype of the layer's."""
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
        """The layer's weight in floating point, its own or the merged one."""
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
            # Not tie_weights: another parameter that is the same tensor must keep its values.
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
            When it holds NaN or infinity.
        """
        training = self.rotation.training
        self.rotation.eval()
        try:
            weight = self.weight.detach().clone(memory_format=torch.contiguous_format)
        finally:
            self.rotation.train(training)
        if not weight.is_meta and not torch.isfinite(weight).all():
            raise StructmatError(
                "the merged weight holds NaN or infinity: the adapter diverged in training;"
                " lower the learning rate"
            )
        return weight

    def set_weight(self, merged: Tensor) -> None:
        """Put the merged weight in the layer; the layer's own one is kept for `restore_weight`.

        The layer gets a new parameter: one that shares its weight keeps the old.
        """
        plain = self._held()
        self._hold(nn.Parameter(merged, requires_grad=False))
        object.__setattr__(self, "_plain", plain)  # past nn.Module: it is no parameter of ours

    def _held(self) -> Any:
        """Return what merging replaces."""
        return self.base.weight

    def _hold(self, weight: Any) -> None:
        hold(self.base, weight)

    @contextmanager
    def unmerged(self) -> Iterator[None]:
        """Have the layer's own weight in place for a while, then what was there before."""
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
        if self._plain is not None:  # moves with the rest
            object.__setattr__(self, "_plain", applied(self._plain, fn))
        return self

    def _put_plain(self, state: dict[str, Any], prefix: str) -> None:
        """Put the layer's own weight in a state that has the merged one."""
        key = self._weight_key(prefix)
        kept = isinstance(state.get(key), nn.Parameter)  # keep_vars
        state[key] = self._plain if kept else self._plain.detach()

    def _weight_key(self, prefix: str) -> str:
        return f"{prefix}base.weight"

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.restore_weight()  # what is loaded is the layer's own weight
        super()._load_from_state_dict(*args, **kwargs)

    def offloaded(self) -> None:
        """Unmerge an offloaded layer: accelerate takes weights from the state, which has its own.

        Loaded weights are the layer's own ones then, and the merged one is no more.
        """
        if is_offloaded(self.base):
            self.restore_weight()

    def restore_weight(self) -> None:
        """Put the layer's own weight back, to the last bit."""
        if self._plain is not None:
            self._hold(self._plain)
            object.__setattr__(self, "_plain", None)


def check_layer(base: Layer, kind: type[Adapter], *, products: bool) -> None:
    """Refuse a layer whose weight cannot be rotated, or whose own behaviour would be lost.

    Parameters
    ----------
    base : nn.Module
    kind : type of Adapter
    products : bool
        Whether the adapter works on the products of the weight, before the bias.

    Raises
    ------
    StructmatError
    """
    kind.check_weight(base, products=products)
    bypassed = not kind.calls_base or (products and not kind.scales_outputs)
    own = own_behaviour(base, kind.takes) if bypassed else None
    if own is not None:
        raise StructmatError(
            f"a {type(base).__name__} has a {own} of its own, which the adapter would bypass;"
            " exclude this layer"
        )
    if base._forward_hooks or base._forward_pre_hooks:
        raise StructmatError(
            f"a {type(base).__name__} with forward hooks: they would see other activations before"
            " merging than after; remove them, or exclude this layer"
        )


def _with_plain_weight(
    adapter: Adapter, state: dict[str, Any], prefix: str, _metadata: dict[str, Any]
) -> None:
    """Put the layer's own weight in the state of a merged adapter: the rotation is there, too."""
    if adapter.merged:
        adapter._put_plain(state, prefix)
