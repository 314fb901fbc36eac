"""The format of PEFT's OFT: a block-diagonal matrix, given by the upper triangles of Q.

`oft_R.weight` is (d/b, b(b−1)/2), or a single row if blocks are shared. The exact option computes
(I−Q)(I+Q)⁻¹. The default, a truncated Neumann series, approximates the transpose, (I+Q)(I−Q)⁻¹, by
matrices that are not orthogonal: five terms yield the exact matrix times I − Q⁴.

`oft_embedding_R.weight` is the same for embeddings, but PEFT multiplies the rows of the table by
the matrix instead of its transpose, so Q has the opposite sign.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from structmat.convert.common_form import EMBEDDING, Adaptation, Blocks, LayerRotation
from structmat.convert.inverse_parametrization import cayley, from_upper, upper
from structmat.convert.layer_names import Names
from structmat.convert.peft_methods import peft_files
from structmat.convert.subnetworks import Build, best, sizes
from structmat.convert.tensor_files import Weights
from structmat.convert.writer_checks import (
    check_inputs,
    check_peft_layer,
    check_unscaled,
    parameters,
)
from structmat.errors import FileError, StructmatError
from structmat.families.butterflies import block_diagonal
from structmat.networks.network import Network
from structmat.nn.parametrizations import at_least_float32

_SHARED = "block_share"
_LINEAR, _EMBEDDING = "oft_R.weight", "oft_embedding_R.weight"


def read(folder: Path, weights: Weights | None = None) -> Adaptation:
    """Read an OFT checkpoint from PEFT 0.16 or later.

    Raises
    ------
    FileError
        If the files cannot be read or were written by an earlier version, a tensor has a wrong
        shape, or blocks are shared and no model is given.
    """
    files = peft_files.read(folder, (_LINEAR, _EMBEDDING, "oft_r", "oft_R"))
    config = files.config
    notes = []
    series = bool(config.get("use_cayley_neumann", False))
    if series:
        notes = [
            "a truncated Neumann series: PEFT's blocks are not orthogonal, with an error that grows"
            " with their angles"
        ]
    rotations = {}
    for name, parts in files.layers.items():
        is_embedding = _EMBEDDING in parts
        if not is_embedding and _LINEAR not in parts:
            raise FileError(
                f"{name}: PEFT before 0.16 wrote this file, which newer PEFT cannot read either"
            )
        x = -parts[_EMBEDDING] if is_embedding else parts[_LINEAR]
        try:
            size = from_upper(x[:1]).shape[-1]
            shared = bool(config.get(_SHARED, False))
            width = _width(name, weights, files) if shared else size * len(x)
            if shared and len(x) != 1:
                raise FileError(f"{_SHARED} is set, but there are {len(x)} blocks")
            network = block_diagonal(width, block=size)
        except StructmatError as error:
            raise FileError(f"{name}: {error}") from None
        made = _Made(x, config, width)
        five = series and _terms(config) == 5 and _halves_last(config)
        rotations[name] = LayerRotation(
            network,
            made,
            kind=EMBEDDING if is_embedding else None,
            dtype=at_least_float32(x.dtype),
            series=made.q() if five else None,
        )
    return files.adaptation("PEFT's OFT", rotations, notes)


def _width(name: str, weights: Weights | None, files: peft_files.PeftFiles) -> int:
    """Return the number of inputs of a layer, which a file with shared blocks does not specify."""
    if weights is None:
        raise FileError(
            "all blocks are shared, so the file does not specify their number; give the pretrained"
            " model (model=, --model)"
        )
    return math.prod(weights.shape(Names(weights, files.layers).of[name] + ".weight")[1:])


class _Made:
    def __init__(self, x: Tensor, config: Mapping[str, Any], width: int) -> None:
        self._x, self._config, self._width = x, config, width

    def q(self) -> Tensor:
        """Return the Q of every block in float64."""
        q = from_upper(self._x.to(torch.float64))
        if self._config.get("coft"):
            q = _projected(q, float(self._config.get("eps", 6e-5)))
        return q.repeat(self._width // q.shape[-1] // len(q), 1, 1)

    def __call__(self) -> Blocks:
        config, q = self._config, self.q()
        if config.get("use_cayley_neumann"):
            return [neumann(q, _terms(config), halves=_halves_last(config))]
        return [cayley(-q)]


def neumann(q: Tensor, terms: int, *, halves: bool = True) -> Tensor:
    """Return the truncated series I + 2Q + 2Q² + … of (I+Q)(I−Q)⁻¹, as computed by PEFT.

    Parameters
    ----------
    q : (n, r, r)
    terms : int
    halves : bool
        Whether the last power has the coefficient 1, as it does since PEFT 0.18. Three terms then
        yield the same sum as four.

    Examples
    --------
    >>> q = torch.tensor([[[0.0, 0.1], [-0.1, 0.0]]], dtype=torch.float64)
    >>> float((neumann(q, 5) - cayley(q)).abs().max()) < 1e-4
    True
    """
    made = torch.eye(q.shape[-1], dtype=q.dtype).expand_as(q).clone()
    if terms <= 1:
        return made
    made += 2 * q
    if terms == 2:
        return made
    power = q @ q
    made += 2 * power
    for _ in range(3, terms - 1 if halves else terms):
        power = power @ q
        made += 2 * power
    return made + power @ q if halves else made


def _terms(config: Mapping[str, Any]) -> int:
    return int(config.get("num_cayley_neumann_terms", 5))


def _halves_last(config: Mapping[str, Any]) -> bool:
    """Return whether PEFT 0.18 or later wrote the file; only these versions record theirs."""
    return bool(config.get("peft_version"))


def _projected(q: Tensor, eps: float) -> Tensor:
    """Project Q of blocks onto the ball of constrained OFT, as PEFT's forward pass does."""
    most = eps / len(q) ** 0.5
    norms = q.flatten(1).norm(dim=1)[:, None, None]
    return torch.where(norms <= most, q, q * (most / norms.clamp_min(1e-300)))


def write(
    adaptation: Adaptation, rotations: Mapping[str, LayerRotation], folder: Path, *, nearest: bool
) -> tuple[dict[str, float], list[str]]:
    """Write rotations as an OFT checkpoint for PEFT; return the largest error by layer, and notes.

    The checkpoint uses PEFT's exact option, or the series if all blocks have that form.

    Raises
    ------
    FileError
        If a network is not block-diagonal, a block is not a Cayley transform, or PEFT's OFT does
        not support a layer.
    """
    for name, rotation in rotations.items():
        check_unscaled(name, rotation, "PEFT's OFT")
        if rotation.kind != EMBEDDING:  # whose rows are its outputs
            check_inputs(name, rotation, "PEFT's OFT")
            check_peft_layer(name, rotation, "OFT")
    settings: list[tuple[tuple[str, int], Build]] = [
        ((by, value), functools.partial(_sized, size)) for by, value, size in sizes(rotations)
    ]
    (by, size), networks = best(
        rotations, settings, "PEFT's OFT has one stage with blocks of adjacent wires"
    )
    series = not nearest and all(
        rotation.series is not None and rotation.network == networks[name]
        for name, rotation in rotations.items()
    )
    layers, errors = {}, {}
    for name, rotation in rotations.items():
        if series and rotation.series is not None:
            q = rotation.series.to(rotation.dtype)
            made = neumann(q, 5).to(torch.float64)
            errors[name] = float((made - rotation.blocks()[0]).abs().max())
        else:
            (q,), errors[name] = parameters(name, rotation, networks[name], nearest=nearest)
            q = -q
        if rotation.kind == EMBEDDING:
            layers[name] = {_EMBEDDING: upper(-q)}
        else:
            layers[name] = {_LINEAR: upper(q)}
    config = {
        "peft_type": "OFT",
        "oft_block_size": size if by == "size" else 0,
        "r": size if by == "number" else 0,
        "use_cayley_neumann": series,
        "num_cayley_neumann_terms": 5,
        "peft_version": "0.18.0",  # the first version with the present form of the series
        "coft": False,
        _SHARED: False,
        "module_dropout": 0.0,
        "fan_in_fan_out": False,
    }
    peft_files.write(folder, adaptation, config, layers)
    return errors, []


def _sized(size: Callable[[int], int], width: int) -> Network | None:
    made: Network | None = block_diagonal(width, block=size(width)) if size(width) > 1 else None
    return made
