"""Permutations that are common at the ends of fast transforms, with names for messages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from structmat.families.number_theory import divisors, prime_factors
from structmat.networks.network import Network
from structmat.networks.permutation import Index, digit_reversal, identity, inverse, perfect_shuffle

_MOST_DIGITS = 5  # with more, only the reversal and the shuffles of the digits are included


def named_permutations(net: Network, *, shifts: bool = True) -> Iterator[tuple[str, Index]]:
    """Yield permutations p other than the identity, for use as `x[p]`, each once, with its name.

    They are digit reversals for the radices of the stages, in order and reversed, and for the prime
    factors of the width; the reversal; cyclic shifts; the order of Walsh functions by sign changes,
    and the Gray code; perfect shuffles; the even before the odd wires, the latter in ascending or
    in descending order; and other permutations of a few digits.

    Parameters
    ----------
    net : Network
        A straight network.
    shifts : bool
        Whether to include the cyclic shifts.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> [name for name, _ in named_permutations(butterfly(4))][:3]
    ['bit-reversed', 'in reverse order', 'shifted cyclically by 1']
    """
    seen = {identity(net.width).tobytes()}
    for name, p in _all(net, shifts=shifts):
        key = p.tobytes()
        if key not in seen:
            seen.add(key)
            yield name, p


def _all(net: Network, *, shifts: bool) -> Iterator[tuple[str, Index]]:
    width = net.width
    wires = identity(width)
    orders = _radices(net)
    for radices in orders:
        yield _reversed(radices), digit_reversal(radices)
    yield "in reverse order", wires[::-1].copy()
    for steps in range(1, width if shifts else 1):
        yield f"shifted cyclically by {steps}", (wires - steps) % width
    if width & (width - 1) == 0:
        gray = wires ^ wires >> 1
        reverse = digit_reversal([2] * (width.bit_length() - 1))
        yield "in sequency order", reverse[gray]
        yield "in inverse sequency order", inverse(reverse[gray])
        yield "in the order of the Gray code", gray
        yield "in the inverse order of the Gray code", inverse(gray)
    halves = np.concatenate([wires[::2], wires[1::2]])
    yield "with even ones first", halves
    folded = np.concatenate([wires[::2], wires[1::2][::-1]])
    yield "with even ones ascending, then odd ones descending", folded
    yield "with even ones ascending, interleaved with odd ones descending", inverse(folded)
    for block in divisors(width)[1:-1]:
        yield f"perfectly shuffled in blocks of {block}", inverse(perfect_shuffle(width, block))
    for radices in orders:
        if len(radices) <= _MOST_DIGITS:
            for axes in itertools.permutations(range(len(radices))):
                name = f"with the digits of radices {_listed(radices)} in the order {_listed(axes)}"
                yield name, wires.reshape(radices).transpose(axes).ravel()


def _radices(net: Network) -> list[tuple[int, ...]]:
    """Return the radices of the stages if their product is the width, and the prime factors."""
    kinds = [{bank.radix for bank in stage.banks} for stage in net.stages]
    radices = tuple(next(iter(kind)) for kind in kinds if len(kind) == 1)
    found = []
    if len(radices) == net.depth and math.prod(radices) == net.width:
        found = [radices, radices[::-1]]
    primes = tuple(prime_factors(net.width))
    return list(dict.fromkeys([*found, primes, primes[::-1]]))


def _reversed(radices: Sequence[int]) -> str:
    if set(radices) == {2}:
        return "bit-reversed"
    return f"digit-reversed for radices {_listed(radices)}"


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
