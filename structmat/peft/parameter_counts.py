"""How many parameters an adapter has, by the two ways in which they are counted."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from structmat.peft.layer import StructmatLayer
from structmat.peft.partial_rotation import Turn


@dataclass(frozen=True)
class Counts:
    """The size of one adapter, without modules that are trained whole.

    Attributes
    ----------
    paper : int
        As the BOFT paper counts: the free parameters of the rotations, r(r−1)/2 for each block,
        the factors and the biases. So many are stored and trained.
    peft : int
        As PEFT's BOFT counts and would store the same networks: full blocks, r² each.
    layers : int
        How many layers are adapted.
    """

    paper: int
    peft: int
    layers: int


def counts(model: nn.Module, adapter: str = "default") -> Counts:
    """Return how many parameters an adapter of a PEFT model has.

    Parameters
    ----------
    model : nn.Module
        A `PeftModel`, or a model with adapters in it.
    adapter : str

    Returns
    -------
    Counts
        All zero where there is no such adapter.

    Examples
    --------
    >>> import peft
    >>> from structmat.peft import StructmatConfig
    >>> config = StructmatConfig(topology="butterfly(block=4, depth=2)", target_modules=["0"])
    >>> counts(peft.get_peft_model(nn.Sequential(nn.Linear(8, 3)), config))
    Counts(paper=24, peft=64, layers=1)
    """
    layers = [
        m for m in model.modules() if isinstance(m, StructmatLayer) and adapter in m.structmat_power
    ]
    turns = [turn for layer in layers for turn in layer.turns(adapter)]
    others = sum(
        layer.structmat_scale[adapter].numel()
        for layer in layers
        if adapter in layer.structmat_scale
    )
    others += sum(bias.numel() for bias in _biases(model, layers, adapter))
    return Counts(
        sum(g.numel() for turn in turns for g in turn.generators) + others,
        sum(_full(turn) for turn in turns) + others,
        len(layers),
    )


def _full(turn: Turn) -> int:
    return sum(bank.count * bank.radix**2 for bank in turn.network.banks)


def _biases(model: nn.Module, layers: list[StructmatLayer], adapter: str) -> list[nn.Parameter]:
    """Return the biases that are trained with an adapter."""
    configs = getattr(model, "peft_config", None) or {}
    trains = getattr(configs.get(adapter), "bias", "none")
    if trains == "all":
        return [p for name, p in model.named_parameters() if name.split(".")[-1] == "bias"]
    if trains == "structmat_only":
        found = [getattr(layer.base_layer, "bias", None) for layer in layers]
        return [bias for bias in found if bias is not None]
    return []
