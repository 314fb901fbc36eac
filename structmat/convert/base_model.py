"""Fingerprints of base weights in the files of all formats, and their comparison with a model.

structmat's files and those of its PEFT method have a place for fingerprints. In the safetensors
files of other formats, they are in the metadata, which other programs ignore.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from structmat._util.files import parse_json
from structmat.adapters.base_check import is_contained, message
from structmat.adapters.base_fingerprint import (
    Fingerprint,
    fingerprint,
    fingerprint_of_rows,
    read_fingerprints,
    sampled_rows,
)
from structmat.adapters.layouts import is_rotated
from structmat.convert.common_form import LayerRotation, unrotate
from structmat.convert.tensor_files import Weights, metadata_of
from structmat.errors import FileError

KEY = "structmat_fingerprints"  # the key of the metadata


def fingerprint_metadata(rotations: Mapping[str, LayerRotation]) -> dict[str, str]:
    """Return the metadata with the fingerprints of base weights, for a safetensors file."""
    found = {n: r.fingerprint.to_dict() for n, r in rotations.items() if r.fingerprint is not None}
    return {KEY: json.dumps(found)} if found else {}


def recalled(path: Path, rotations: Mapping[str, LayerRotation]) -> dict[str, LayerRotation]:
    """Return rotations with the fingerprints in the metadata of a safetensors file, if any.

    The names of layers may differ in a prefix.

    Raises
    ------
    FileError
        If the fingerprints are damaged.
    """
    text = metadata_of(path).get(KEY) if path.is_file() else None
    if text is None:
        return dict(rotations)
    found = parse_json(text, f"{path}: its metadata {KEY}")
    try:
        saved = read_fingerprints(found)
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    made = {}
    for name, rotation in rotations.items():
        ends = (o for o in saved if o.endswith(f".{name}") or name.endswith(f".{o}"))
        other = name if name in saved else next(ends, None)
        made[name] = rotation if other is None else replace(rotation, fingerprint=saved[other])
    return made


def compared(
    rotations: Mapping[str, LayerRotation], weights: Weights, keys: Mapping[str, str]
) -> tuple[dict[str, LayerRotation], str | None]:
    """Compare fingerprints with a model; return rotations with fingerprints, and a warning.

    Layers that have no fingerprint get that of the model's weight. Layers whose own weight is in
    the adapter's file are not compared.

    Parameters
    ----------
    rotations : dict of layer name → LayerRotation
    weights : Weights
    keys : mapping from a layer's name to its name in the model
    """
    made, differences = {}, {}
    for name, rotation in rotations.items():
        key, saved = f"{keys[name]}.weight", rotation.fingerprint
        if rotation.base is None and (saved is None or saved.fits(weights.shape(key))):
            here = _fingerprint(weights, key, saved)
            if saved is None:
                rotation = replace(rotation, fingerprint=here)
            elif here is not None and (change := saved.difference(here)) is not None:
                differences[name] = change
        made[name] = rotation
    if not differences:
        return made, None
    worst = max(differences, key=differences.__getitem__)
    return made, message(
        differences,
        len(rotations),
        contained=_is_merged(
            rotations[worst], weights.tensor(f"{keys[worst]}.weight"), differences[worst]
        ),
    )


def _fingerprint(weights: Weights, key: str, saved: Fingerprint | None) -> Fingerprint | None:
    """Return the fingerprint of a weight, or None if it is quantised or not finite."""
    shape = weights.shape(key) if saved is None else saved.shape
    rows = weights.rows(key, sampled_rows(shape))
    if not is_rotated(rows.dtype):
        return None
    found = fingerprint_of_rows(rows, shape)
    return found if found.is_finite else None


def _is_merged(rotation: LayerRotation, weight: Tensor, before: float) -> bool:
    saved = rotation.fingerprint
    assert saved is not None
    if tuple(weight.shape) != rotation.weight:  # with added rows
        return False
    after = saved.distance(fingerprint(unrotate(rotation, weight), saved.shape))
    return is_contained(before, after)
