"""What is measured: ways to make a frozen linear layer trainable."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from structmat.adapters import adapt
from structmat.bench.kronecker import KroneckerChain
from structmat.errors import MissingExtraError, SpecError, StructmatError, require, suggest
from structmat.families import parse
from structmat.families.topology import Fixed, rule

PARAMETRIZED = 1024  # wires up to which torch's exponential of a matrix ends in a second or so
DENSE = 16_384  # wires up to which a d×d matrix is made: 1 GB in float32, and as much a gradient
_BLOCK = 32  # of PEFT's OFT
_FACTORS = 4  # of PEFT's BOFT
_CHAIN = "mixed_radix(largest=16)"  # whose shape lazylinop's factors have


@dataclass(frozen=True)
class Candidate:
    """One way: how a frozen layer becomes the module that is timed.

    Parameters
    ----------
    name : str
        Short, for commands and programs.
    label : str
        For tables.
    build : callable
        From a frozen `nn.Linear` to a module that gives the same outputs until it is trained.
    extra : str, optional
        The library that it needs.
    install : str
        What pip installs to bring it.
    remark : callable, optional
        From the module to what a reader of its numbers must know, or None.
    """

    name: str
    label: str
    build: Callable[[nn.Linear], nn.Module]
    extra: str | None = None
    install: str = '"structmat[finetune]"'
    remark: Callable[[nn.Module], str | None] = lambda _: None

    @property
    def missing(self) -> bool:
        """Whether its library is not installed."""
        return self.extra is not None and importlib.util.find_spec(self.extra) is None


class Turned(nn.Module):
    """A frozen layer whose inputs are multiplied by a matrix Rᵀ: the weight becomes W·Rᵀ.

    Parameters
    ----------
    layer : nn.Linear
    turn : nn.Module
        Multiplies by Rᵀ, as a linear layer with that weight does.
    """

    def __init__(self, layer: nn.Linear, turn: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.turn = turn

    def forward(self, x: Tensor) -> Tensor:
        """Return W (Rᵀ x)."""
        outputs: Tensor = self.layer(self.turn(x))
        return outputs


def topology(spec: str) -> Candidate:
    """Return the candidate that rotates by the network of a spec or of a file.

    Examples
    --------
    >>> topology("butterfly( block=4,depth=2 )").label
    'butterfly(block=4, depth=2)'
    """
    built = rule(spec)
    name = built.source if isinstance(built, Fixed) else str(built)
    return Candidate(name, name, lambda layer: adapt(layer, built(layer.in_features)))


def named(name: str) -> Candidate:
    """Return the candidate of this name that is no network.

    Raises
    ------
    SpecError
        When there is none.
    MissingExtraError
        When what it needs is not installed.

    Examples
    --------
    >>> named("dense").label
    'dense d×d'
    """
    if name not in AGAINST:
        raise SpecError(f"no candidate {name!r}{suggest(name, AGAINST)}")
    candidate = AGAINST[name]
    if candidate.missing:
        raise MissingExtraError(
            f"{name} needs {candidate.extra}, which is not installed; it comes with:"
            f" pip install {candidate.install}"
        )
    return candidate


def _frozen(layer: nn.Linear) -> nn.Module:
    return layer


def _lora(layer: nn.Linear) -> nn.Module:
    return _peft(layer, "LoraConfig", r=8, lora_alpha=8)


def _oft(layer: nn.Linear) -> nn.Module:
    # The exact Cayley transform, as structmat's; PEFT's default is a truncated Neumann series.
    return _peft(layer, "OFTConfig", oft_block_size=_BLOCK, use_cayley_neumann=False)


def _other_blocks(module: Any) -> str | None:
    """Return that PEFT chose other blocks, as it does where theirs do not divide the width."""
    block = int(module.oft_R["default"].block_size)
    if block == _BLOCK:
        return None
    return (
        f"PEFT's OFT has blocks of {block} at width {module.in_features}, where {_BLOCK} were asked"
        " for: a block must divide the width"
    )


def _boft(layer: nn.Linear) -> nn.Module:
    _check_dense(layer)  # PEFT keeps its permutations as matrices
    return _peft(layer, "BOFTConfig", boft_block_size=8, boft_n_butterfly_factor=_FACTORS)


def _fewer(module: Any) -> str | None:
    """Return that PEFT left factors out, as it does where its CUDA extension does not compile."""
    factors = len(module.boft_R["default"])
    if factors == _FACTORS:
        return None
    return (
        f"PEFT's BOFT has {factors} of the {_FACTORS} factors asked for, as its CUDA extension"
        " does not compile here"
    )


def _peft(layer: nn.Linear, config: str, **options: object) -> nn.Module:
    peft = require("peft", "finetune")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about CUDA extensions
            settings = getattr(peft, config)(target_modules=["0"], **options)
            holder = peft.inject_adapter_in_model(settings, nn.Sequential(layer))
    except (ValueError, AssertionError) as error:
        raise StructmatError(f"PEFT refuses: {' '.join(str(error).split())}") from error
    module: nn.Module = holder[0]
    return module


def _chain(layer: nn.Linear) -> nn.Module:
    network = parse(_CHAIN)(layer.in_features)
    radices = [bank.radix for bank in network.banks]
    if max(radices) > DENSE:
        raise StructmatError(f"too large: blocks of r×r are made up to {DENSE:,} wires")
    weight = layer.weight
    return Turned(layer, KroneckerChain(radices, device=weight.device, dtype=weight.dtype))


def _unlike(module: Any) -> str:
    """Return what the chain shares with a network of ours, and what it does not."""
    radices = " · ".join(str(value.shape[1]) for value in reversed(module.turn.values))
    return (
        f"lazylinop's factors at width {module.layer.in_features} are those of {_CHAIN},"
        f" {radices}, trained without keeping them orthogonal"
    )


def _check_dense(layer: nn.Linear) -> None:
    if layer.in_features > DENSE:
        raise StructmatError(f"too large: d×d matrices are made up to {DENSE:,} wires")


def _dense(layer: nn.Linear) -> nn.Module:
    _check_dense(layer)
    return Turned(layer, _identity(layer))


def _parametrization(layer: nn.Linear) -> nn.Module:
    if layer.in_features > PARAMETRIZED:
        raise StructmatError(
            f"too large: torch's exponential of a matrix is timed up to {PARAMETRIZED:,} wires"
        )
    if layer.weight.dtype != torch.float32:
        raise StructmatError("torch's orthogonal parametrization takes float32 only")
    return Turned(layer, nn.utils.parametrizations.orthogonal(_identity(layer)))


def _identity(layer: nn.Linear) -> nn.Linear:
    width, weight = layer.in_features, layer.weight
    turn = nn.Linear(width, width, bias=False, device=weight.device, dtype=weight.dtype)
    nn.init.eye_(turn.weight)
    return turn


AGAINST: Mapping[str, Candidate] = {
    candidate.name: candidate
    for candidate in (
        Candidate("frozen", "frozen layer", _frozen),
        Candidate("lora", "LoRA r=8 (PEFT)", _lora, "peft"),
        Candidate("oft", "OFT b=32 (PEFT)", _oft, "peft", remark=_other_blocks),
        Candidate("boft", "BOFT b=8 (PEFT)", _boft, "peft", remark=_fewer),
        Candidate("lazylinop", "lazylinop chain", _chain, "lazylinop", "lazylinop", _unlike),
        Candidate("dense", "dense d×d", _dense),
        Candidate("parametrization", "torch orthogonal", _parametrization),
    )
}
