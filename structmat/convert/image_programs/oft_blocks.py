"""Rotations of outputs as stored by LyCORIS, ComfyUI and kohya's first OFT: Q = X − Xᵀ, no ½.

`<layer>.oft_blocks` contains X. Its shape is (m, d/b, b, b) for BOFT, where W' = B_m⋯B₁·W ⊙ rescale
with blocks (I+Q)(I−Q)⁻¹, and (d/b, b, b) for diag-OFT, whose blocks are applied transposed. kohya's
module for Flux stores diag-OFT in parts, one for each of the matrices stacked in a weight:
`oft_blocks.0`, `oft_blocks.1`, …. LyCORIS before 2.1 stored the blocks themselves, as `oft_diag`.

`rescale` (out, 1, …) is optional. `alpha` bounds the norm of all blocks Q of a layer (or of a part)
together: by alpha times the number of outputs in LyCORIS and kohya's sd-scripts, by alpha itself in
ComfyUI. 0 means no bound, except in sd-scripts. Layer names have underscores instead of dots, after
a prefix such as `lycoris` or `lora_unet`; only ComfyUI's own files have dots.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from structmat.convert.common_form import Adaptation, Blocks, LayerRotation
from structmat.convert.image_programs import adapter_file
from structmat.convert.image_programs.adapter_file import AdapterFile
from structmat.convert.inverse_parametrization import cayley
from structmat.convert.tensor_files import Weights, floating
from structmat.errors import FileError, abbreviated
from structmat.families.butterflies import block_diagonal
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage
from structmat.nn.parametrizations import at_least_float32

ENDINGS = (".oft_blocks", ".oft_blocks.0", ".oft_diag")
NAMES = {"lycoris": "LyCORIS", "comfyui": "ComfyUI", "kohya": "kohya's OFT"}
_PARTS = (r"oft_blocks(?:\.\d+)?", "oft_diag", "rescale", "alpha")
_TINY = 1e-8  # added to norms by all three programs


def read(
    path: Path,
    _: Weights | None = None,
    *,
    component: str | None = None,
    convention: str | None = None,
) -> Adaptation:
    """Read a safetensors file written by LyCORIS, ComfyUI, or sd-scripts' `networks.oft`.

    Parameters
    ----------
    component : str, optional
        The model to convert, if the file adapts several.
    convention : {"lycoris", "comfyui", "kohya"}, optional
        The program whose bound applies; by default, it is determined from the file.

    Raises
    ------
    FileError
        If the file cannot be read, contains tensors of another method, tensors have wrong shapes,
        or the file does not determine the bound.
    """
    file = adapter_file.read(path, _PARTS, component=component, convention=convention)
    found = convention or _convention(file)
    rotations = {name: _rotation(file, name, found) for name in file.layers}
    return Adaptation(
        NAMES[found or "lycoris"],
        rotations,
        is_flat=file.is_flat,
        notes=file.notes,
        metadata=file.metadata,
        component=file.component,
        pretrained=file.metadata.get("ss_sd_model_name"),
    )


def _convention(file: AdapterFile) -> str | None:
    """Return the program whose bound applies, or None if the file does not specify it."""
    if file.module.startswith("lycoris"):
        return "lycoris"
    if file.module.startswith("networks.oft") or any(
        name.startswith("oft_unet_") or "oft_blocks.0" in parts
        for name, parts in file.layers.items()
    ):
        return "kohya"
    if file.is_flat:
        return "lycoris"
    if all(name.startswith("diffusion_model.") for name in file.layers):
        return "comfyui"
    return None


def _rotation(file: AdapterFile, name: str, convention: str | None) -> LayerRotation:
    """Return the rotation of one layer.

    Raises
    ------
    FileError
        If a shape is wrong, or the bound is not determined.
    """
    parts = dict(file.layers[name])
    where = f"{file.path}: {name}"
    rescale, alpha = parts.pop("rescale", None), parts.pop("alpha", None)
    stacked = {f"oft_blocks.{i}" for i in range(len(parts))}
    if not parts or set(parts) not in ({"oft_blocks"}, {"oft_diag"}, stacked):
        raise FileError(
            f"{where} has {', '.join(parts) or 'no blocks'}; a layer must have oft_blocks,"
            " oft_diag, or oft_blocks.0, oft_blocks.1, …"
        )
    tensors = []
    for part in sorted(parts, key=_number):
        x = floating(f"{where}.{part}", parts[part])
        is_square = x.ndim in (3, 4) and x.shape[-1] == x.shape[-2] > 1 and x.numel() > 0
        if not is_square or (len(parts) > 1 and x.ndim != 3):
            raise FileError(
                f"{where}.{part} has shape {tuple(x.shape)}; it must be (…, blocks, b, b), b ≥ 2"
            )
        tensors.append(x)
    if alpha is not None and (
        alpha.numel() != 1 or alpha.is_complex() or not bool(torch.isfinite(alpha).all())
    ):
        raise FileError(f"{where}.alpha = {abbreviated(alpha.tolist())}; it must be a number")
    is_r = "oft_diag" in parts
    bound = None if alpha is None or is_r else float(alpha)
    made = [_Made(x, _limit(where, x, bound, convention), is_r=is_r) for x in tensors]
    (first, *rest) = tensors
    width = sum(x.shape[-3] * x.shape[-1] for x in tensors)
    if rest:
        network = _side_by_side(width, tensors)
    elif first.ndim == 4:
        network = butterfly(width, first.shape[-1], len(first))
    else:
        network = block_diagonal(width, block=first.shape[-1])
    return LayerRotation(
        network,
        functools.partial(_joined, made),
        "outputs",
        None if rescale is None else floating(f"{where}.rescale", rescale).flatten(),
        dtype=at_least_float32(first.dtype),
    )


def _joined(made: Iterable[_Made]) -> Blocks:
    return [block for each in made for block in each()]


def _number(part: str) -> int:
    tail = part.rpartition(".")[2]
    return int(tail) if tail.isdecimal() else 0


def _side_by_side(width: int, tensors: Iterable[Tensor]) -> Network:
    """Return the network of one stage in which the blocks of several tensors follow each other."""
    banks, start = [], 0
    for x in tensors:
        count, size = x.shape[0], x.shape[-1]
        banks.append(Bank(start + np.arange(count * size).reshape(count, size)))
        start += count * size
    return Network(width, [Stage(width, banks)])


def _limit(where: str, x: Tensor, alpha: float | None, convention: str | None) -> float:
    """Return the bound on the norm of all blocks Q.

    Raises
    ------
    FileError
        If programs differ in the bound, with different results, and none is specified.
    """
    if alpha is None:
        return float("inf")
    outputs = x.shape[-3] * x.shape[-1]
    bounds = {
        "lycoris": alpha * outputs if alpha > 0 else float("inf"),
        "comfyui": alpha if alpha > 0 else float("inf"),
        "kohya": alpha * outputs,
    }
    if convention is not None:
        return bounds[convention]
    if _norm(x) + _TINY > bounds["comfyui"]:
        raise FileError(
            f"{where}: alpha = {alpha:g} bounds the rotation, by alpha itself in ComfyUI's files"
            " and by alpha times the number of outputs in those of LyCORIS, and the file does not"
            " name the program; choose one (convention=, --convention)"
        )
    return float("inf")


def _norm(x: Tensor) -> float:
    x = x.to(torch.float64)
    return float((x - x.mT).norm())


class _Made:
    """The blocks of one tensor, with a bound on the norm of all Q, or blocks stored as such."""

    def __init__(self, x: Tensor, bound: float, *, is_r: bool) -> None:
        self._x, self._bound, self._is_r = x, bound, is_r

    def __call__(self) -> Blocks:
        x = self._x.to(torch.float64)
        r = x if self._is_r else cayley(self._bounded(x - x.mT))
        return list(r) if r.ndim == 4 else [r.mT.contiguous()]

    def _bounded(self, q: Tensor) -> Tensor:
        norm = float(q.norm()) + _TINY
        return q * (self._bound / norm) if norm > self._bound else q


def butterfly(width: int, size: int, depth: int) -> Network:
    """Return the network of LyCORIS's BOFT, with LyCORIS's order of the wires in a switch.

    Raises
    ------
    FileError
        If there is no such network.

    Examples
    --------
    >>> [stage.banks[0].reads.tolist() for stage in butterfly(8, 4, 2).stages]
    [[[0, 2, 1, 3], [4, 6, 5, 7]], [[0, 4, 1, 5], [2, 6, 3, 7]]]
    """
    if size % 2 or width % (size << (depth - 1)):
        raise FileError(f"{depth} factors of blocks of {size} do not form a butterfly at {width}")
    stages = []
    for i in range(depth):
        wires = np.arange(width).reshape(-1, 2, (size // 2) << i)
        reads = wires.transpose(0, 2, 1).reshape(-1, size)
        stages.append(Stage(width, [Bank(reads)]))
    return Network(width, stages)
