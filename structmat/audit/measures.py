"""Measures of a rotation's invariants, computed from its blocks and from the weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.audit.tables import Row
from structmat.convert.common_form import Blocks, LayerRotation, layout, rotated
from structmat.networks.network import Network

_CHUNK = 512  # columns of the identity that are rotated at once
_NEAR = 1e-6  # unit vectors closer than this are ignored, since their energy is unbounded
_LOST = 0.1  # fraction of the change that may be lost to rounding without a warning
_LARGE = 0.9 * math.pi  # angle above which Cayley transforms become flat: tan(θ/2) > 6


def of_rotation(rotation: LayerRotation) -> Row:
    """Return the orthogonality error and the rotation angles of blocks."""
    net, blocks = rotation.network, rotation.blocks()
    warnings: list[str] = []
    row: Row = {
        "network": f"width {net.width}, depth {net.depth}",
        "side": rotation.side,
        "parameters": net.parameters,
        "warnings": warnings,
    }
    if not all(bool(torch.isfinite(block).all()) for block in blocks):
        row |= {"orthogonality_error": math.inf, "stages": []}
        warnings.append("a block contains NaN or infinity: the adapter diverged")
        return row
    row["orthogonality_error"] = orthogonality_error(net, blocks)
    row["stages"] = _angles(net, blocks)
    largest = max((stage["largest"] for stage in row["stages"]), default=0.0)
    if row["orthogonality_error"] > 1e-3:
        warnings.append(
            f"not orthogonal: |RᵀR − I| has an entry of {row['orthogonality_error']:.1e}, as is"
            " typical of blocks from a truncated series"
        )
    if largest > _LARGE and rotation.parametrization.startswith("cayley"):
        warnings.append(
            f"a block rotates by {math.degrees(largest):.0f}°: near 180°, a Cayley transform hardly"
            ' depends on its parameters; parametrization="exp" has no such problem'
        )
    return row


def orthogonality_error(net: Network, blocks: Blocks) -> float:
    """Return the largest entry of |RᵀR − I|, computed in batches of columns.

    Examples
    --------
    >>> net = Network.of(2, [[[0, 1]]])
    >>> orthogonality_error(net, [torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])])
    3.0
    """
    back, transposed = net.inverse(), _transposed(net, blocks)
    largest = 0.0
    dtype = blocks[0].dtype if blocks else torch.float64
    for start in range(0, net.width, _CHUNK):
        columns = torch.zeros(net.width, min(_CHUNK, net.width - start), dtype=dtype)
        columns[start : start + _CHUNK].fill_diagonal_(1)
        again = rotated(back, transposed, rotated(net, blocks, columns))
        largest = max(largest, float((again - columns).abs().max()))
    return largest


def _transposed(net: Network, blocks: Blocks) -> Blocks:
    """Return the blocks of the inverse network, with stages reversed but banks in order."""
    rest = iter(blocks)
    stages = [[next(rest).mT for _ in stage.banks] for stage in net.stages]
    return [block for stage in reversed(stages) for block in stage]


def _angles(net: Network, blocks: Blocks) -> list[dict[str, float]]:
    """Return, for each stage, the largest and mean |arg λ| of its blocks' eigenvalues λ."""
    rest = iter(blocks)
    found = []
    for stage in net.stages:
        parts = [torch.linalg.eigvals(next(rest)).angle().abs().flatten() for _ in stage.banks]
        angles = torch.cat(parts) if parts else torch.zeros(1)
        found.append({"largest": float(angles.max()), "mean": float(angles.mean())})
    return found


def of_weights(rotation: LayerRotation, before: Tensor, after: Tensor, most: int) -> Row:
    """Compare the singular values, angles and energy of a weight before and after a change.

    Parameters
    ----------
    rotation : LayerRotation
        Specifies the rotated side and the layout of the layer's weight. Groups of a convolution are
        compared separately.
    before, after : weights
    most : int
        The maximum number of neurons to compare in each group.

    Returns
    -------
    dict
        "singular_value_drift": the largest change of a singular value, relative to the largest one;
        "angle_drift": the largest change of an angle between two neurons, in radians;
        "energy", "energy_drift": the hyperspherical energy, and its relative change.
    """
    old, new = _vectors(rotation, before, most), _vectors(rotation, after, most)
    values, others = _singular_values(old), _singular_values(new)
    top = float(values.max()) if values.numel() else 0.0
    cosines, after_cosines, energies = _cosines(old), _cosines(new), [0.0, 0.0]
    drift = (after_cosines.arccos() - cosines.arccos()).abs()
    # Zero vectors have no direction.
    apart = _pairs((old.norm(dim=-1) > 0).double().unsqueeze(-1)) > 0
    apart &= (2 - 2 * cosines).sqrt() > _NEAR
    apart &= (2 - 2 * after_cosines).sqrt() > _NEAR
    for k, cosine in enumerate((cosines, after_cosines)):
        energies[k] = float((2 - 2 * cosine[apart]).rsqrt().sum())
    return {
        "singular_value_drift": float((others - values).abs().max()) / top if top else 0.0,
        "angle_drift": float(drift.max()) if drift.numel() else 0.0,
        "energy": energies[0],
        "energy_drift": abs(energies[1] - energies[0]) / energies[0] if energies[0] else 0.0,
    }


def _vectors(rotation: LayerRotation, weight: Tensor, most: int) -> Tensor:
    """Return vectors (groups, n, k), evenly spaced among those whose angles are preserved."""
    kind, layer = layout(rotation)
    w = kind.neurons(layer, weight.detach())
    if rotation.side == "outputs":
        w = kind.by_outputs(layer, w)[None]
    else:
        w = w.reshape(kind.copies(layer), -1, w.shape[-1])
    if w.shape[1] > most:
        w = w[:, torch.linspace(0, w.shape[1] - 1, most).round().long().to(w.device)]
    return w.cpu().double()


def _singular_values(vectors: Tensor) -> Tensor:
    """Return singular values from the Gram matrix, with errors of about 1e-8 times the largest."""
    wide = vectors.shape[1] <= vectors.shape[2]
    gram = vectors @ vectors.mT if wide else vectors.mT @ vectors
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()


def _cosines(vectors: Tensor) -> Tensor:
    """Return the cosines of the angles between all pairs, or 0 if a vector is zero."""
    norms = vectors.norm(dim=-1, keepdim=True)
    unit = vectors / torch.where(norms > 0, norms, 1.0)
    return _pairs(unit).clamp(-1, 1)


def _pairs(vectors: Tensor) -> Tensor:
    """Return the inner products of all pairs of vectors."""
    gram = vectors @ vectors.mT
    rows, columns = torch.triu_indices(gram.shape[-1], gram.shape[-1], 1).unbind()
    return gram[:, rows, columns]


def rounding_lost(exact: Tensor, before: Tensor, after: Tensor) -> float:
    """Return ‖rounded W' − W'‖ / ‖W' − W‖, the fraction of the change that merging loses."""
    change = float((exact - before.detach().cpu().double()).norm())
    return float((after.detach().cpu().double() - exact).norm()) / change if change else 0.0


def rounding_warning(lost: float, dtype: torch.dtype) -> list[str]:
    """Return a warning if merging loses much of the change."""
    if lost <= _LOST:
        return []
    return [
        f"merging rounds to {str(dtype).removeprefix('torch.')}, which loses {lost:.0%} of the"
        " change; merge in float32, or keep the adapter unmerged"
    ]
