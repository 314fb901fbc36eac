"""Mixed radix never mixes perfectly with the fewest parameters at composite d with a prime p ≥ 5.

Statement. Let M(d) be the fewest parameters of a network that mixes d wires perfectly (T9), and
E(k) the fewest of a network on at most 2k wires after which k wires carry equal averages of the
inputs. (1) M(pq) ≤ (q − 1)·E(p) + M(p) + p·M(q) for all p, q ≥ 2. (2) E(k) ≤ r·E(⌈k/r⌉) +
⌈k/r⌉·r(r−1)/2 for r = 2, 3, with E(1) = 0, if this takes at most 2k wires, as it does for r = 2
throughout; so E(k) ≤ (k')/2·log₂ k', where k' is the smallest power of two with k' ≥ k. (3) Mixed
radix, with its (d/2)·Σ(r_t − 1) parameters, therefore never has the fewest parameters at composite
widths d with a prime factor p ≥ 5. (4) At d = p·2^a, a network of 2×2 switches and a single switch
of radix p mixes perfectly, with at most p(p−1)/2 + d·log₂(2p) + (d/2)·a parameters.

From (1) and (2), 10 wires take at most 24 parameters (mixed radix 25), 14 take 40 (49), 1,000 take
5,275 (7,500), 1,032 take 6,703 (24,252), and 13,696 = 2⁷·107 take 105,931 (773,824); the lower
bounds of T49 are 21, 38, 4,996, 5,953 and 99,412. If d has no prime factor above 3, (1) and (2) are
seldom better than mixed radix, first at 54 (184 against 189). Whether fewer parameters than those
of mixed radix suffice at 9, 12 or 24 is open: the lower bounds are 16, 23 and 56, and mixed radix
has 18, 24 and 60.

Proof. (1) Let all pq wires be free. In each of q − 1 rounds, take as many of the free wires as the
network of E(p) needs, apply it, and allot the p wires that are averaged alike to p groups, one to
each. Before round i there are pq − (i−1)p ≥ 2p free wires, which is enough. Finally p wires are
free: mix them, and allot them as well. In each round the groups receive equal rows of W, so the
sums of their rows are equal; all rows sum to (1, …, 1), because W is doubly stochastic, so the rows
of each group sum to (1/p, …, 1/p). Now mix each group perfectly: each row becomes the mean of the q
rows of its group, 1/(pq) everywhere. (2) On each of r disjoint sets of wires, average ⌈k/r⌉ wires
alike; then join one of these of each set, ⌈k/r⌉ times. All joined wires have the mean of the r
rows. With r = 2 throughout there are k' < 2k wires. (3) By (1), with q = d/p and mixed radix on p
and q wires, it suffices that E(p) < p(p−1)/2, since mixed radix satisfies (1) with p(p−1)/2 in
place of E(p). For p = 5, join six wires in pairs and one wire of each pair in a switch of radix 3,
and the others too: E(5) ≤ 9 < 10. For p = 7, E(7) ≤ 12 < 21. For p ≥ 11, k' ≤ 2p − 2, so E(p) ≤ (p
− 1)·log₂(2p − 2), which is less than p(p−1)/2 because log₂(2p − 2) < p/2. (4) Use (1) with E(p) ≤
p·log₂(2p), a switch of radix p, and the butterfly on 2^a wires.

Source: derived here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import log2

import structmat as sm
from structmat.families.number_theory import divisors
from theory._tools import packed
from theory.mixing_parameters import least
from theory.perfect_mixing import mixes

NUMBER = "T50"
STATUS = "proved"

Switches = list[list[int]]


@cache
def alike(k: int, largest: int = 3) -> tuple[int, int, int]:
    """Return the bound on E(k) with radices up to `largest`, its wires, and its last radix."""
    if k == 1:
        return 0, 1, 1
    found = []
    for r in range(2, largest + 1):
        some = -(-k // r)
        parameters, wires, _ = alike(some, largest)
        if r * wires <= 2 * k:
            found.append((r * parameters + some * r * (r - 1) // 2, r * wires, r))
    return min(found)


@cache
def parameters(width: int, largest: int = 3) -> tuple[int, int]:
    """Return the bound on M(d), and the number of groups p, or d for a single switch."""
    found = [(width * (width - 1) // 2, width)]
    for p in divisors(width):
        if 1 < p < width:
            q = width // p
            some, last, each = alike(p, largest)[0], parameters(p, largest), parameters(q, largest)
            found.append(((q - 1) * some + last[0] + p * each[0], p))
    return min(found)


def mixer(width: int, largest: int = 3, groups: int = 0) -> sm.Network:
    """Return the network of parts (1) and (2), with each switch in the earliest stage possible.

    The number of groups p is that with the fewest parameters, if it is not given.
    """
    return packed(width, _mixed(range(width), largest, groups))


def _mixed(wires: Sequence[int], largest: int, p: int = 0) -> Switches:
    """Return the switches that mix these wires perfectly, in order."""
    p = p or parameters(len(wires), largest)[1]
    if p == len(wires):
        return [list(wires)] if p > 1 else []
    groups: list[list[int]] = [[] for _ in range(p)]
    free = list(wires)
    switches: Switches = []
    while free:
        if len(free) > p:
            made, chosen = _alike(free, p, largest)
        else:
            made, chosen = _mixed(free, largest), free
        switches += made
        for group, w in zip(groups, chosen, strict=True):
            group.append(w)
        used = {w for switch in made for w in switch}
        left = set(free) - set(chosen)
        free = [w for w in free if w in left - used] + [w for w in free if w in left & used]
    return switches + [switch for group in groups for switch in _mixed(group, largest)]


def _alike(wires: Sequence[int], k: int, largest: int) -> tuple[Switches, list[int]]:
    """Return switches on the first of these wires, and k wires that they average alike."""
    if k == 1:
        return [], [wires[0]]
    r = alike(k, largest)[2]
    some = -(-k // r)
    size = alike(some, largest)[1]
    parts = [_alike(wires[i * size :], some, largest) for i in range(r)]
    joined = [list(row) for row in zip(*(chosen for _, chosen in parts), strict=True)]
    switches = [switch for made, _ in parts for switch in made]
    return switches + joined, [w for row in joined for w in row][:k]


def check() -> str:
    """Multiply the averages in rational arithmetic; compare with mixed radix and the bound."""
    for width in [*range(2, 25), 30, 35, 54]:
        net = mixer(width)
        assert mixes(net), width
        assert net.parameters == parameters(width)[0], width
    for width in range(2, 513):
        factors = sm.mixed_radix(width)
        fewest = parameters(width)[0]
        primes = [bank.radix for bank in factors.banks]
        if max(primes) >= 5 and len(primes) > 1:
            assert fewest < factors.parameters, width
        elif width < 54:
            assert fewest == factors.parameters, width
        assert least(width) <= fewest <= factors.parameters, width
    for p in (3, 5, 7, 11, 13):
        for a in (1, 2, 3):
            width = p << a
            net = mixer(width, 2, p)
            assert [(b.radix, b.count) for b in net.banks if b.radix > 2] == [(p, 1)], width
            assert net.parameters <= p * (p - 1) / 2 + width * (log2(2 * p) + a / 2), width
            assert sm.mixing(net) < 1e-12, width
    known = {10: 24, 14: 40, 54: 184, 1000: 5275, 1032: 6703, 13696: 105931}
    for width, fewest in known.items():
        assert parameters(width)[0] == fewest, width
    return "networks of up to 56 wires exactly, bounds up to 512"


def thorough() -> str:
    """Measure the mixing of the network on 13,696 wires."""
    net = mixer(13696)
    assert sm.mixing(net) < 1e-9
    return f"13,696 wires, {net.parameters:,} parameters in {net.depth} stages"
