"""Adapters: a frozen layer beside a trained rotation of what it reads, or of what it puts out.

A layer with weight W (rows are neurons) becomes W·Rᵀ: the neurons turn, and their norms and the
angles between them stay. On activations that is W (Rᵀ x), so a d×d matrix is never formed.
Rotated outputs are R·W: the neurons mix, and the angles between columns stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from structmat.errors import StructmatError
from structmat.network import Network
from structmat.nn.blocks import at_least_float32
from structmat.nn.module import Orthogonal

# torch types an attribute of a module as Tensor | Module; which ones a layer has is known from
# its class, which `kind_for` has looked at.
Layer: TypeAlias = Any


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
    blocks, dropout, reduced
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
    takes: ClassVar[str]  # the layer's class by name, for transformers may not be installed

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
    ) -> None:
        super().__init__()
        width = self.turned_width(base, side)
        if network.width != width:
            has = "reads" if side == "inputs" else "has"
            raise StructmatError(
                f"a network of width {network.width} for a layer that {has} {width} {side}: both"
                " must be equal"
            )
        weight = base.weight
        if not isinstance(weight, nn.Parameter) or not weight.is_floating_point():
            raise StructmatError(
                f"a weight of {type(weight).__name__} and dtype {weight.dtype}: only plain"
                " floating-point parameters can be rotated; exclude quantised and parametrized"
                " layers, or adapt the model before quantising it"
            )
        own = self.calls_base and not scale and side == "inputs"
        _check_behaviour(base, type(self).takes, bypassed=not own)
        dtype = at_least_float32(weight.dtype)
        self.base = base
        self.side = side
        self.rotation = Orthogonal(
            network,
            blocks,
            dtype=dtype,
            device=weight.device,
            dropout=dropout,
            reduced=reduced,
        )
        outputs = self.output_width(base)
        self.scale = (
            nn.Parameter(torch.ones(outputs, dtype=dtype, device=weight.device)) if scale else None
        )
        self.trains_bias = bias and base.bias is not None
        self._plain: nn.Parameter | None = None  # the layer's own weight, while merged
        self.register_state_dict_post_hook(_with_plain_weight)
        self.train(base.training)

    # What a kind of layer says about itself ------------------------------------------------

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return how many numbers each neuron reads."""
        raise NotImplementedError

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return how many outputs (channels) the layer has."""
        raise NotImplementedError

    @classmethod
    def turned_width(cls, base: Layer, side: str) -> int:
        """Return the width of a network that rotates this side of the layer."""
        return cls.input_width(base) if checked_side(side) == "inputs" else cls.output_width(base)

    def _rotated(self, weight: Tensor) -> Tensor:
        """Return the weight with each neuron rotated."""
        raise NotImplementedError

    def _mixed(self, weight: Tensor) -> Tensor:
        """Return the weight with its outputs rotated."""
        raise NotImplementedError

    def _output_axis(self, values: Tensor) -> Tensor:
        """Return one number for each output, shaped to multiply the weight."""
        raise NotImplementedError

    def _forward(self, x: Tensor) -> Tensor:
        """Return the outputs for activations x, unmerged."""
        raise NotImplementedError

    # What they share -----------------------------------------------------------------------

    @property
    def merged(self) -> bool:
        """Whether the layer holds the effective weight already."""
        return self._plain is not None

    @property
    def weight(self) -> Tensor:
        """The effective weight, in the layout and dtype of the layer's."""
        weight: Tensor = self.base.weight
        if self.merged:
            return weight
        rotated = self._rotated(weight) if self.side == "inputs" else self._mixed(weight)
        if self.scale is None:
            return rotated
        return (rotated * self._output_axis(self.scale)).to(weight.dtype)

    @property
    def bias(self) -> nn.Parameter | None:
        """The layer's bias."""
        bias: nn.Parameter | None = self.base.bias
        return bias

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base":
                raise
            return getattr(super().__getattr__("base"), name)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's outputs with the rotated weight."""
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
        plain = self.base.weight
        assert isinstance(plain, nn.Parameter)
        self.base.weight = nn.Parameter(merged, requires_grad=False)
        object.__setattr__(self, "_plain", plain)  # past nn.Module: it is no parameter of ours

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        super()._apply(fn, recurse)
        if self._plain is not None:  # moves with the rest
            self._plain.data = fn(self._plain.data)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.restore_weight()  # what is loaded is the layer's own weight
        super()._load_from_state_dict(*args, **kwargs)

    def restore_weight(self) -> None:
        """Put the layer's own weight back, to the last bit."""
        if self._plain is not None:
            self.base.weight = self._plain
            object.__setattr__(self, "_plain", None)


class LinearAdapter(Adapter):
    """An adapted `nn.Linear`: weight (out, in)."""

    takes = "torch.nn.modules.linear.Linear"

    @staticmethod
    def _neurons(weight: Tensor) -> Tensor:
        """Exchange the layout of the layer's weight and (out, in), either way."""
        return weight

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return in_features."""
        return int(base.in_features)

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return out_features."""
        return int(base.out_features)

    def _rotated(self, weight: Tensor) -> Tensor:
        return self._neurons(self.rotation(self._neurons(weight)))

    def _mixed(self, weight: Tensor) -> Tensor:
        return self._neurons(self.rotation(self._neurons(weight).T).T)

    def _output_axis(self, values: Tensor) -> Tensor:
        return values[:, None]

    def _forward(self, x: Tensor) -> Tensor:
        inputs = self.side == "inputs"
        if inputs and self.scale is None and self._together(x):
            return self.rotation.linear(x, self._neurons(self.base.weight), self.base.bias)
        if inputs:
            x = self.rotation.adjoint(x)
        if inputs and self.scale is None:
            outputs: Tensor = self.base(x)
            return outputs
        products = functional.linear(x, self._neurons(self.base.weight))
        if not inputs:
            products = self.rotation(products)
        if self.scale is not None:
            products = (products * self.scale).to(products.dtype)
        return products if self.bias is None else products + self.bias.to(products.dtype)

    def _together(self, x: Tensor) -> bool:
        """Return whether rotation and layer may run as one operation.

        On a CPU that saves the memory of the rotated activations; it needs a frozen layer without
        a behaviour of its own, of the dtype of its inputs.
        """
        base = self.base
        kept = (base.weight, base.bias)
        return (
            x.device.type == "cpu"
            and x.dtype == base.weight.dtype
            and not torch.is_autocast_enabled("cpu")
            and not any(t is not None and t.requires_grad for t in kept)
            and "forward" not in base.__dict__
            and own_behaviour(base, self.takes) is None
            and not (base._forward_hooks or base._forward_pre_hooks)
            and not (base._backward_hooks or base._backward_pre_hooks)
        )


class Conv1DAdapter(LinearAdapter):
    """An adapted `transformers.Conv1D` (of GPT-2): a linear layer with weight (in, out)."""

    takes = "transformers.pytorch_utils.Conv1D"

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return the rows of the weight."""
        return int(base.weight.shape[0])

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return the columns of the weight."""
        return int(base.weight.shape[1])

    @staticmethod
    def _neurons(weight: Tensor) -> Tensor:
        return weight.T

    def _output_axis(self, values: Tensor) -> Tensor:
        return values


class Conv2dAdapter(Adapter):
    """An adapted `nn.Conv2d`: each neuron turns in its receptive field of in/groups·kh·kw numbers.

    With groups, each group has a rotation of its own: its neurons read other channels, so the
    network is `groups` copies side by side. The convolution runs with the rotated weight, so
    stride, padding, dilation and kernel are whatever the layer says.
    """

    calls_base = False
    takes = "torch.nn.modules.conv.Conv2d"

    @classmethod
    def input_width(cls, base: Layer) -> int:
        """Return the size of one receptive field times the number of groups."""
        return cls.field(base) * int(base.groups)

    @classmethod
    def field(cls, base: Layer) -> int:
        """Return the size of the receptive field of one neuron."""
        return math.prod(base.weight.shape[1:])

    @classmethod
    def output_width(cls, base: Layer) -> int:
        """Return out_channels."""
        return int(base.out_channels)

    def _rotated(self, weight: Tensor) -> Tensor:
        groups, field = int(self.base.groups), self.field(self.base)
        rows = weight.reshape(groups, -1, field).transpose(0, 1).reshape(-1, groups * field)
        turned: Tensor = self.rotation(rows)
        return turned.reshape(-1, groups, field).transpose(0, 1).reshape(weight.shape)

    def _mixed(self, weight: Tensor) -> Tensor:
        turned: Tensor = self.rotation(weight.flatten(1).T)
        return turned.T.reshape(weight.shape)

    def _output_axis(self, values: Tensor) -> Tensor:
        return values[:, None, None, None]

    def _forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.base._conv_forward(x, self.weight, self.base.bias)
        return outputs


def _with_plain_weight(
    adapter: Adapter, state: dict[str, Any], prefix: str, _metadata: dict[str, Any]
) -> None:
    """Put the layer's own weight in the state of a merged adapter: the rotation is there, too."""
    plain = adapter._plain
    if plain is not None:
        kept = isinstance(state.get(f"{prefix}base.weight"), nn.Parameter)  # keep_vars
        state[f"{prefix}base.weight"] = plain if kept else plain.detach()


def checked_side(side: str) -> str:
    """Return the side of a layer that is rotated, if it is one.

    Raises
    ------
    StructmatError
        When it is none.

    Examples
    --------
    >>> checked_side("outputs")
    'outputs'
    """
    if side not in ("inputs", "outputs"):
        raise StructmatError(f'side={side!r}: a layer\'s "inputs" or its "outputs" are rotated')
    return side


def _check_behaviour(base: Layer, takes: str, *, bypassed: bool) -> None:
    """Refuse a layer that does more with its weight than its kind, where that would be lost."""
    own = own_behaviour(base, takes)
    if own is not None and bypassed:
        raise StructmatError(
            f"a {type(base).__name__} has a {own} of its own, which the adapter would bypass;"
            " exclude this layer"
        )
    if base._forward_hooks or base._forward_pre_hooks:
        raise StructmatError(
            f"a {type(base).__name__} with forward hooks: they would see rotated inputs before"
            " merging and others after; remove them, or exclude this layer"
        )


def own_behaviour(base: Layer, takes: str) -> str | None:
    """Return the name of a method that a layer's class does not have from its kind, if any."""
    stock = next(c for c in type(base).__mro__ if f"{c.__module__}.{c.__qualname__}" == takes)
    for name in ("forward", "_conv_forward"):
        if getattr(type(base), name, None) is not getattr(stock, name, None):
            return name
    return None


KINDS: tuple[type[Adapter], ...] = (LinearAdapter, Conv1DAdapter, Conv2dAdapter)


def kind_for(layer: Layer) -> type[Adapter] | None:
    """Return the kind of adapter that takes this layer, if any.

    Examples
    --------
    >>> kind_for(nn.Linear(2, 3)).__name__, kind_for(nn.ReLU())
    ('LinearAdapter', None)
    """
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(layer).__mro__}
    return next((kind for kind in KINDS if kind.takes in names), None)
