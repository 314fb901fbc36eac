"""Random networks."""

from __future__ import annotations

import numpy as np

from structmat.errors import check_source, checked_integer, random_source
from structmat.families.registry import Claims, family
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage


def _random_refuses(width: int, block: int, depth: int, rng: object) -> str | None:
    size = checked_integer(block, "block", 2)
    checked_integer(depth, "depth", 1)
    check_source(rng)
    return None if width >= size else f"width must be at least {size}, the block"


def _random_claims(width: int, block: int, depth: int, rng: object) -> Claims:  # noqa: ARG001
    blocks, rest = divmod(width, block)
    return Claims(depth, depth * (blocks * block * (block - 1) + rest * (rest - 1)) // 2)


@family("any from block on", _random_refuses, claims=_random_claims)
def random(
    width: int, block: int, depth: int, rng: np.random.Generator | int | None = None
) -> Network:
    """Partition the wires into blocks of b, uniformly at random in each stage.

    If b does not divide the width, the remaining wires of each stage form one smaller switch; a
    single remaining wire is idle. If b divides d, a network of m stages has m·d(b−1)/2 parameters.
    The same seed always produces the same network; with a smaller depth, its first stages.

    Parameters
    ----------
    width : int
        At least `block`.
    block : int
        Wires per switch, at least 2.
    depth : int
        The number of stages.
    rng : Generator, int or None
        Seed or generator, as accepted by `numpy.random.default_rng`.

    Raises
    ------
    WidthError
        If the width is below the block.

    Examples
    --------
    >>> random(10, block=4, depth=2, rng=0)
    Network(width=10, depth=2, parameters=26)
    """
    source = random_source(rng)
    return Network(width, [random_stage(width, int(block), source) for _ in range(int(depth))])


def random_stage(width: int, block: int, rng: np.random.Generator) -> Stage:
    """Return a stage of blocks of b that partition the wires uniformly at random.

    The remaining wires form one smaller switch; a single remaining wire is idle.

    Examples
    --------
    >>> random_stage(5, 2, np.random.default_rng(0))
    Stage(width=5, 2×2)
    """
    wires = rng.permutation(width)
    whole_blocks = width // block * block
    rest = wires[whole_blocks:]
    banks = [Bank(wires[:whole_blocks].reshape(-1, block))]
    return Stage(width, [*banks, Bank(rest[None])] if len(rest) > 1 else banks)
