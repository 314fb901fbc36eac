"""The two naming schemes for Stable Diffusion U-Nets: diffusers' and that of the original code.

diffusers counts the residual blocks of each resolution, `down_blocks.1.attentions.0`; the original
code counts all of them, `input_blocks.4.1`. The numbers of blocks follow from the layer names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ALONE = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "conv_norm_out": "out.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ORIGINAL = "input_blocks."
_DIFFUSERS = "down_blocks."


def other_names(layers: Iterable[str]) -> dict[str, str]:
    """Return the name of each layer of a U-Net in the other naming scheme.

    Parameters
    ----------
    layers : iterable of str
        The names of all layers, in either scheme. Layers of other models, and those without a
        counterpart, are omitted from the result.

    Examples
    --------
    >>> other_names(["conv_in", "down_blocks.0.resnets.0.conv1", "down_blocks.0.attentions.0.proj"])
    {'conv_in': 'input_blocks.0.0', 'down_blocks.0.resnets.0.conv1': 'input_blocks.1.0.in_layers.2',
    'down_blocks.0.attentions.0.proj': 'input_blocks.1.1.proj'}
    >>> other_names(["input_blocks.1.1.proj", "input_blocks.1.0.in_layers.2"])
    {'input_blocks.1.1.proj': 'down_blocks.0.attentions.0.proj',
    'input_blocks.1.0.in_layers.2': 'down_blocks.0.resnets.0.conv1'}
    """
    names = list(layers)
    if any(name.startswith(_DIFFUSERS) for name in names):
        blocks, residual = _original_of(names), _RESIDUAL
    elif any(name.startswith(_ORIGINAL) for name in names):
        blocks = _diffusers_of(names)
        residual = {original: name for name, original in _RESIDUAL.items()}
    else:
        return {}
    found = {}
    for name in names:
        block = next((head for head in _heads(name) if head in blocks), None)
        if block is None:
            continue
        tail = name[len(block) :].lstrip(".")
        if ".resnets." in f"{block}{blocks[block]}":
            tail = residual.get(tail, tail)
        found[name] = f"{blocks[block]}.{tail}" if tail else blocks[block]
    return found


def is_sdxl(layers: Iterable[str]) -> bool:
    """Return whether these are layers of SDXL's U-Net, which also embeds sizes and pooled text."""
    return any(re.match(r"add_embedding\.|label_emb\.", name) for name in layers)


def _heads(name: str) -> Iterable[str]:
    """Yield a name and the names of the modules that contain it, from the longest on."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _original_of(names: list[str]) -> dict[str, str]:
    """Return the original name of each block, given layer names in diffusers' scheme."""
    modules = {head for name in names for head in _heads(name)}
    found = dict(_ALONE)
    count = 0
    for down in _numbers(modules, "down_blocks"):
        head = f"down_blocks.{down}"
        for i in _numbers(modules, f"{head}.resnets"):
            count += 1
            found[f"{head}.resnets.{i}"] = f"input_blocks.{count}.0"
            found[f"{head}.attentions.{i}"] = f"input_blocks.{count}.1"
        if f"{head}.downsamplers" in modules:
            count += 1
            found[f"{head}.downsamplers.0.conv"] = f"input_blocks.{count}.0.op"
    count = 0
    for up in _numbers(modules, "up_blocks"):
        head = f"up_blocks.{up}"
        last = 1
        for i in _numbers(modules, f"{head}.resnets"):
            found[f"{head}.resnets.{i}"] = f"output_blocks.{count}.0"
            found[f"{head}.attentions.{i}"] = f"output_blocks.{count}.1"
            last = 2 if f"{head}.attentions.{i}" in modules else 1
            count += 1
        found[f"{head}.upsamplers.0.conv"] = f"output_blocks.{count - 1}.{last}.conv"
    return found


def _diffusers_of(names: list[str]) -> dict[str, str]:
    """Return diffusers' name of each block, given layer names in the original scheme."""
    modules = {head for name in names for head in _heads(name)}
    found = {original: name for name, original in _ALONE.items()}
    block = i = 0
    for n in _numbers(modules, "input_blocks"):
        head = f"input_blocks.{n}"
        if n == 0:
            continue
        if f"{head}.0.op" in modules:
            found[f"{head}.0.op"] = f"down_blocks.{block}.downsamplers.0.conv"
            block, i = block + 1, 0
            continue
        found[f"{head}.0"] = f"down_blocks.{block}.resnets.{i}"
        found[f"{head}.1"] = f"down_blocks.{block}.attentions.{i}"
        i += 1
    block = i = 0
    for n in _numbers(modules, "output_blocks"):
        head = f"output_blocks.{n}"
        found[f"{head}.0"] = f"up_blocks.{block}.resnets.{i}"
        found[f"{head}.1"] = f"up_blocks.{block}.attentions.{i}"
        i += 1
        upsampler = next((k for k in (1, 2) if f"{head}.{k}.conv" in modules), None)
        if upsampler is not None:
            found[f"{head}.{upsampler}.conv"] = f"up_blocks.{block}.upsamplers.0.conv"
            block, i = block + 1, 0
    return found


def _numbers(modules: set[str], parent: str) -> list[int]:
    """Return the numbers of the submodules of a module list."""
    start = len(parent) + 1
    inside = (name[start:] for name in modules if name.startswith(f"{parent}."))
    return sorted(int(name) for name in inside if name.isdecimal())
