"""Reading and writing PEFT's `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from structmat._util.files import write_bytes, write_json
from structmat._util.text_table import listed
from structmat.adapters.checkpoint import PEFT_SETTINGS
from structmat.adapters.distributed import plain_name
from structmat.adapters.saved_tensors import to_bytes
from structmat.convert.base_model import fingerprint_metadata
from structmat.convert.common_form import Adaptation, LayerRotation
from structmat.convert.tensor_files import floating, read_json, read_numbers
from structmat.errors import FileError

CONFIG, TENSORS = PEFT_SETTINGS, "adapter_model.safetensors"
_PREFIX = "base_model.model."
_BIAS, _WEIGHT = "base_layer.bias", "base_layer.weight"
_EMBEDDINGS = ("embed_tokens", "lm_head")  # the names by which PEFT recognises embeddings


@dataclass(frozen=True)
class PeftFiles:
    """The contents of PEFT's two files.

    Attributes
    ----------
    config : dict
    layers : dict of layer name → part → Tensor
        For example, {"0.query": {"boft_R": …, "boft_s": …}}.
    rest : dict of name → Tensor
        Other tensors, by their names in the model.
    """

    config: dict[str, Any]
    layers: dict[str, dict[str, Tensor]]
    rest: dict[str, Tensor]

    def adaptation(
        self, source: str, rotations: Mapping[str, LayerRotation], notes: list[str]
    ) -> Adaptation:
        """Return an `Adaptation` with these rotations, and all other tensors in the files."""
        rotations = {
            name: replace(
                rotation, bias=self.layers[name].get(_BIAS), base=self.layers[name].get(_WEIGHT)
            )
            for name, rotation in rotations.items()
        }
        saved = self.config.get("modules_to_save") or []
        trained = dict.fromkeys(
            found.group(1)
            for key in self.rest
            for name in saved
            if (found := re.match(rf"((?:.*\.)?{re.escape(name)})\.", key))
        )
        trained |= dict.fromkeys(_saved_embeddings(self.rest))
        pretrained = self.config.get("base_model_name_or_path")
        return Adaptation(
            source,
            rotations,
            self.rest,
            list(trained),
            notes=notes,
            pretrained=pretrained or None,
            task=self.config.get("task_type"),
        )


def read(folder: Path, parts: Sequence[str], *, named: str | None = None) -> PeftFiles:
    """Read both files, and group by layer the tensors whose names end in one of the parts.

    Parts are regular expressions; `named` describes them in error messages.

    Raises
    ------
    FileError
        If a file is missing or truncated, or no tensor's name ends in one of the parts.
    """
    config = read_json(folder / CONFIG)
    if not (folder / TENSORS).exists() and (folder / "adapter_model.bin").exists():
        raise FileError(f"{folder}: adapter_model.bin is a pickle; save it as safetensors first")
    tensors = read_numbers(folder / TENSORS)
    layers: dict[str, dict[str, Tensor]] = {}
    rest = {}
    for key, value in tensors.items():
        name = plain_name(key).removeprefix(_PREFIX)
        found = re.fullmatch(rf"(.*?)\.({'|'.join(parts)})", name)
        if found is None:
            rest[name] = value
        else:
            part = layers.setdefault(found.group(1), {})
            part[found.group(2)] = floating(f"{folder / TENSORS}: {key}", value)
    if not layers:
        raise FileError(
            f"{folder / TENSORS} has no {named or ' or '.join(parts)} tensors; it has"
            f" {listed(list(tensors), 2)}"
        )
    for name, own in layers.items():
        own |= {
            part: rest.pop(f"{name}.{part}")
            for part in (_BIAS, _WEIGHT)
            if f"{name}.{part}" in rest
        }
    return PeftFiles(config, layers, _once(rest))


def _once(rest: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by their names in the model, without PEFT's duplicates.

    `save_embedding_layers=True` saves an embedding in `modules_to_save` three times: under its own
    name, under the wrapper's name, and with its original values.
    """
    found = {}
    for key, value in rest.items():
        match = re.fullmatch(
            r"(?:(.*)\.)?(modules_to_save(?:\.default)?|original_module)\.(.+)", key
        )
        if match is None:
            found[key] = value
            continue
        head, wrapped, tail = match.groups()
        name = f"{head}.{tail}" if head else tail
        if name in rest or (
            wrapped == "original_module" and f"{head}.modules_to_save.{tail}" in rest
        ):
            continue
        found[key if wrapped == "original_module" else name] = value
    return found


def _saved_embeddings(rest: Mapping[str, Tensor]) -> list[str]:
    """Return the embedding modules that PEFT saved in full, such as those with added rows."""
    return [
        key.removesuffix(".weight")
        for key in rest
        if key.endswith(".weight") and key.split(".")[-2] in _EMBEDDINGS
    ]


def write(
    folder: Path,
    adaptation: Adaptation,
    config: Mapping[str, Any],
    layers: Mapping[str, Mapping[str, Tensor]],
    *,
    targets: Sequence[str] | str | None = None,
) -> None:
    """Write both files, including trained biases and fully trained modules.

    Raises
    ------
    FileError
        If there are running statistics, or the model is a single layer.
    """
    method = str(config["peft_type"])
    if adaptation.statistics:
        raise FileError(
            f"{adaptation.statistics[0]} has running statistics that training changed, and PEFT's"
            f" {method} cannot store them; convert to a merged model instead"
        )
    if "" in layers:
        raise FileError("the model is a single layer, but PEFT adapts layers within a model")
    biases = {
        f"{_PREFIX}{name}.{_BIAS}": rotation.bias
        for name, rotation in adaptation.rotations.items()
        if rotation.bias is not None
    }
    bases = {
        f"{_PREFIX}{name}.{_WEIGHT}": rotation.base
        for name, rotation in adaptation.rotations.items()
        if rotation.base is not None
    }
    tensors = {
        f"{_PREFIX}{name}.{part}": value
        for name, parts in layers.items()
        for part, value in parts.items()
    }
    tensors |= (
        biases | bases | {_PREFIX + name: value for name, value in adaptation.other_tensors.items()}
    )
    # The configuration of structmat's method has a field for fingerprints.
    metadata = {} if method == "STRUCTMAT" else fingerprint_metadata(adaptation.rotations)
    write_bytes(folder / TENSORS, to_bytes(tensors, metadata))
    settings = {
        "peft_type": method,
        "task_type": adaptation.task,
        "base_model_name_or_path": adaptation.pretrained,
        "inference_mode": True,
        "bias": f"{method.lower()}_only" if biases else "none",
        "modules_to_save": adaptation.trained or None,
        # A regular expression, since "0" in a list matches every layer whose name ends in .0
        "target_modules": targets or "|".join(re.escape(name) for name in layers),
    }
    write_json(folder / CONFIG, settings | dict(config))
