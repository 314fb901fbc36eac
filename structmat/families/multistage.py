"""Multistage interconnection networks: block stages with wiring between them."""

from __future__ import annotations

import numpy as np

from structmat import permutation
from structmat.errors import whole
from structmat.families.arithmetic import ceil_log
from structmat.families.registry import Claims, family
from structmat.network import Network
from structmat.stage import Bank, Stage


def _shuffle_refuses(width: int, block: int, depth: int | None) -> str | None:
    size = whole(block, "block", 2)
    if depth is not None:
        whole(depth, "depth", 1)
    return None if width % size == 0 else f"width must be a multiple of {size}"


def _shuffle_depth(width: int, block: int, depth: int | None) -> int:
    return max(1, ceil_log(width, block)) if depth is None else depth


def _shuffle_claims(width: int, block: int, depth: int | None) -> Claims:
    stages, least = _shuffle_depth(width, block, depth), ceil_log(width, block)
    dense = stages >= least
    parameters = stages * width * (block - 1) // 2
    return Claims(stages, parameters, dense=dense, dense_at=least if dense else None)


@family("multiples of block", _shuffle_refuses, claims=_shuffle_claims)
def shuffle(width: int, block: int, depth: int | None = None) -> Network:
    """Blocks of b, then a perfect shuffle of all wires, again and again: GSOFT, straightened.

    Dense at depth ⌈log_b d⌉, the least that any network with blocks of b can have; the block
    butterfly needs 1 + log₂(d/b). Parameters m·d(b−1)/2. The shuffle sends wire i to
    (i mod r)·b + ⌊i/r⌋ with r = d/b; the network returned has it folded into its switches.

    Parameters
    ----------
    width : int
        A multiple of `block`.
    block : int
        Wires in each switch, at least 2.
    depth : int, optional
        The number of stages m; by default the smallest that is dense.

    Raises
    ------
    WidthError
        For any other width.

    References
    ----------
    Gorbunov et al., Group and Shuffle: Efficient Structured Orthogonal Parametrization,
    NeurIPS 2024, arXiv 2406.10019.

    Examples
    --------
    >>> shuffle(384, block=8)
    Network(width=384, depth=3, parameters=4032)
    """
    size = int(block)
    to = permutation.perfect_shuffle(width, size)
    carried = permutation.identity(width)
    stages = []
    for _ in range(_shuffle_depth(width, size, depth)):
        stages.append(Stage(width, [Bank(carried.reshape(-1, size))]))
        after = np.empty_like(carried)
        after[to] = carried
        carried = after
    return Network(width, stages)


def _power_of_two(width: int) -> str | None:
    return None if width > 1 and width & (width - 1) == 0 else "width must be 2^n, n at least 1"


def _benes_claims(width: int) -> Claims:
    n = ceil_log(width, 2)
    return Claims(2 * n - 1, (2 * n - 1) * width // 2, dense_at=n)


@family("2^n", _power_of_two, claims=_benes_claims)
def benes(width: int) -> Network:
    """Route every permutation of 2^n wires by 2n−1 stages of 2×2 switches: the Beneš network.

    The baseline network and its mirror image, sharing the middle stage, wired as in the
    literature: each switch of the first stage sends one wire to the upper half network and one
    to the lower. It is dense from stage n on. Parameters (2n−1)·d/2. Identity blocks make it
    the identity.

    Parameters
    ----------
    width : int
        2^n, n at least 1.

    Raises
    ------
    WidthError
        For any other width.

    References
    ----------
    V. Beneš, Mathematical Theory of Connecting Networks and Telephone Traffic, 1965.

    Examples
    --------
    >>> benes(8)
    Network(width=8, depth=5, parameters=20)
    >>> benes(8).is_straight, benes(8).straightened().outputs.tolist()
    (False, [0, 1, 2, 3, 4, 5, 6, 7])
    """
    wires = permutation.identity(width)
    entering = []
    size = width
    while size > 2:
        reads = wires.reshape(-1, 2)
        writes = wires.reshape(-1, 2, size // 2).transpose(0, 2, 1).reshape(-1, 2)
        entering.append(Stage(width, [Bank(reads, writes)]))
        size //= 2
    middle = Stage(width, [Bank(wires.reshape(-1, 2))])
    leaving = [stage.inverse() for stage in reversed(entering)]
    return Network(width, [*entering, middle, *leaving])
