"""Networks whose switches join wires at a fixed stride: one digit of the wire number per stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from structmat.errors import StructmatError, abbreviated, checked_integer, is_sequence
from structmat.families.number_theory import below_two, not_composite, prime_factors
from structmat.families.registry import Claims, family
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Bank, Stage


def digit_bank(width: int, radix: int, stride: int) -> Bank:
    """Return the bank of switches that join `radix` wires at distance `stride`.

    Examples
    --------
    >>> digit_bank(8, 2, 2).reads.tolist()
    [[0, 2], [1, 3], [4, 6], [5, 7]]
    """
    wires: Index = np.arange(width, dtype=np.int64).reshape(-1, radix, stride)
    return Bank(wires.transpose(0, 2, 1).reshape(-1, radix))


def _block_refuses(width: int, block: int) -> str | None:
    size = checked_integer(block, "block", 2)
    return None if width % size == 0 else f"width must be a multiple of {size}"


def _block_claims(width: int, block: int) -> Claims:
    alone = width == block
    return Claims(1, width * (block - 1) // 2, dense=alone, dense_at=1 if alone else None)


@family("multiples of block", _block_refuses, claims=_block_claims)
def block_diagonal(width: int, block: int) -> Network:
    """Rotate blocks of b neighbouring wires independently: OFT.

    The network has d(b−1)/2 parameters at width d and block b, and is dense only if b = d. It is
    BOFT(1, b) in the notation of the BOFT paper (arXiv 2311.06243).

    Parameters
    ----------
    width : int
        A multiple of `block`.
    block : int
        Wires per switch, at least 2.

    Raises
    ------
    WidthError
        For any other width.

    Examples
    --------
    >>> block_diagonal(768, 16)
    Network(width=768, depth=1, parameters=5760)
    """
    return Network(width, [Stage(width, [digit_bank(width, int(block), 1)])])


def _butterfly_refuses(width: int, block: int, depth: int | None) -> str | None:
    size = checked_integer(block, "block", 2)
    if size % 2:
        raise StructmatError(f"block={size}: a butterfly pairs half-blocks, so block must be even")
    bundles = 2 * width // size
    if depth is None:
        if width % size or bundles & (bundles - 1):
            return f"width must be {size}·2^k to be dense"
        return None
    doublings = checked_integer(depth, "depth", 1) - 1
    if doublings > 64:  # exceeds any memory, and is too long to print
        return f"width must be a multiple of {size}·2^{doublings}, block·2^(depth−1)"
    if width % (size << doublings):
        return f"width must be a multiple of {size << doublings}, block·2^(depth−1)"
    return None


def _butterfly_depth(width: int, block: int, depth: int | None) -> int:
    return (2 * width // block).bit_length() - 1 if depth is None else depth


def _butterfly_claims(width: int, block: int, depth: int | None) -> Claims:
    stages = _butterfly_depth(width, block, depth)
    dense = width == block << (stages - 1)
    parameters = stages * width * (block - 1) // 2
    return Claims(stages, parameters, dense=dense, dense_at=stages if dense else None)


@family("block·2^k; multiples of block·2^(depth−1)", _butterfly_refuses, claims=_butterfly_claims)
def butterfly(width: int, block: int = 2, depth: int | None = None) -> Network:
    """Pair half-blocks at distance 2^i in stage i: the block butterfly of the BOFT paper.

    BOFT(m, b) is `butterfly(d, block=b, depth=m)`. It has m·d(b−1)/2 parameters, and is dense if
    and only if d = b·2^(m−1). With `block=2` it is the radix-2 butterfly, the graph of the FFT.

    Parameters
    ----------
    width : int
        A multiple of block·2^(depth−1).
    block : int
        Wires per switch, even.
    depth : int, optional
        The number of stages m; by default the smallest at which the network is dense.

    Raises
    ------
    WidthError
        For any other width; StructmatError for an odd block.

    References
    ----------
    Liu et al., Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization, ICLR 2024,
    arXiv 2311.06243.

    Examples
    --------
    >>> butterfly(64, block=8, depth=4)
    Network(width=64, depth=4, parameters=896)
    >>> butterfly(48, block=4)
    Traceback (most recent call last):
    ...
    structmat.errors.WidthError: butterfly(width=48, block=4): width must be 4·2^k to be dense; \
nearest are 32 and 64. mixed_radix(48) serves any width
    """
    half = int(block) // 2
    bundles = width // half
    stages = range(_butterfly_depth(width, int(block), depth))
    pairs = Network(bundles, [Stage(bundles, [digit_bank(bundles, 2, 1 << i)]) for i in stages])
    return pairs.dilate(half)


def _merged(factors: list[int], largest: int) -> list[int]:
    """Multiply neighbouring factors as long as the product is at most `largest`."""
    radices: list[int] = []
    for factor in factors:
        if radices and radices[-1] * factor <= largest:
            radices[-1] *= factor
        else:
            radices.append(factor)
    return radices


def radices_refuse(
    width: int, radices: Sequence[int] | None, largest: int | None, *, reverse: bool
) -> str | None:
    """Return the rule that a width violates for these radices or this bound, or None.

    Examples
    --------
    >>> radices_refuse(8, (2, 3), largest=None, reverse=False)
    "the radices' product 6 must be the width"
    """
    if not isinstance(reverse, bool | np.bool_):
        raise StructmatError(f"reverse={abbreviated(reverse)}: reverse must be True or False")
    if radices is not None and largest is not None:
        raise StructmatError(f"radices={abbreviated(radices)}, largest={largest}: give one of them")
    if largest is not None:
        checked_integer(largest, "largest", 2)
    if radices is None:
        return below_two(width)
    if not is_sequence(radices):
        raise StructmatError(
            f"radices={abbreviated(radices)}: radices must be a sequence such as (2, 3)"
        )
    product = math.prod(checked_integer(radix, "radix", 2) for radix in radices)
    return (
        None
        if product == width
        else f"the radices' product {abbreviated(product)} must be the width"
    )


def _radices(width: int, radices: Sequence[int] | None, largest: int | None) -> list[int]:
    if radices is not None:
        return [int(radix) for radix in radices]
    return prime_factors(width) if largest is None else _merged(prime_factors(width), largest)


def _radices_claims(
    width: int, radices: Sequence[int] | None, largest: int | None, *, reverse: bool
) -> Claims:
    sizes = _radices(width, radices, largest)
    return Claims(
        depth=len(sizes),
        parameters=width * sum(r - 1 for r in sizes) // 2,
        dense_at=len(sizes),
        like=f"mixed_radix(radices={tuple(sizes[::-1] if reverse else sizes)})",
    )


@family("any from 2 on; the product of the radices", radices_refuse, claims=_radices_claims)
def mixed_radix(
    width: int,
    radices: Sequence[int] | None = None,
    largest: int | None = None,
    *,
    reverse: bool = False,
) -> Network:
    """Join the wires that differ in one mixed-radix digit, one digit per stage.

    Stage t has switches of radix r_t at stride r_0·…·r_{t−1}. The network is dense, with one stage
    per radix and (d/2)·Σ(r_t − 1) parameters, none of them redundant. Every width from 2 on is
    accepted; at a prime width the network is a single switch that joins all wires.

    Parameters
    ----------
    width : int
        At least 2.
    radices : sequence of int, optional
        Radices whose product is the width; by default the prime factors, smallest first.
    largest : int, optional
        An alternative to `radices`: neighbouring prime factors are multiplied into radices up to
        this size. Larger prime factors are kept.
    reverse : bool
        Whether to start from the last digit. The result is the transposed network, which for radix
        2 is the reverse butterfly.

    Raises
    ------
    WidthError
        If the product of the radices is not the width.

    Examples
    --------
    >>> mixed_radix(384)
    Network(width=384, depth=8, parameters=1728)
    >>> [stage.banks[0].radix for stage in mixed_radix(384, largest=4)]
    [4, 4, 4, 2, 3]
    """
    stages = []
    stride = 1
    for radix in _radices(width, radices, largest):
        stages.append(Stage(width, [digit_bank(width, radix, stride)]))
        stride *= radix
    return Network(width, reversed(stages) if reverse else stages)


def _monarch_refuses(width: int, radices: Sequence[int] | None) -> str | None:
    if radices is None:
        return not_composite(width)
    rule = radices_refuse(width, radices, largest=None, reverse=False)
    if len(radices) != 2:
        raise StructmatError(
            f"radices={abbreviated(tuple(radices))}: a Monarch network has two radices"
        )
    return rule


def balanced(width: int, radices: Sequence[int] | None) -> tuple[int, int]:
    """Return the given two radices, or the most balanced ones, the smaller first.

    Examples
    --------
    >>> balanced(384, None)
    (16, 24)
    """
    if radices is not None:
        return int(radices[0]), int(radices[1])
    small = next(p for p in range(math.isqrt(width), 1, -1) if width % p == 0)
    return small, width // small


def _monarch_claims(width: int, radices: Sequence[int] | None) -> Claims:
    p, q = balanced(width, radices)
    return Claims(2, width * (p + q - 2) // 2, dense_at=2, like=f"mixed_radix(radices=({p}, {q}))")


@family("products p·q", _monarch_refuses, claims=_monarch_claims)
def monarch(width: int, radices: Sequence[int] | None = None) -> Network:
    """Join blocks of p adjacent wires, then of q wires at stride p, with p·q = d: Monarch.

    The network is dense at depth 2, and has d(p+q−2)/2 parameters, none of them redundant.

    Parameters
    ----------
    width : int
        A product of two factors above 1.
    radices : (p, q), optional
        By default the most balanced pair, the smaller first.

    Raises
    ------
    WidthError
        For a prime width, or if p·q is not the width.

    References
    ----------
    Dao et al., Monarch: Expressive Structured Matrices, ICML 2022, arXiv 2204.00595.

    Examples
    --------
    >>> [stage.banks[0].radix for stage in monarch(384)]
    [16, 24]
    """
    return mixed_radix(width, balanced(width, radices))
