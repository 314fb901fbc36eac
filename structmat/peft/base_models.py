"""Fingerprints of base weights in a configuration, and their comparison with a model."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from structmat.adapters import base_check
from structmat.adapters.base_fingerprint import read_fingerprints
from structmat.adapters.distributed import plain_name
from structmat.errors import BaseModelWarning
from structmat.peft.config import StructmatConfig
from structmat.peft.layer import StructmatLayer


def take_fingerprints(model: nn.Module, config: StructmatConfig, adapter: str) -> None:
    """Store fingerprints of the base weights of an adapter's layers in its configuration.

    Fingerprints of weights that have been sharded since remain as they were: PEFT saves in one
    process only, so the weights cannot be gathered.
    """
    found = base_check.fingerprints(_layers(model, adapter))
    config.fingerprints |= {name: one.to_dict() for name, one in found.items()}


def check_fingerprints(model: Any, adapter: str) -> None:
    """Warn if the base weights differ from those in the configuration of a loaded adapter.

    The warning refers to the caller of the function that calls this one.
    """
    config = model.peft_config.get(adapter)
    if isinstance(config, StructmatConfig) and config.fingerprints:
        saved = read_fingerprints(config.fingerprints)
        message = base_check.mismatch(_layers(model, adapter), saved, adapter)
        if message is not None:
            warnings.warn(message, BaseModelWarning, stacklevel=3)


def _layers(model: nn.Module, adapter: str) -> dict[str, StructmatLayer]:
    """Return the layers that have an adapter, by their names in the base model."""
    return {
        plain_name(name).removeprefix("base_model.model."): layer
        for name, layer in model.named_modules()
        if isinstance(layer, StructmatLayer) and adapter in layer.structmat_power
    }
