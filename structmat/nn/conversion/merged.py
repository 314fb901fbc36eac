"""A merged model: the pretrained one's files with the rotated weights in place of its own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from structmat.errors import FileError
from structmat.nn.conversion.names import Names
from structmat.nn.conversion.tensorfiles import INDEX, FileWeights, read_json, read_tensors
from structmat.nn.conversion.turns import Adaptation, Turn, turned
from structmat.nn.conversion.untying import CONFIG, untied
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
    made = untied(weights, turns, names.of, adaptation.whole.keys())
    added = sorted(key for key in {**new, **made.tensors} if key not in weights.homes)
    homes: dict[str, str] = {}
    with bar("merge", len(new) - len(added), unit="tensor", shown=progress) as steps:
        for path in weights.files:
            tensors = read_tensors(path)
            plain = dict(tensors)
            for key, (source, layer) in made.tensors.items():
                if source in plain:
                    tensors[key] = plain[source]
                    if layer is not None:
                        tensors[key] = _replaced(plain[source], (layer, turns[layer]))
                    homes[key] = path.name
            for key in plain.keys() & (new.keys() - made.tensors.keys()):
                tensors[key] = _replaced(tensors[key], new[key])
                if steps is not None:
                    steps.update()
            if path == weights.files[-1]:
                last = {key: value for key in added if isinstance(value := new.get(key), Tensor)}
                tensors |= last
                homes |= dict.fromkeys(last, path.name)
            place = target / path.name if weights.source.is_dir() else target
            write_bytes(place, to_bytes(tensors))
    if weights.source.is_dir():
        _copy(weights, target, homes, made.settings)
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


def _copy(
    weights: FileWeights,
    target: Path,
    added: Mapping[str, str],
    settings: Mapping[str, Any] | None,
) -> None:
    for path in sorted(weights.source.iterdir()):
        if not path.is_file() or path.suffix not in _COPIED:
            continue
        if path.name.endswith(INDEX) and added:
            index = read_json(path)
            index["weight_map"] = {**index.get("weight_map", {}), **added}
            write_json(target / path.name, index)
        elif path.name == CONFIG and settings is not None:
            write_json(target / path.name, dict(settings))
        else:
            shutil.copyfile(path, target / path.name)
