"""Writing of merged models: the pretrained model's files, but with rotated weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from structmat._util.files import write_json
from structmat._util.progress import bar
from structmat.convert.common_form import Adaptation, LayerRotation, rotate
from structmat.convert.directory_copy import copy_other_files
from structmat.convert.layer_names import Names
from structmat.convert.resized_vocabulary import Resized, resized
from structmat.convert.tensor_files import (
    FileWeights,
    metadata_of,
    read_json,
    read_tensors,
    weight_of,
    write_tensors,
)
from structmat.convert.tied_weights import CONFIG, Untied, untied
from structmat.errors import FileError

Change = Callable[[Tensor], Tensor]


def write(
    adaptation: Adaptation,
    rotations: Mapping[str, LayerRotation],
    target: Path,
    *,
    weights: FileWeights,
    names: Names,
    called: Path,
    progress: bool,
) -> list[str]:
    """Write the model, file by file, in the dtypes of its weights; return notes.

    Parameters
    ----------
    target : Path
        The file or directory to write.
    called : Path
        The final path of the target.

    Raises
    ------
    FileError
        If a weight cannot be rotated, as in quantised models, a result is not finite, or a tensor
        of the adapter does not fit the model.
    """
    notes: list[str] = []
    new: dict[str, Change] = {}
    values: dict[str, Tensor] = {}  # unrotated tensors that replace the model's
    for name, rotation in rotations.items():
        layer = names.of[name]
        if rotation.bias is not None and f"{layer}.bias" not in weights.keys:
            raise FileError(
                f"{name}: its bias was trained, but the model has no {layer}.bias; pass the"
                " model that the adapter was trained on"
            )
        for place in _places(name, adaptation, weights, names):
            new[f"{place}.weight"] = partial(_rotated, name, rotation)
            if rotation.base is not None:
                values[f"{place}.weight"] = rotation.base
            if rotation.bias is not None:
                values[f"{place}.bias"] = rotation.bias
    others = {names.key(name): value for name, value in adaptation.other_tensors.items()}
    values |= others
    vocabulary = resized({key: v for key, v in values.items() if key in weights.keys}, weights)
    for key, value in values.items():
        if key not in new:
            new[key] = partial(_taken, key, value, vocabulary, notes)
    new |= dict.fromkeys(vocabulary.extended - weights.aliases.keys(), vocabulary.extend)
    ties = untied(weights, rotations, names.of, others.keys())
    new |= _each_use(ties, rotations, names, vocabulary)
    added = {}
    for key in sorted(new.keys() - (weights.keys - weights.aliases.keys())):
        added[key] = new[key](weights.tensor(key)) if key in weights.keys else values[key]
    changes = weights.in_files({key: change for key, change in new.items() if key not in added})
    size, more = _written(weights, target, changes, added, progress=progress)
    if weights.source.is_dir():
        if weights.index is not None:
            homes = dict.fromkeys(added, weights.files[-1].relative_to(weights.source).as_posix())
            write_json(target / weights.index.name, _index(weights.index, homes, size, more))
        settings = ties.settings or weights.settings
        if settings and (vocabulary.rows or ties.settings is not None):
            write_json(target / CONFIG, vocabulary.settings(settings))
        notes += copy_other_files(weights, target, leave=called)
    notes += vocabulary.notes()
    if added:
        notes.append(f"added, because the pretrained model lacks them: {', '.join(added)}")
    return notes


def _places(name: str, adaptation: Adaptation, weights: FileWeights, names: Names) -> list[str]:
    """Return the layer names under which the model's files contain the layer's weight."""
    others = map(names.module, adaptation.names.get(name, ()))
    present = weights.keys - weights.aliases.keys()
    found = [other for other in others if f"{other}.weight" in present]
    return list(dict.fromkeys([names.of[name], *found]))


def _each_use(
    ties: Untied, rotations: Mapping[str, LayerRotation], names: Names, vocabulary: Resized
) -> dict[str, Change]:
    """Return, for each use of a tied weight, the function that computes its tensor."""
    bases = {f"{names.of[name]}.weight": rotation.base for name, rotation in rotations.items()}
    found: dict[str, Change] = {}
    for key, (source, layer) in ties.tensors.items():
        uses = [use for use, (other, _) in ties.tensors.items() if other == source]
        base = next((bases[use] for use in uses if bases.get(use) is not None), None)
        if layer is not None:
            found[key] = partial(_rotated, layer, rotations[layer])
        elif base is not None:
            found[key] = partial(_same, base)
        else:
            found[key] = vocabulary.extend if key in vocabulary.extended else _same
    return found


def _same(value: Tensor, old: Tensor | None = None) -> Tensor:
    """Return a copy of a tensor in the dtype of the one that it replaces."""
    return value.to(value.dtype if old is None else old.dtype, copy=True)


def _written(
    weights: FileWeights,
    target: Path,
    changes: Mapping[str, Change],
    added: Mapping[str, Tensor],
    *,
    progress: bool,
) -> tuple[int, int]:
    """Write the weights; return their size in bytes, and the number of entries added."""
    size = more = 0
    with bar("merge", len(changes), unit="tensor", shown=progress) as steps:
        for path in weights.files:
            tensors = read_tensors(path)
            more -= sum(value.numel() for value in tensors.values())
            for key in tensors.keys() & changes.keys():
                tensors[key] = changes[key](tensors[key]).contiguous()
                steps.update()
            if path == weights.files[-1]:
                tensors |= {key: value.contiguous() for key, value in added.items()}
            place = target / path.relative_to(weights.source) if weights.source.is_dir() else target
            place.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(place, tensors, metadata_of(path))
            size += sum(value.nbytes for value in tensors.values())
            more += sum(value.numel() for value in tensors.values())
    return size, more


def _rotated(name: str, rotation: LayerRotation, old: Tensor) -> Tensor:
    weight_of(name, old)
    before = old if rotation.base is None else weight_of(name, rotation.base)
    value = rotate(rotation, before).to(old.dtype)
    if not bool(torch.isfinite(value).all()):
        raise FileError(f"{name}: the merged weight contains NaN or infinity; the adapter diverged")
    return value


def _taken(key: str, new: Tensor, vocabulary: Resized, notes: list[str], old: Tensor) -> Tensor:
    """Return a trained tensor in the dtype of the one that it replaces."""
    if new.shape != old.shape and not vocabulary.holds(key):
        raise FileError(
            f"{key}: it has shape {tuple(new.shape)} in the adapter, but {tuple(old.shape)} in the"
            " model; pass the model that the adapter was trained on"
        )
    if new.is_floating_point() != old.is_floating_point():
        raise FileError(
            f"{key}: {new.dtype} in the adapter cannot replace {old.dtype} in the model; pass the"
            " model that the adapter was trained on"
        )
    value = new.to(old.dtype, copy=True)  # a copy, because one tensor may be used several times
    if bool((torch.isfinite(new) & ~torch.isfinite(value)).any()):
        raise FileError(
            f"{key}: trained in {new.dtype}, its values overflow the model's {old.dtype}; give the"
            " model in a wider dtype"
        )
    if not torch.equal(value.to(new.dtype), new):
        notes.append(f"{key}: trained in {new.dtype}, rounded to the model's {old.dtype}")
    return value


def _index(path: Path, added: Mapping[str, str], size: int, more: int) -> dict[str, Any]:
    index = read_json(path)
    index["weight_map"] = {**index["weight_map"], **added}
    metadata = index.get("metadata")
    if isinstance(metadata, dict):
        now = {"total_size": size}
        if isinstance(count := metadata.get("total_parameters"), int):
            now["total_parameters"] = count + more
        index["metadata"] = metadata | {key: now[key] for key in now.keys() & metadata.keys()}
    return index
