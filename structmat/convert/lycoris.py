"""The LyCORIS formats BOFT and diag-OFT, which rotate outputs, with Q = X − Xᵀ (no factor ½).

`<layer>.oft_blocks` contains X. Its shape is (m, d/b, b, b) for BOFT, where W' = B_m⋯B₁·W ⊙ rescale
with blocks (I+Q)(I−Q)⁻¹, and (d/b, b, b) for diag-OFT, whose blocks are applied transposed.
`rescale` (out, 1, …) is optional; `alpha` times the number of outputs bounds the norm of all blocks
Q together; 0 means no bound. Layer names have underscores instead of dots, after a prefix such as
`lycoris` or `lora_unet`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from structmat._util.files import write_bytes
from structmat.adapters.saved_tensors import to_bytes
from structmat.convert.base_model import fingerprint_metadata
from structmat.convert.common_form import CONV1D, EMBEDDING, Adaptation, Blocks, LayerRotation
from structmat.convert.inverse_parametrization import cayley
from structmat.convert.subnetworks import Build, best
from structmat.convert.tensor_files import Weights, floating, read_numbers
from structmat.convert.writer_checks import parameters, refuse_base
from structmat.errors import FileError
from structmat.families.butterflies import block_diagonal
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage
from structmat.nn.parametrizations import at_least_float32

BLOCKS = ".oft_blocks"
_PREFIX = "lycoris_"


def read(path: Path, _: Weights | None = None) -> Adaptation:
    """Read a LyCORIS checkpoint, a safetensors file.

    Raises
    ------
    FileError
        If the file cannot be read, contains tensors of another method, or tensors have wrong
        shapes.
    """
    tensors = read_numbers(path)
    rotations = {}
    for name in [key.removesuffix(BLOCKS) for key in tensors if key.endswith(BLOCKS)]:
        x = floating(f"{path}: {name}{BLOCKS}", tensors.pop(name + BLOCKS))
        rescale, alpha = tensors.pop(f"{name}.rescale", None), tensors.pop(f"{name}.alpha", None)
        if x.ndim not in (3, 4) or x.shape[-1] != x.shape[-2]:
            raise FileError(
                f"{path}: {name}{BLOCKS} has shape {tuple(x.shape)}; it must be (…, blocks, b, b)"
            )
        width = x.shape[-3] * x.shape[-1]
        if x.ndim == 4:
            network = butterfly(width, x.shape[-1], len(x))
        else:
            network = block_diagonal(width, block=x.shape[-1])
        bound = 0.0 if alpha is None else float(alpha) * width
        rotations[name] = LayerRotation(
            network,
            _Made(x, bound),
            "outputs",
            None if rescale is None else rescale.flatten(),
            dtype=at_least_float32(x.dtype),
        )
    if tensors:
        raise FileError(
            f"{path}: {next(iter(tensors))} does not belong to a rotation; files that mix several"
            " methods are not supported"
        )
    return Adaptation("LyCORIS", rotations, is_flat=True)


class _Made:
    def __init__(self, x: Tensor, bound: float) -> None:
        self._x, self._bound = x, bound

    def __call__(self) -> Blocks:
        x = self._x.to(torch.float64)
        q = x - x.mT
        norm = float(q.norm()) + 1e-8  # as in LyCORIS
        if 0 < self._bound < norm:
            q = q * (self._bound / norm)
        return list(cayley(q)) if q.ndim == 4 else [cayley(q).mT.contiguous()]


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


def write(
    adaptation: Adaptation, rotations: Mapping[str, LayerRotation], path: Path, *, nearest: bool
) -> tuple[dict[str, float], list[str]]:
    """Write rotations as a LyCORIS checkpoint; return the largest error by layer, and notes.

    Each layer is written as diag-OFT if one stage of blocks suffices, otherwise as BOFT.

    Raises
    ------
    FileError
        If a network fits neither format, a block is not a Cayley transform, or LyCORIS does not
        support a layer or another tensor.
    """
    adaptation.refuse_other_tensors("LyCORIS")
    refuse_base(rotations, "LyCORIS")
    tensors, errors = {}, {}
    flat: dict[str, str] = {}
    for name, rotation in rotations.items():
        if rotation.side != "outputs":
            raise FileError(
                f"{name}: its inputs are rotated, but LyCORIS rotates outputs; convert to LoRA or a"
                " merged model"
            )
        if rotation.kind in (CONV1D, EMBEDDING) or rotation.bias is not None or not name:
            raise FileError(
                f"{name}: LyCORIS supports only linear layers and convolutions in a model, and no"
                " biases"
            )
        other = flat.setdefault(name.replace(".", "_"), name)
        if other != name:
            raise FileError(f"{name} and {other} have the same name in LyCORIS")
        stem = _PREFIX + name.replace(".", "_")
        width = rotation.network.width
        is_plain, network = _network(name, rotation)
        found, errors[name] = parameters(name, rotation, network, nearest=nearest)
        halves = [0.5 * q for q in found]
        tensors[stem + BLOCKS] = -halves[0] if is_plain else torch.stack(halves)
        tensors[f"{stem}.alpha"] = torch.tensor(0.0)
        if rotation.scale is not None:
            axes = len(rotation.weight or ()) - 1
            tensors[f"{stem}.rescale"] = rotation.scale.to(rotation.dtype).reshape(
                width, *[1] * axes
            )
    write_bytes(path, to_bytes(tensors, fingerprint_metadata(rotations)))
    return errors, []


def _network(name: str, rotation: LayerRotation) -> tuple[bool, Network]:
    """Return whether diag-OFT suffices, and the smallest LyCORIS network that contains this one."""
    rule = (
        "LyCORIS has one stage with at least as many blocks as a block has wires (diag-OFT), or all"
        " 1 + log₂(d/b) stages of a butterfly (BOFT)"
    )
    radix = max((bank.radix for bank in rotation.network.banks), default=2)
    settings: list[tuple[bool, Build]] = []
    for size in _divisors(rotation.network.width, 2 * radix):
        count = rotation.network.width // size
        if size <= count:  # LyCORIS uses the smaller factor as the block size
            settings.append((True, functools.partial(block_diagonal, block=size)))
        if size % 2 == 0 and count & (count - 1) == 0:
            depth = count.bit_length()
            settings.append((False, functools.partial(butterfly, size=size, depth=depth)))
    is_plain, found = best({name: rotation}, settings, rule)
    return is_plain, found[name]


def _divisors(width: int, most: int) -> Iterable[int]:
    return (size for size in range(2, most + 1) if width % size == 0)
