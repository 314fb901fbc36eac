"""Perfect mixing needs (d/2)·log₂ d + Σ v_p(d)·f(p) parameters, where f(p) = p(p − 1 − log₂ p)/2.

Statement. As in T9, let W be the product of the averages over the switches of each stage: the
expected squares of the entries of R for Haar blocks. Let v_p(n) be the exponent of the prime p in
n, and f(n) = n(n − 1 − log₂ n)/2, so f(2) = 0. If W is exactly J/d, then (1) for each prime p, the
sum of v_p(r) over the radices r of all switches is at least v_p(d). So the largest radix is at
least the largest prime factor of d, and 2×2 switches alone mix perfectly only if d is a power of
two, whatever their number. (2) With switches of at most b wires, and e_p the largest exponent with
p^e_p ≤ b, there are at least log_b d stages, and at least v_p(d)/e_p for each prime p. (3) There
are at least (d/2)·log₂ d + Σ v_p(d)·f(p) parameters, summed over the prime factors p of d. This is
attained at powers of two by the butterfly, at primes by a single switch, and, rounded up to 9, at
d = 6 by mixed radix; T50 gives networks near it at other widths.

All this concerns averages. With 2×2 blocks whose angles are chosen, energy can be spread exactly at
every width (T51).

Proof. (1) An entry of W is the sum over the paths of the product of 1/r over the switches on the
path, which meets no switch twice. If it is 1/d, one of these products is divisible by p^(−v_p(d))
or a higher power of 1/p, because a sum of fractions has no higher power of p in its denominator
than all its terms. (2) This path meets one switch in each stage, with v_p(r) ≤ e_p; and W has no
zeros, so every output depends on all d inputs, but on at most b^m after m stages. (3) Note that f
is r(r−1)/2 − (r/2)·log₂ r, the parameters of a switch less half of the largest increase of entropy
that the proof of T9 allows it. That proof says Σ r·log₂ r ≥ d·log₂ d, so the number of parameters
is at least (d/2)·log₂ d + Σ f(r). It remains to show Σ f(r) ≥ Σ_p v_p(d)·f(p), and by (1), since
f ≥ 0, it suffices that f(r) ≥ Σ_p v_p(r)·f(p), that is, by induction, f(ab) ≥ f(a) + f(b) for
2 ≤ a ≤ b. Let g(n) = n − 1 − log₂ n, which is 0 at 2 and increases from there. Then f(ab) =
(ab/2)·g(ab) ≥ b·g(b) ≥ (a/2)·g(a) + (b/2)·g(b).

Source: derived here.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from math import ceil, inf, log, log2

import numpy as np

import structmat as sm
from structmat.families.number_theory import prime_factors
from theory._tools import every_network
from theory.perfect_mixing import entropy, mixes

NUMBER = "T49"
STATUS = "proved"
TINY = 1e-9  # far above rounding errors, far below the differences that occur here


def exponents(n: int) -> Counter[int]:
    """Return the exponent of each prime factor of n."""
    return Counter(prime_factors(n))


def excess(n: int) -> float:
    """Return f(n)."""
    return n * (n - 1 - log2(n)) / 2


def least(width: int) -> int:
    """Return the lower bound of part (3), rounded up."""
    more = sum(k * excess(p) for p, k in exponents(width).items())
    return ceil(width * log2(width) / 2 + more - TINY)


def fewest(width: int, most: int) -> float:
    """Return the fewest parameters of a network that mixes perfectly, or inf if above `most`.

    The search goes through all sequences of switches, cheapest first. A state is W up to an order
    of its rows and columns. It is abandoned if more entropy is missing from it than the parameters
    that are left can add, by the proof of T9.
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
    """Search for the fewest parameters; check all parts on every network of few wires."""
    for width, most in [(2, 3), (3, 4), (4, 6), (6, 8)]:
        found = fewest(width, most)
        assert found == (least(width) if least(width) <= most else inf), (width, found)
    perfect = [
        net
        for width, depth in [(2, 2), (3, 3), (4, 2)]
        for net in every_network(width, depth)
        if mixes(net)
    ]
    for net in perfect:
        radices = Counter({bank.radix: 0 for bank in net.banks})
        for bank in net.banks:
            radices[bank.radix] += bank.count
        for p, k in exponents(net.width).items():
            assert sum(n * exponents(r)[p] for r, n in radices.items()) >= k, net
            largest = int(log(max(radices), p) + TINY)
            assert net.depth * largest >= k, net
        assert max(radices) ** net.depth >= net.width, net
        assert net.parameters >= least(net.width), net
    for a, b in itertools.combinations_with_replacement(range(2, 60), 2):
        assert excess(a * b) >= excess(a) + excess(b) - TINY, (a, b)
    tight = [d for d in range(2, 129) if sm.mixed_radix(d).parameters == least(d)]
    assert all(sm.mixed_radix(d).parameters >= least(d) for d in range(2, 129))
    assert tight == [d for d in range(2, 129) if d == 6 or _simple(d)]
    return f"searches up to 6 wires, {len(perfect)} networks that mix perfectly"


def _simple(d: int) -> bool:
    """Return whether d is a prime or a power of two."""
    return d & (d - 1) == 0 or exponents(d)[d] == 1
