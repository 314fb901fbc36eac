"""The format of PEFT's HRA: W' = W·H₁⋯H_r with reflections H = I − 2uuᵀ for columns u of `hra_u`.

R = H_r⋯H₁ is orthogonal, but not a network of small switches, because each reflection joins all
wires. A single switch of full width therefore represents R. H₁⋯H_r − I has rank r at most, so LoRA
of rank r represents the change exactly.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from structmat.convert.common_form import ONE_SWITCH, Adaptation, Blocks, LayerRotation
from structmat.convert.peft_methods import peft_files
from structmat.convert.tensor_files import Weights
from structmat.errors import FileError
from structmat.networks.network import Network
from structmat.nn.parametrizations import at_least_float32


def read(folder: Path, _: Weights | None = None) -> Adaptation:
    """Read an HRA checkpoint from PEFT.

    Raises
    ------
    FileError
        If the files cannot be read, or a tensor has a wrong shape.
    """
    files = peft_files.read(folder, ("hra_u",))
    orthogonalised = bool(files.config.get("apply_GS", False))
    rotations = {}
    for name, parts in files.layers.items():
        u = parts["hra_u"]
        if u.ndim != 2 or len(u) < 2:
            raise FileError(
                f"{name}: hra_u has shape {tuple(u.shape)}; it must be (inputs, reflections)"
            )
        width = len(u)
        rotations[name] = LayerRotation(
            Network.of(width, [[np.arange(width).tolist()]]),
            _Made(u, orthogonalised=orthogonalised),
            dtype=at_least_float32(u.dtype),
            parametrization=ONE_SWITCH,
        )
    return files.adaptation("PEFT's HRA", rotations, [])


class _Made:
    def __init__(self, u: Tensor, *, orthogonalised: bool) -> None:
        self._u, self._orthogonalised = u, orthogonalised

    def __call__(self) -> Blocks:
        u = self._u.to(torch.float64)
        one = torch.eye(len(u), dtype=torch.float64)
        if self._orthogonalised:  # the order of orthogonal vectors does not matter
            basis, _ = torch.linalg.qr(u)
            return [(one - 2 * basis @ basis.T)[None]]
        for column in (u / u.norm(dim=0)).T:
            one = one - 2 * torch.outer(column, column @ one)
        return [one[None]]
