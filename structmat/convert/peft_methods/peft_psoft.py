"""The format of PEFT's PSOFT: W' = W + U·S·(M − I)·Vᵀ for the largest r singular values of W.

M = diag(b)·R·diag(a) with R = (I+Q)(I−Q)⁻¹, or its series as for OFT; `psoft_R.weight` contains the
upper triangle of Q, or M itself, and `psoft_R.vector_a` and `vector_b` the magnitudes. W·V = U·S,
so W' = W·(I + V(M − I)Vᵀ): without magnitudes, the inputs are rotated in the subspace of V.

The files contain no singular vectors. They are computed from the pretrained weight in float32, as
PEFT does when it loads the file. Their signs, on which W' depends, may differ between processors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.convert.common_form import ONE_SWITCH, Adaptation, Blocks, LayerRotation
from structmat.convert.inverse_parametrization import cayley, from_upper
from structmat.convert.layer_names import Names
from structmat.convert.peft_methods import peft_files
from structmat.convert.peft_methods.peft_oft import neumann
from structmat.convert.tensor_files import Weights, weight_of
from structmat.errors import BlockError, FileError
from structmat.networks.network import Network
from structmat.nn.parametrizations import at_least_float32

_WEIGHT, _B, _A = (f"psoft_R.{part}" for part in ("weight", "vector_b", "vector_a"))
_EXACT = 1e-4  # the largest relative error of W·V = U·S in float32


def read(folder: Path, weights: Weights | None = None) -> Adaptation:
    """Read a PSOFT checkpoint from PEFT.

    Raises
    ------
    FileError
        If the files cannot be read, no model is given, a tensor has a wrong shape, or PEFT's
        approximate singular vectors are not those of the weight.
    """
    files = peft_files.read(folder, (_WEIGHT, _B, _A))
    if weights is None:
        raise FileError(
            f"{folder}: PSOFT rotates the singular vectors of the pretrained weights, which its"
            " files do not contain; give the pretrained model (model=, --model)"
        )
    names = Names(weights, files.layers)
    rotations = {}
    notes = [
        "PSOFT's files do not contain singular vectors; they were computed from the model's weights"
        " on this machine, and their signs may differ from those in training"
    ]
    for name, parts in files.layers.items():
        if _WEIGHT not in parts:
            raise FileError(f"{name}: {_WEIGHT} is missing")
        weight = weights.tensor(f"{names.of[name]}.weight")
        made = _Made(name, parts, files.config, weight_of(name, weight))
        width = made.weight.shape[1]
        rotations[name] = LayerRotation(
            Network.of(width, [[np.arange(width).tolist()]]),
            made,
            dtype=at_least_float32(parts[_WEIGHT].dtype),
            parametrization=ONE_SWITCH,
        )
    return files.adaptation("PEFT's PSOFT", rotations, notes)


class _Made:
    def __init__(
        self, name: str, parts: Mapping[str, Tensor], config: Mapping[str, Any], weight: Tensor
    ) -> None:
        self._name, self._parts, self._config = name, parts, config
        self.weight = weight.T if config.get("fan_in_fan_out") else weight

    def __call__(self) -> Blocks:
        m = self._inner()
        values, basis = self._subspace(len(m))
        change = m - torch.eye(len(m), dtype=torch.float64)
        if self._config.get("ab_svd_init", "psoft_init") == "pissa_init":  # U·√S·(M − I)·√S·Vᵀ
            roots = values.sqrt()
            change = change * (roots[None] / roots[:, None])
        one = torch.eye(len(basis), dtype=torch.float64)
        return [(one + basis @ change @ basis.T).T[None]]

    def _inner(self) -> Tensor:
        """Return M (r, r) in float64."""
        parts, config = self._parts, self._config
        given = parts[_WEIGHT].to(torch.float64)
        if not config.get("psoft_orth", True):
            m = given
        else:
            try:
                q = from_upper(given[None])
            except BlockError as error:
                raise FileError(f"{self._name}: {error}") from None
            if config.get("use_cayley_neumann"):
                m = neumann(self._bounded(q), int(config.get("num_cayley_neumann_terms", 5)))[0]
            else:
                m = cayley(q)[0]
        if _B in parts:
            m = parts[_B].to(m)[:, None] * m
        if _A in parts:
            m = m * parts[_A].to(m)[None]
        return m

    def _bounded(self, q: Tensor) -> Tensor:
        """Return Q, scaled down if its Frobenius norm exceeds the bound in the configuration."""
        most, norm = self._config.get("cayley_neumann_eps"), float(q.norm())
        return q if most is None or norm <= most else q * (float(most) / norm)

    def _subspace(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return the singular values (r,) and the right singular vectors (in, r) in float64."""
        weight = self.weight.to(torch.float32)
        if self._config.get("psoft_svd", "full") == "lowrank":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(self._config.get("random_seed", 0)))
                steps = int(self._config.get("psoft_svd_lowrank_niter", 10))
                left, values, right = torch.svd_lowrank(weight, q=rank, niter=steps)
        else:
            left, values, adjoint = torch.linalg.svd(weight, full_matrices=False)
            left, values, right = left[:, :rank], values[:rank], adjoint[:rank].T
        if len(values) != rank or not bool(values[-1] > 1e-6 * values[0]):
            raise FileError(
                f"{self._name}: the weight does not have {rank} singular values above rounding;"
                " pass the model that the adapter was trained on"
            )
        error = float((weight @ right - left * values).norm() / values.norm())
        if error > _EXACT:
            raise FileError(
                f"{self._name}: psoft_svd='lowrank' yields singular vectors with the relative error"
                f" {error:.1g}, so PSOFT does not rotate this weight; merge the adapter in PEFT"
            )
        return values.to(torch.float64), right.to(torch.float64)
