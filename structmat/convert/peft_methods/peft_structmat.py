"""The format of structmat's own PEFT method.

The tensors are the generators for each rotated side; the configuration contains each topology as a
spec or as a network. The widths of the layers are not stored: the network of a layer is the one in
the configuration whose generators have the same shapes as the layer's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from structmat.adapters.adapted_layer import SCALE
from structmat.adapters.base_fingerprint import read_fingerprints
from structmat.adapters.layouts import ConvolutionLayout
from structmat.adapters.recipes import builder, fits, side_by_side
from structmat.adapters.selection import compiled
from structmat.convert import structmat_format
from structmat.convert.common_form import Adaptation, LayerRotation, Shape, layout
from structmat.convert.inverse_parametrization import upper
from structmat.convert.layer_names import Names
from structmat.convert.peft_methods import peft_files
from structmat.convert.tensor_files import Weights
from structmat.errors import FileError, require
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage
from structmat.nn.orthogonal_layer import generator_shapes
from structmat.nn.parametrizations import at_least_float32

_WRITTEN = (
    "topology",
    "topology_pattern",
    "parametrization",
    "side",
    "field",
    "scale",
    "generator_scaling",
    "generator_scales",
    "schema",
)
_GENERATORS = r"structmat_(inputs|outputs)\.generators\.(\d+)"


def read(folder: Path, weights: Weights | None = None) -> Adaptation:
    """Read a checkpoint of structmat's PEFT method.

    Raises
    ------
    FileError
        If the files cannot be read, no network or several networks fit a layer, or both sides of
        layers or stacked expert weights are rotated.
    """
    config = _config().from_pretrained(str(folder))
    files = peft_files.read(
        folder, (_GENERATORS, SCALE), named="structmat_inputs or structmat_outputs"
    )
    if config.side == "both":
        raise FileError(
            f"{folder}: inputs and outputs are rotated, which conversion does not support; call"
            " merge_and_unload() in PEFT"
        )
    if config.target_parameters:
        raise FileError(
            f"{folder}: stacked expert weights are rotated, which conversion does not support; call"
            " merge_and_unload() in PEFT"
        )
    names = {} if weights is None else Names(weights, files.layers).of
    prints = read_fingerprints(config.fingerprints)
    rotations = {}
    for name, parts in files.layers.items():
        generators = _generators(parts)
        shape = None if weights is None else weights.shape(f"{names[name]}.weight")
        network = _network(config, name, generators, shape)
        factor = _planned().factor(config, network)
        rotations[name] = LayerRotation(
            network,
            partial(
                structmat_format.blocks_of,
                network,
                config.parametrization,
                generators,
                reduced=config.reduced,
                factor=factor,
            ),
            config.side,
            parts.get(SCALE),
            dtype=at_least_float32(generators[0].dtype if generators else torch.float32),
            parametrization=config.parametrization,
            series=structmat_format.series(config.parametrization, generators, factor),
            field=config.field,
            fingerprint=prints.get(name),
        )
    return files.adaptation("structmat in PEFT", rotations, [])


def write(
    adaptation: Adaptation, rotations: Mapping[str, LayerRotation], folder: Path, *, nearest: bool
) -> tuple[dict[str, float], list[str]]:
    """Write rotations as PEFT would save them.

    Returns
    -------
    dict of layer name → float, list of str
        The largest error of a block entry, and notes.

    Raises
    ------
    FileError
        If layers differ in settings that all layers must share, or the format cannot represent a
        layer.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    errors, kinds, factors = {}, {}, {}
    for name, rotation in rotations.items():
        kinds[name], factor, found = structmat_format.generators(name, rotation, nearest=nearest)
        factors[_planned().fingerprint(rotation.network)] = factor
        layers[name] = {
            f"structmat_{rotation.side}.generators.{k}": upper(part.q)
            for k, part in enumerate(found)
        }
        errors[name] = max((part.error for part in found), default=0.0)
    scaled = any(rotation.is_scaled for rotation in rotations.values())
    if scaled:
        for name, rotation in rotations.items():
            layers[name][SCALE] = _factors(rotation)
    topology, patterns = _patterns({name: _of_one_group(name, r) for name, r in rotations.items()})
    kinds_of = {name: layout(rotation)[0] for name, rotation in rotations.items()}
    fields = {n: kind.field for n, kind in kinds_of.items() if issubclass(kind, ConvolutionLayout)}
    config = _config()(
        topology=topology,
        topology_pattern=patterns,
        parametrization=_one(kinds, "parametrization", "cayley"),
        side=_one({name: rotation.side for name, rotation in rotations.items()}, "side", "inputs"),
        field=_one(fields, "field", "receptive"),
        scale=scaled,
        generator_scales=factors,
    ).to_dict()
    said = {"peft_type": "STRUCTMAT"} | {key: config[key] for key in _WRITTEN}
    said["fingerprints"] = {
        name: r.fingerprint.to_dict() for name, r in rotations.items() if r.fingerprint is not None
    }
    peft_files.write(folder, adaptation, said, layers)
    return errors, []


def _config() -> Any:
    return require("structmat.peft", "peft").StructmatConfig


def _planned() -> Any:
    return require("structmat.peft.planned_networks", "peft")


def _generators(parts: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the generators of a layer, bank by bank."""
    found = {
        int(match.group(2)): value
        for part, value in parts.items()
        if (match := re.fullmatch(_GENERATORS, part))
    }
    return [found[k] for k in sorted(found)]


def _network(config: Any, name: str, generators: list[Tensor], weight: Shape | None) -> Network:
    """Return the network in the configuration whose generators have the given shapes.

    The generators of several copies of a network, one per group of a convolution, may have the same
    shapes as those of one wider network.

    Raises
    ------
    FileError
        If no network fits, or several fit and the file does not contain the number of groups.
    """
    from structmat.peft.config import topology_of

    rules = {compiled(p, "topology_pattern"): kept for p, kept in config.topology_pattern.items()}
    kept = next((kept for rule, kept in rules.items() if fits(rule, name)), config.topology)
    build = builder(topology_of(kept))
    shapes = [tuple(value.shape) for value in generators]
    found: dict[int, Network] = {}  # by number of copies
    for width in _widths(config, kept):
        net = build(width)
        one = generator_shapes(net, reduced=config.reduced)
        copies = shapes[0][0] // one[0][0] if shapes and one and one[0][0] else 1
        structmat_format.check_real(net, generators, reduced=config.reduced)
        net = side_by_side(net, max(1, copies))
        if generator_shapes(net, reduced=config.reduced) == shapes:
            found[copies] = net
    if len(found) > 1 and weight is not None and len(weight) > 2:
        raise FileError(
            f"{name}: its generators fit {' and '.join(map(str, found))} copies of a network, and"
            " the file does not specify the number of groups of the convolution; call"
            " merge_and_unload() in PEFT"
        )
    if found:
        return found[min(found)]
    raise FileError(
        f"{name}: no network in the configuration has generators of the shapes"
        f" {', '.join(map(str, shapes[:3]))}{', …' if len(shapes) > 3 else ''}"
    )


def _widths(config: Any, kept: Any) -> Iterable[int]:
    if not isinstance(kept, str):
        return [int(kept["width"])]
    start = f"{kept} at "
    return [int(key.removeprefix(start)) for key in config.networks if key.startswith(start)]


def _of_one_group(name: str, rotation: LayerRotation) -> Network:
    """Return the network of one group of a convolution; the method uses it for every group."""
    net, copies = rotation.network, rotation.groups
    if copies == 1:
        return net
    rows = [[b.reads[: b.count // copies] for b in stage.banks] for stage in net.stages]
    width = net.width // copies
    inside = all(len(r) and int(r.max()) < width for banks in rows for r in banks)
    one = Network(width, [Stage(width, [Bank(r) for r in b]) for b in rows]) if inside else None
    if one is None or side_by_side(one, copies) != net:
        raise FileError(
            f"{name}: its {copies} groups have different networks, but structmat's PEFT method uses"
            " one network for all groups of a convolution; convert to a merged model instead"
        )
    return one


def _factors(rotation: LayerRotation) -> Tensor:
    kind, layer = layout(rotation)
    scale = torch.ones(kind.output_width(layer)) if rotation.scale is None else rotation.scale
    return scale.to(rotation.dtype)


def _one(values: Mapping[str, str], what: str, default: str) -> str:
    """Return the value of an option, which all layers must share."""
    found = dict.fromkeys(values.values())
    if len(found) > 1:
        names = [next(n for n in values if values[n] == value) for value in found][:2]
        said = " and ".join(f"{name} has {what}={values[name]!r}" for name in names)
        raise FileError(
            f"{said}, but all layers of a PEFT adapter must have the same value; convert to"
            " structmat's files instead"
        )
    return next(iter(found), default)


def _patterns(networks: Mapping[str, Network]) -> tuple[Network, dict[str, Network]]:
    """Return the most frequent network, and patterns for the layers that have other networks.

    Raises
    ------
    FileError
        If a pattern also matches a layer with another network, because patterns match the ends of
        names, too.
    """
    (common, _), *_rest = Counter(networks.values()).most_common(1)
    names: dict[Network, list[str]] = {}
    for name, net in networks.items():
        if net != common:
            names.setdefault(net, []).append(name)
    patterns = {"|".join(map(re.escape, listed)): net for net, listed in names.items()}
    rules = {compiled(pattern, "topology_pattern"): net for pattern, net in patterns.items()}
    for name, net in networks.items():
        if next((n for rule, n in rules.items() if fits(rule, name)), common) != net:
            raise FileError(
                f"{name} ends in the name of a layer with another network, and the patterns of"
                " structmat's PEFT method cannot distinguish the two; convert to a merged model"
                " instead"
            )
    return common, patterns
