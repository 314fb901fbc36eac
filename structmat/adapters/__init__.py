"""Adapters: train, merge, save and load rotations of frozen layers."""

from structmat.adapters.checkpoint import load_adapter, save_adapter
from structmat.adapters.interpolation import Kept, keep_stages, path
from structmat.adapters.layouts import Adapter
from structmat.adapters.model import adapt, adapters, merge, unmerge

__all__ = [
    "Adapter",
    "Kept",
    "adapt",
    "adapters",
    "keep_stages",
    "load_adapter",
    "merge",
    "path",
    "save_adapter",
    "unmerge",
]
