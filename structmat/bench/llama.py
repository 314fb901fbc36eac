"""A frozen decoder block with the shape of Llama's, and a minimal LoRA implementation for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The sizes of a block; by default those of Llama 3 with 8 billion parameters.

    Attributes
    ----------
    width, inner : int
        The widths of the residual stream and the feed-forward part.
    heads, groups : int
        The numbers of query heads and of key–value heads.
    """

    width: int = 4096
    inner: int = 14_336
    heads: int = 32
    groups: int = 8


class Block(nn.Module):
    """A decoder block with seven linear layers: attention and a gated feed-forward network.

    Rotary embeddings are omitted, because their cost does not depend on the adapter.

    Examples
    --------
    >>> block = Block(Shape(8, 12, heads=4, groups=2))
    >>> block(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, inner = shape.width, shape.inner
        self.head = width // shape.heads
        few = shape.groups * self.head
        self.before, self.between = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q, self.o = _linear(width, width), _linear(width, width)
        self.k, self.v = _linear(width, few), _linear(width, few)
        self.gate, self.up = _linear(width, inner), _linear(width, inner)
        self.down = _linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the block for x, (sequences, length, width)."""
        h = self.before(x)
        q, k, v = (self._heads(layer(h)) for layer in (self.q, self.k, self.v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(mixed.transpose(1, 2).flatten(2))
        h = self.between(x)
        out: Tensor = x + self.down(functional.silu(self.gate(h)) * self.up(h))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.head).transpose(1, 2)


class Lora(nn.Module):
    """A minimal, fast LoRA: W x + 2·B A x, with A and B in the dtype of the layer.

    Examples
    --------
    >>> layer = Lora(nn.Linear(4, 3), rank=2)
    >>> sum(p.numel() for p in (layer.a, layer.b))
    14
    """

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        weight = base.weight
        self.base = base
        self.a = nn.Parameter(weight.new_empty(rank, base.in_features).normal_(std=0.02))
        self.b = nn.Parameter(weight.new_zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        low = functional.linear(functional.linear(x, self.a), self.b)
        out: Tensor = torch.add(self.base(x), low, alpha=2.0)
        return out


def with_lora(module: nn.Module, rank: int) -> nn.Module:
    """Add LoRA to every linear layer of a frozen module, or to the module itself.

    Examples
    --------
    >>> isinstance(with_lora(nn.Linear(4, 4), 2), Lora)
    True
    """
    if isinstance(module, nn.Linear):
        return Lora(module, rank)
    for name, child in module.named_children():
        setattr(module, name, with_lora(child, rank))
    return module


def frozen(build: Callable[[], nn.Module], device: str, dtype: torch.dtype) -> nn.Module:
    """Build a frozen module on a device, with reproducible weights."""
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        module = build()
    return module.to(dtype).requires_grad_(requires_grad=False)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)
