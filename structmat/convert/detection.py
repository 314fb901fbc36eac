"""Detection of the format of files, and matching of their layers with the pretrained model."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from structmat._util.text_table import listed
from structmat.adapters.checkpoint import SETTINGS
from structmat.convert import gsoft, structmat_format
from structmat.convert.common_form import Adaptation, known
from structmat.convert.image_programs import adapter_file, diffusers_files, kohya, oft_blocks
from structmat.convert.layer_names import Names
from structmat.convert.peft_methods import (
    peft_boft,
    peft_files,
    peft_hra,
    peft_oft,
    peft_psoft,
    peft_road,
    peft_structmat,
)
from structmat.convert.tensor_files import FileWeights, ModelWeights, Weights, read_json
from structmat.errors import FileError

Pretrained = nn.Module | str | os.PathLike[str]
Read = Callable[[Path, Weights | None], Adaptation]

_PEFT: dict[str, Read] = {
    "BOFT": peft_boft.read,
    "OFT": peft_oft.read,
    "HRA": peft_hra.read,
    "PSOFT": peft_psoft.read,
    "ROAD": peft_road.read,
    "STRUCTMAT": peft_structmat.read,
}
# Tensors that PEFT saves in addition to adapters, for extended vocabularies and biases.
_OF_MODELS = ("embed_tokens.weight", "lm_head.weight", ".bias")
CONVENTIONS = ("kohya", "lycoris", "comfyui", "onetrainer", "peft")
_ENDINGS: dict[str, ModuleType] = {
    **dict.fromkeys(oft_blocks.ENDINGS, oft_blocks),
    **dict.fromkeys(kohya.ENDINGS, kohya),
    gsoft.LEFT: gsoft,
}
_CHOICES: dict[ModuleType, tuple[str, ...]] = {
    oft_blocks: ("kohya", "lycoris", "comfyui"),
    kohya: ("kohya", "onetrainer", "peft"),
}


@dataclass(frozen=True)
class Opened:
    """An adapter that has been read, with the pretrained model if one was given."""

    adaptation: Adaptation
    weights: Weights | None
    names: Names | None


def opened(
    source: Path,
    model: Pretrained | None,
    *,
    needs_shapes: bool = True,
    component: str | None = None,
    convention: str | None = None,
) -> Opened:
    """Read an adapter of any known format, and match its layers with the pretrained model.

    Parameters
    ----------
    source : Path
    model : path or nn.Module, optional
        The pretrained model, or the diffusers pipeline that contains it.
    needs_shapes : bool
    component : str, optional
        The model of a pipeline, if the adapter's file or the pipeline has several.
    convention : str, optional
        The program whose formula applies, if the file does not specify it.

    Raises
    ------
    FileError
        If the adapter cannot be read or does not fit the model, or neither the files nor a model
        specify required shapes or layer names.
    """
    if source.is_dir() and (source / adapter_file.WEIGHTS).is_file():
        source /= adapter_file.WEIGHTS
    reader = detected(source, component=component, convention=convention)
    weights: Weights | None = None
    if isinstance(model, nn.Module):
        weights = ModelWeights(model)
    elif model is not None:
        folder = Path(model)
        if (folder / adapter_file.PIPELINE).is_file():
            single = source.suffix == ".safetensors"
            own = adapter_file.component_in(source, component) if single else component
            folder = adapter_file.component_folder(folder, own)
        weights = FileWeights(folder)
    found = reader(source, weights)
    names = None if weights is None else Names(weights, found.rotations, is_flat=found.is_flat)
    if weights is None and not needs_shapes:
        return Opened(found, None, None)
    if names is None and found.is_flat:
        raise FileError(
            f"{source}: layer names have underscores instead of dots; give the pretrained model"
            " (model=, --model) to resolve them"
        )
    if not found.pretrained and model is not None and not isinstance(model, nn.Module):
        found = replace(found, pretrained=str(model))
    _check_whole(source, found, weights, names)
    # Names in the files of pipelines begin with a component, which the model's names lack.
    new_names = names is not None and (
        found.is_flat or names.is_renamed or found.component is not None
    )
    rotations = {}
    for name, rotation in found.rotations.items():
        key = name if names is None else names.of[name]
        kind = None if weights is None else weights.kind(key)
        if rotation.base is not None and weights is not None:
            rotation = replace(rotation, base=_other(name, rotation.base, f"{key}.weight", weights))
        shape = None if weights is None else weights.shape(f"{key}.weight")
        if rotation.base is not None:
            shape = tuple(rotation.base.shape)
        rotations[key if new_names else name] = known(name, rotation, shape, kind)
    found = replace(found, rotations=rotations)
    if isinstance(weights, FileWeights):
        found = replace(found, notes=[*found.notes, *weights.notes])
    if weights is not None and names is not None and new_names:
        if not found.is_flat:
            found = replace(
                found,
                other_tensors={names.key(key): value for key, value in found.other_tensors.items()},
                trained=[names.module(name) for name in found.trained],
                statistics=[names.module(name) for name in found.statistics],
                names={
                    names.of[name]: [names.module(other) for other in others]
                    for name, others in found.names.items()
                },
            )
        names = Names(weights, rotations)
    return Opened(found, weights, names)


def _check_whole(
    source: Path, found: Adaptation, weights: Weights | None, names: Names | None
) -> None:
    """Raise an error for tensors that belong neither to the rotations nor to the model.

    Raises
    ------
    FileError
        If there is such a tensor, for example one from another method.
    """
    modules = tuple(f"{name}." for name in (*found.trained, *found.statistics) if name)
    for key in found.other_tensors:
        if key.startswith(modules) or "" in (*found.trained, *found.statistics):
            continue
        if weights is None or names is None:
            if not key.endswith(_OF_MODELS):
                raise FileError(
                    f"{source}: {key} does not belong to the rotations, and may belong to another"
                    " method; give the pretrained model (model=, --model) to check whether the"
                    " tensor is one of the model's"
                )
        elif names.key(key) not in weights.keys:
            raise FileError(
                f"{source}: {key} does not belong to the rotations, and the model has no"
                f" {names.key(key)}; pass the model that the adapter was trained on"
            )


def _other(name: str, base: Tensor, key: str, weights: Weights) -> Tensor | None:
    """Return the weight in a file, or None if it equals the pretrained model's.

    Raises
    ------
    FileError
        If the shapes differ in more than the number of rows.
    """
    shape = weights.shape(key)
    if tuple(base.shape[1:]) != shape[1:]:
        raise FileError(
            f"{name}: the file has a base weight of shape {tuple(base.shape)}, but the model has"
            f" one of shape {shape}"
        )
    if tuple(base.shape) != shape:
        return base
    same = torch.equal(base.to(torch.float64).cpu(), weights.tensor(key).to(torch.float64).cpu())
    return None if same else base


def is_adapter(source: Path) -> bool:
    """Return whether files look like an adapter rather than a model."""
    if source.is_dir():
        names = (SETTINGS, peft_files.CONFIG, adapter_file.WEIGHTS)
        return any((source / name).exists() for name in names)
    if source.suffix != ".safetensors" or not source.exists():
        return True  # opening the file reports the error
    return diffusers_files.has_configuration(source) or _module(source) is not None


def detected(source: Path, *, component: str | None = None, convention: str | None = None) -> Read:
    """Return the reader for the format of the files.

    Raises
    ------
    FileError
        If the format is unknown, or differs from the given convention.
    """
    if source.is_dir():
        if convention is not None:
            raise FileError(f"{source} specifies its format; omit convention={convention}")
        if (source / SETTINGS).exists():
            return lambda folder, _: structmat_format.read(folder)
        if not (source / peft_files.CONFIG).exists():
            raise FileError(
                f"{source} contains neither {SETTINGS} (written by structmat) nor"
                f" {peft_files.CONFIG} (written by PEFT) nor {adapter_file.WEIGHTS} (written by"
                " diffusers)"
            )
        method = str(read_json(source / peft_files.CONFIG).get("peft_type"))
        if method not in _PEFT:
            raise FileError(
                f"{source}: PEFT's {method} is not supported; supported methods are"
                f" {', '.join(_PEFT)}"
            )
        return _PEFT[method]
    if not source.exists():
        raise FileError(f"{source}: no such file or directory")
    if source.name == peft_files.TENSORS:
        raise FileError(f"{source}: give the directory, because {peft_files.CONFIG} is also needed")
    if diffusers_files.has_configuration(source):
        if convention is not None:
            raise FileError(f"{source} specifies its format; omit convention={convention}")
        return functools.partial(diffusers_files.read, methods=_PEFT, component=component)
    module = _module(source)
    if module is None:
        keys = sorted(FileWeights(source).homes)
        raise FileError(
            f"{source} contains neither {' nor '.join(_ENDINGS)} tensors, as files of LyCORIS,"
            f" sd-scripts, OneTrainer, ComfyUI and GSOFT do, but {listed(keys, 3)}"
        )
    choices = _CHOICES.get(module, ())
    if convention is not None and convention not in choices:
        raise FileError(
            f"{source}: convention={convention} does not apply to these tensors"
            + (f"; choose {', '.join(choices)}" if choices else "")
        )
    if module is gsoft:
        return gsoft.read
    return functools.partial(module.read, component=component, convention=convention)


def _module(source: Path) -> ModuleType | None:
    """Return the module that reads a file, which the names of its tensors determine.

    Raises
    ------
    FileError
        If the file contains tensors of several formats.
    """
    keys = sorted(FileWeights(source).homes)
    found = {module: end for end, module in _ENDINGS.items() for key in keys if key.endswith(end)}
    if len(found) > 1:
        raise FileError(
            f"{source} contains tensors of several formats, {' and '.join(found.values())}; split"
            " the file first"
        )
    return next(iter(found), None)
