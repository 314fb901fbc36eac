"""The formats of kohya's sd-scripts; OneTrainer uses the same format for OFT.

`networks.oft_v2` and OneTrainer store PEFT's OFT with the series of five terms:
`<layer>.oft_R.weight` (d/b, b(b−1)/2), or one row for all blocks. A linear layer gets W·Rᵀ as in
PEFT, a convolution W·R. OneTrainer's `oft_R.scaled_oft` marks Q that must be divided by 2·√(b−1).

`networks.boft` stores PEFT's BOFT, `boft_R` (m, d/b, b, b) and `boft_s` (out, 1), for the inputs of
linear layers and the receptive fields of convolutions. `networks.oft` rotates outputs;
`oft_blocks` describes its tensors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from structmat.convert.base_model import fingerprint_metadata
from structmat.convert.common_form import CONVOLUTION, LINEAR, Adaptation, Blocks, LayerRotation
from structmat.convert.image_programs import adapter_file, lycoris
from structmat.convert.image_programs.adapter_file import AdapterFile
from structmat.convert.image_programs.flat_names import FlatNames
from structmat.convert.image_programs.network_metadata import metadata_for
from structmat.convert.inverse_parametrization import cayley, from_upper, skew, upper
from structmat.convert.layer_names import Names
from structmat.convert.peft_methods.peft_boft import block_butterfly
from structmat.convert.peft_methods.peft_oft import neumann
from structmat.convert.subnetworks import Build, best, sizes
from structmat.convert.tensor_files import Weights, floating, write_tensors
from structmat.convert.writer_checks import check_inputs, parameters, refuse_base
from structmat.errors import FileError, StructmatError
from structmat.families.butterflies import block_diagonal
from structmat.networks.network import Network
from structmat.nn.parametrizations import at_least_float32

ENDINGS = (".oft_R.weight", ".boft_R")
_TERMS = 5
_PARTS = (r"oft_R\.weight", r"oft_R\.scaled_oft", "boft_R", "boft_s", "boft_P")
_DEEPEST = 24
_PROGRAMS = {"kohya": "kohya's", "onetrainer": "OneTrainer's", "peft": "PEFT's"}


def read(
    path: Path,
    weights: Weights | None = None,
    *,
    component: str | None = None,
    convention: str | None = None,
) -> Adaptation:
    """Read a safetensors file from sd-scripts' `networks.oft_v2` or `networks.boft`, or OneTrainer.

    Parameters
    ----------
    weights : Weights, optional
        The pretrained model, which is needed to distinguish convolutions from linear layers.
    component : str, optional
        The model to convert, if the file adapts several.
    convention : {"kohya", "onetrainer", "peft"}, optional
        The program whose formula applies to convolutions; by default, it is determined from the
        file.

    Raises
    ------
    FileError
        If the file cannot be read, contains tensors of another method, tensors have wrong shapes, a
        required model is missing, or the formula for a convolution is not determined.
    """
    file = adapter_file.read(path, _PARTS, component=component, convention=convention)
    shapes: dict[str, tuple[int, ...]] = {}
    if weights is not None:
        found = Names(weights, file.layers, is_flat=file.is_flat).of
        shapes = {name: weights.shape(f"{layer}.weight") for name, layer in found.items()}
    program = convention or _program(file)
    rotations = {}
    notes = list(file.notes)
    for name, parts in file.layers.items():
        if "boft_R" in parts:
            rotations[name] = _butterfly(file, name)
        else:
            rotations[name] = _series(file, name, program, shapes.get(name))
    if any(rotation.series is not None for rotation in rotations.values()):
        notes.append(
            "a truncated Neumann series: the blocks are not orthogonal, with an error that grows"
            " with their angles"
        )
    methods = {"BOFT" if "boft_R" in parts else "OFT" for parts in file.layers.values()}
    return Adaptation(
        f"{_PROGRAMS[program or 'kohya']} {' and '.join(sorted(methods))}",
        rotations,
        is_flat=file.is_flat,
        notes=notes,
        metadata=file.metadata,
        component=file.component,
        pretrained=file.metadata.get("ss_sd_model_name"),
    )


def _program(file: AdapterFile) -> str | None:
    """Return the program that wrote a file, or None if the file does not specify it."""
    if file.module.startswith("networks."):
        return "kohya"
    if "ot_branch" in file.metadata or any(
        "oft_R.scaled_oft" in parts for parts in file.layers.values()
    ):
        return "onetrainer"
    return "kohya" if file.is_flat else None


def _series(
    file: AdapterFile, name: str, program: str | None, shape: tuple[int, ...] | None
) -> LayerRotation:
    """Return the rotation of a layer of OFT, a series of five terms.

    Raises
    ------
    FileError
        If a shape is wrong, blocks are shared in a layer of unknown size, or the layer is a
        convolution and the program unknown.
    """
    where = f"{file.path}: {name}"
    parts = file.layers[name]
    if "oft_R.weight" not in parts or "boft_s" in parts:
        raise FileError(f"{where} has {', '.join(parts)}; OFT has oft_R.weight")
    x = floating(f"{where}.oft_R.weight", parts["oft_R.weight"]).to(torch.float64)
    try:
        q = from_upper(x)
        if q.ndim != 3 or not len(q):
            raise FileError(f"shape {tuple(x.shape)}; it must have two axes, and a row per block")
        width = _width(q, shape)
        network = block_diagonal(width, block=q.shape[-1])
    except StructmatError as error:
        raise FileError(f"{where}.oft_R.weight: {error}") from None
    if "oft_R.scaled_oft" in parts:
        q = q / (2 * math.sqrt(q.shape[-1] - 1))
    q = q.repeat(width // q.shape[-1] // len(q), 1, 1)
    if shape is not None and len(shape) > 2 and program != "peft":
        if program is None:
            raise FileError(
                f"{where} is a convolution, whose weight PEFT multiplies by the transpose of the"
                " matrix by which OneTrainer and sd-scripts multiply it, and the file does not name"
                " the program; choose one (convention=, --convention)"
            )
        q = -q  # the transpose
    return LayerRotation(
        network,
        functools.partial(_neumann, q),
        dtype=at_least_float32(parts["oft_R.weight"].dtype),
        series=q,
    )


def _neumann(q: Tensor) -> Blocks:
    return [neumann(q, _TERMS)]


def _width(q: Tensor, shape: tuple[int, ...] | None) -> int:
    """Return the number of inputs; only the shape shows whether a single block is shared.

    Raises
    ------
    FileError
        If the blocks do not fill the inputs, or the shape is needed and unknown.
    """
    own = q.shape[-1] * len(q)
    if shape is None:
        if len(q) == 1:
            raise FileError(
                "one block may be shared by the whole layer; give the pretrained model (model=,"
                " --model)"
            )
        return own
    width = math.prod(shape[1:])
    if own != width and (len(q) > 1 or width % own):
        raise FileError(f"{len(q)} blocks of {q.shape[-1]} do not fill {width} inputs")
    return width


def _butterfly(file: AdapterFile, name: str) -> LayerRotation:
    """Return the rotation of a layer of BOFT.

    Raises
    ------
    FileError
        If a tensor is missing or has a wrong shape.
    """
    where = f"{file.path}: {name}"
    parts = file.layers[name]
    x, scale = floating(f"{where}.boft_R", parts["boft_R"]), parts.get("boft_s")
    if scale is None or "oft_R.weight" in parts or x.ndim != 4:
        raise FileError(
            f"{where} has {', '.join(parts)}; BOFT has boft_R with four axes, and boft_s"
        )
    width = x.shape[1] * x.shape[2]
    network = block_butterfly(width, x.shape[2], len(x)) if x.numel() else None
    if network is None or x.shape[2] != x.shape[3]:
        raise FileError(f"{where}.boft_R of shape {tuple(x.shape)} is not a block butterfly")
    return LayerRotation(
        network,
        functools.partial(_factors, x),
        scale=floating(f"{where}.boft_s", scale).flatten(),
        dtype=at_least_float32(x.dtype),
    )


def _factors(x: Tensor) -> Blocks:
    return [cayley(-skew(factor.to(torch.float64))) for factor in x]


def write(
    adaptation: Adaptation,
    rotations: Mapping[str, LayerRotation],
    path: Path,
    *,
    nearest: bool,
    names: FlatNames,
) -> tuple[dict[str, float], list[str]]:
    """Write a file for sd-scripts; return the largest error by layer, and notes.

    Rotated outputs are written for `networks.oft`, the series of five terms for `networks.oft_v2`,
    and any other rotated inputs for `networks.boft`.

    Raises
    ------
    FileError
        If inputs and outputs are rotated, a network does not fit the module, a block is not a
        Cayley transform, or sd-scripts does not support a layer or another tensor.
    """
    module, alpha = "networks.boft", 0.0
    if any(rotation.side == "outputs" for rotation in rotations.values()):
        layers, errors, alpha = _outputs(adaptation, rotations, names, nearest=nearest)
        module = "networks.oft"
        dims = [len(parts["oft_blocks"]) for parts in layers.values()]
    else:
        adaptation.refuse_other_tensors("sd-scripts")
        refuse_base(rotations, "sd-scripts")
        for name, rotation in rotations.items():
            _check_layer(name, rotation)
        if not nearest and all(_is_series(rotation) for rotation in rotations.values()):
            layers, errors = _series_layers(rotations)
            module = "networks.oft_v2"
            dims = [rotation.network.banks[0].radix for rotation in rotations.values()]
        else:
            layers, errors = _butterfly_layers(rotations, nearest=nearest)
            dims = [parts["boft_R"].shape[-1] for parts in layers.values()]
    notes = [*names.notes, f"sd-scripts reads this file with --network_module={module}"]
    fields = [name for name, t in rotations.items() if math.prod((t.weight or ())[2:]) > 1]
    if (
        module == "networks.oft"
        and fields
        and not any("in_layers_2" in n for n in names.of.values())
    ):
        notes.append(
            f"networks.oft loads convolutions with larger kernels only in SDXL: {fields[0]}"
        )
    depths = {len(parts["boft_R"]) for parts in layers.values() if "boft_R" in parts}
    convolutional = any(len(rotation.weight or ()) > 2 for rotation in rotations.values())
    options = {"enable_conv": str(convolutional)}
    if len(depths) == 1:
        options["boft_n_butterfly_factor"] = str(next(iter(depths)))
    metadata = metadata_for(
        path,
        module,
        dims,
        alpha=alpha,
        options=options,
        base=names.base,
        pretrained=adaptation.pretrained,
        source=adaptation.metadata,
    )
    tensors = {
        f"{names.of[name]}.{part}": value
        for name, parts in layers.items()
        for part, value in parts.items()
    }
    metadata |= fingerprint_metadata(rotations)
    write_tensors(path, lycoris.contiguous(tensors), metadata)
    return errors, notes


def _outputs(
    adaptation: Adaptation,
    rotations: Mapping[str, LayerRotation],
    names: FlatNames,
    *,
    nearest: bool,
) -> tuple[dict[str, dict[str, Tensor]], dict[str, float], float]:
    """Return the tensors of `networks.oft`, which has one number of blocks and one alpha."""
    lycoris.check_outputs(adaptation, rotations, "sd-scripts")
    if names.component not in (None, "unet"):
        raise FileError(
            f"{names.component}: sd-scripts rotates outputs only in U-Nets; convert to LyCORIS or"
            " ComfyUI"
        )
    for name, rotation in rotations.items():
        if rotation.is_scaled:
            raise FileError(
                f"{name}: its outputs are scaled, but sd-scripts' networks.oft has no scales;"
                " convert to LyCORIS or ComfyUI"
            )
    radix = max((bank.radix for t in rotations.values() for bank in t.network.banks), default=2)
    widths = {rotation.network.width for rotation in rotations.values()}
    settings: list[tuple[int, Build]] = [
        (count, functools.partial(_in_blocks, count))
        for count in range(1, min(widths) // 2 + 1)
        if all(width % count == 0 for width in widths) and min(widths) // count <= 2 * radix
    ]
    rule = "sd-scripts' networks.oft has one stage, with the same number of blocks in all layers"
    _, networks = best(rotations, settings, rule)
    layers, errors = {}, {}
    alpha = 1.0
    for name, rotation in rotations.items():
        (q,), errors[name] = parameters(name, rotation, networks[name], nearest=nearest)
        layers[name] = {"oft_blocks": -0.5 * q}
        alpha = max(alpha, 2 * float(q.norm()) / rotation.network.width)
    for parts in layers.values():
        parts["alpha"] = torch.tensor(alpha)
    return layers, errors, alpha


def _in_blocks(count: int, width: int) -> Network:
    made: Network = block_diagonal(width, block=width // count)
    return made


def _check_layer(name: str, rotation: LayerRotation) -> None:
    """Raise an error for a layer whose inputs sd-scripts cannot rotate."""
    check_inputs(name, rotation, "sd-scripts' networks.boft")
    lycoris.check_modules(name, rotation, "sd-scripts")
    if rotation.kind not in (LINEAR, CONVOLUTION) or len(rotation.weight or (1, 1)) not in (2, 4):
        raise FileError(
            f"{name}: sd-scripts supports only linear layers and the receptive fields of Conv2d;"
            " convert to LoRA or a merged model"
        )
    if rotation.groups > 1:
        raise FileError(f"{name}: sd-scripts does not support convolutions with groups")


def _is_series(rotation: LayerRotation) -> bool:
    """Return whether blocks are the series of five terms, on adjacent wires and without scales."""
    if rotation.series is None or rotation.is_scaled:
        return False
    size = rotation.series.shape[-1]
    same: bool = rotation.network == block_diagonal(rotation.network.width, block=size)
    return same


def _series_layers(
    rotations: Mapping[str, LayerRotation],
) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    layers, errors = {}, {}
    for name, rotation in rotations.items():
        assert rotation.series is not None
        q = rotation.series.to(rotation.dtype)
        made = neumann(q, _TERMS).to(torch.float64)
        errors[name] = float((made - rotation.blocks()[0]).abs().max())
        is_convolution = rotation.kind == CONVOLUTION
        layers[name] = {"oft_R.weight": upper(-q if is_convolution else q)}
    return layers, errors


def _butterfly_layers(
    rotations: Mapping[str, LayerRotation], *, nearest: bool
) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    rule = (
        "sd-scripts' networks.boft has factors that join two half-blocks 2^i half-blocks apart,"
        " i = 0, 1, 2, …"
    )
    layers, errors = {}, {}
    for name, rotation in rotations.items():
        _, networks = best({name: rotation}, _settings({name: rotation}), rule)
        found, errors[name] = parameters(name, rotation, networks[name], nearest=nearest)
        assert rotation.weight is not None
        scale = torch.ones(rotation.weight[0]) if rotation.scale is None else rotation.scale
        layers[name] = {
            "boft_R": torch.stack([-q for q in found]),
            "boft_s": scale.to(rotation.dtype)[:, None],
        }
    return layers, errors


def _settings(rotations: Mapping[str, LayerRotation]) -> Iterator[tuple[int, Build]]:
    for _, _, size in sizes(rotations):
        for depth in range(1, _DEEPEST):
            yield depth, functools.partial(_sized, size, depth)


def _sized(size: Callable[[int], int], depth: int, width: int) -> Network | None:
    return block_butterfly(width, size(width), depth)
