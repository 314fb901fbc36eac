"""Combination of adapters by geodesic means of their blocks."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from structmat.adapters.adapted_layer import INPUTS, OUTPUTS, PREFIX
from structmat.adapters.distributed import plain_name
from structmat.adapters.layouts import Stack
from structmat.adapters.recipes import fits
from structmat.adapters.selection import compiled
from structmat.errors import BlockError, StructmatError, suggest
from structmat.networks.network import Network
from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.parametrizations import powers
from structmat.peft.config import StructmatConfig
from structmat.peft.layer import StructmatLayer
from structmat.peft.planned_networks import planned

SIDES = (INPUTS, OUTPUTS)


def add_weighted(tuner: Any, adapters: list[str], weights: list[float], new: str) -> None:
    """Add the weighted mean of adapters to a tuner; see `StructmatModel.add_weighted_adapter`."""
    configs: Mapping[str, StructmatConfig] = tuner.peft_config
    for name in adapters:
        if name not in configs:
            raise StructmatError(f"adapter {name!r}: no such adapter{suggest(name, configs)}")
    if new in configs:
        raise StructmatError(f"adapter_name={new!r}: this name is taken; choose another")
    if len(adapters) != len(weights) or not adapters:
        raise StructmatError(
            f"{len(weights)} weights for {len(adapters)} adapters: give one weight for each"
        )
    for weight in weights:
        if not math.isfinite(weight):
            raise StructmatError(f"weight {weight!r}: it must be a finite number, such as 0.5")
    whole = next((name for name in adapters if configs[name].modules_to_save), None)
    if whole is not None:
        raise StructmatError(
            f"adapter {whole!r} has modules_to_save, which are not rotations and have no geodesic"
            " mean; combine adapters without them"
        )
    layers: dict[str, StructmatLayer] = {plain_name(n): m for n, m in tuner.adapted().items()}
    selected = {n: m for n, m in layers.items() if any(a in m.structmat_power for a in adapters)}
    kinds = {configs[name].parametrization for name in adapters}
    kind = "cayley" if kinds == {"cayley"} else "exp"
    # Everything is computed before the model is modified.
    values = {
        (name, side): found
        for name, layer in selected.items()
        for side in SIDES
        if (found := _mean(name, layer, side, adapters, weights, kind)) is not None
    }
    factors = {name: _factors(layer, adapters, weights) for name, layer in selected.items()}
    config = _config([configs[name] for name in adapters], selected, values, factors, kind)
    _check_networks(config, adapters[0], selected, values)
    tuner.peft_config[new] = config
    try:
        tuner.inject_adapter(tuner.model, new)
    except BaseException:
        tuner.peft_config.pop(new, None)
        raise
    with torch.no_grad():
        for (name, side), (_, generators) in values.items():
            rotation = getattr(selected[name], side)[new]
            for own, value in zip(rotation.generators, generators, strict=True):
                own.copy_(value / rotation.generator_scale)
        for name, factor in factors.items():
            if factor is not None:
                selected[name].structmat_scale[new].copy_(factor)


def _mean(
    name: str,
    layer: StructmatLayer,
    side: str,
    adapters: list[str],
    weights: list[float],
    kind: str,
) -> tuple[Network, list[Tensor]] | None:
    """Return the network of one side and the generators of the mean, or None without a rotation."""
    rotations: dict[str, Orthogonal] = {
        name: rotation for name, rotation in getattr(layer, side).items() if name in adapters
    }
    if not rotations:
        return None
    networks = {rotation.network for rotation in rotations.values()}
    if len(networks) > 1:
        raise StructmatError(
            f"{name}: the adapters {', '.join(rotations)} have different networks; a mean requires"
            " the same network. Merge them one after the other instead"
        )
    network = networks.pop()
    like = next(iter(rotations.values()))
    with torch.no_grad():
        nothing = [powers.power(block, 0) for block in like.blocks(torch.float64)]
        stacks, shares = [], []
        for adapter, weight in zip(adapters, weights, strict=True):
            blocks = rotations[adapter].blocks(torch.float64) if adapter in rotations else nothing
            if weight:  # weight −w is weight w of the inverse rotation
                stacks.append(blocks if weight > 0 else [block.mH for block in blocks])
                shares.append(abs(weight))
        try:
            means = [powers.mean(blocks, shares) for blocks in zip(*stacks, strict=True)]
            return network, [powers.generators(block, kind) for block in means or nothing]
        except BlockError as error:
            raise BlockError(f"{name}: {error}") from None


def _check_networks(
    config: StructmatConfig,
    first: str,
    selected: Mapping[str, StructmatLayer],
    values: Mapping[tuple[str, str], tuple[Network, list[Tensor]]],
) -> None:
    """Raise an error if a network differs from the one that the saved topology would yield."""
    recipes = planned(config, {name: layer.base_layer for name, layer in selected.items()})
    for (name, side), (network, _) in values.items():
        if network != recipes[name].networks.get(side.removeprefix(PREFIX)):
            raise StructmatError(
                f"{name}: its network differs from that of adapter {first!r}'s topology; combined"
                " adapters need the same topology"
            )


def _factors(layer: StructmatLayer, adapters: list[str], weights: list[float]) -> Tensor | None:
    found = [(layer.factors(a), w) for a, w in zip(adapters, weights, strict=True)]
    pulls = [(factor - 1) * w for factor, w in found if factor is not None]
    return 1 + torch.stack(pulls).sum(0) if pulls else None


def _config(
    configs: list[StructmatConfig],
    selected: Mapping[str, StructmatLayer],
    values: Mapping[tuple[str, str], Any],
    factors: Mapping[str, Tensor | None],
    kind: str,
) -> StructmatConfig:
    """Return the configuration of the mean, which targets every layer involved."""
    config = copy.deepcopy(configs[0])
    sides = {side for _, side in values}
    config.side = "both" if len(sides) == 2 else "inputs" if SIDES[0] in sides else "outputs"
    config.scale = any(factor is not None for factor in factors.values())
    config.parametrization, config.bias = kind, "none"
    config.generator_scales = {}  # those of another parametrization
    config.reduced, config.init_weights, config._from_file = False, True, False
    config.layers_to_transform = config.layers_pattern = config.exclude_modules = None
    stacks = [name for name, layer in selected.items() if isinstance(layer.base_layer, Stack)]
    names = [name for name in selected if name not in stacks]
    config.target_parameters = stacks or None
    config.target_modules = "|".join(map(re.escape, names)) if names else set()
    rules = {p: compiled(p, "topology_pattern") for p in config.topology_pattern}
    config.topology_pattern = {
        p: topology
        for p, topology in config.topology_pattern.items()
        if any(fits(rules[p], name) for name in selected)
    }
    return config
