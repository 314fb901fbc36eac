"""Saving and loading of adapters: tensors as safetensors, and everything else as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from structmat._util.files import LONGEST, make_directory, parse_json, read_bytes, write_bytes
from structmat.adapters.base_check import fingerprints, mismatch
from structmat.adapters.base_fingerprint import Fingerprint
from structmat.adapters.distributed import Writers, gathered, plain_name, unwrapped
from structmat.adapters.model import check_plain, insert, own_adapters, trained_whole
from structmat.adapters.recipes import Recipe
from structmat.adapters.saved_tensors import (
    Saved,
    check_unsharded,
    diverged,
    fitted,
    from_bytes,
    recipe_of,
    to_bytes,
    trained_tensors,
    with_statistics,
)
from structmat.adapters.shared_weights import names_of_layers
from structmat.errors import (
    BaseModelWarning,
    FileError,
    StructmatError,
    abbreviated,
    check_format,
    checked_integer,
    require,
)
from structmat.networks.network import Network

TENSORS = "adapter.safetensors"
SETTINGS = "adapter.json"
PEFT_SETTINGS = "adapter_config.json"
FORMAT = "structmat.adapter"
# Version 2 added the factors of the generators; in files of version 1, all are 1. Readers that know
# only version 1 would ignore the factors and obtain other rotations. The factors are stored as
# numbers, not as the name of the rule that computed them, because a later release may compute
# others, and the weights of a saved adapter must not change.
VERSION = 2
_SCALE = "generator_scale"
# The fields of a recipe that are saved unchanged.
_OPTIONS = [
    f.name for f in fields(Recipe) if f.name not in ("networks", "generator_scaling", "plan")
]
_ADDED = ("field", "untied")  # options that files of version 1 do not always contain
# The exceptions that an unexpected value in the settings can cause.
_INVALID = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_EXPECTED = "; expected a directory written by save_adapter"


def save_adapter(model: nn.Module, directory: str | os.PathLike[str]) -> Path:
    """Write everything that was trained to `adapter.safetensors` and `adapter.json` in a directory.

    This comprises the generators, scales and biases of every adapter, the modules trained in full,
    and the running statistics of normalisation layers, which training also changes. The JSON file
    contains the whole networks, so later changes to a family do not affect it, and a fingerprint of
    each layer's base weight, so that `load_adapter` can recognise another model. Both files are
    first written under temporary names, so an interrupted run leaves either the old files or a pair
    that `load_adapter` rejects.

    If several processes train the model, one of them writes the files. If `fully_shard` split the
    parameters, every process must call this function, which gathers them; with `DDP`, every process
    may call it.

    Parameters
    ----------
    model : nn.Module
        A model with adapters, merged or not; it may be wrapped by `torch.compile` or `DDP`, or
        sharded by FSDP2.
    directory : path
        Created if it does not exist.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    StructmatError
        If the model has no adapters, a value to be saved is not finite, or parameters are sharded
        in a way that this function cannot gather (FSDP1, ZeRO-3).
    FileError
        If the directory cannot be created or written to.
    MissingExtraError
        Without safetensors (extra `adapters`).
    """
    require("safetensors.torch", "adapters")
    around, model = model, unwrapped(model)
    found = {plain_name(name): layer for name, layer in own_adapters(model).items()}
    check_unsharded(found)
    parts = {plain_name(name): value for name, value in trained_tensors(model).items()}
    writers, values = Writers(around, parts), gathered(parts)
    broken = next((name for name, value in values.items() if diverged(value)), None)
    if broken is not None:
        raise StructmatError(
            f"{broken} contains NaN or infinity: the adapter diverged in training and is not saved;"
            " lower the learning rate"
        )
    recipes = {name: recipe_of(layer) for name, layer in found.items()}
    weights = {
        name: (layer.layout.__name__, layer.layout.weight_shape(layer.base_layer))
        for name, layer in found.items()
    }
    trained, statistics = (
        [plain_name(name) for name in found]
        for found in (trained_whole(model), with_statistics(model))
    )
    names = {
        plain_name(every[0]): [plain_name(other) for other in every]
        for every in names_of_layers(model)
        if len(every) > 1
    }
    prints = fingerprints(found, gather=True)
    saved = Saved(recipes, weights, trained, statistics, names, prints)
    try:
        if writers.mine:
            write_adapter(Path(directory), saved, values)
    finally:
        writers.wait()
    return Path(directory)


def write_adapter(folder: Path, saved: Saved, values: Mapping[str, Tensor]) -> Path:
    """Write the two files of an adapter, and return their directory.

    Raises
    ------
    FileError
        If the directory cannot be created or written to.
    MissingExtraError
        Without safetensors (extra `adapters`).
    """
    networks: dict[Network, int] = {}
    layers = {}
    for name, recipe in saved.recipes.items():
        layout, shape = saved.weights[name]
        layers[name] = {
            "layout": layout,
            "weight": list(shape),
            "networks": {
                side: networks.setdefault(net, len(networks))
                for side, net in recipe.networks.items()
            },
            **{option: getattr(recipe, option) for option in _OPTIONS},
            _SCALE: recipe.generator_scaling,
        }
        if name in saved.names:
            layers[name]["names"] = saved.names[name]
        if name in saved.fingerprints:
            layers[name]["fingerprint"] = saved.fingerprints[name].to_dict()
    data = to_bytes(values)
    settings = {
        "format": FORMAT,
        "version": VERSION,
        "tensors": hashlib.sha256(data).hexdigest(),
        "layers": layers,
        "trained": saved.trained,
        "statistics": saved.statistics,
        "networks": [json.loads(net.to_json()) for net in networks],
    }
    make_directory(folder)
    try:
        write_bytes(folder / TENSORS, data)
        write_bytes(folder / SETTINGS, json.dumps(settings).encode())
    except OSError as error:
        raise FileError(f"{folder}: cannot be written to ({error.strerror or error})") from None
    return folder


def read_adapter(folder: Path) -> tuple[Saved, dict[str, Tensor]]:
    """Read the two files of an adapter.

    Raises
    ------
    FileError
        If a file is missing, damaged or of another format or version, or the two were not saved
        together.
    MissingExtraError
        Without safetensors (extra `adapters`).
    """
    if (folder / PEFT_SETTINGS).is_file() and not (folder / SETTINGS).exists():
        raise FileError(
            f"{folder} contains an adapter written by PEFT; load it with"
            f" peft.PeftModel.from_pretrained(model, {str(folder)!r}), or convert it with"
            " `structmat convert`"
        )
    settings = _read_settings(folder / SETTINGS)
    tensors = _read_tensors(folder / TENSORS, settings)
    return _understood(settings, folder / SETTINGS), tensors


def load_adapter(model: nn.Module, directory: str | os.PathLike[str]) -> nn.Module:
    """Adapt a model like the saved one, and load the trained tensors.

    Parameters
    ----------
    model : nn.Module
        A model without adapters whose layers have the same names and shapes.
    directory : path
        A directory written by `save_adapter`.

    Returns
    -------
    nn.Module
        The model, as returned by `adapt`.

    Raises
    ------
    FileError
        If a file is missing, damaged or of another format or version, or does not fit the model;
        in the last case, the message lists every mismatch.
    StructmatError
        If the model already has adapters or is sharded, or trained parameters are shared with
        frozen ones. After any of these errors, the model is unchanged.
    MissingExtraError
        Without safetensors (extra `adapters`).

    Warns
    -----
    BaseModelWarning
        If the weights of adapted layers differ from those that the adapter was trained on by more
        than the rounding between dtypes, or already contain the adapter. Quantised weights are not
        compared.
    """
    folder = Path(directory)
    saved, tensors = read_adapter(folder)
    check_plain(model)
    made, wrong = fitted(model, saved, tensors)
    if wrong:
        raise FileError(
            f"{folder} does not fit this model, which is left unchanged: " + "; ".join(wrong)
        )
    model = insert(model, made, saved.trained)  # raises for a sharded model
    for layer in made.values():
        if layer.untied:
            layer.untie()
    targets = trained_tensors(model)
    with torch.no_grad():
        for name, value in tensors.items():
            targets[name].copy_(value)
    prints = {n: f for n, f in saved.fingerprints.items() if not saved.recipes[n].base}
    if (message := mismatch(made, prints)) is not None:
        warnings.warn(message, BaseModelWarning, stacklevel=2)
    return model


def _read(path: Path, most: int | None = LONGEST) -> bytes:
    return read_bytes(path, _EXPECTED, most=most)


def _read_settings(path: Path) -> dict[str, Any]:
    settings = parse_json(_read(path), path, "; save the adapter again")
    check_format(settings, what=str(path), form=FORMAT, version=VERSION, writer="save_adapter")
    return dict(settings)


def _read_tensors(path: Path, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    require("safetensors.torch", "adapters")
    data = _read(path, None)
    if hashlib.sha256(data).hexdigest() != settings.get("tensors"):
        raise FileError(
            f"{path} is truncated, modified, or was not saved together with {SETTINGS}: its"
            " checksum differs; copy or save the adapter again"
        )
    try:
        return from_bytes(data)
    except Exception as error:  # safetensors has its own exception type, defined in Rust
        raise FileError(f"{path} is not a safetensors file ({error})") from None


def _names(value: Any, key: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise StructmatError(f"{key}={abbreviated(value)}: it must be a list of names of modules")
    return value


def _factors(layer: Mapping[str, Any], version: int) -> dict[str, float]:
    """Return the factor of the generators for each side of a layer; version 1 has none."""
    found = layer.get(_SCALE) if version == 1 else layer[_SCALE]
    if found is None and version == 1:
        return dict.fromkeys(layer["networks"], 1.0)
    if not isinstance(found, dict) or not all(type(x) in (int, float) for x in found.values()):
        raise StructmatError(f"{_SCALE}={abbreviated(found)}: it must be a number for each side")
    return found


def _understood(settings: Mapping[str, Any], path: Path) -> Saved:
    try:
        networks = [Network.from_json(json.dumps(net)) for net in settings["networks"]]
        layers = settings["layers"]
        if not layers or not all(layer["networks"] for layer in layers.values()):
            raise StructmatError("no layer is adapted, or one has no networks; save it again")
        absent = _ADDED if settings["version"] == 1 else ()
        recipes = {
            str(name): Recipe(
                {
                    side: networks[checked_integer(k, "network")]
                    for side, k in layer["networks"].items()
                },
                **{o: layer[o] for o in _OPTIONS if o in layer or o not in absent},
                generator_scaling=_factors(layer, settings["version"]),
            )
            for name, layer in layers.items()
        }
        weights = {
            str(name): (str(layer["layout"]), tuple(layer["weight"]))
            for name, layer in layers.items()
        }
        trained, statistics = (_names(settings[key], key) for key in ("trained", "statistics"))
        names = {
            str(name): _names(layer["names"], "names")
            for name, layer in layers.items()
            if "names" in layer
        }
        prints = {
            str(name): Fingerprint.from_dict(layer["fingerprint"])
            for name, layer in layers.items()
            if "fingerprint" in layer
        }
        return Saved(recipes, weights, trained, statistics, names, prints)
    except StructmatError as error:
        raise FileError(f"{path}: {error}") from None
    except _INVALID as error:
        raise FileError(
            f"{path} has a missing or invalid entry ({abbreviated(error)}); expected a file written"
            " by save_adapter"
        ) from None
