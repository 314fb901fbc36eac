"""Which format files are in, and what they say together with the pretrained model."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from structmat.errors import FileError
from structmat.nn.checkpoints import SETTINGS
from structmat.nn.conversion import (
    gsoft,
    lycoris,
    own,
    peft_boft,
    peft_hra,
    peft_oft,
    peft_structmat,
    peftfiles,
)
from structmat.nn.conversion.names import Names
from structmat.nn.conversion.tensorfiles import FileWeights, ModelWeights, Weights, read_json
from structmat.nn.conversion.turns import Adaptation, known
from structmat.nn.conversion.untying import aliases

Pretrained = nn.Module | str | os.PathLike[str]
Read = Callable[[Path, Weights | None], Adaptation]

_PEFT: dict[str, Read] = {
    "BOFT": peft_boft.read,
    "OFT": peft_oft.read,
    "HRA": peft_hra.read,
    "STRUCTMAT": peft_structmat.read,
}
_FILES: dict[str, Read] = {lycoris.BLOCKS: lycoris.read, gsoft.LEFT: gsoft.read}


@dataclass(frozen=True)
class Opened:
    """An adapter that was read, with the pretrained model where one was named."""

    adaptation: Adaptation
    weights: Weights | None
    names: Names | None


def opened(
    source: Path,
    model: Pretrained | None,
    *,
    needs_shapes: bool = True,
) -> Opened:
    """Return an adapter of any known format, with what the pretrained model says of its layers.

    Raises
    ------
    FileError
        When it cannot be read, or does not fit the model; or when neither the files nor a model
        say the shapes or the names of the layers, where they are needed.
    """
    weights = None
    if model is not None:
        weights = ModelWeights(model) if isinstance(model, nn.Module) else FileWeights(Path(model))
    found = detected(source)(source, weights)
    names = None if weights is None else _named(weights, found)
    if weights is None and not needs_shapes:
        return Opened(found, None, None)
    if names is None and found.is_flat:
        raise FileError(
            f"{source}: names of layers have underscores for dots here; name the pretrained model"
            " (model=, --model), which has them right"
        )
    if not found.pretrained and model is not None and not isinstance(model, nn.Module):
        found = replace(found, pretrained=str(model))
    turns = {}
    for name, turn in found.turns.items():
        key = name if names is None else names.of[name]
        shape = None if weights is None else weights.shape(f"{key}.weight")
        kind = None if weights is None else weights.kind(key)
        turns[key if found.is_flat else name] = known(name, turn, shape, kind)
    if weights is not None and found.is_flat:
        names = Names(weights, turns)
    return Opened(replace(found, turns=turns), weights, names)


def _named(weights: Weights, found: Adaptation) -> Names:
    """Return what the layers are called in the weights, where some may be tied to others."""
    try:
        return Names(weights, found.turns, is_flat=found.is_flat)
    except FileError:
        more = aliases(weights) if isinstance(weights, FileWeights) else {}
        if not more:
            raise
        weights.add_aliases(more)
        return Names(weights, found.turns, is_flat=found.is_flat)


def is_adapter(source: Path) -> bool:
    """Return whether files look like an adapter; others are a model's, or nothing."""
    if source.is_dir():
        return any((source / name).exists() for name in (SETTINGS, peftfiles.CONFIG))
    if source.suffix != ".safetensors" or not source.exists():
        return True  # whoever opens it says what is wrong
    keys = FileWeights(source).keys
    return any(key.endswith(ending) for key in keys for ending in _FILES)


def detected(source: Path) -> Read:
    """Return the reader of the format that the files are in.

    Raises
    ------
    FileError
        When they are in none that is known.
    """
    if source.is_dir():
        if (source / SETTINGS).exists():
            return lambda folder, _: own.read(folder)
        if not (source / peftfiles.CONFIG).exists():
            raise FileError(
                f"{source}: neither {SETTINGS}, as structmat writes, nor {peftfiles.CONFIG}, as"
                " PEFT does"
            )
        method = str(read_json(source / peftfiles.CONFIG).get("peft_type"))
        if method not in _PEFT:
            raise FileError(f"{source}: PEFT's {method} is not converted; {', '.join(_PEFT)} are")
        return _PEFT[method]
    if not source.exists():
        raise FileError(f"{source}: no such file or directory")
    if source.name == peftfiles.TENSORS:
        raise FileError(f"{source}: give the directory, for {peftfiles.CONFIG} is needed as well")
    keys = sorted(FileWeights(source).keys)
    for ending, reader in _FILES.items():
        if any(key.endswith(ending) for key in keys):
            return reader
    listed = ", ".join(keys[:3])
    raise FileError(
        f"{source}: neither {' nor '.join(_FILES)} in it, but {listed or 'nothing'}; LyCORIS and"
        " GSOFT have these"
    )
