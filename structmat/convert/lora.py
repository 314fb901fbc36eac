"""Conversion to LoRA, by the best low-rank approximation of the change in each weight.

B·A is the truncated singular value decomposition of W' − W, which is the best approximation of its
rank (Eckart and Young). The rank is given, or it is the smallest one with which the relative
Frobenius error ‖W' − W − B·A‖ / ‖W' − W‖ of a layer is within a tolerance. The change in a rotated
weight rarely has low rank (except with HRA), so the error is reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from structmat._util.files import write_bytes
from structmat._util.text_table import counted, listed
from structmat.adapters.saved_tensors import to_bytes
from structmat.convert.base_model import fingerprint_metadata
from structmat.convert.common_form import (
    CONV1D,
    EMBEDDING,
    Adaptation,
    LayerRotation,
    layout,
    rotate,
)
from structmat.convert.peft_methods import peft_files
from structmat.convert.tensor_files import Weights, weight_of
from structmat.convert.writer_checks import refuse_base
from structmat.errors import FileError

SVDS = ("exact", "randomised")
_FIRST = 32  # the number of singular vectors that the randomised algorithm tries first
_SLACK = 1e-9  # relative, for rounding in float64
_DIFFUSERS = "lora_adapter_metadata"  # the key under which diffusers stores a LoRA's settings


class Truncated(NamedTuple):
    """B (out, r), A (r, in), and the relative error ‖C − B·A‖ / ‖C‖ for a matrix C."""

    b: Tensor
    a: Tensor
    error: float

    @property
    def rank(self) -> int:
        """The rank r."""
        return len(self.a)


@dataclass(frozen=True)
class Limits:
    """The rank of LoRA, the tolerance that determines the rank of each layer, or both.

    Attributes
    ----------
    rank : int, optional
        The rank of all layers or, with a tolerance, the largest rank.
    tolerance : float, optional
        The largest relative Frobenius error of the change in a weight, unless `rank` is too small.
    svd : {"exact", "randomised"}
        Whether singular vectors are exact or found by randomised subspace iteration.
    """

    rank: int | None = None
    tolerance: float | None = None
    svd: str = "exact"


class Converted(NamedTuple):
    """The rank of a layer, and its errors relative to the change and to the weight."""

    rank: int
    of_change: float
    of_weight: float


def truncate(change: Tensor, dtype: torch.dtype, limits: Limits) -> Truncated:
    """Return the best low-rank approximation of a matrix (Frobenius norm), rounded to a dtype.

    The error is that of the rounded factors. Rounding may require a rank one higher than the
    singular values do.

    Parameters
    ----------
    change : (out, in) float64
    dtype : torch dtype
    limits : Limits

    Examples
    --------
    >>> change = torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64))
    >>> found = truncate(change, torch.float64, Limits(rank=1))
    >>> (found.b @ found.a).tolist(), round(found.error, 12)
    ([[0.0, 0.0], [0.0, 4.0]], 0.6)
    >>> [truncate(change, torch.float64, Limits(tolerance=t)).rank for t in (0.5, 0.6, 0.7)]
    [2, 1, 1]
    """
    most = min(*change.shape, limits.rank or max(change.shape))
    goal = -1.0 if limits.tolerance is None else (limits.tolerance * (1 + _SLACK)) ** 2
    count = most if limits.tolerance is None else min(_FIRST, most)
    found = _decomposed(change, count, limits.svd)
    while float(found.lost[-1]) > max(goal, 0) and count < most:
        count = min(2 * count, most)
        found = _decomposed(change, count, limits.svd)
    rank = min(int((found.lost > goal).sum()), most)
    made = _of_rank(change, found, rank, dtype)
    while made.error**2 > goal >= 0 and rank < min(most, found.vectors.shape[1]):
        rank += 1
        made = _of_rank(change, found, rank, dtype)
    return made


class _Decomposed(NamedTuple):
    """Singular vectors of a matrix, the largest value first, and the error of each rank.

    Attributes
    ----------
    vectors : (out, k) or (in, k)
    left : bool
        Whether these are left singular vectors.
    lost : (k + 1,)
        The squared relative errors of the ranks 0 to k.
    """

    vectors: Tensor
    left: bool
    lost: Tensor


def _decomposed(change: Tensor, count: int, svd: str) -> _Decomposed:
    """Return at least `count` singular vectors."""
    randomised = svd == "randomised" and 2 * count < min(change.shape)
    return _randomised(change, count) if randomised else _exact(change)


def _exact(change: Tensor) -> _Decomposed:
    wide = change.shape[0] <= change.shape[1]
    squares, vectors = torch.linalg.eigh(change @ change.T if wide else change.T @ change)
    lost = torch.cat([squares.new_zeros(1), squares.clamp_min(0).cumsum(0)]).flip(0)
    return _Decomposed(vectors.flip(1), wide, lost / lost[0].clamp_min(1e-300))


def _randomised(change: Tensor, count: int) -> _Decomposed:
    """Return approximate left singular vectors.

    Halko, Martinsson and Tropp, Finding structure with randomness (2011), Algorithms 4.4 and 5.1,
    with two iterations and ten additional vectors.
    """
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(change.shape[1], count + 10, generator=draw, dtype=change.dtype)
    basis, _ = torch.linalg.qr(change @ start)
    for _ in range(2):
        basis, _ = torch.linalg.qr(change @ torch.linalg.qr(change.T @ basis)[0])
    left, values, _ = torch.linalg.svd(basis.T @ change, full_matrices=False)
    kept = torch.cat([values.new_zeros(1), values[:count].square().cumsum(0)])
    lost = 1 - kept / change.square().sum().clamp_min(1e-300)
    return _Decomposed((basis @ left)[:, :count], True, lost)  # noqa: FBT003


def _of_rank(change: Tensor, found: _Decomposed, rank: int, dtype: torch.dtype) -> Truncated:
    """Return the projection of a matrix on the first singular vectors, as rounded factors."""
    vectors = found.vectors[:, :rank]
    b, a = (vectors, vectors.T @ change) if found.left else (change @ vectors, vectors.T)
    roots = (a.norm(dim=1) if found.left else b.norm(dim=0)).sqrt()
    inverse = torch.where(roots > 0, roots, torch.inf).reciprocal()
    into_b, into_a = (roots, inverse) if found.left else (inverse, roots)  # balances the norms
    left, right = (b * into_b).to(dtype), (a * into_a[:, None]).to(dtype)
    error = float((change - left.to(change) @ right.to(change)).norm())
    norm = float(change.norm())
    return Truncated(left, right, error / norm if norm else 0.0)


def write(
    adaptation: Adaptation,
    rotations: Iterable[tuple[str, LayerRotation]],
    place: Path,
    *,
    limits: Limits,
    weights: Weights,
    keys: Mapping[str, str],
    prefix: str | None,
) -> tuple[dict[str, Converted], list[str]]:
    """Write LoRA adapters; return the rank and the errors of each layer, and notes.

    If only a rank is given, all layers have this rank, with zero padding for smaller matrices,
    because not every reader supports different ranks. Unchanged layers are omitted.

    Parameters
    ----------
    place : Path
        A directory for PEFT's files, or a file if there is a prefix.
    prefix : str, optional
        The prefix of layer names, such as "transformer" or "unet" in diffusers.

    Raises
    ------
    FileError
        If a layer is a convolution with groups, its weight is quantised, LoRA files cannot
        represent the adapter, or the adapter changes no weight.
    """
    layers, done = {}, {}
    fans = set()
    change_norm = rest_norm = 0.0
    size = merged_size = 0
    for name, rotation in rotations:
        if rotation.groups > 1:
            raise FileError(f"{name}: LoRA of a convolution with groups is ambiguous")
        weight = rotation.base
        if weight is None:
            weight = weights.tensor(f"{keys[name]}.weight")
        weight = weight_of(name, weight)
        kind, layer = layout(rotation)
        change = rotate(rotation, weight) - weight.to(torch.float64)
        change = kind.neurons(layer, change).contiguous()
        if not bool(torch.isfinite(change).all()):
            raise FileError(
                f"{name}: the change of its weight contains NaN or infinity; the adapter diverged"
            )
        if not bool(change.any()):
            done[name] = Converted(0, 0.0, 0.0)
            continue
        b, a, error = found = truncate(change, rotation.dtype, limits)
        rank = found.rank
        if limits.rank is not None and limits.tolerance is None:
            rank = limits.rank
            b, a = (
                functional.pad(b, (0, rank - len(a))),
                functional.pad(a, (0, 0, 0, rank - len(a))),
            )
        layers[name] = _parts(rotation, b, a)
        fans.add(rotation.kind == CONV1D)
        length, norm = float(change.norm()), float(weight.to(torch.float64).norm())
        done[name] = Converted(rank, error, error * length / norm if norm else 0.0)
        change_norm += length**2
        rest_norm += (error * length) ** 2
        size += b.nbytes + a.nbytes
        merged_size += weight.nbytes
    if not layers:
        raise FileError("the adapter changes no weight, so LoRA would have rank 0; train it first")
    lost = (rest_norm / change_norm) ** 0.5
    notes = _notes(done, limits, lost, size, merged_size)
    ranks = {name: done[name].rank for name in layers}
    if prefix is not None:
        _write_file(adaptation, place, layers, prefix, ranks, transposed=True in fans)
        return done, notes
    listed = sorted(layers)  # a list of names, which every reader supports, if unambiguous
    clear = all(
        sum(key == keys[name] or key.endswith(f".{name}") for key in _layers(weights)) == 1
        for name in listed
    )
    config = {"peft_type": "LORA", "lora_dropout": 0.0, "fan_in_fan_out": fans == {True}}
    config |= _settings(ranks)
    peft_files.write(place, adaptation, config, layers, targets=listed if clear else None)
    return done, notes


def _settings(ranks: Mapping[str, int]) -> dict[str, Any]:
    """Return PEFT's settings for layers of different ranks, all with the scale α/r = 1."""
    most = max(ranks.values())
    # PEFT takes a key as a regular expression for the end of a name, unless it begins with "^".
    others = {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank != most}
    return {"r": most, "lora_alpha": most, "rank_pattern": others, "alpha_pattern": others}


def _notes(
    done: Mapping[str, Converted], limits: Limits, lost: float, size: int, merged_size: int
) -> list[str]:
    """Return notes about the ranks, the total error, the missed tolerance and the sizes."""
    ranks = sorted(layer.rank for layer in done.values() if layer.rank)
    same = ranks[0] == ranks[-1]
    shown = f"rank {ranks[0]} loses" if same else f"ranks {ranks[0]} to {ranks[-1]} lose"
    notes = [f"{shown} {lost:.2%} of the change (Frobenius norm)"]
    if limits.tolerance is not None:
        missed = {
            n: row for n, row in done.items() if row.of_change > limits.tolerance * (1 + _SLACK)
        }
        if missed:
            worst = max(missed, key=lambda name: missed[name].of_change)
            is_capped = limits.rank is not None and missed[worst].rank == limits.rank
            remedy = (
                "raise the rank" if is_capped else "rounding prevents smaller errors; merge instead"
            )
            verb = "exceeds" if len(missed) == 1 else "exceed"
            notes.append(
                f"{len(missed)} of {counted(len(done), 'layer')} {verb} the tolerance"
                f" {limits.tolerance:g}, most of all {worst} ({missed[worst].of_change:.2g});"
                f" {remedy}"
            )
    if unchanged := [name for name, row in done.items() if not row.rank]:
        notes.append(
            f"{counted(len(unchanged), 'layer')} omitted, because the adapter does not change them:"
            f" {listed(unchanged)}"
        )
    sizes = f"the factors take {_bytes(size)}, the weights that they change {_bytes(merged_size)}"
    smaller = size < merged_size
    notes.append(
        sizes if smaller else f"{sizes}: a merged model (--to merged) is smaller and exact"
    )
    return notes


def _bytes(count: int) -> str:
    return f"{count / 1e6:.3g} MB" if count >= 1e5 else f"{count / 1e3:.3g} kB"


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
    ranks: Mapping[str, int],
    *,
    transposed: bool,
) -> None:
    """Write one file with diffusers' names, without alphas, which then default to the ranks.

    Earlier versions of diffusers require the ranks in the metadata, in the form of PEFT's settings;
    most of its loaders would reject alphas as tensors.
    """
    adaptation.refuse_other_tensors("a single LoRA file")
    refuse_base(adaptation.rotations, "a single LoRA file")
    if transposed or any(rotation.bias is not None for rotation in adaptation.rotations.values()):
        raise FileError(
            "a single LoRA file supports neither biases nor transformers' Conv1D; omit the prefix"
            " to write PEFT's files to a directory"
        )
    start = f"{prefix}." if prefix else ""
    tensors = {
        f"{start}{name}.{part}": value
        for name, parts in layers.items()
        for part, value in parts.items()
    }
    metadata = fingerprint_metadata(adaptation.rotations)
    if prefix and len(set(ranks.values())) > 1:
        settings = {**_settings(ranks), "target_modules": sorted(ranks)}
        metadata[_DIFFUSERS] = json.dumps({f"{start}{key}": v for key, v in settings.items()})
    write_bytes(path, to_bytes(tensors, metadata))


def _layers(weights: Weights) -> list[str]:
    return [key.removesuffix(".weight") for key in weights.keys if key.endswith(".weight")]
