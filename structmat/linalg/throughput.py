"""The throughput of types of machines, and the modelled time of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Rates:
    """Throughput of a type of machine; plans depend only on the ratios of these rates.

    Attributes
    ----------
    vectors : float
        Bytes per second of vectors read and written, by permutations or products.
    blocks : float
        Bytes per second of blocks read.
    flops : float
        Floating-point operations per second.
    launch : float
        Seconds to launch one operation.
    """

    vectors: float
    blocks: float
    flops: float
    launch: float


# Two server cores with AVX-512 and vectors in the L2 cache, running torch's operations or compiled
# kernels; and a recent data-centre GPU.
RATES: Mapping[str, Rates] = {
    "cpu": Rates(vectors=5e10, blocks=2e10, flops=3e11, launch=1.5e-5),
    "compiled": Rates(vectors=6e11, blocks=1e11, flops=3e11, launch=1e-6),
    "cuda": Rates(vectors=4e12, blocks=2e12, flops=5e13, launch=5e-6),
}


def modelled_seconds(
    width: int, depth: int, nonzeros: int, *, tokens: int, device: str = "cpu"
) -> float:
    """Return the modelled time for applying the stages of a network, one by one, in float32.

    Each stage is a permutation and a block product. The model counts the bytes of the vectors that
    both read and write, the floating-point operations, the bytes of the blocks, and a fixed time to
    launch an operation. It assumes that all stages have equally many non-zeros, and does not
    consider the fusion of stages; `structmat.nn.ops.cost_model` is more precise.

    Parameters
    ----------
    width, depth, nonzeros : int
        The sizes of the network.
    tokens : int
        The number of vectors.
    device : {"cpu", "compiled", "cuda"}
        The device, or the backend, whose rates are assumed.

    Examples
    --------
    >>> one, two = (modelled_seconds(768, depth, 768 * 16 * depth, tokens=64) for depth in (1, 2))
    >>> two == 2 * one
    True
    """
    rates = RATES[device]
    moved = 2 * tokens * width * FLOAT32 / rates.vectors
    work = 2 * tokens * nonzeros / rates.flops
    product = max(depth * moved, work) + nonzeros * FLOAT32 / rates.blocks
    return depth * (moved + 2 * rates.launch) + product
