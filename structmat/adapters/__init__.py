"""Adapters: train, merge, save and load rotations of frozen layers."""

from typing import TYPE_CHECKING, Any

from structmat.adapters.adapted_layer import AdaptedLayer
from structmat.adapters.checkpoint import load_adapter, save_adapter
from structmat.adapters.interpolation import Kept, keep_stages, path
from structmat.adapters.model import adapt, adapters, merge, unmerge
from structmat.adapters.remerging.remerge import Remerge
from structmat.adapters.remerging.topology_rounds import (
    butterfly_rounds,
    pair_rounds,
    random_rounds,
    stage_rounds,
)
from structmat.adapters.rotated_layers import (
    RotatedLinear,
    rotate_activations,
    rotations,
    unrotate,
)

__all__ = [
    "AdaptedLayer",
    "Kept",
    "Remerge",
    "RotatedLinear",
    "adapt",
    "adapters",
    "butterfly_rounds",
    "keep_stages",
    "load_adapter",
    "merge",
    "pair_rounds",
    "path",
    "random_rounds",
    "rotate_activations",
    "rotations",
    "save_adapter",
    "stage_rounds",
    "unmerge",
    "unrotate",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "audit":  # lazily, because structmat.audit imports this package
            from structmat.audit import audit

            return audit
        raise AttributeError(f"module 'structmat.adapters' has no attribute {name!r}")
