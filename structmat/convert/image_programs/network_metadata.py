"""The metadata of an adapter's file that sd-scripts, ComfyUI and web interfaces show.

Keys that begin with `ss_` are those of kohya's sd-scripts, those that begin with `modelspec.` are
defined by Stability AI's ModelSpec. All values are text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from structmat.convert.image_programs.adapter_file import MODULE

_MODELSPEC = "modelspec."
_KEPT = ("ss_", _MODELSPEC)
_REPLACED = ("sshs_", f"{_MODELSPEC}hash")
# The architecture, implementation and resolution of base models, by sd-scripts' versions.
_SPECIFIED = {
    "sd_v1": ("stable-diffusion-v1", "diffusers", "512x512"),
    "sdxl_base_v1-0": (
        "stable-diffusion-xl-v1-base",
        "https://github.com/Stability-AI/generative-models",
        "1024x1024",
    ),
}


def metadata_for(
    path: Path,
    module: str,
    dims: Iterable[int],
    *,
    alpha: float,
    options: Mapping[str, Any],
    base: str | None = None,
    pretrained: str | None = None,
    source: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the metadata of a file with rotations.

    Metadata of the source, such as training settings and captions, is kept unless it describes the
    network itself.

    Parameters
    ----------
    path : Path
        The file to write, whose name becomes the title if the source has none.
    module : str
        The program's network module, such as "networks.boft".
    dims : iterable of int
        The module's dimension for each layer.
    alpha : float
    options : dict
        The other arguments of the module.
    base : str, optional
        The version of the base model, as sd-scripts names it.
    pretrained : str, optional
        The name of the base model.
    source : dict, optional
        The metadata of the file that is converted.

    Examples
    --------
    >>> found = metadata_for(
    ...     Path("hat.safetensors"), "networks.oft", [4, 4], alpha=1.0, options={}, base="sd_v1"
    ... )
    >>> found["ss_network_module"], found["ss_network_dim"], found["modelspec.title"]
    ('networks.oft', '4', 'hat')
    """
    kept = {
        key: value
        for key, value in (source or {}).items()
        if key.startswith(_KEPT) and not key.startswith(_REPLACED)
    }
    sizes = set(dims)
    made = {
        MODULE: module,
        "ss_network_dim": str(next(iter(sizes))) if len(sizes) == 1 else "Dynamic",
        "ss_network_alpha": f"{alpha:g}",
        "ss_network_args": json.dumps(dict(options)),
    }
    defaults = {}
    if pretrained:
        defaults["ss_sd_model_name"] = Path(pretrained).name
    if base is not None:
        defaults |= {"ss_base_model_version": base, "ss_v2": str(base == "sd_v2")}
    if base in _SPECIFIED:
        architecture, implementation, resolution = _SPECIFIED[base]
        defaults |= {
            f"{_MODELSPEC}sai_model_spec": "1.0.1",
            f"{_MODELSPEC}title": path.stem,
            f"{_MODELSPEC}architecture": f"{architecture}/lora",  # for adapters of any kind
            f"{_MODELSPEC}implementation": implementation,
            f"{_MODELSPEC}resolution": resolution,
        }
    return defaults | kept | made
