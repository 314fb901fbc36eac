"""The files of a `Remerge`, beside those of the adapter, and the check that they fit a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from structmat._util.files import parse_json, read_bytes, write_bytes, write_json
from structmat.adapters.adapted_layer import PREFIX, AdaptedLayer
from structmat.adapters.checkpoint import TENSORS
from structmat.adapters.distributed import plain_name
from structmat.adapters.recipes import Recipe
from structmat.adapters.saved_tensors import Saved, from_bytes, recipe_of, to_bytes, trained_tensors
from structmat.errors import FileError, StructmatError, abbreviated, check_format, checked_integer
from structmat.networks.network import Network

Networks = Mapping[tuple[str, str], Network]  # by layer name and attribute name of the side

STATE = "remerge.json"
COPIES = "remerge.safetensors"
FORMAT = "structmat.remerge"
VERSION = 1
_EXPECTED = "; expected a directory written by Remerge.save"


def write_remerge(folder: Path, number: int, steps: int, copies: Mapping[str, Tensor]) -> Path:
    """Write the state of a `Remerge` to a directory that contains its adapter, and return it.

    Parameters
    ----------
    folder : Path
    number, steps : int
        The numbers of rounds and of optimiser steps.
    copies : dict of layer name → Tensor
        The float32 copies of 16-bit weights.
    """
    data = to_bytes(copies)
    write_bytes(folder / COPIES, data)
    adapter = (folder / TENSORS).read_bytes()
    digests = {
        name: hashlib.sha256(d).hexdigest() for name, d in ((TENSORS, adapter), (COPIES, data))
    }
    state = {"format": FORMAT, "version": VERSION, "round": number, "steps": steps}
    write_json(folder / STATE, {**state, "tensors": digests})
    return folder


def read_remerge(folder: Path) -> tuple[int, int, dict[str, Tensor]]:
    """Return the round, the number of steps and the float32 copies that `write_remerge` wrote.

    Raises
    ------
    FileError
        If a file is missing or damaged, or the files were not saved together.
    """
    path = folder / STATE
    state = parse_json(read_bytes(path, _EXPECTED), path, "; save again")
    check_format(state, what=str(path), form=FORMAT, version=VERSION, writer="Remerge.save")
    try:
        number, steps = (checked_integer(state[key], key) for key in ("round", "steps"))
        digests = {name: str(state["tensors"][name]) for name in (TENSORS, COPIES)}
    except (KeyError, TypeError, StructmatError) as error:
        raise FileError(f"{path} has a missing or invalid entry ({abbreviated(error)})") from None
    for name, digest in digests.items():
        data = read_bytes(folder / name, _EXPECTED, most=None)
        if hashlib.sha256(data).hexdigest() != digest:
            raise FileError(
                f"{folder / name} was not saved together with {STATE}: its checksum differs; copy"
                " or save the whole directory again"
            )
    return number, steps, from_bytes(data)


def saved_networks(
    folder: Path,
    saved: Saved,
    layers: Mapping[str, AdaptedLayer],
    planned: Networks,
    number: int,
) -> Networks:
    """Return the networks of an adapter after checking that they fit a model and a schedule.

    Parameters
    ----------
    folder : Path
        The directory of the adapter, for messages.
    saved : Saved
    layers : dict of name → AdaptedLayer
    planned : dict of (name, side) → Network
        The networks that the schedule yields in this round; empty if there is no schedule.
    number : int
        The round.

    Raises
    ------
    FileError
        If they do not fit.
    """
    plain = {plain_name(name): name for name in layers}
    if odd := sorted(saved.recipes.keys() ^ plain.keys()):
        raise FileError(
            f"{folder} does not fit this model: {odd[0]} is adapted in only one of the two"
        )
    found = {}
    for short, recipe in saved.recipes.items():
        name = plain[short]
        layer = layers[name]
        here = layer.layout.__name__, layer.layout.weight_shape(layer.base_layer)
        if saved.weights[short] != here or _form(recipe) != _form(recipe_of(layer)):
            raise FileError(
                f"{folder} does not fit this model: {short} has another weight, side or option;"
                " adapt the model as in the training run that wrote the directory"
            )
        for side, network in recipe.networks.items():
            key = name, PREFIX + side
            scale = layer.by_side()[PREFIX + side].scale_for(network)
            if recipe.scaling_of(side) != scale:
                raise FileError(
                    f"{folder} does not fit this model: the generators of {short} are multiplied by"
                    f" {recipe.scaling_of(side)} in the file, and by {scale} here; adapt the model"
                    " with the generator_scaling of the training run that wrote the directory"
                )
            if planned and planned[key] != network:
                raise FileError(
                    f"{folder} does not fit the schedule, which yields another network for {short}"
                    f" in round {number}; use the schedule and the seed of the training run that"
                    " wrote the directory"
                )
            found[key] = network
    return found


def tensors_with(
    model: nn.Module, layers: Mapping[str, AdaptedLayer], networks: Networks
) -> dict[str, Tensor]:
    """Return the tensors to be saved as if the rotations had these networks.

    The generators are on the meta device; the model does not change.
    """
    found = trained_tensors(model)
    for (name, side), network in networks.items():
        rotation = layers[name].by_side()[side]
        prefix = ".".join(filter(None, (plain_name(name), side, "generators")))
        old = [found.pop(f"{prefix}.{k}") for k in range(len(rotation.generators))]
        for k, shape in enumerate(rotation.shapes_for(network)):
            found[f"{prefix}.{k}"] = nn.Parameter(old[0].new_empty(shape, device="meta"))
    return found


def _form(recipe: Recipe) -> tuple[Any, ...]:
    """Return the properties of a recipe that must not change between rounds."""
    widths = {side: network.width for side, network in recipe.networks.items()}
    return widths, recipe.parametrization, recipe.scale, recipe.bias, recipe.reduced, recipe.field
