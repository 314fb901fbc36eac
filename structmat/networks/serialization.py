"""Serialisation of the stages of a network as JSON with a schema version."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from structmat._util.files import parse_json
from structmat.errors import FileError, StructmatError, abbreviated, check_format
from structmat.networks.stage import Bank, Stage

FORMAT = "structmat.network"
VERSION = 1
_WRITER = "Network.to_json"
_LARGE = 10**640  # the lowest limit on integer digits to which Python can be set


def written(width: int, stages: Sequence[Stage], labels: tuple[Hashable, ...] | None) -> str:
    """Return the JSON text; labels that JSON would not restore unchanged are omitted."""
    rows = []
    for stage in stages:
        banks: list[Any] = [[part.tolist() for part in bank._parts()] for bank in stage.banks]
        rows.append([*banks, {"moves": stage.moves.tolist()}] if len(stage.moves) else banks)
    data = {"format": FORMAT, "version": VERSION, "width": width, "stages": rows}
    if labels is not None and _is_restorable(labels):
        data["labels"] = labels
    return json.dumps(data, default=int)  # converts numpy integers


def read(text: str) -> tuple[int, list[Stage], tuple[Hashable, ...] | None]:
    """Return the width, the stages and the labels from the text that `written` returned.

    Raises
    ------
    FileError
        If the text is truncated, of another schema version, or not a network.
    WiringError
        If the stages violate the rules of a network.
    """
    data = parse_json(text, "network JSON", f"; expected the output of {_WRITER}")
    check_format(data, what="network JSON", form=FORMAT, version=VERSION, writer=_WRITER)
    try:
        width = data["width"]
        stages = [_stage(width, parts) for parts in data["stages"]]
        return width, stages, _labels(data.get("labels"))
    except StructmatError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FileError(
            f"network JSON has a missing or invalid part ({abbreviated(error)}); expected the"
            f" output of {_WRITER}"
        ) from None


def _stage(width: int, parts: list[Any]) -> Stage:
    banks = [Bank(*part) for part in parts if not isinstance(part, dict)]
    moves = [part["moves"] for part in parts if isinstance(part, dict)]
    return Stage(width, banks, np.concatenate(moves) if moves else None)


def _is_restorable(label: object) -> bool:
    """Return whether JSON restores a label unchanged, apart from lists in place of tuples."""
    if isinstance(label, tuple):
        return all(map(_is_restorable, label))
    if isinstance(label, bool) or not isinstance(label, Integral):
        return isinstance(label, str)
    return abs(int(label)) < _LARGE


def _labels(labels: Any) -> tuple[Hashable, ...] | None:
    def tuples(label: Any) -> Any:
        return tuple(map(tuples, label)) if isinstance(label, list) else label

    if not isinstance(labels, list | None):
        raise TypeError(f"labels {abbreviated(labels)}")
    return None if labels is None else tuple(map(tuples, labels))
