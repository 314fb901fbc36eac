"""Conversion to LoRA of a given rank, by the best low-rank approximation of the change.

B·A is the truncated singular value decomposition of W' − W, which is the best approximation of its
rank (Eckart and Young). The change of a rotated weight rarely has low rank (HRA's has), so the
error is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from structmat._util.files import write_bytes
from structmat.adapters.saved_tensors import to_bytes
from structmat.convert import peft_files
from structmat.convert.common_form import (
    CONV1D,
    EMBEDDING,
    Adaptation,
    LayerRotation,
    layout,
    rotate,
)
from structmat.convert.tensor_files import Weights, weight_of
from structmat.convert.writer_checks import refuse_base
from structmat.errors import FileError


class Truncated(NamedTuple):
    """B (out, r), A (r, in), and the relative error ‖C − B·A‖ / ‖C‖ for a matrix C."""

    b: Tensor
    a: Tensor
    error: float


def truncate(change: Tensor, rank: int, dtype: torch.dtype = torch.float64) -> Truncated:
    """Return the best rank-r approximation of a matrix (Frobenius norm), rounded to a dtype.

    The error includes the rounding.

    Examples
    --------
    >>> found = truncate(torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64)), 1)
    >>> (found.b @ found.a).tolist(), round(found.error, 12)
    ([[0.0, 0.0], [0.0, 4.0]], 0.6)
    """
    wide = change.shape[0] <= change.shape[1]
    _, vectors = torch.linalg.eigh(change @ change.T if wide else change.T @ change)
    vectors = vectors[:, -rank:].flip(1)  # the largest singular value first
    b, a = (vectors, vectors.T @ change) if wide else (change @ vectors, vectors.T)
    roots = (a.norm(dim=1) if wide else b.norm(dim=0)).sqrt()
    inverse = torch.where(roots > 0, roots, torch.inf).reciprocal()
    into_b, into_a = (roots, inverse) if wide else (inverse, roots)  # balances the norms
    left, right = (b * into_b).to(dtype), (a * into_a[:, None]).to(dtype)
    error = float((change - left.to(change) @ right.to(change)).norm())
    norm = float(change.norm())
    return Truncated(left, right, error / norm if norm else 0.0)


def write(
    adaptation: Adaptation,
    rotations: Iterable[tuple[str, LayerRotation]],
    place: Path,
    *,
    rank: int,
    weights: Weights,
    keys: Mapping[str, str],
    prefix: str | None,
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Write LoRA adapters; return the errors relative to the change and to the weight, and notes.

    All adapters have the same rank, with zero padding for smaller matrices, because not every
    reader supports different ranks.

    Parameters
    ----------
    place : Path
        A directory for PEFT's files, or a file if there is a prefix.
    prefix : str, optional
        The prefix of layer names, such as "transformer" or "unet" in diffusers.

    Raises
    ------
    FileError
        If a layer is a convolution with groups, its weight is quantised, or LoRA files cannot
        represent the adapter.
    """
    layers, errors = {}, {}
    fans = set()
    change_norm = rest_norm = 0.0
    for name, rotation in rotations:
        if rotation.groups > 1:
            raise FileError(f"{name}: LoRA of a convolution with groups is ambiguous")
        weight = rotation.base
        if weight is None:
            weight = weights.tensor(f"{keys[name]}.weight")
        weight = weight_of(name, weight)
        kind, layer = layout(rotation)
        change = rotate(rotation, weight) - weight.to(torch.float64)
        fans.add(rotation.kind == CONV1D)
        change = kind.neurons(layer, change).contiguous()
        b, a, error = truncate(change, rank, rotation.dtype)
        b, a = functional.pad(b, (0, rank - len(a))), functional.pad(a, (0, 0, 0, rank - len(a)))
        layers[name] = _parts(rotation, b, a)
        size, norm = float(change.norm()), float(weight.to(torch.float64).norm())
        errors[name] = (error, error * size / norm if norm else 0.0)
        change_norm += size**2
        rest_norm += (error * size) ** 2
    total = (rest_norm / change_norm) ** 0.5 if change_norm else 0.0
    notes = [f"rank {rank} loses {total:.2%} of the change (Frobenius norm)"]
    if prefix is not None:
        _write_file(adaptation, place, layers, prefix, transposed=True in fans)
        return errors, notes
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "fan_in_fan_out": fans == {True},
    }
    listed = sorted(layers)  # a list of names, which every reader supports, if unambiguous
    clear = all(
        sum(key == keys[name] or key.endswith(f".{name}") for key in _layers(weights)) == 1
        for name in listed
    )
    peft_files.write(place, adaptation, config, layers, targets=listed if clear else None)
    return errors, notes


def _parts(rotation: LayerRotation, b: Tensor, a: Tensor) -> dict[str, Tensor]:
    """Return B (out, rank) and A (rank, in) in PEFT's layout for this kind of layer."""
    assert rotation.weight is not None
    if rotation.kind == EMBEDDING:  # the outputs are the columns of its weight
        return {"lora_embedding_A": b.T, "lora_embedding_B": a.T}
    kernel = rotation.weight[2:]
    if kernel:
        b, a = b.reshape(*b.shape, *[1] * len(kernel)), a.reshape(-1, *rotation.weight[1:])
    return {"lora_A.weight": a, "lora_B.weight": b}


def _write_file(
    adaptation: Adaptation,
    path: Path,
    layers: Mapping[str, Mapping[str, Tensor]],
    prefix: str,
    *,
    transposed: bool,
) -> None:
    """Write one file in diffusers' format, without alphas, which then default to the rank."""
    adaptation.refuse_other_tensors("a single LoRA file")
    refuse_base(adaptation.rotations, "a single LoRA file")
    if transposed or any(rotation.bias is not None for rotation in adaptation.rotations.values()):
        raise FileError(
            "a single LoRA file supports neither biases nor transformers' Conv1D; give a directory"
            " to write PEFT's files"
        )
    start = f"{prefix}." if prefix else ""
    tensors = {
        f"{start}{name}.{part}": value
        for name, parts in layers.items()
        for part, value in parts.items()
    }
    write_bytes(path, to_bytes(tensors))


def _layers(weights: Weights) -> list[str]:
    return [key.removesuffix(".weight") for key in weights.keys if key.endswith(".weight")]
