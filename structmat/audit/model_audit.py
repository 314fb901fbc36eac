"""The function `audit`, which checks layer by layer that rotations preserve their invariants."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from structmat._util.progress import bar
from structmat.adapters.layouts import is_rotated
from structmat.audit.in_memory import adapted_layers
from structmat.audit.measures import of_rotation, of_weights, rounding_lost, rounding_warning
from structmat.audit.tables import Audit, Row
from structmat.convert.common_form import BY_AXES, LINEAR, LayerRotation, rotate
from structmat.convert.detection import Pretrained, is_adapter, opened
from structmat.convert.tensor_files import FileWeights, ModelWeights, Weights, weight_of
from structmat.errors import FileError, StructmatError, checked_integer
from structmat.networks.network import Network

MOST = 1024


def audit(
    source: nn.Module | str | os.PathLike[str],
    *,
    model: Pretrained | None = None,
    most: int = MOST,
    progress: bool = False,
) -> Audit:
    """Measure how well the rotations in a model or a file preserve invariants, layer by layer.

    A rotation of inputs preserves the norms of neurons, the angles between them, and the singular
    values of their matrix; a rotation of outputs preserves the same properties of the columns.
    Rounding, truncated series and output scales change these invariants, by the amounts reported.

    Parameters
    ----------
    source : nn.Module or path
        A model with adapters from `adapt` or `structmat.peft`, merged or not, which is not
        modified; or the files of an adapter, in any format that `convert` reads; or the files of a
        finetuned model.
    model : nn.Module or path, optional
        The pretrained model, if the source is files. Without it, the rotations are measured, but
        not their effect on the weights. A finetuned model, whatever the method, is compared with
        it.
    most : int
        The maximum number of neurons (for rotated outputs, columns) to compare in pairs in each
        layer, or in each group of a convolution; they are evenly spaced. The invariants hold for
        every subset.
    progress : bool
        Whether to show a progress bar over the layers.

    Returns
    -------
    Audit
        The results, which can be printed and converted to a dict or HTML.

    Raises
    ------
    StructmatError
        If the model has no adapters, `most` is invalid, or `model` is given along with a model.
    FileError
        If files cannot be read or do not fit the pretrained model, or the source is a finetuned
        model in files and no pretrained model is given.

    References
    ----------
    Qiu et al., Controlling text-to-image diffusion by orthogonal finetuning, NeurIPS 2023, for
    the hyperspherical energy: the sum of 1/‖ŵ_i − ŵ_j‖ over pairs of neurons of norm 1.

    Examples
    --------
    >>> from structmat.adapters import adapt
    >>> model = adapt(nn.Sequential(nn.Linear(8, 4)), "butterfly")
    >>> found = audit(model)
    >>> found.layers["0"]["orthogonality_error"], found.warnings
    (0.0, [])
    """
    checked_integer(most, "most", 2)
    if isinstance(source, nn.Module):
        if model is not None:
            raise StructmatError(
                "a model with adapters contains the pretrained weights; omit model="
            )
        work, named = _adapters(source, most), "the model's adapters"
    else:
        work, named = _files(Path(source), model, most), str(source)
    rows = {}
    with torch.no_grad(), bar("audit", work.count, unit="layer", shown=progress) as steps:
        for name, row in work:
            rows[name] = row
            steps.update()
    return Audit(named, rows)


@dataclass(frozen=True)
class _Work:
    count: int
    rows: Iterator[tuple[str, Row]]

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        return self.rows


# Adapters in memory ---------------------------------------------------------------------------


def _adapters(model: nn.Module, most: int) -> _Work:
    found = adapted_layers(model)
    if not found:
        raise StructmatError("the model has no adapters to audit: adapt it, or load an adapter")
    count = sum(part.count for part in found)
    return _Work(count, (row for part in found for row in part.rows(most)))


# Files ----------------------------------------------------------------------------------------


def _files(source: Path, model: Pretrained | None, most: int) -> _Work:
    if is_adapter(source):
        found = opened(source, model, needs_shapes=False)
        weights, names = found.weights, found.names
        rotations = found.adaptation.rotations
        return _Work(
            len(rotations),
            (
                (name, _row_of(rotation, weights, names.of[name] if names else name, most))
                for name, rotation in rotations.items()
            ),
        )
    after = FileWeights(source)
    if model is None:
        raise FileError(
            f"{source} is a model, not an adapter; give the pretrained model for comparison"
            " (model=, --model)"
        )
    before = ModelWeights(model) if isinstance(model, nn.Module) else FileWeights(Path(model))
    shared = sorted(key for key in after.keys & before.keys if len(before.shape(key)) >= 2)
    if not shared:
        raise FileError(f"{source}: no matrix has the same name as one in the pretrained model")
    for key in shared:
        if after.shape(key) != before.shape(key):
            raise FileError(
                f"{key} has shape {after.shape(key)}, but {before.shape(key)} in the pretrained"
                " model"
            )
    return _Work(len(shared), ((key, _of_pair(key, before, after, most)) for key in shared))


def _row_of(rotation: LayerRotation, weights: Weights | None, key: str, most: int) -> Row:
    row = of_rotation(rotation)
    if weights is None or not math.isfinite(row["orthogonality_error"]):
        return row
    before = rotation.base
    if before is None:
        before = weights.tensor(f"{key}.weight")
    before = weight_of(key, before)
    exact = rotate(rotation, before)
    after = exact.to(before.dtype)
    row |= of_weights(rotation, before, after, most)
    row["rounding_lost"] = rounding_lost(exact, before, after)
    row["warnings"] += rounding_warning(row["rounding_lost"], before.dtype)
    return row


def _of_pair(key: str, before: Weights, after: Weights, most: int) -> Row:
    """Compare a weight finetuned by any method with the pretrained one, taking rows as neurons."""
    old, new = before.tensor(key), after.tensor(key)
    kind = BY_AXES.get(old.ndim, LINEAR)
    rotation = LayerRotation(Network(old[0].numel(), []), list, kind=kind, weight=tuple(old.shape))
    row: Row = {"network": " × ".join(map(str, old.shape)), "side": "compared", "warnings": []}
    if not (is_rotated(old.dtype) and is_rotated(new.dtype)):
        row["warnings"].append(
            f"{old.dtype} and {new.dtype}: weights are compared only in float16, bfloat16 or wider"
        )
        return row
    return row | of_weights(rotation, old, new, most)
