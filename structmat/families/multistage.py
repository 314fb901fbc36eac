"""Multistage interconnection networks: block stages with wiring between them."""

from __future__ import annotations

from structmat import permutation
from structmat.families.arithmetic import ceil_log, not_power_of_two
from structmat.families.registry import Claims, family
from structmat.network import Network
from structmat.stage import Bank, Stage


def _benes_claims(width: int) -> Claims:
    n = ceil_log(width, 2)
    return Claims(2 * n - 1, (2 * n - 1) * width // 2, dense_at=n)


@family("2^n", not_power_of_two, claims=_benes_claims)
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
