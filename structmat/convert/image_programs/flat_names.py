"""The layer names that LyCORIS, kohya's sd-scripts and ComfyUI expect in an adapter's file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from structmat.convert.image_programs.adapter_file import PIPELINE
from structmat.convert.layer_names import UNET_PREFIXES, unet_names
from structmat.convert.tensor_files import FileWeights, Weights
from structmat.convert.unet_names import is_sdxl
from structmat.errors import FileError

_UNET = (
    *("down_blocks.", "mid_block.", "up_blocks.", "time_embedding.", "add_embedding.", "conv_"),
    *("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out."),
)
_DIFFUSERS = ("transformer_blocks.", "single_transformer_blocks.", "joint_transformer_blocks.")
_TEXT = "text_model."
_ENCODERS = {"text_encoder": "1", "text_encoder_2": "2", "text_encoder_3": "3"}


@dataclass(frozen=True)
class FlatNames:
    """The names of adapted layers in the files of one program.

    Attributes
    ----------
    of : dict of layer name → its name in the file
    component : str, optional
        The component of a pipeline to which the layers belong, if known.
    base : str, optional
        The version of the base model, as sd-scripts names it: "sd_v1" or "sdxl_base_v1-0".
    notes : list of str
    """

    of: dict[str, str]
    component: str | None = None
    base: str | None = None
    notes: list[str] = field(default_factory=list)


def flat_names(
    program: str,
    layers: Iterable[str],
    *,
    weights: Weights | None = None,
    component: str | None = None,
    outputs: bool = True,
) -> FlatNames:
    """Return the names of layers in the files of "lycoris", "kohya" or "comfyui".

    SDXL's U-Net gets the names of the original code, which sd-scripts expects, if the model is
    given; otherwise names are as in the model.

    Parameters
    ----------
    program : {"lycoris", "kohya", "comfyui"}
    layers : iterable of layer names
    weights : Weights, optional
        The pretrained model.
    component : str, optional
        The component of a pipeline; by default, it is determined from the names, except for
        LyCORIS, which names the layers of any model.
    outputs : bool
        Whether outputs are rotated, for which sd-scripts uses another prefix.

    Raises
    ------
    FileError
        If two layers get the same name.

    Examples
    --------
    >>> names = ["mid_block.resnets.0.conv1", "up_blocks.0.resnets.0.conv1"]
    >>> list(flat_names("kohya", names, outputs=False).of.values())
    ['lora_unet_mid_block_resnets_0_conv1', 'lora_unet_up_blocks_0_resnets_0_conv1']
    """
    layers = list(layers)
    everything = layers if weights is None else _layers(weights)
    prefix = _prefix(layers)
    component = component or (None if program == "lycoris" else _component(weights))
    notes: list[str] = []
    own = {name: name[len(prefix) :] for name in layers}
    base = None
    if component == "unet":
        found = unet_names(everything)
        original = any("input_blocks." in name for name in everything)
        if weights is not None and (found or original):
            inside = [name.removeprefix(prefix) for name in everything]
            base = "sdxl_base_v1-0" if is_sdxl(inside) else _version(weights, everything)
            if is_sdxl(inside) and found and not original:
                places = {name: other for other, name in found.items()}
                own = {name: places.get(name, name)[len(prefix) :] for name in layers}
        elif any(name.startswith("down_blocks.") for name in own.values()):
            notes = [
                "the layer names are those of diffusers; give the pretrained model if this is"
                " SDXL's U-Net"
            ]
    elif component is not None:
        own = {name: _encoder_name(name) for name in layers}
    start, is_dotted = _start(program, component, own, outputs=outputs, weights=weights)
    of: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name, place in own.items():
        of[name] = start + (place if is_dotted else place.replace(".", "_"))
        other = taken.setdefault(of[name], name)
        if other != name:
            raise FileError(f"{name} and {other} have the same name, {of[name]}, in {program}")
    return FlatNames(of, component, base, notes)


def _start(
    program: str,
    component: str | None,
    own: dict[str, str],
    *,
    outputs: bool,
    weights: Weights | None,
) -> tuple[str, bool]:
    """Return the prefix of the names, and whether the names have dots."""
    if component in _ENCODERS:
        number = _ENCODERS[component]
        single = program != "comfyui" and number == "1" and not _has_second_encoder(weights)
        return f"lora_te{'' if single else number}_", False
    if program == "comfyui" and not all(name.startswith(_UNET) for name in own.values()):
        is_diffusers = any(name.startswith(_DIFFUSERS) for name in own.values())
        return ("transformer." if is_diffusers else "diffusion_model."), True
    if program == "lycoris" and component is None:
        return "lycoris_", False
    return ("oft_unet_" if program == "kohya" and outputs else "lora_unet_"), False


def _has_second_encoder(weights: Weights | None) -> bool:
    """Return whether the model is a part of a pipeline with several text encoders."""
    if not isinstance(weights, FileWeights):
        return False
    folder = weights.source if weights.source.is_dir() else weights.source.parent
    return (folder.parent / PIPELINE).is_file() and (folder.parent / "text_encoder_2").is_dir()


def _layers(weights: Weights) -> list[str]:
    return [key.removesuffix(".weight") for key in weights.keys if key.endswith(".weight")]


def _prefix(layers: list[str]) -> str:
    """Return the prefix of a U-Net's layers in a file with other models, or ""."""
    for prefix in UNET_PREFIXES[1:]:
        if all(name.startswith(prefix) for name in layers):
            return prefix
    return ""


def _encoder_name(name: str) -> str:
    """Return a layer's name in CLIP's text model as older versions of transformers write it."""
    if _TEXT in name or name.startswith("encoder.layers."):
        return _TEXT + name.rpartition(_TEXT)[2]
    return name


def _component(weights: Weights | None) -> str:
    """Return which component of a pipeline a model is, from its directory and its class."""
    name = ""
    if isinstance(weights, FileWeights):
        folder = weights.source if weights.source.is_dir() else weights.source.parent
        if folder.name in _ENCODERS:
            return folder.name
        name = str((weights.settings.get("architectures") or [""])[0])
    elif weights is not None:
        name = type(weights.module).__name__
    found = {"CLIPTextModel": "text_encoder", "CLIPTextModelWithProjection": "text_encoder_2"}
    return found.get(name, "unet")


def _version(weights: Weights, layers: list[str]) -> str | None:
    """Return sd-scripts' name of the Stable Diffusion version, from the width of text features."""
    widths = {weights.shape(f"{name}.weight")[1] for name in layers if name.endswith("attn2.to_k")}
    versions = {768: "sd_v1", 1024: "sd_v2"}
    return versions.get(next(iter(widths))) if len(widths) == 1 else None
