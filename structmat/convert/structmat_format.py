"""Reading and writing structmat's adapter files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from structmat.adapters.adapted_layer import PREFIX, SCALE
from structmat.adapters.checkpoint import read_adapter, write_adapter
from structmat.adapters.layouts import StackLayout
from structmat.adapters.recipes import Recipe
from structmat.adapters.saved_tensors import BASE, BIAS, Saved
from structmat.analysis.generator_scale import generator_scale
from structmat.convert.common_form import (
    LINEAR,
    QUANTISED,
    REFLECTIONS,
    Adaptation,
    Blocks,
    LayerRotation,
    layout,
)
from structmat.convert.inverse_parametrization import (
    Coordinates,
    MinusOneError,
    coordinates,
    from_upper,
    logarithms,
    upper,
)
from structmat.convert.tensor_files import floating, wide
from structmat.errors import BlockError, FileError
from structmat.networks.network import Network
from structmat.nn.orthogonal_layer import Orthogonal, generator_shapes
from structmat.nn.parametrizations import PARAMETRIZATIONS, at_least_float32

_SERIES = "cayley_neumann"
_DENSE = 1024  # maximum width at which reflections are stored as d(d−1)/2 generators


def read(folder: Path) -> Adaptation:
    """Read files written by `save_adapter`.

    Raises
    ------
    FileError
        If they are damaged, or contain rotations that conversion does not support.
    """
    saved, tensors = read_adapter(folder)
    rest = dict(tensors)
    rotations = {}
    for name, recipe in saved.recipes.items():
        prefix = f"{name}." if name else ""
        if len(recipe.networks) > 1:
            raise FileError(
                f"{name}: inputs and outputs are rotated, which conversion does not support; use"
                " load_adapter and merge(model, unload=True)"
            )
        ((side, network),) = recipe.networks.items()
        generator = f"{PREFIX}{side}.generators."
        if not network.is_straight:
            raise FileError(f"{name} has a wired network; only straight networks are supported")
        own: dict[str, Tensor] = {}
        for key in list(rest):
            part = key.removeprefix(prefix)
            mine = part in (SCALE, BIAS, BASE) or part.startswith(generator)
            if key.startswith(prefix) and mine:
                own[part] = floating(f"{folder}: {key}", wide(f"{folder}: {key}", rest.pop(key)))
        generators = [own[f"{generator}{k}"] for k in range(len(network.banks))]
        factor = float(recipe.scaling_of(side))  # a number in files
        kind, weight = saved.weights[name]
        if kind == StackLayout.__name__:
            raise FileError(
                f"{name}: stacked expert weights are rotated, which conversion does not support;"
                " use load_adapter and merge(model, unload=True)"
            )
        kind = LINEAR if kind == QUANTISED else kind  # the dequantised weight is rotated
        rotations[name] = LayerRotation(
            network,
            partial(
                blocks_of,
                network,
                recipe.parametrization,
                generators,
                reduced=recipe.reduced,
                factor=factor,
            ),
            side,
            own.get(SCALE),
            own.get(BIAS),
            kind,
            weight,
            at_least_float32(generators[0].dtype if generators else torch.float32),
            parametrization=recipe.parametrization,
            series=series(recipe.parametrization, generators, factor),
            base=own.get(BASE),
        )
    return Adaptation(
        "structmat",
        rotations,
        rest,
        trained=saved.trained,
        statistics=saved.statistics,
        names=saved.names,
    )


def series(kind: str, generators: list[Tensor], factor: float) -> Tensor | None:
    """Return Q if the blocks form a single bank and are truncated series, else None."""
    if kind != _SERIES or len(generators) != 1 or generators[0].ndim != 2:
        return None
    return from_upper(generators[0].to(torch.float64) * factor)


@torch.no_grad()
def blocks_of(
    network: Network,
    parametrization: str,
    generators: list[Tensor],
    *,
    reduced: bool,
    factor: float,
) -> Blocks:
    """Return the blocks that the generators, multiplied by a factor, define.

    Raises
    ------
    FileError
        If generators do not have the shapes that the network requires.
    """
    layer = Orthogonal(
        network,
        parametrization=parametrization,
        dtype=torch.float64,
        reduced=reduced,
        generator_scaling=factor,
    )
    for mine, theirs in zip(layer.generators, generators, strict=True):
        if mine.shape != theirs.shape:
            check_real(network, generators, reduced=reduced)
            raise FileError(
                f"generators have shape {tuple(theirs.shape)} instead of {tuple(mine.shape)}"
            )
        mine.copy_(theirs)
    return layer.blocks(torch.float64)


def check_real(network: Network, generators: list[Tensor], *, reduced: bool) -> None:
    """Raise an error if the generators are those of unitary blocks.

    Raises
    ------
    FileError
    """
    shapes = [tuple(values.shape) for values in generators]
    if shapes and shapes == generator_shapes(network, field="complex", reduced=reduced):
        raise FileError(
            "the adapter is unitary, for a layer with a complex weight, and other formats contain"
            " real rotations only; load it with its model, and merge it"
        )


def write(
    adaptation: Adaptation, rotations: Mapping[str, LayerRotation], folder: Path, *, nearest: bool
) -> dict[str, float]:
    """Write rotations as `save_adapter` does, and return the largest block error by layer.

    Raises
    ------
    FileError
        If blocks are not rotations, tensors belong to modules that were not fully trained, or
        reflections are too wide to be stored as generators.
    """
    modules = tuple(f"{name}." for name in (*adaptation.trained, *adaptation.statistics) if name)
    stray = next((key for key in adaptation.other_tensors if not key.startswith(modules)), None)
    if stray is not None and "" not in (*adaptation.trained, *adaptation.statistics):
        raise FileError(
            f"{stray} was trained without the rest of its module, and structmat's files"
            " cannot store it; convert to a merged model instead"
        )
    tensors = dict(adaptation.other_tensors)
    recipes, weights, errors = {}, {}, {}
    for name, rotation in rotations.items():
        prefix = f"{name}." if name else ""
        kind, factor, found = generators(name, rotation, nearest=nearest)
        for k, part in enumerate(found):
            tensors[f"{prefix}{PREFIX}{rotation.side}.generators.{k}"] = upper(part.q)
        if rotation.scale is not None:
            tensors[prefix + SCALE] = rotation.scale.to(rotation.dtype)
        if rotation.bias is not None:
            tensors[prefix + BIAS] = rotation.bias
        if rotation.base is not None:
            tensors[prefix + BASE] = rotation.base
        assert rotation.weight is not None
        layer, _ = layout(rotation)
        recipes[name] = Recipe(
            {rotation.side: rotation.network},
            kind,
            scale=rotation.scale is not None,
            bias=rotation.bias is not None,
            field=layer.field,
            base=rotation.base is not None,
            generator_scaling={rotation.side: factor},
        )
        weights[name] = (layer.__name__, rotation.weight)
        errors[name] = max((part.error for part in found), default=0.0)
    saved = Saved(recipes, weights, adaptation.trained, adaptation.statistics)
    write_adapter(folder, saved, tensors)
    return errors


def generators(
    name: str, rotation: LayerRotation, *, nearest: bool
) -> tuple[str, float, list[Coordinates]]:
    """Return a parametrization that represents the blocks, a factor, and generators by bank.

    The factor of the generators is the default of structmat, because training of a converted
    adapter continues there.

    Raises
    ------
    FileError
        If blocks are not rotations, or reflections are too wide to be stored as generators.
    """
    width = rotation.network.width
    if rotation.parametrization == REFLECTIONS and width > _DENSE:
        raise FileError(
            f"{name}: reflections as one switch of all {width} wires would store"
            f" {width * (width - 1) // 2:,} numbers; convert to LoRA of the same rank, which is"
            " exact, or to a merged model"
        )
    blocks = rotation.blocks()
    if rotation.series is not None and not nearest:
        factor = generator_scale(rotation.network, _SERIES)
        q = (rotation.series / factor).to(rotation.dtype)
        made = PARAMETRIZATIONS[_SERIES](upper(q) * factor, q.shape[-1])
        return _SERIES, factor, [Coordinates(q, float((made.double() - blocks[0]).abs().max()))]

    def inverted(
        kind: str, make: Callable[..., Coordinates]
    ) -> tuple[str, float, list[Coordinates]]:
        factor = generator_scale(rotation.network, kind)
        made = [make(b, rotation.dtype, nearest=nearest, factor=factor) for b in blocks]
        return kind, factor, made

    try:
        try:
            return inverted("cayley", coordinates)
        except MinusOneError:
            return inverted("exp", logarithms)
    except BlockError as error:
        raise FileError(f"{name}: {error}") from None
