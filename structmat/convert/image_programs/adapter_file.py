"""Adapters in a single safetensors file: their layers, the component of the pipeline, metadata.

A file may adapt several components of an image pipeline: the U-Net or transformer, and the text
encoders. They are distinguished by the prefixes of the tensor names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from structmat.convert.tensor_files import (
    keys_of,
    metadata_of,
    read_numbers,
)
from structmat.errors import FileError, StructmatError, abbreviated, suggest

WEIGHTS = "pytorch_lora_weights.safetensors"  # diffusers' name for any adapter
PIPELINE = "model_index.json"
MODULE = "ss_network_module"
# Each component of a pipeline, the prefixes of its tensors, and its directories in diffusers.
_COMPONENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "unet": (
        (
            *("lora_unet_", "oft_unet_", "lora_transformer_", "lora_prior_unet_"),
            *("unet.", "transformer.", "diffusion_model."),
        ),
        ("unet", "transformer", "prior"),
    ),
    "text_encoder": (
        (
            *("lora_te_", "lora_te1_", "lora_prior_te_"),
            *("text_encoder.", "clip_l.", "text_encoders.clip_l."),
        ),
        ("text_encoder",),
    ),
    "text_encoder_2": (
        ("lora_te2_", "text_encoder_2.", "clip_g.", "text_encoders.clip_g."),
        ("text_encoder_2",),
    ),
    "text_encoder_3": (
        ("lora_te3_", "text_encoder_3.", "text_encoders.t5xxl."),
        ("text_encoder_3",),
    ),
}
COMPONENTS = (*_COMPONENTS, "transformer")


@dataclass(frozen=True)
class AdapterFile:
    """The tensors of one component in a file, by layer, and the file's metadata.

    Attributes
    ----------
    path : Path
    layers : dict of layer name → part → Tensor
        For example, {"lora_unet_conv_in": {"oft_blocks": …, "alpha": …}}.
    component : str, optional
        The component of a pipeline that these tensors adapt, if the names specify it.
    metadata : dict
    convention : str, optional
        The program whose formula applies, if specified by the caller.
    notes : list of str
    """

    path: Path
    layers: dict[str, dict[str, Tensor]]
    component: str | None
    metadata: dict[str, str]
    convention: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def is_flat(self) -> bool:
        """Whether layer names have underscores instead of dots."""
        return not any("." in name for name in self.layers)

    @property
    def module(self) -> str:
        """The name of the training program's network module, or "" if the file lacks it."""
        return self.metadata.get(MODULE, "")


def read(
    path: Path,
    parts: Sequence[str],
    *,
    component: str | None = None,
    convention: str | None = None,
) -> AdapterFile:
    """Read the tensors of one component, whose names must end in one of the parts.

    Parts are regular expressions.

    Raises
    ------
    FileError
        If the file cannot be read, contains tensors of another method, or adapts several
        components or another component than the given one.
    """
    tensors = read_numbers(path)
    chosen, keys, notes = _selected(path, list(tensors), component)
    layers: dict[str, dict[str, Tensor]] = {}
    for key in keys:
        found = re.fullmatch(rf"(.*?)\.({'|'.join(parts)})", key)
        if found is None:
            raise FileError(
                f"{path}: {key} does not belong to a rotation; files that mix several methods are"
                " not supported"
            )
        layers.setdefault(found.group(1), {})[found.group(2)] = tensors[key]
    metadata = metadata_of(path)
    metadata.pop("format", None)  # of the container: "pt"
    return AdapterFile(path, layers, chosen, metadata, convention, notes)


def component_in(path: Path, component: str | None) -> str | None:
    """Return the component of a pipeline that an adapter file adapts, if its names specify it.

    Raises
    ------
    FileError
        As for `read`.
    """
    return _selected(path, keys_of(path), component)[0]


def checked_component(component: object) -> str | None:
    """Return the component with the name that this module uses.

    Raises
    ------
    StructmatError
        If there is no such component.
    """
    if component is not None and component not in COMPONENTS:
        raise StructmatError(
            f"component={abbreviated(component)}: no such component"
            f"{suggest(str(component), COMPONENTS)}"
        )
    return "unet" if component == "transformer" else component


def _selected(
    path: Path, keys: list[str], component: str | None
) -> tuple[str | None, list[str], list[str]]:
    """Return the component, the keys of its tensors, and notes."""
    if not keys:
        raise FileError(f"{path} contains no tensors; give a file of a trained adapter")
    groups: dict[str | None, list[str]] = {}
    for key in keys:
        groups.setdefault(_component(key), []).append(key)
    if None in groups:  # general names, some of which may begin like those of a component
        return component, keys, []
    listed = ", ".join(str(name) for name in groups)
    if component is not None and component not in groups:
        raise FileError(f"{path} does not adapt {component}; it adapts {listed}")
    if len(groups) > 1 and component is None:
        raise FileError(
            f"{path} adapts several models, {listed}; choose one (component=, --component)"
        )
    chosen = component or next(iter(groups))
    left = [str(name) for name in groups if name != chosen]
    notes = [f"only {chosen} is converted; the file also adapts {', '.join(left)}"] if left else []
    return chosen, groups.get(chosen, []), notes


def _component(key: str) -> str | None:
    for name, (prefixes, _) in _COMPONENTS.items():
        if key.startswith(prefixes):
            return name
    return None


def component_folder(model: Path, component: str | None) -> Path:
    """Return the directory of a component if the model is a diffusers pipeline, else the model.

    Raises
    ------
    FileError
        If the pipeline lacks the component, or no component is specified.
    """
    if not (model / PIPELINE).is_file():
        return model
    if component is None:
        raise FileError(
            f"{model} is a pipeline of several models; pass the directory of one of them, or choose"
            " one (component=, --component)"
        )
    for name in _COMPONENTS[component][1]:
        if (model / name).is_dir():
            return model / name
    raise FileError(f"{model} has no {' or '.join(_COMPONENTS[component][1])}")
