"""The format of PEFT's RoAd: pairs of outputs are rotated and scaled, and so is the bias.

In each group of outputs, output j of the first half and output j of the second half form a pair,
which becomes (f₁·y₁ − g₁·y₂, g₂·y₁ + f₂·y₂) with f = α·cos θ and g = α·sin θ. `road_theta` and
`road_alpha` contain θ and α for each pair (`road_1`), each output (`road_2`), or each coefficient
(`road_4`). A pair is a rotation with a scale for each output if f₁·g₂ = g₁·f₂, as always in
`road_1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from structmat.convert.common_form import LINEAR, Adaptation, LayerRotation
from structmat.convert.layer_names import Names
from structmat.convert.peft_methods import peft_files
from structmat.convert.tensor_files import Weights
from structmat.errors import FileError
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage
from structmat.nn.parametrizations import at_least_float32

_PARTS = ("road_theta", "road_alpha")
_ROUNDING = 1e-6  # the largest cosine between the two rows of an orthogonal pair
_SIZES = {"road_1": 0.5, "road_2": 1, "road_4": 2}  # parameters per output


def read(folder: Path, weights: Weights | None = None) -> Adaptation:
    """Read a RoAd checkpoint from PEFT.

    Raises
    ------
    FileError
        If the files cannot be read, no model is given, or a tensor has a wrong shape.
    """
    files = peft_files.read(folder, _PARTS)
    if weights is None:
        raise FileError(
            f"{folder}: RoAd also rotates the biases of layers, which its files do not contain;"
            " give the pretrained model (model=, --model)"
        )
    names = Names(weights, files.layers)
    rotations, biases = {}, {}
    notes: list[str] = []
    for name, parts in files.layers.items():
        coefficients, wires = _coefficients(name, parts, files.config)
        blocks, scales = _factored(coefficients)
        scale = None if scales is None else _by_output(wires, scales)
        if scale is None:
            notes = [
                "the matrices of some pairs of outputs are not products of a rotation and a scale"
                " for each output"
            ]
        rotations[name] = LayerRotation(
            Network(wires.numel(), [Stage(wires.numel(), [Bank(wires.numpy())])]),
            partial(list, [blocks]),
            "outputs",
            scale,
            kind=LINEAR,
            dtype=at_least_float32(parts["road_theta"].dtype),
        )
        key = f"{names.of[name]}.bias"
        if key in weights.keys:
            bias = weights.tensor(key)
            made = coefficients @ bias.to(torch.float64)[wires][:, :, None]
            biases[name] = _by_output(wires, made.squeeze(2)).to(at_least_float32(bias.dtype))
    found = files.adaptation("PEFT's RoAd", rotations, notes)
    return replace(
        found,
        rotations={n: replace(r, bias=biases.get(n)) for n, r in found.rotations.items()},
    )


def _coefficients(
    name: str, parts: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Return the 2×2 matrices of all pairs, (pairs, 2, 2) in float64, and their outputs (pairs, 2).

    Raises
    ------
    FileError
        If a tensor is missing or has a wrong shape, or the variant is unknown.
    """
    variant, group = config.get("variant"), int(config.get("group_size", 64))
    theta, alpha = (parts.get(part) for part in _PARTS)
    if variant not in _SIZES or theta is None or alpha is None or theta.shape != alpha.shape:
        raise FileError(
            f"{name}: a layer of RoAd needs road_theta and road_alpha of the same shape, and one of"
            f" the variants {', '.join(_SIZES)}, not {variant}"
        )
    theta, alpha = theta.to(torch.float64), alpha.to(torch.float64)
    outputs = round(theta.numel() / _SIZES[variant])
    if theta.ndim != 1 or group % 2 or outputs % group or not outputs:
        raise FileError(
            f"{name}: {tuple(theta.shape)} numbers of {variant} do not form groups of {group}"
            " outputs"
        )
    half = group // 2
    if variant == "road_4":
        theta, alpha = (x.reshape(-1, 2, 2, half) for x in (theta, alpha))
        f, g = alpha[:, 0] * theta[:, 0].cos(), alpha[:, 1] * theta[:, 1].sin()
    else:
        theta, alpha = (
            x.reshape(-1, 1 if variant == "road_1" else 2, half).expand(-1, 2, -1)
            for x in (theta, alpha)
        )
        f, g = alpha * theta.cos(), alpha * theta.sin()
    first = torch.stack([f[:, 0], -g[:, 0]], dim=-1)
    second = torch.stack([g[:, 1], f[:, 1]], dim=-1)
    wires = torch.arange(outputs).reshape(-1, 2, half).transpose(1, 2).reshape(-1, 2)
    return torch.stack([first, second], dim=-2).flatten(0, 1), wires


def _factored(coefficients: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return rotations and scales (pairs, 2) or, if there are none, the matrices and None."""
    first, second = coefficients.unbind(1)
    lengths = coefficients.norm(dim=2)
    if bool(((first * second).sum(1).abs() > _ROUNDING * lengths.prod(1)).any()):
        return coefficients, None
    # The longer row determines the rotation, if the other is short or zero.
    other = torch.stack([second[:, 1], -second[:, 0]], dim=1)
    longer = torch.where((lengths[:, 0] >= lengths[:, 1])[:, None], first, other)
    length = longer.norm(dim=1, keepdim=True)
    one = torch.tensor([1.0, 0.0], dtype=torch.float64)
    cosine, minus_sine = torch.where(length > 0, longer / length.clamp_min(1e-300), one).unbind(1)
    rows = torch.stack([cosine, minus_sine, -minus_sine, cosine], dim=1).reshape(-1, 2, 2)
    return rows, (coefficients * rows).sum(2)


def _by_output(wires: Tensor, values: Tensor) -> Tensor:
    """Return values (pairs, 2) in the order of the outputs."""
    made = torch.empty(wires.numel(), dtype=values.dtype)
    made[wires] = values
    return made
