"""The GSOFT format: y = s ⊙ W (P⁻¹ L P R x), with blocks (I+S)(I−S)⁻¹ and S = ½(X − Xᵀ).

The blocks of R act on adjacent wires, those of L on wires d/b apart. The tensors are
`<layer>.gs_ort.gsoft_R` and `gsoft_L` (d/b, b, b), and `<layer>.gsoft_s` (out,). The file specifies
neither which side is rotated nor whether blocks are exponentials: as in the paper, rotated inputs
and Cayley transforms are assumed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from structmat._util.files import write_bytes
from structmat.adapters.saved_tensors import to_bytes
from structmat.convert.base_model import fingerprint_metadata
from structmat.convert.common_form import LINEAR, Adaptation, Blocks, LayerRotation
from structmat.convert.inverse_parametrization import cayley, skew
from structmat.convert.subnetworks import Build, best, sizes
from structmat.convert.tensor_files import Weights, floating, read_numbers
from structmat.convert.writer_checks import check_inputs, parameters, refuse_base
from structmat.errors import FileError
from structmat.families.butterflies import digit_bank
from structmat.networks.network import Network
from structmat.networks.stage import Stage
from structmat.nn.parametrizations import at_least_float32

LEFT, RIGHT, SCALE = ".gs_ort.gsoft_L", ".gs_ort.gsoft_R", ".gsoft_s"


def read(path: Path, _: Weights | None = None) -> Adaptation:
    """Read a GSOFT checkpoint, a safetensors file.

    Raises
    ------
    FileError
        If the file cannot be read, or a layer does not have L and R of the same shape.
    """
    tensors = read_numbers(path)
    names = [key.removesuffix(LEFT) for key in tensors if key.endswith(LEFT)]
    rotations = {}
    for name in names:
        left, right = tensors.pop(name + LEFT), tensors.pop(name + RIGHT, None)
        if right is None or left.shape != right.shape or left.ndim != 3:
            raise FileError(f"{path}: {name} needs L and R of the same shape (blocks, b, b)")
        left, right = (floating(f"{path}: {name}", x) for x in (left, right))
        count, size, _columns = left.shape
        scale = tensors.pop(name + SCALE, None)
        rotations[name] = LayerRotation(
            network(count * size, size),
            _Made(left, right),
            scale=scale,
            kind=LINEAR,
            weight=None if scale is None else (len(scale), count * size),
            dtype=at_least_float32(left.dtype),
        )
    notes = ["read as Cayley transforms that rotate inputs, since the file specifies neither"]
    return Adaptation("GSOFT", rotations, tensors, notes=notes)


class _Made:
    """The blocks of Gᵀ, the transpose of L first; the weight is W·G with G = P⁻¹ L P R."""

    def __init__(self, left: Tensor, right: Tensor) -> None:
        self._left, self._right = left, right

    def __call__(self) -> Blocks:
        both = (self._left, self._right)
        return [cayley(skew(x.to(torch.float64))).mT.contiguous() for x in both]


def network(width: int, size: int) -> Network:
    """Return the GSOFT network, whose first stage corresponds to L.

    Examples
    --------
    >>> [stage.banks[0].reads.tolist() for stage in network(4, 2).stages]
    [[[0, 2], [1, 3]], [[0, 1], [2, 3]]]
    """
    banks = [digit_bank(width, size, width // size), digit_bank(width, size, 1)]
    return Network(width, [Stage(width, [bank]) for bank in banks])


def _sized(size: Callable[[int], int], width: int) -> Network | None:
    return network(width, size(width)) if size(width) > 1 else None


def write(
    adaptation: Adaptation, rotations: Mapping[str, LayerRotation], path: Path, *, nearest: bool
) -> tuple[dict[str, float], list[str]]:
    """Write rotations as a GSOFT checkpoint; return the largest error by layer, and notes.

    Raises
    ------
    FileError
        If a network has other stages, a block is not a Cayley transform, or GSOFT does not support
        a layer or another tensor.
    """
    adaptation.refuse_other_tensors("GSOFT")
    refuse_base(rotations, "GSOFT")
    for name, rotation in rotations.items():
        check_inputs(name, rotation, "GSOFT")
        if rotation.kind != LINEAR or rotation.bias is not None or not name:
            raise FileError(f"{name}: GSOFT supports only linear layers in a model, and no biases")
    settings: list[tuple[tuple[str, int], Build]] = [
        ((by, value), functools.partial(_sized, size)) for by, value, size in sizes(rotations)
    ]
    rule = "GSOFT has two stages, with blocks of b wires d/b apart and of b adjacent wires"
    _, networks = best(rotations, settings, rule)
    tensors, errors = {}, {}
    for name, rotation in rotations.items():
        found, errors[name] = parameters(name, rotation, networks[name], nearest=nearest)
        tensors[name + LEFT], tensors[name + RIGHT] = (q.mT for q in found)
        outputs = rotation.weight[0] if rotation.weight else 0
        scale = torch.from_numpy(np.ones(outputs)) if rotation.scale is None else rotation.scale
        tensors[name + SCALE] = scale.to(rotation.dtype)
    write_bytes(path, to_bytes(tensors, fingerprint_metadata(rotations)))
    return errors, []
