"""Refuted: mixed radix has the fewest parameters of all networks that mix perfectly.

Statement. Of all networks on d wires whose averages multiply to J/d, with any radices, mixed radix
with the prime factors of d, of (d/2)·Σ(p − 1) parameters, has the fewest.

Refutation. It does not at any composite width with a prime factor p ≥ 5, nor at 54. Mixed radix
satisfies (1) of T49 with equality if p(p−1)/2 takes the place of E(p), so with q = d/p it suffices
that E(p) < p(p−1)/2. For p = 5, join six wires in pairs, then one wire of each pair by a switch of
radix 3, and the others by another: E(5) ≤ 9 < 10. For p = 7, E(7) ≤ 12 < 21. For p ≥ 11, E(p) ≤ (p
− 1)·log₂(2p − 2), because k' ≤ 2p − 2 in (2) of T49, and this is less than p(p−1)/2 because log₂(2p
− 2) < p/2. At 54 = 27·2 wires, E(27) ≤ 76 < 81.

By T49, 10 wires take at most 24 parameters (mixed radix 25), 14 take 40 (49), 54 take 184 (189),
1,000 take 5,275 (7,500), and 1,032 take 6,703 (24,252). At powers of two the statement is true by
T9, and at primes, where only a single switch on all wires mixes perfectly; at 6, too: by T9 some
radix is 3 or 6, and since a switch of radix 3 adds at most 3·log₂ 3 < 4.76 bits for its 3
parameters, and no switch adds more than 2 bits per parameter, 8 parameters add less than the 6·log₂
6 > 15.5 bits needed. At 9, 12, 18 and 24 it is open: mixed radix has 18, 24, 45 and 60 parameters,
and at least 16, 23, 39 and 56 are needed (T56).

Source: derived here.
"""

from __future__ import annotations

import heapq
import itertools
from math import inf, log2

import numpy as np

import structmat as sm
from structmat.families.number_theory import prime_factors
from theory.few_large_switches import alike, mixer, parameters
from theory.perfect_mixing import entropy, mixes

NUMBER = "T50"
STATUS = "refuted"
TINY = 1e-9  # far above rounding errors, far below the differences that occur here


def fewest(width: int, most: int) -> float:
    """Return the fewest parameters of a network that mixes perfectly, or inf if above `most`.

    The search goes through all sequences of switches, cheapest first. A state is W up to the order
    of its rows and columns. It is abandoned if, by the proof of T9, the remaining parameters cannot
    add the entropy that is missing.
    """
    subsets = [
        list(wires)
        for r in range(2, width + 1)
        for wires in itertools.combinations(range(width), r)
    ]
    queue = [(0, 0, np.eye(width))]
    seen = set()
    for number in itertools.count(1):  # breaks ties, so that states are never compared
        if not queue:
            return inf
        cost, _, rows = heapq.heappop(queue)
        if np.abs(rows - 1 / width).max() < TINY:
            return cost
        for k, wires in enumerate(subsets):
            price = cost + len(wires) * (len(wires) - 1) // 2
            after = rows.copy()
            after[wires] = rows[wires].mean(axis=0)
            missing = width * log2(width) - entropy(after)
            if price + missing / 2 <= most + TINY:
                after = _ordered(after)
                key = (price, (after / TINY).round().tobytes())
                if key not in seen:
                    seen.add(key)
                    heapq.heappush(queue, (price, number * len(subsets) + k, after))
    raise AssertionError("unreachable")


def _ordered(rows: np.ndarray) -> np.ndarray:
    """Sort the columns by their sorted entries, and then the rows."""
    rows = rows[:, np.lexsort(np.sort(rows, axis=0).round(9))]
    return rows[np.lexsort(rows.T.round(9))]


def check() -> str:
    """Compare with mixed radix up to 512 wires; search for the fewest parameters on few wires."""
    better = 0
    for width in range(2, 513):
        primes = prime_factors(width)
        product, found = sm.mixed_radix(width).parameters, parameters(width)[0]
        assert product == width * sum(p - 1 for p in primes) // 2, width
        if primes[-1] >= 5 and len(primes) > 1:
            assert found < product, width
        elif width < 54:
            assert found == product, width
        better += found < product
    for prime in (5, 7, 11, 13, 107):
        assert alike(prime)[0] < prime * (prime - 1) // 2, prime
    known = {10: 24, 14: 40, 54: 184, 1000: 5275, 1032: 6703}
    for width, expected in known.items():
        assert parameters(width)[0] == expected, width
    assert mixes(mixer(54))
    for width, most in [(2, 3), (3, 4), (4, 6), (6, 8)]:
        product = sm.mixed_radix(width).parameters
        assert fewest(width, most) == (product if product <= most else inf), width
    return f"fewer parameters at {better} widths up to 512, none on up to 4 wires or on 6"
