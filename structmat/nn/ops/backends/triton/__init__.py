"""R x and its gradients in Triton: each program moves tiles of vectors through all stages.

The reference implementation in `structmat.nn.ops.reference` passes over the vectors once per stage;
here, tiles stay in the cache if they fit, and R x then reads and writes each vector once in memory,
at any depth. Results and gradients are the same up to rounding. This is a backend
(`structmat.nn.ops.execution_plan`); if the kernels cannot run, `structmat.nn.ops.backends.tiled` is
used instead.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache

import torch

from structmat.networks.network import Network
from structmat.nn.ops.backends.triton import index_tables
from structmat.nn.ops.backends.triton.index_tables import prepared
from structmat.nn.ops.backends.triton.launch import DTYPES, Config, apply, configured, gradients

__all__ = [
    "FUSES_STAGES",
    "Config",
    "apply",
    "available",
    "configured",
    "gradients",
    "prepared",
    "supports",
]

FUSES_STAGES = False


def available(device: torch.device | str) -> bool:
    """Return whether the kernels can run on a device: a recent NVIDIA GPU, with Triton installed.

    The GPU must have compute capability 8.0 or higher. With TRITON_INTERPRET=1 in the environment,
    Triton's interpreter runs them on the CPU, which is slow and intended for tests.

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


def supports(net: Network, dtype: torch.dtype, blocks: torch.dtype = torch.float32) -> bool:
    """Return whether the kernels support a network and the dtypes of vectors and blocks.

    They support vectors in float32, bfloat16 and float16, blocks in float32, and switches of up to
    64 wires.

    Examples
    --------
    >>> from structmat.families import monarch
    >>> supports(monarch(4096), torch.bfloat16), supports(monarch(4096), torch.float64)
    (True, False)
    """
    if dtype not in DTYPES or blocks != torch.float32:
        return False
    return max((bank.radix for bank in net.banks), default=0) <= index_tables.LARGEST
