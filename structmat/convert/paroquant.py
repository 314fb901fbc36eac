"""The ParoQuant format: INT4 weights behind stages of disjoint Givens rotations (arXiv:2511.10645).

A linear layer computes y = W_q R (c ⊙ x) + b. R acts on groups of 128 adjacent inputs and has eight
stages of 64 pairs in each group; the file lists the pairs, so they may form any topology. The
tensors of a layer are

- `pairs` (8, in) int16: for each stage, the wires of pairs within their group, adjacent in the row;
- `theta` (8, in/2) float16: the angles; (a, b) becomes (a cos θ + b sin θ, b cos θ − a sin θ);
- `channel_scales` (1, in) float16: c;
- `qweight` (in, out/8), `qzeros` (in/128, out/8) int32 and `scales` (in/128, out) float16: the
  weight, W_q[o, i] = (q[i, o] − z[i/128, o]) · scale[i/128, o]. Each int32 contains the four-bit
  numbers of eight outputs, from the lowest bits up in the order 0, 2, 4, 6, 1, 3, 5, 7, as in AWQ;
- `bias` (out,) float16, if there is one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from structmat._util.files import make_directory, new_directory, write_json
from structmat.adapters import RotatedLinear
from structmat.adapters.layouts import layout_for
from structmat.adapters.model import check_plain
from structmat.convert.tensor_files import read_json, read_numbers, write_tensors
from structmat.errors import (
    BlockError,
    FileError,
    StructmatError,
    WidthError,
    abbreviated,
    checked_integer,
    checked_width,
)
from structmat.linalg.blocks import givens
from structmat.linalg.rotation import Rotation
from structmat.linalg.rotators import drawn_seed
from structmat.networks.network import Network
from structmat.nn.fixed_rotation import FixedRotation
from structmat.nn.vectors import check_vectors

GROUP, STAGES, BITS = 128, 8, 4
MOST = 2**BITS - 1
TENSORS, SETTINGS, KEY = "model.safetensors", "config.json", "quantization_config"
_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # of the outputs in a packed number
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
_DTYPES = {
    "pairs": (torch.int16, torch.int32, torch.int64),
    "qweight": (torch.int32,),
    "qzeros": (torch.int32,),
}
_PARTS = ("pairs", "theta", "channel_scales", "qweight", "qzeros", "scales")


class Layer(NamedTuple):
    """A layer of a ParoQuant checkpoint: y = weight · R (c ⊙ x) + bias.

    Attributes
    ----------
    weight : (out, in) float32
        The quantised weight.
    rotation : Rotation
    channel_scales : (in,) float32
    bias : (out,) float16 or None
    """

    weight: Tensor
    rotation: Rotation
    channel_scales: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs (..., out) for inputs (..., in).

        Raises
        ------
        BlockError
            As for `structmat.nn.FixedRotation`.
        """
        check_vectors(x, len(self.channel_scales))
        rotated = FixedRotation(self.rotation)(x * self.channel_scales.to(x.dtype))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return nn.functional.linear(rotated, self.weight.to(x.dtype), bias)


def grouped_butterfly(width: int, *, rng: Any = 0) -> Rotation:
    """Return random Givens rotations on a butterfly within each group, which ParoQuant can store.

    Seven stages with random angles of ±45° and ±135° spread each input evenly over its group of
    128, so that all entries of a group are ±1/√128. The angles of the eighth stage are 0.

    Parameters
    ----------
    width : int
        A multiple of 128.
    rng : int, numpy Generator, SeedSequence or None
        As for `structmat.rotator`.

    Raises
    ------
    WidthError
        If the width is not a multiple of 128, or above 2^22.

    Examples
    --------
    >>> r = grouped_butterfly(256)
    >>> r.network.depth, float(abs(r.matrix()[:128, :128]).round(4).max())
    (8, 0.0884)
    """
    wires = checked_width(checked_integer(width, "width", GROUP))
    if wires % GROUP:
        raise WidthError(
            f"width={wires}: ParoQuant rotates groups of {GROUP}; use a multiple of it"
        )
    source = np.random.default_rng(drawn_seed(rng))
    levels = int(math.log2(GROUP))
    every = np.arange(wires)
    stages, blocks = [], []
    for level in range(STAGES):
        step = 1 << (level % levels)
        first = every[every // step % 2 == 0]
        stages.append(np.stack([first, first + step], axis=1).tolist())
        turns = source.integers(0, 4, len(first))
        angles = (2 * turns + 1) * math.pi / 4 if level < levels else 0.0 * turns
        blocks.append(givens(angles[:, None], 2))
    return Rotation(Network.of(wires, stages), blocks)


def save_paroquant(
    model: nn.Module,
    directory: str | os.PathLike[str],
    *,
    channel_scales: Mapping[str, Tensor] | None = None,
) -> Path:
    """Quantise the layers with rotated activations to INT4, and write a ParoQuant checkpoint.

    Parameters
    ----------
    model : nn.Module
        After `structmat.adapters.rotate_activations` with rotations such as `grouped_butterfly`.
    directory : path
        It must not contain files. `model.safetensors`, with all other floating-point tensors in
        float16 unless they exceed its range, and `config.json` are written to it, but no tokenizer.
    channel_scales : dict of name → (in,) tensor, optional
        Positive factors for the inputs of some layers, before the rotation; the weight is divided
        by them.

    Raises
    ------
    StructmatError
        If no activations are rotated, the model has adapters, a width does not fit, a weight or a
        bias is complex or exceeds the range of float16, or a scale is not positive.
    BlockError
        If a rotation has more than eight stages, or a stage contains anything but pairs within
        groups.
    FileError
        If the directory is not empty or cannot be written.

    Notes
    -----
    Angles and channel scales are rounded to float16 first, and the weight is rotated by the rounded
    angles. Weights are rounded to the nearest of 16 levels, which cover 0 and all weights of the
    group.

    Examples
    --------
    >>> import tempfile
    >>> from structmat.adapters import rotate_activations
    >>> model = rotate_activations(nn.Sequential(nn.Linear(128, 8)), grouped_butterfly)
    >>> path = save_paroquant(model, tempfile.mkdtemp() + "/quantised")
    >>> layer = load_paroquant(path)["0"]
    >>> exact, made = model(torch.eye(128)), layer(torch.eye(128))
    >>> bool((made - exact).norm() < 0.2 * exact.norm())
    True
    """
    check_plain(model)
    every = model.named_modules(
        remove_duplicate=False
    )  # a file stores a layer under each of its names
    found = {name: module for name, module in every if isinstance(module, RotatedLinear)}
    if not found:
        raise StructmatError(
            "no activations are rotated: call rotate_activations(model, grouped_butterfly) first"
        )
    factors = {} if channel_scales is None else channel_scales
    if not isinstance(factors, Mapping):
        raise StructmatError(
            f"channel_scales={abbreviated(factors)}: it must be a dict from layer names to tensors"
        )
    for name in factors:
        if name not in found:
            raise StructmatError(f"channel_scales: {name!r} is not a layer with a rotation")
    tensors = {}
    for name, layer in found.items():
        for part, value in _quantised(name, layer, factors.get(name)).items():
            tensors[f"{name}.{part}" if name else part] = value
    inside = tuple(f"{name}." if name else "" for name in found)
    for key, value in model.state_dict().items():
        if not key.startswith(inside):
            kept = _halved(value) if value.is_floating_point() else value
            tensors[key] = kept.detach().cpu().clone(memory_format=torch.contiguous_format)
    config: Any = getattr(model, "config", None)
    settings: dict[str, Any] = config.to_dict() if hasattr(config, "to_dict") else {}
    settings[KEY] = {
        "quant_method": "paroquant",
        "bits": BITS,
        "group_size": GROUP,
        "krot": STAGES,
    }
    target = Path(directory)
    make_directory(target.parent)
    try:
        with new_directory(target, replace=False) as folder:
            write_tensors(folder / TENSORS, tensors, {})
            write_json(folder / SETTINGS, settings)
    except OSError as error:
        raise FileError(f"{target}: {error.strerror or error}; give a new directory") from None
    return target


def load_paroquant(directory: str | os.PathLike[str]) -> dict[str, Layer]:
    """Read the quantised layers of a single-file ParoQuant checkpoint.

    Raises
    ------
    FileError
        If the files cannot be read, or do not have the format.
    """
    folder = Path(directory)
    settings = read_json(folder / SETTINGS).get(KEY)
    wanted = {"quant_method": "paroquant", "bits": BITS, "group_size": GROUP}
    given = settings if isinstance(settings, dict) else {}
    for key, value in wanted.items():
        if given.get(key) != value:
            raise FileError(
                f"{folder / SETTINGS}: {KEY} has {key}={given.get(key)!r}; only {value!r} is"
                " supported"
            )
    tensors = read_numbers(folder / TENSORS)
    names = [key.removesuffix("qweight") for key in tensors if key.split(".")[-1] == "qweight"]
    return {name.removesuffix("."): _read(folder / TENSORS, name, tensors) for name in names}


# One layer ------------------------------------------------------------------------------------


def _quantised(name: str, layer: RotatedLinear, factor: Any) -> dict[str, Tensor]:
    """Return the tensors of a layer."""
    base = layer.base_layer
    try:
        held = layer.weight.detach()
    except StructmatError as error:
        raise type(error)(f"{name}: {error}") from None
    layout = layout_for(base)
    assert layout is not None  # or reading the weight would have failed
    if held.is_complex():
        raise StructmatError(f"{name}: ParoQuant stores real weights, so exclude this layer")
    weight = layout.neurons(base, held).float().cpu()
    out, width = weight.shape
    if width % GROUP or out % len(_ORDER):
        raise StructmatError(
            f"{name}: {width} inputs and {out} outputs; ParoQuant needs multiples of {GROUP} and"
            f" {len(_ORDER)}, so exclude this layer"
        )
    try:
        pairs, theta = _listed(layer.rotation.rotation)
    except BlockError as error:
        raise BlockError(f"{name}: {error}") from None
    try:
        c = torch.as_tensor(torch.ones(width) if factor is None else factor).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        c = torch.zeros(0)
    c = torch.zeros(0) if c.is_complex() else c.half().float()
    if c.shape != (width,) or not (c.isfinite() & (c > 0)).all():
        raise StructmatError(
            f"channel_scales of {name}: they must be {width} positive numbers within the range of"
            " float16"
        )
    rotated = FixedRotation(_rotation(pairs, theta))(weight / c)
    q, zeros, scales = _rounded(rotated)
    made = {
        "pairs": torch.from_numpy(pairs),
        "theta": torch.from_numpy(theta),
        "channel_scales": c.half()[None],
        "qweight": _packed(q.T),
        "qzeros": _packed(zeros.T),
        "scales": scales.T.contiguous(),
    }
    if base.bias is not None:
        made["bias"] = base.bias.detach().half().cpu()
    for part in ("scales", "bias"):
        if part in made and not made[part].isfinite().all():
            raise StructmatError(
                f"{name}: the {'weight' if part == 'scales' else part} contains NaN, infinity, or"
                " numbers beyond the range of float16; exclude this layer"
            )
    return made


def _read(path: Path, prefix: str, tensors: Mapping[str, Tensor]) -> Layer:
    missing = [part for part in _PARTS if prefix + part not in tensors]
    if missing:
        raise FileError(f"{path}: {prefix}{missing[0]} is missing")
    parts = {part: tensors[prefix + part] for part in _PARTS}
    bias = tensors.get(f"{prefix}bias")
    for part, value in (parts if bias is None else parts | {"bias": bias}).items():
        wanted = _DTYPES.get(part, _FLOATS)
        if value.dtype not in wanted or not value.isfinite().all():
            raise FileError(
                f"{path}: {prefix}{part} of dtype {value.dtype}: it must consist of finite numbers"
                f" of dtype {' or '.join(str(kind).removeprefix('torch.') for kind in wanted)}"
            )
    pairs, theta, c, qweight, qzeros, scales = parts.values()
    stages, width = pairs.shape if pairs.ndim == 2 else (STAGES, 0)
    out = scales.shape[-1] if scales.ndim else 0
    shapes = {
        "pairs": (stages, width // GROUP * GROUP),
        "theta": (stages, width // 2),
        "channel_scales": (1, width),
        "qweight": (width, out // len(_ORDER)),
        "qzeros": (width // GROUP, out // len(_ORDER)),
        "scales": (width // GROUP, out),
        "bias": (out,),
    }
    for part, shape in shapes.items():
        held = tensors.get(prefix + part)
        if held is not None and (held.shape != shape or not held.numel()):
            raise FileError(
                f"{path}: {prefix}{part} has shape {tuple(held.shape)}; expected {shape}"
            )
    groups = pairs.reshape(stages, -1, GROUP).sort(-1).values
    if not (groups == torch.arange(GROUP)).all():
        raise FileError(f"{path}: {prefix}pairs: the pairs of each stage must be disjoint")
    numbers = _unpacked(qweight) - _unpacked(qzeros).repeat_interleave(GROUP, 0)
    weight = numbers * scales.float().repeat_interleave(GROUP, 0)
    return Layer(
        weight.T.contiguous(),
        _rotation(pairs.numpy(), theta.numpy()),
        c[0].float(),
        bias,
    )


# Rotations ------------------------------------------------------------------------------------


def _listed(rotation: Rotation) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the pairs and the angles of a rotation; idle wires form pairs with the angle 0."""
    network = rotation.network
    width = network.width
    if network.depth > STAGES:
        raise BlockError(f"the rotation has {network.depth} stages; ParoQuant has {STAGES}")
    pairs = np.tile(np.arange(width) % GROUP, (STAGES, 1)).astype(np.int16)
    theta = np.zeros((STAGES, width // 2), dtype=np.float16)
    blocks = iter(rotation.blocks)
    for level, stage in enumerate(network.stages):
        wires, angles = [np.empty((0, 2), dtype=np.intp)], [np.empty(0)]
        for bank in stage.banks:
            block = np.asarray(next(blocks))
            if bank.radix != 2 or not np.array_equal(bank.reads, bank.writes):
                raise BlockError(f"stage {level} does not consist of pairs; use grouped_butterfly")
            if np.linalg.det(block).min() < 0:
                raise BlockError(f"stage {level} has a reflection; ParoQuant stores rotations")
            wires.append(bank.reads)
            angles.append(np.arctan2(block[:, 0, 1], block[:, 0, 0]))
        used = np.concatenate(wires)
        if (used[:, 0] // GROUP != used[:, 1] // GROUP).any():
            raise BlockError(f"stage {level} has a pair across groups of {GROUP}")
        idle = np.setdiff1d(np.arange(width), used).reshape(-1, 2)
        used = np.concatenate([used, idle])
        turns = np.concatenate([*angles, np.zeros(len(idle))])
        order = np.argsort(used[:, 0] // GROUP, kind="stable")
        pairs[level] = (used[order] % GROUP).reshape(-1)
        theta[level] = turns[order]
    return pairs, theta


def _rotation(pairs: np.ndarray[Any, Any], theta: np.ndarray[Any, Any]) -> Rotation:
    """Return the rotation with these pairs and angles."""
    width = pairs.shape[1]
    wires = (pairs + np.arange(width) // GROUP * GROUP).reshape(len(pairs), -1, 2)
    network = Network.of(width, wires.tolist())
    return Rotation(network, [givens(row, 2) for row in theta.astype(np.float64)[..., None]])


# Weights --------------------------------------------------------------------------------------


def _halved(value: Tensor) -> Tensor:
    """Return a tensor in float16, or unchanged if it exceeds the range."""
    half = value.half()
    return half if torch.equal(half.isinf(), value.double().isinf()) else value


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return q (out, in) and, for each group, the zero and the scale in float16 (out, groups)."""
    groups = weight.reshape(len(weight), -1, GROUP)
    least, most = groups.amin(-1).clamp_max(0), groups.amax(-1).clamp_min(0)
    scales = ((most - least) / MOST).clamp_min(2**-24).half()  # the smallest positive float16
    zeros = (-least / scales.float()).round().clamp(0, MOST).long()
    q = (groups / scales.float()[..., None]).round().long() + zeros[..., None]
    return q.clamp(0, MOST).reshape(weight.shape), zeros, scales


def _packed(values: Tensor) -> Tensor:
    """Return four-bit numbers (rows, columns) packed into int32 (rows, columns/8)."""
    parts = values.reshape(len(values), -1, len(_ORDER))[..., list(_ORDER)].numpy()
    shifted = parts.astype(np.uint32) << np.arange(0, 32, BITS, dtype=np.uint32)
    words = np.ascontiguousarray(np.bitwise_or.reduce(shifted, axis=-1))
    return torch.from_numpy(words.view(np.int32))


def _unpacked(packed: Tensor) -> Tensor:
    """Return the four-bit numbers (rows, columns) packed in int32 (rows, columns/8)."""
    words = packed.numpy().view(np.uint32)[..., None]
    parts = words >> np.arange(0, 32, BITS, dtype=np.uint32) & MOST
    return torch.from_numpy(parts[..., np.argsort(_ORDER)].astype(np.int64)).flatten(1)
