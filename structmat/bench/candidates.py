"""The benchmark candidates: methods that make a frozen linear layer trainable."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from structmat.adapters import adapt
from structmat.bench.kronecker import KroneckerChain
from structmat.errors import (
    MissingExtraError,
    SpecError,
    StructmatError,
    abbreviated,
    require,
    suggest,
)
from structmat.families import parse
from structmat.families.resolution import Fixed, rule

PARAMETRIZED = 1024  # beyond this width, torch's matrix exponential takes more than about a second
DENSE = 16_384  # largest width of d×d matrices: 1 GB in float32, plus the gradient
_BLOCK = 32  # block size of PEFT's OFT
_FACTORS = 4  # number of factors of PEFT's BOFT
_RANK = 8  # rank of LoRA
_REFLECTIONS = 2 * _RANK  # of PEFT's HRA, for as many parameters as LoRA's on a square layer
_CHAIN = "mixed_radix(largest=16)"  # the network that determines the shapes of lazylinop's factors


@dataclass(frozen=True)
class Candidate:
    """A method that turns a frozen layer into the module that is timed.

    Parameters
    ----------
    name : str
        A short name for commands and programs.
    label : str
        The label in tables.
    build : callable
        Maps a frozen `nn.Linear` to a module that initially has the same outputs.
    extra : str, optional
        The library that the candidate requires.
    install : str
        The argument with which pip installs the library.
    remark : callable, optional
        Maps the module to a remark to print with its results, or None.
    """

    name: str
    label: str
    build: Callable[[nn.Linear], nn.Module]
    extra: str | None = None
    install: str = '"structmat[finetune]"'
    remark: Callable[[nn.Module], str | None] = lambda _: None

    @property
    def missing(self) -> bool:
        """Whether the required library is not installed."""
        return self.extra is not None and importlib.util.find_spec(self.extra) is None


class Copy(nn.Module):
    """Copies the vectors into preallocated memory, about the least work of any rotation."""

    def __init__(self) -> None:
        super().__init__()
        self.copied = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Return a copy of x, valid until the next call."""
        if self.copied.shape != x.shape:
            self.copied = torch.empty_like(x, requires_grad=False)
        return self.copied.copy_(x.detach())


class RotatedLayer(nn.Module):
    """A frozen layer whose inputs are multiplied by a matrix Rᵀ, so the weight becomes W·Rᵀ.

    Parameters
    ----------
    layer : nn.Linear
    rotation : nn.Module
        A module that multiplies by Rᵀ, like a linear layer with weight Rᵀ.
    """

    def __init__(self, layer: nn.Linear, rotation: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.rotation = rotation

    def forward(self, x: Tensor) -> Tensor:
        """Return W (Rᵀ x)."""
        outputs: Tensor = self.layer(self.rotation(x))
        return outputs


def topology(spec: str) -> Candidate:
    """Return the candidate that rotates by the network given by a spec or a file.

    Examples
    --------
    >>> topology("butterfly( block=4,depth=2 )").label
    'butterfly(block=4, depth=2)'
    """
    built = rule(spec)
    name = built.source if isinstance(built, Fixed) else str(built)
    return Candidate(name, name, lambda layer: adapt(layer, built(layer.in_features)))


def alone(candidate: Candidate) -> Candidate:
    """Reduce a candidate to its rotation, without the layer.

    Examples
    --------
    >>> alone(topology("monarch")).build(nn.Linear(12, 5))(torch.zeros(2, 12)).shape
    torch.Size([2, 12])
    """

    def build(layer: nn.Linear) -> nn.Module:
        module: Any = candidate.build(layer)
        rotation: nn.Module = module.rotation
        return rotation

    return replace(candidate, build=build)


def named(name: str, among: Mapping[str, Candidate] | None = None) -> Candidate:
    """Return the candidate of this name, by default from `AGAINST`.

    Raises
    ------
    SpecError
        If there is no such candidate.
    MissingExtraError
        If the library that it requires is not installed.

    Examples
    --------
    >>> named("dense").label
    'dense d×d'
    """
    among = AGAINST if among is None else among
    if name not in among:
        raise SpecError(f"no candidate {abbreviated(name)}{suggest(name, among)}")
    candidate = among[name]
    if candidate.missing:
        raise MissingExtraError(
            f"{name} needs {candidate.extra}, which is not installed; install it with:"
            f" pip install {candidate.install}"
        )
    return candidate


def _frozen(layer: nn.Linear) -> nn.Module:
    return layer


def _lora(layer: nn.Linear) -> nn.Module:
    return _peft(layer, "LoraConfig", r=_RANK, lora_alpha=_RANK)


def _oft(layer: nn.Linear) -> nn.Module:
    # The exact Cayley transform, as in structmat; PEFT's default is a truncated Neumann series.
    return _peft(layer, "OFTConfig", oft_block_size=_BLOCK, use_cayley_neumann=False)


def _other_blocks(module: Any) -> str | None:
    """Return a remark if PEFT changed the block size because it does not divide the width."""
    block = int(module.oft_R["default"].block_size)
    if block == _BLOCK:
        return None
    return (
        f"PEFT's OFT has blocks of {block} at width {module.in_features} instead of {_BLOCK}, since"
        " the block size must divide the width"
    )


def _boft(layer: nn.Linear) -> nn.Module:
    _check_dense(layer)  # PEFT stores permutations as matrices
    return _peft(layer, "BOFTConfig", boft_block_size=8, boft_n_butterfly_factor=_FACTORS)


def _fewer(module: Any) -> str | None:
    """Return a remark if PEFT created fewer factors for lack of its CUDA extension."""
    factors = len(module.boft_R["default"])
    if factors == _FACTORS:
        return None
    return (
        f"PEFT's BOFT created {factors} of the {_FACTORS} requested factors, since its CUDA"
        " extension does not compile here"
    )


def _hra(layer: nn.Linear) -> nn.Module:
    # PEFT multiplies the reflections one by one, and autograd keeps every partial product.
    _check_dense(layer, DENSE // 4)
    return _peft(layer, "HRAConfig", r=_REFLECTIONS)


def _road(layer: nn.Linear) -> nn.Module:
    # The variant with the most parameters; the size of groups does not change the computation.
    size = math.gcd(layer.out_features, 64)
    return _peft(layer, "RoadConfig", variant="road_4", group_size=size)


def _psoft(layer: nn.Linear) -> nn.Module:
    # The largest rank for which r(r+3)/2 parameters are at most those of LoRA.
    inputs, outputs = layer.in_features, layer.out_features
    rank = min((math.isqrt(9 + 8 * _RANK * (inputs + outputs)) - 3) // 2, inputs, outputs)
    svd = {"psoft_svd": "lowrank", "psoft_svd_lowrank_niter": 1}  # does not affect step times
    return _peft(layer, "PsoftConfig", r=rank, psoft_alpha=rank, **svd)


def _rank(module: Any) -> str:
    """Return a remark on the rank, which depends on the layer."""
    return (
        f"PEFT's PSOFT has rank {module.r['default']} at width {module.in_features}, so that the"
        " number of parameters is near that of LoRA"
    )


def _peft(layer: nn.Linear, config: str, **options: object) -> nn.Module:
    peft = require("peft", "finetune")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about CUDA extensions
            settings = getattr(peft, config)(target_modules=["0"], **options)
            holder = peft.inject_adapter_in_model(settings, nn.Sequential(layer))
    except (ValueError, AssertionError) as error:
        raise StructmatError(f"PEFT raised an error: {' '.join(str(error).split())}") from error
    module: nn.Module = holder[0]
    return module


def _chain(layer: nn.Linear) -> nn.Module:
    network = parse(_CHAIN)(layer.in_features)
    radices = [bank.radix for bank in network.banks]
    if max(radices) > DENSE:
        raise StructmatError(f"too large: r×r blocks are supported up to {DENSE:,} wires")
    weight = layer.weight
    return RotatedLayer(layer, KroneckerChain(radices, device=weight.device, dtype=weight.dtype))


def _remark(module: Any) -> str:
    """Return a remark on how the chain differs from a structmat network."""
    values = getattr(module, "rotation", module).values
    radices = [value.shape[1] for value in reversed(values)]
    return (
        f"lazylinop's factors at width {math.prod(radices)} have the shapes of {_CHAIN},"
        f" {' · '.join(map(str, radices))}, but are not kept orthogonal in training"
    )


def _check_dense(layer: nn.Linear, largest: int = DENSE) -> None:
    if layer.in_features > largest:
        raise StructmatError(f"too large: its d×d matrices are supported up to {largest:,} wires")


def _dense(layer: nn.Linear) -> nn.Module:
    _check_dense(layer)
    return RotatedLayer(layer, _identity(layer))


def _parametrization(layer: nn.Linear) -> nn.Module:
    if layer.in_features > PARAMETRIZED:
        raise StructmatError(
            f"too large: torch's matrix exponential is timed up to {PARAMETRIZED:,} wires"
        )
    if layer.weight.dtype != torch.float32:
        raise StructmatError("torch's orthogonal parametrization supports only float32")
    return RotatedLayer(layer, nn.utils.parametrizations.orthogonal(_identity(layer)))


def _identity(layer: nn.Linear) -> nn.Linear:
    width, weight = layer.in_features, layer.weight
    rotation = nn.Linear(width, width, bias=False, device=weight.device, dtype=weight.dtype)
    nn.init.eye_(rotation.weight)
    return rotation


def _products(layer: nn.Linear) -> nn.Module:
    sizes = (layer.in_features, _RANK), (_RANK, layer.out_features)
    return nn.Sequential(*(nn.Linear(*size, bias=False) for size in sizes)).to(layer.weight)


def _by_name(*candidates: Candidate) -> Mapping[str, Candidate]:
    return {candidate.name: candidate for candidate in candidates}


AGAINST = _by_name(
    Candidate("frozen", "frozen layer", _frozen),
    Candidate("lora", f"LoRA r={_RANK} (PEFT)", _lora, "peft"),
    Candidate("oft", f"OFT b={_BLOCK} (PEFT)", _oft, "peft", remark=_other_blocks),
    Candidate("boft", "BOFT b=8 (PEFT)", _boft, "peft", remark=_fewer),
    Candidate("hra", f"HRA r={_REFLECTIONS} (PEFT)", _hra, "peft"),
    Candidate("road", "RoAd-4 (PEFT)", _road, "peft"),
    Candidate("psoft", "PSOFT (PEFT)", _psoft, "peft", remark=_rank),
    Candidate("lazylinop", "lazylinop chain", _chain, "lazylinop", "lazylinop", _remark),
    Candidate("dense", "dense d×d", _dense),
    Candidate("parametrization", "torch orthogonal", _parametrization),
)
# The candidates with which a rotation alone, without a layer, is compared.
ALONE = _by_name(
    Candidate("copy", "copy of the vectors", lambda _: Copy()),
    Candidate("lora", f"LoRA's products r={_RANK}", _products),
    alone(AGAINST["lazylinop"]),
    alone(AGAINST["dense"]),
)
