"""LoRA of a given rank, in PEFT's files: the best low-rank approximation of what changes.

W' − W ≈ B·A, by the singular value decomposition; nothing of this rank is nearer (Eckart and
Young). A rotation of few wires has a low-rank difference; most have not, so the error is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from structmat.errors import FileError
from structmat.nn.conversion import peftfiles
from structmat.nn.conversion.tensorfiles import Weights
from structmat.nn.conversion.turns import CONV1D, CONV2D, Adaptation, Turn, turned


class Truncated(NamedTuple):
    """B (out, r), A (r, in), and the error ‖C − B·A‖ over ‖C‖ of a matrix C."""

    b: Tensor
    a: Tensor
    error: float


def truncate(change: Tensor, rank: int, dtype: torch.dtype = torch.float64) -> Truncated:
    """Return the nearest product of rank r to a matrix (Frobenius), rounded to a dtype.

    The error counts the rounding.

    Examples
    --------
    >>> found = truncate(torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64)), 1)
    >>> (found.b @ found.a).tolist(), round(found.error, 12)
    ([[0.0, 0.0], [0.0, 4.0]], 0.6)
    """
    matrix = change.numpy()
    wide = matrix.shape[0] <= matrix.shape[1]
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    size = len(gram)
    _, vectors = scipy.linalg.eigh(gram, subset_by_index=[size - min(rank, size), size - 1])
    vectors = np.ascontiguousarray(vectors[:, ::-1])  # the largest singular value first
    b, a = (vectors, vectors.T @ matrix) if wide else (matrix @ vectors, vectors.T)
    norms = np.linalg.norm(a, axis=1) if wide else np.linalg.norm(b, axis=0)
    roots = np.sqrt(norms)
    inverse = np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > 0)
    into_b, into_a = (roots, inverse) if wide else (inverse, roots)  # both of one size
    left = torch.from_numpy(b * into_b).to(dtype)
    right = torch.from_numpy(a * into_a[:, None]).to(dtype)
    error = float((change - left.to(change) @ right.to(change)).norm())
    whole = float(change.norm())
    return Truncated(left, right, error / whole if whole else 0.0)


def write(
    adaptation: Adaptation,
    turns: Iterable[tuple[str, Turn]],
    folder: Path,
    *,
    rank: int,
    weights: Weights,
    keys: Mapping[str, str],
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Write LoRA adapters in PEFT's files; return both errors by layer, and notes.

    Raises
    ------
    FileError
        For a convolution with groups.
    """
    layers, errors, small = {}, {}, {}
    fans = set()
    change_norm = rest_norm = 0.0
    for name, turn in turns:
        if turn.groups > 1:
            raise FileError(f"{name}: LoRA of a convolution with groups is read in several ways")
        weight = weights.tensor(f"{keys[name]}.weight")
        new = turned(turn, weight)
        change = new - weight.to(torch.float64)
        fans.add(turn.kind == CONV1D)
        change = (change.T if turn.kind == CONV1D else change.flatten(1)).contiguous()
        found = truncate(change, rank, turn.dtype)
        size, norm = float(change.norm()), float(weight.to(torch.float64).norm())
        errors[name] = (found.error, found.error * size / norm if norm else 0.0)
        change_norm += size**2
        rest_norm += (found.error * size) ** 2
        b, a = found.b, found.a
        if turn.kind == CONV2D:
            assert turn.weight is not None
            b, a = b[:, :, None, None], a.reshape(-1, *turn.weight[1:])
        layers[name] = {"lora_A.weight": a, "lora_B.weight": b}
        if len(a) < rank:
            small[name] = len(a)
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "rank_pattern": small,
        "alpha_pattern": small,
        "fan_in_fan_out": fans == {True},
    }
    listed = sorted(layers)  # names, which every reader of LoRA takes, where they are enough
    clear = all(
        sum(key == keys[name] or key.endswith(f".{name}") for key in _layers(weights)) == 1
        for name in listed
    )
    peftfiles.write(folder, adaptation, config, layers, targets=listed if clear else None)
    total = (rest_norm / change_norm) ** 0.5 if change_norm else 0.0
    return errors, [f"rank {rank} leaves out {total:.2%} of the change (Frobenius norm)"]


def _layers(weights: Weights) -> list[str]:
    return [key.removesuffix(".weight") for key in weights.keys if key.endswith(".weight")]
