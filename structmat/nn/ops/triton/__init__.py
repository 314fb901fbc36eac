"""R x and its gradients in Triton: every vector is read once and written once, at any depth.

`structmat.nn.ops.reference` goes over the vectors once for each stage; here a program takes a tile
of vectors through all stages, in memory that the cache holds. The same matrices, to rounding, and
the same gradients; where this cannot run, `rotate` does.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache

import torch

from structmat.networks.network import Network
from structmat.nn.ops.triton import index_tables
from structmat.nn.ops.triton.device_tables import Program, program
from structmat.nn.ops.triton.launch import DTYPES, Config, backward, configured, forward

__all__ = [
    "DTYPES",
    "Config",
    "Program",
    "available",
    "backward",
    "configured",
    "forward",
    "program",
    "supports",
]


def available(device: torch.device | str) -> bool:
    """Return whether the kernels can run on a device: with Triton, on an NVIDIA one.

    With TRITON_INTERPRET=1 in the environment, Triton's interpreter runs them on the CPU, slowly:
    for tests.

    Examples
    --------
    >>> available("meta")
    False
    """
    place = torch.device(device)
    if place.type == "cpu":
        return os.environ.get("TRITON_INTERPRET") == "1" and _has_triton()
    if place.type != "cuda" or torch.version.cuda is None or not torch.cuda.is_available():
        return False
    capable = torch.cuda.get_device_capability(place) >= (8, 0)  # bfloat16 in tensor cores
    return capable and _has_triton()


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def supports(net: Network, dtype: torch.dtype) -> bool:
    """Return whether the kernels take a network and vectors of a dtype.

    They take float32, bfloat16 and float16, and switches of up to 64 wires.

    Examples
    --------
    >>> from structmat.families import monarch
    >>> supports(monarch(4096), torch.bfloat16), supports(monarch(4096), torch.float64)
    (True, False)
    """
    widest = max((bank.radix for bank in net.banks), default=0)
    return dtype in DTYPES and widest <= index_tables.LARGEST
