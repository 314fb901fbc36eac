"""The formats of LyCORIS and ComfyUI, which rotate outputs; `oft_blocks` describes the tensors.

LyCORIS has diag-OFT, with at least as many blocks as a block has wires, and BOFT of full depth.
ComfyUI reads any number and size of blocks, and any depth.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from structmat.convert.base_model import fingerprint_metadata
from structmat.convert.common_form import CONV1D, EMBEDDING, Adaptation, LayerRotation
from structmat.convert.image_programs.flat_names import FlatNames
from structmat.convert.image_programs.network_metadata import metadata_for
from structmat.convert.image_programs.oft_blocks import butterfly
from structmat.convert.subnetworks import Build, best
from structmat.convert.tensor_files import write_tensors
from structmat.convert.writer_checks import parameters, refuse_base
from structmat.errors import FileError
from structmat.families.butterflies import block_diagonal

Written = dict[str, tuple[dict[str, Tensor], float]]  # layer → its tensors, and the error


def write(
    adaptation: Adaptation,
    rotations: Mapping[str, LayerRotation],
    path: Path,
    *,
    nearest: bool,
    names: FlatNames,
) -> tuple[dict[str, float], list[str]]:
    """Write rotations as a LyCORIS checkpoint; return the largest error by layer, and notes.

    Each layer is written as diag-OFT if one stage of blocks suffices, otherwise as BOFT.

    Raises
    ------
    FileError
        If a network fits neither format, a block is not a Cayley transform, or LyCORIS does not
        support a layer or another tensor.
    """
    rule = (
        "LyCORIS has one stage with at least as many blocks as a block has wires (diag-OFT), or all"
        " 1 + log₂(d/b) stages of a butterfly (BOFT)"
    )
    settings = {name: _settings(rotation) for name, rotation in rotations.items()}
    options = {"algo": "boft"}
    written = _layers(adaptation, rotations, "LyCORIS", settings, rule, nearest=nearest)
    if all(tensors["oft_blocks"].ndim == 3 for tensors, _ in written.values()):
        options = {"algo": "diag-oft"}
    options["rescaled"] = str(any("rescale" in tensors for tensors, _ in written.values()))
    return _save(adaptation, path, "lycoris.kohya", written, options, names), names.notes


def write_comfyui(
    adaptation: Adaptation,
    rotations: Mapping[str, LayerRotation],
    path: Path,
    *,
    nearest: bool,
    names: FlatNames,
) -> tuple[dict[str, float], list[str]]:
    """Write rotations for ComfyUI; return the largest error by layer, and notes.

    ComfyUI reads the tensors of LyCORIS with any number of factors and any block size, but ignores
    `rescale` for diag-OFT, so scaled outputs are written as BOFT with one factor.

    Raises
    ------
    FileError
        As for `write`.
    """
    rule = (
        "ComfyUI has one stage with blocks of adjacent wires (OFT), or a butterfly of any depth"
        " (BOFT), whose blocks have an even size"
    )
    settings = {name: _loaded_settings(rotation) for name, rotation in rotations.items()}
    written = _layers(adaptation, rotations, "ComfyUI", settings, rule, nearest=nearest)
    return _save(adaptation, path, "lycoris.kohya", written, {}, names), names.notes


def _layers(
    adaptation: Adaptation,
    rotations: Mapping[str, LayerRotation],
    program: str,
    settings: Mapping[str, list[tuple[bool, Build]]],
    rule: str,
    *,
    nearest: bool,
) -> Written:
    """Return the tensors of each layer, without bounds, and the largest error of its blocks."""
    written = {}
    check_outputs(adaptation, rotations, program)
    for name, rotation in rotations.items():
        is_plain, found = best({name: rotation}, settings[name], rule)
        q, error = parameters(name, rotation, found[name], nearest=nearest)
        halves = [0.5 * x for x in q]
        tensors = {"oft_blocks": -halves[0] if is_plain else torch.stack(halves)}
        tensors["alpha"] = torch.tensor(0.0)
        if rotation.scale is not None:
            axes = len(rotation.weight or ()) - 1
            scale = rotation.scale.to(rotation.dtype)
            tensors["rescale"] = scale.reshape(-1, *[1] * axes)
        written[name] = (tensors, error)
    return written


def check_outputs(
    adaptation: Adaptation, rotations: Mapping[str, LayerRotation], program: str
) -> None:
    """Raise an error for an adapter that the tensors of this module cannot represent.

    Raises
    ------
    FileError
        If inputs are rotated, or a layer or another tensor is not supported.
    """
    adaptation.refuse_other_tensors(program)
    refuse_base(rotations, program)
    for name, rotation in rotations.items():
        if rotation.side != "outputs":
            raise FileError(
                f"{name}: its inputs are rotated, but {program} rotates outputs; convert to LoRA or"
                " a merged model"
            )
        check_modules(name, rotation, program)


def check_modules(name: str, rotation: LayerRotation, program: str) -> None:
    """Raise an error unless a layer is a linear layer or convolution in a model, without a bias.

    Raises
    ------
    FileError
        If it is another layer.
    """
    if rotation.kind in (CONV1D, EMBEDDING) or rotation.bias is not None or not name:
        raise FileError(
            f"{name}: {program} supports only linear layers and convolutions in a model, and no"
            " biases"
        )


def _save(
    adaptation: Adaptation,
    path: Path,
    module: str,
    written: Written,
    options: Mapping[str, str],
    names: FlatNames,
) -> dict[str, float]:
    """Write the file, and return the errors."""
    dims = [tensors["oft_blocks"].shape[-1] for tensors, _ in written.values()]
    metadata = metadata_for(
        path,
        module,
        dims,
        alpha=0.0,
        options=options,
        base=names.base,
        pretrained=adaptation.pretrained,
        source=adaptation.metadata,
    )
    tensors = {
        f"{names.of[name]}.{part}": value
        for name, (parts, _) in written.items()
        for part, value in parts.items()
    }
    metadata |= fingerprint_metadata(adaptation.rotations)
    write_tensors(path, contiguous(tensors), metadata)
    return {name: error for name, (_, error) in written.items()}


def contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that share no memory, as safetensors requires."""
    return {key: value.detach().contiguous().clone() for key, value in tensors.items()}


def _settings(rotation: LayerRotation) -> list[tuple[bool, Build]]:
    """Return LyCORIS's networks for a layer, and whether each is diag-OFT."""
    found: list[tuple[bool, Build]] = []
    for size, count in _divisors(rotation):
        if size <= count:  # LyCORIS uses the smaller factor as the block size
            found.append((True, functools.partial(block_diagonal, block=size)))
        if size % 2 == 0 and count & (count - 1) == 0:
            depth = count.bit_length()
            found.append((False, functools.partial(butterfly, size=size, depth=depth)))
    return found


def _loaded_settings(rotation: LayerRotation) -> list[tuple[bool, Build]]:
    """Return ComfyUI's networks for a layer, and whether each is OFT."""
    found: list[tuple[bool, Build]] = []
    for size, count in _divisors(rotation):
        if not rotation.is_scaled:
            found.append((True, functools.partial(block_diagonal, block=size)))
        depth = 1
        while size % 2 == 0 and count % (1 << (depth - 1)) == 0:
            found.append((False, functools.partial(butterfly, size=size, depth=depth)))
            depth += 1
    return found


def _divisors(rotation: LayerRotation) -> Iterable[tuple[int, int]]:
    """Yield the sizes of blocks that fill the width, and their numbers."""
    width = rotation.network.width
    most = 2 * max((bank.radix for bank in rotation.network.banks), default=2)
    return ((size, width // size) for size in range(2, most + 1) if width % size == 0)
