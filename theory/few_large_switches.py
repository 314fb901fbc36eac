"""Perfect mixing at width pq takes at most (q − 1)·E(p) + M(p) + p·M(q) parameters.

Statement. Let M(d) be the fewest parameters of a network that mixes d wires perfectly (T9), and
E(k) the fewest of a network on at most 2k wires after which k wires carry equal averages of the
inputs. (1) M(pq) ≤ (q − 1)·E(p) + M(p) + p·M(q) for all p, q ≥ 2. (2) E(1) = 0, and E(k) ≤
r·E(⌈k/r⌉) + ⌈k/r⌉·r(r−1)/2 for r = 2, 3, if this takes at most 2k wires, as it does for r = 2
throughout; so E(k) ≤ (k'/2)·log₂ k', where k' is the smallest power of two with k' ≥ k. (3) At d =
p·2^a, for every p ≥ 2, 2×2 switches and a single switch of radix p mix perfectly, with at most
p(p−1)/2 + d·(log₂(2p) + a/2) parameters. By T9, a prime p must divide some radix, so the large
switch cannot be avoided.

At 13,696 = 2⁷·107 wires, (1) and (2) give 105,931 parameters, of which 5,671 belong to the only
switch of radix 107; the other switches have radix 2 and 3. T9 implies that at least 94,100
are needed.

Proof. (1) Let all pq wires be free. In each of q − 1 rounds, take as many of the free wires as the
network of E(p) needs, apply it, and allot the p wires that are averaged alike to p groups, one to
each. Before round i there are pq − (i−1)p ≥ 2p free wires, which is enough. Finally p wires are
free: mix them perfectly, and allot them as well. In each round the groups receive equal rows of W,
so the sums of their rows are equal. All rows together sum to (1, …, 1), because W is doubly
stochastic, so the rows of each group sum to (1/p, …, 1/p). Now mix each group perfectly: each row
becomes the mean of the q rows of its group, with entries 1/(pq). (2) On each of r disjoint sets of
wires, average ⌈k/r⌉ wires alike. Then ⌈k/r⌉ switches of radix r, each on one of these wires of
every set, give all of them the mean of r rows, the same for all. With r = 2 throughout there are k'
< 2k wires and at most (k'/2)·log₂ k' switches. (3) Use (1) with q = 2^a, E(p) ≤ p·log₂(2p), a
single switch for M(p), and butterflies for M(q).

Source: derived here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from math import log2

import structmat as sm
from structmat.families.number_theory import divisors
from theory._tools import packed
from theory.perfect_mixing import mixes

NUMBER = "T49"
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

    By default, the number of groups p is the one with the fewest parameters.
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
    """Multiply the averages in rational arithmetic, and count the parameters."""
    widths = [*range(2, 25), 30, 35, 54]
    for width in widths:
        net = mixer(width)
        assert mixes(net), width
        assert net.parameters == parameters(width)[0], width
    for k in range(1, 200):
        power = 1 << (k - 1).bit_length()
        assert alike(k)[0] <= alike(k, 2)[0] <= power * log2(power) / 2, k
    for p in (3, 5, 6, 7, 11, 13):
        for a in (1, 2, 3):
            width = p << a
            net = mixer(width, 2, p)
            assert sm.mixing(net) < 1e-12, width
            assert net.parameters <= p * (p - 1) / 2 + width * (log2(2 * p) + a / 2), width
            if p != 6:
                assert [(b.radix, b.count) for b in net.banks if b.radix > 2] == [(p, 1)], width
    assert parameters(13696)[0] == 105931
    return f"networks of up to {max(widths)} wires exactly"


def thorough() -> str:
    """Measure the mixing of the network on 13,696 wires."""
    net = mixer(13696)
    radices = Counter({bank.radix: 0 for bank in net.banks})
    for bank in net.banks:
        radices[bank.radix] += bank.count
    assert set(radices) == {2, 3, 107}
    assert radices[107] == 1
    assert net.parameters == 105931
    assert sm.mixing(net) < 1e-9
    return f"13,696 wires, {net.parameters:,} parameters in {net.depth} stages"
