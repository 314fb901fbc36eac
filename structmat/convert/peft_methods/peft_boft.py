"""The format of PEFT's BOFT: blocks (I−S)(I+S)⁻¹ with S = ½(X − Xᵀ), and output scales.

`boft_R` (m, d/b, b, b) contains X, factor by factor; factor i joins half-blocks 2^i apart.
`boft_s` is (out, 1) for a linear layer and (1, out) for a convolution.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from structmat.convert.common_form import LINEAR, Adaptation, Blocks, LayerRotation
from structmat.convert.inverse_parametrization import cayley, skew
from structmat.convert.peft_methods import peft_files
from structmat.convert.subnetworks import Build, best, sizes
from structmat.convert.tensor_files import Weights
from structmat.convert.writer_checks import check_inputs, check_peft_layer, parameters
from structmat.errors import FileError
from structmat.families.butterflies import block_diagonal, butterfly
from structmat.networks.network import Network
from structmat.nn.parametrizations import at_least_float32

_DEEPEST = 24


def read(folder: Path, _: Weights | None = None) -> Adaptation:
    """Read a BOFT checkpoint from PEFT.

    The tensors determine the number of factors: without its CUDA extension, PEFT creates one
    factor, whatever the configuration specifies.

    Raises
    ------
    FileError
        If the files cannot be read, or a tensor is missing or has a wrong shape.
    """
    files = peft_files.read(folder, ("boft_R", "boft_s", "boft_P"))  # P: written by peft up to 0.12
    notes = []
    said = files.config.get("boft_n_butterfly_factor")
    rotations = {}
    for name, parts in files.layers.items():
        if "boft_R" not in parts or parts["boft_R"].ndim != 4:
            raise FileError(f"{name}: boft_R with four axes is missing")
        x = parts["boft_R"]
        if said is not None and said != len(x):
            notes = [
                f"the configuration specifies {said} factors, but the tensors contain {len(x)}"
            ]
        width = x.shape[1] * x.shape[2]
        network = block_butterfly(width, x.shape[2], len(x))
        if network is None:
            raise FileError(f"{name}: boft_R of shape {tuple(x.shape)} is not a block butterfly")
        scale = parts.get("boft_s")
        if scale is None:
            raise FileError(f"{name}: boft_s is missing")
        is_linear = scale.ndim == 2 and scale.shape[1] == 1 and len(scale) > 1
        rotations[name] = LayerRotation(
            network,
            _Made(x),
            scale=scale.flatten(),
            kind=LINEAR if is_linear else None,
            weight=(len(scale), width) if is_linear else None,
            dtype=at_least_float32(x.dtype),
        )
    return files.adaptation("PEFT's BOFT", rotations, notes)


class _Made:
    def __init__(self, x: Tensor) -> None:
        self._x = x

    def __call__(self) -> Blocks:
        return [cayley(-skew(x.to(torch.float64))) for x in self._x]


def write(
    adaptation: Adaptation, rotations: Mapping[str, LayerRotation], folder: Path, *, nearest: bool
) -> tuple[dict[str, float], list[str]]:
    """Write rotations as a BOFT checkpoint for PEFT; return the largest error by layer, and notes.

    Raises
    ------
    FileError
        If a network does not fit into a butterfly, a block is not a Cayley transform, or PEFT's
        BOFT does not support a layer.
    """
    for name, rotation in rotations.items():
        check_inputs(name, rotation, "PEFT's BOFT")
        check_peft_layer(name, rotation, "BOFT")
    rule = "a factor of PEFT's BOFT joins two half-blocks 2^i half-blocks apart, i = 0, 1, 2, …"
    (by, size, depth), networks = best(rotations, _settings(rotations), rule)
    layers, errors = {}, {}
    for name, rotation in rotations.items():
        found, errors[name] = parameters(name, rotation, networks[name], nearest=nearest)
        outputs = rotation.weight[0] if rotation.weight else 0
        scale = torch.ones(outputs) if rotation.scale is None else rotation.scale
        scale = scale.to(rotation.dtype)
        is_linear = rotation.kind == LINEAR
        layers[name] = {
            "boft_R": torch.stack([-q for q in found]),
            "boft_s": scale[:, None] if is_linear else scale[None],
        }
    config = {
        "peft_type": "BOFT",
        "boft_block_size": size if by == "size" else 0,
        "boft_block_num": size if by == "number" else 0,
        "boft_n_butterfly_factor": depth,
        "boft_dropout": 0.0,
        "fan_in_fan_out": False,
    }
    peft_files.write(folder, adaptation, config, layers)
    notes = []
    if depth > 1:
        notes = [
            f"PEFT reads {depth} factors only if its CUDA extension compiles; otherwise it creates"
            " one factor and rejects this file"
        ]
    return errors, notes


def _settings(
    rotations: Mapping[str, LayerRotation],
) -> Iterator[tuple[tuple[str, int, int], Build]]:
    """Yield ("size" or "number" of blocks, its value, factors), with a function width → network."""
    for by, value, size in sizes(rotations):
        for depth in range(1, _DEEPEST):
            yield (by, value, depth), functools.partial(_sized, size, depth)


def _sized(size: Callable[[int], int], depth: int, width: int) -> Network | None:
    return block_butterfly(width, size(width), depth)


def block_butterfly(width: int, size: int, depth: int) -> Network | None:
    """Return the network with m factors for a width, or None if PEFT has no such network."""
    if size < 2 or (depth > 1 and (size % 2 or width % (size << (depth - 1)))):
        return None
    made: Network = block_diagonal(width, block=size)
    return made if depth == 1 else butterfly(width, block=size, depth=depth)
