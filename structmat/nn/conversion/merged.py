"""A merged model: the pretrained one's files with the rotated weights in place of its own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from structmat.errors import FileError
from structmat.nn.conversion.names import Names
from structmat.nn.conversion.tensorfiles import INDEX, FileWeights, read_json, read_tensors
from structmat.nn.conversion.turns import Adaptation, Turn, turned
from structmat.nn.saved import to_bytes
from structmat.progress import bar
from structmat.writing import write_bytes, write_json

# What a directory of a model holds beside its weights. Other weights of the same model would
# still be those before.
_COPIED = (".json", ".txt", ".model", ".md", ".py", ".jinja")


def write(
    adaptation: Adaptation,
    turns: Mapping[str, Turn],
    target: Path,
    *,
    weights: FileWeights,
    names: Names,
    progress: bool,
) -> list[str]:
    """Write the model, file by file, in the dtypes of its weights; return notes.

    Raises
    ------
    FileError
        When a weight is not of floating dtype, as quantised ones are, or a result not finite.
    """
    new: dict[str, Tensor | tuple[str, Turn]] = {}
    for name, turn in turns.items():
        layer = names.of[name]
        new[f"{layer}.weight"] = (name, turn)
        if turn.bias is not None:
            new[f"{layer}.bias"] = turn.bias
    new |= {names.key(name): value for name, value in adaptation.whole.items()}
    added = sorted(key for key in new if key not in weights.keys)
    with bar("merge", len(new) - len(added), unit="tensor", shown=progress) as steps:
        for path in weights.files:
            tensors = read_tensors(path)
            for key in tensors.keys() & new.keys():
                tensors[key] = _replaced(tensors[key], new[key])
                if steps is not None:
                    steps.update()
            if path == weights.files[-1]:
                tensors |= {key: value for key in added if isinstance(value := new[key], Tensor)}
            place = target / path.name if weights.source.is_dir() else target
            write_bytes(place, to_bytes(tensors))
    if weights.source.is_dir():
        _copy(weights, target, dict.fromkeys(added, weights.files[-1].name))
    if added:
        return [f"not in the pretrained model, but in the merged one: {', '.join(added)}"]
    return []


def _replaced(old: Tensor, new: Tensor | tuple[str, Turn]) -> Tensor:
    if isinstance(new, Tensor):
        if new.shape != old.shape:
            raise FileError(f"a tensor {tuple(new.shape)} for one {tuple(old.shape)} of the model")
        return new.to(old.dtype)
    name, turn = new
    if not old.is_floating_point():
        raise FileError(f"{name}: a weight of {old.dtype}; merge into the model before quantising")
    value = turned(turn, old).to(old.dtype)
    if not bool(torch.isfinite(value).all()):
        raise FileError(f"{name}: the merged weight holds NaN or infinity; the adapter diverged")
    return value.contiguous()


def _copy(weights: FileWeights, target: Path, added: Mapping[str, str]) -> None:
    for path in sorted(weights.source.iterdir()):
        if not path.is_file() or path.suffix not in _COPIED:
            continue
        if path.name.endswith(INDEX) and added:
            index = read_json(path)
            index["weight_map"] = {**index.get("weight_map", {}), **added}
            write_json(target / path.name, index)
        else:
            shutil.copyfile(path, target / path.name)
