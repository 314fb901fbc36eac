"""Adapters that diffusers saves in one file, with PEFT's configuration as metadata.

`save_lora_adapter` of a model and `save_lora_weights` of a pipeline write any PEFT method to
`pytorch_lora_weights.safetensors`. The metadata "lora_adapter_metadata" is PEFT's configuration as
JSON; for a pipeline, both its keys and the names of tensors begin with that of the component.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from structmat._util.files import parse_json, write_json
from structmat.convert.common_form import Adaptation
from structmat.convert.image_programs import adapter_file
from structmat.convert.peft_methods import peft_files
from structmat.convert.tensor_files import Weights, metadata_of, write_tensors
from structmat.errors import FileError

KEY = "lora_adapter_metadata"
_PIPELINE = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")


def has_configuration(path: Path) -> bool:
    """Return whether a file contains PEFT's configuration."""
    return KEY in metadata_of(path)


def read(
    path: Path,
    weights: Weights | None = None,
    *,
    methods: Mapping[str, Any],
    component: str | None = None,
) -> Adaptation:
    """Read a file of diffusers.

    Parameters
    ----------
    methods : dict of PEFT's method → function that reads PEFT's directory
    component : str, optional
        The model to convert, if the file adapts several.

    Raises
    ------
    FileError
        If the configuration is invalid, or the method or its tensors are not supported.
    """
    file = adapter_file.read(path, (".*",), component=component)
    config = _configuration(path, file.metadata[KEY], file.component)
    method = str(config.get("peft_type"))
    if method not in methods:
        raise FileError(
            f"{path}: PEFT's {method} is not supported; supported methods are {', '.join(methods)}"
        )
    tensors = {
        f"{name}.{part}": value
        for name, parts in file.layers.items()
        for part, value in parts.items()
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        write_json(Path(folder) / peft_files.CONFIG, config)
        write_tensors(Path(folder) / peft_files.TENSORS, tensors, {})
        try:
            found: Adaptation = methods[method](Path(folder), weights)
        except FileError as error:  # names the file, not its copy
            copy = str(Path(folder) / peft_files.TENSORS)
            raise FileError(
                str(error).replace(copy, str(path)).replace(folder, str(path))
            ) from None
    return replace(
        found,
        notes=[*file.notes, *found.notes],
        metadata={key: value for key, value in file.metadata.items() if key != KEY},
        component=file.component,
    )


def _configuration(path: Path, text: str, component: str | None) -> dict[str, Any]:
    """Return PEFT's configuration of a model, or of one component of a pipeline.

    Raises
    ------
    FileError
        If the text is not a JSON object with a configuration.
    """
    config = parse_json(text.encode(), path)
    if isinstance(config, dict) and "peft_type" in config:
        return config
    names = [component, "transformer"] if component == "unet" else [component]
    for name in names if component is not None else _PIPELINE:
        start = f"{name}."
        own = {
            key.removeprefix(start): value
            for key, value in (config.items() if isinstance(config, dict) else ())
            if key.startswith(start)
        }
        if "peft_type" in own:
            return own
    raise FileError(f"{path}: its metadata {KEY} has no peft_type; save the adapter with PEFT")
