"""Multistage interconnection networks: columns of switches with permutations between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from structmat.errors import checked_integer
from structmat.families.butterflies import balanced, radices_refuse
from structmat.families.number_theory import (
    below_two,
    ceil_log,
    is_power,
    not_composite,
    not_power_of_two,
)
from structmat.families.registry import Claims, family
from structmat.networks import permutation
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Bank, Stage


def _power_refuses(width: int, block: int) -> str | None:
    size = checked_integer(block, "block", 2)
    return None if is_power(width, size) else f"width must be {size}^n with n ≥ 1"


def _power_claims(width: int, block: int) -> Claims:
    n = ceil_log(width, block)
    like = "butterfly" if block == 2 else f"mixed_radix(radices={(int(block),) * n})"
    return Claims(n, n * width * (block - 1) // 2, dense_at=n, like=like)


@family("block^n", _power_refuses, claims=_power_claims)
def omega(width: int, block: int = 2) -> Network:
    """Alternate perfect shuffles with switches on neighbouring wires, n times: the omega network.

    As defined by Lawrie, the shuffle sends wire i to b·i mod d + ⌊b·i/d⌋, which rotates the base-b
    digits of i left by one, and each switch joins b neighbours. The n shuffles together are the
    identity, so identity blocks make the matrix the identity. There is exactly one path from each
    input to each output, so the network is dense only after all n stages, and cannot route most
    permutations (`structmat.route`). It has n·d(b−1)/2 parameters. It is the butterfly with its
    inputs and outputs relabelled.

    Parameters
    ----------
    width : int
        b^n with n ≥ 1.
    block : int
        Wires per switch, b.

    Raises
    ------
    WidthError
        For any other width.

    References
    ----------
    D. Lawrie, Access and Alignment of Data in an Array Processor, 1975.

    Examples
    --------
    >>> omega(8)
    Network(width=8, depth=3, parameters=12)
    >>> omega(8).stages[0].banks[0].reads.tolist()
    [[0, 4], [1, 5], [2, 6], [3, 7]]
    """
    size = int(block)
    wires = permutation.identity(width)
    before = permutation.inverse(permutation.perfect_shuffle(width, size))
    stage = Stage(width, [Bank(before.reshape(-1, size), wires.reshape(-1, size))])
    return Network(width, [stage] * ceil_log(width, size))


@family("block^n", _power_refuses, claims=_power_claims)
def baseline(width: int, block: int = 2) -> Network:
    """Split the wires recursively among b networks of width d/b: the baseline network.

    As defined by Wu and Feng, each switch joins b neighbours, and its k-th wire leads to the k-th
    of the smaller networks, which are single switches in the last stage. There is exactly one path
    from each input to each output, so the network is dense only after all n stages, and cannot
    route most permutations (`structmat.route`). It has n·d(b−1)/2 parameters. It is the butterfly
    with its inputs and outputs relabelled; with identity blocks it reverses the base-b digits of
    each wire number.

    Parameters
    ----------
    width : int
        b^n with n ≥ 1.
    block : int
        Wires per switch, b.

    Raises
    ------
    WidthError
        For any other width.

    References
    ----------
    C.-L. Wu and T.-Y. Feng, On a Class of Multistage Interconnection Networks, 1980.

    Examples
    --------
    >>> baseline(8)
    Network(width=8, depth=3, parameters=12)
    >>> baseline(8).straightened().outputs
    array([0, 4, 2, 6, 1, 5, 3, 7])
    """
    size = int(block)
    return Network(width, _dividing(width, [size] * ceil_log(width, size)))


def _dividing(width: int, radices: Sequence[int]) -> list[Stage]:
    """Return stages that distribute the wires of each switch among smaller networks.

    After the last stage the smaller networks have width 1 if the product of the radices is the
    width.
    """
    wires = permutation.identity(width)
    stages = []
    size = width
    for radix in radices:
        size //= radix
        writes = wires.reshape(-1, radix, size).transpose(0, 2, 1)
        stages.append(Stage(width, [Bank(wires.reshape(-1, radix), writes.reshape(-1, radix))]))
    return stages


def _benes_claims(width: int) -> Claims:
    n = ceil_log(width, 2)
    return Claims(2 * n - 1, (2 * n - 1) * width // 2, dense_at=n)


@family("2^n", not_power_of_two, claims=_benes_claims)
def benes(width: int) -> Network:
    """Route every permutation of 2^n wires by 2n−1 stages of 2×2 switches: the Beneš network.

    The network is the baseline network followed by its mirror image, with a common middle stage,
    wired as in the literature: each switch of the first stage sends one wire to the upper half-size
    network and one to the lower. It is dense from stage n on, and has (2n−1)·d/2 parameters. With
    identity blocks it is the identity. It equals `clos` with n radices of 2.

    Parameters
    ----------
    width : int
        2^n with n ≥ 1.

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
    return _mirrored(width, [2] * ceil_log(width, 2))


def _mirrored(width: int, radices: Sequence[int]) -> Network:
    """Return the recursive stages followed by their mirror image, with a common middle stage."""
    *entering, middle = _dividing(width, radices)
    leaving = [stage.inverse() for stage in reversed(entering)]
    return Network(width, [*entering, middle, *leaving])


def _clos_refuses(width: int, radices: Sequence[int] | None) -> str | None:
    if radices is None:
        return not_composite(width)
    rule = radices_refuse(width, radices, largest=None, reverse=False)
    return below_two(width) or rule


def _clos_radices(width: int, radices: Sequence[int] | None) -> tuple[int, ...]:
    return balanced(width, None) if radices is None else tuple(int(radix) for radix in radices)


def _clos_claims(width: int, radices: Sequence[int] | None) -> Claims:
    sizes = _clos_radices(width, radices)
    twice = 2 * sum(r - 1 for r in sizes) - (sizes[-1] - 1)
    return Claims(2 * len(sizes) - 1, width * twice // 2, dense_at=len(sizes))


@family("products of the radices", _clos_refuses, claims=_clos_claims)
def clos(width: int, radices: Sequence[int] | None = None) -> Network:
    """Route every permutation by switches of p, then of q = d/p, then of p: the Clos network.

    The network is C(p, p, q), wired as in the literature: the k-th wire of each of the q first
    switches leads to the k-th of the p middle switches, and the second half mirrors the first. With
    more than two radices the middle switches are themselves Clos networks, so k radices make 2k−1
    stages. The network is dense from stage k on. It has (d/2)·Σ(r_t − 1) parameters, summed over
    all stages; every radix but the last occurs in two stages. With identity blocks it is the
    identity.

    Parameters
    ----------
    width : int
        The product of the radices; by default any product of two factors above 1.
    radices : sequence of int, optional
        The radices of the first, second, … up to the middle stage; by default the most balanced
        pair, the smaller first.

    Raises
    ------
    WidthError
        For any other width.

    References
    ----------
    C. Clos, A Study of Non-Blocking Switching Networks, 1953. By a theorem of Slepian and Duguid
    every permutation can be routed, because a regular bipartite multigraph of degree p has an
    edge colouring with p colours (Kőnig).

    Examples
    --------
    >>> clos(384)
    Network(width=384, depth=3, parameters=10176)
    >>> clos(8, (2, 2, 2)) == benes(8)
    True
    """
    return _mirrored(width, _clos_radices(width, radices))


def _waksman_claims(width: int) -> Claims:
    n = ceil_log(width, 2)
    twos = (width & -width).bit_length() - 1
    return Claims(2 * n - 1, width * n - 2**n + 1, dense_at=max(n, 2 * n - 1 - twos))


@family("any from 2 on", below_two, claims=_waksman_claims)
def waksman(width: int) -> Network:
    """Route every permutation of any number of wires, with the fewest switches known.

    This is a Beneš network for any width: each switch of the first stage sends one wire to an upper
    network of ⌊d/2⌋ wires and one to a lower network of ⌈d/2⌉ wires. If the width is odd, the last
    wire goes directly to and from the lower network; if it is even, the last switch of the last
    stage is omitted. Smaller networks that have fewer stages are placed in the middle, so that the
    network is as symmetric as possible. With n = ⌈log₂ d⌉, the depth is 2n−1, and there are
    ⌈log₂ 1⌉ + … + ⌈log₂ d⌉ = d·n − 2^n + 1 parameters, one for each 2×2 switch. The network is
    dense from stage n on at width 2^n, and from stage 2n − 1 − k on at other widths, where 2^k is
    the largest power of two that divides the width. With identity blocks it is the identity.

    Parameters
    ----------
    width : int
        At least 2.

    Raises
    ------
    WidthError
        For width 1.

    References
    ----------
    A. Waksman, A Permutation Network, 1968; B. Beauquier and É. Darrot, On Arbitrary Size
    Waksman Networks and Their Vulnerability, 2002.

    Examples
    --------
    >>> waksman(8)
    Network(width=8, depth=5, parameters=17)
    >>> waksman(50257)
    Network(width=50257, depth=31, parameters=738577)
    """
    entering, leaving = [], []
    starts, sizes = np.zeros(1, dtype=np.int64), np.array([width])
    for depth in range(ceil_log(width, 2), 1, -1):
        deep = sizes > 2 ** (depth - 1)  # the others are placed in the middle
        entering.append(_halving(width, starts[deep], sizes[deep]))
        leaving.append(_halving(width, starts[deep], sizes[deep], spared=1).inverse())
        upper = np.where(deep, sizes // 2, 0)
        starts, sizes = np.concatenate([[starts, upper], [starts + upper, sizes - upper]], axis=1)
        starts, sizes = starts[sizes > 1], sizes[sizes > 1]
    pairs = np.sort(starts)[:, None] + np.arange(2)
    return Network(width, [*entering, Stage(width, [Bank(pairs)]), *reversed(leaving)])


def _halving(width: int, starts: Index, sizes: Index, *, spared: int = 0) -> Stage:
    """Return the stage that sends one wire of each switch to the upper half and one to the lower.

    The networks to halve begin at `starts`. With `spared`, the last switch of a network of even
    width is omitted, and its wires are passed through.
    """
    reads, writes, moves = [], [], []
    for size in np.unique(sizes).tolist():
        first = starts[sizes == size, None]
        half = size // 2
        switches = half - (spared if size % 2 == 0 else 0)
        upper = np.arange(half)
        pairs = np.stack([2 * upper, 2 * upper + 1], axis=1) + first[..., None]
        halves = np.stack([upper, upper + half], axis=1) + first[..., None]
        reads.append(pairs[:, :switches].reshape(-1, 2))
        writes.append(halves[:, :switches].reshape(-1, 2))
        moves.append(np.stack([pairs[:, switches:], halves[:, switches:]], axis=-1).reshape(-1, 2))
    read, written = np.concatenate(reads), np.concatenate(writes)
    order = np.argsort(read[:, 0])
    return Stage(width, [Bank(read[order], written[order])], np.concatenate(moves))
