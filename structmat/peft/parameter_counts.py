"""The number of parameters of an adapter, counted by two conventions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from structmat.nn.orthogonal_layer import Orthogonal
from structmat.peft.layer import StructmatLayer


@dataclass(frozen=True)
class Counts:
    """The size of one adapter, excluding modules that are trained in full.

    Attributes
    ----------
    paper : int
        The count of the BOFT paper: the free parameters of the rotations (r(r−1)/2 for each block,
        or fewer if redundant ones are omitted), the output scales and the biases. This is the
        number of parameters stored and trained.
    peft : int
        The count by PEFT's BOFT, which would store full blocks, r² numbers each, for the same
        networks.
    layers : int
        The number of adapted layers.
    """

    paper: int
    peft: int
    layers: int


def counts(model: nn.Module, adapter: str = "default") -> Counts:
    """Return the number of parameters of an adapter of a PEFT model.

    Parameters
    ----------
    model : nn.Module
        A `PeftModel`, or a model with adapters.
    adapter : str

    Returns
    -------
    Counts
        All zero if there is no such adapter.

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
    rotations = [rotation for layer in layers for rotation in layer.rotations(adapter)]
    others = sum(
        layer.structmat_scale[adapter].numel()
        for layer in layers
        if adapter in layer.structmat_scale
    )
    others += sum(bias.numel() for bias in _biases(model, layers, adapter))
    return Counts(
        sum(g.numel() for rotation in rotations for g in rotation.generators) + others,
        sum(_full(rotation) for rotation in rotations) + others,
        len(layers),
    )


def _full(rotation: Orthogonal) -> int:
    return sum(bank.count * bank.radix**2 for bank in rotation.network.banks)


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
