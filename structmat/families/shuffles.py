"""Networks whose wires are dealt out between stages: shuffles and their kin."""

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
