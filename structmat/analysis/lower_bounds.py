"""Lower bounds on the size of networks that are dense, perfectly mixing or universal."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, Decimal, localcontext
from math import ceil, comb, log, log2
from numbers import Real
from typing import Any

from structmat._util.text_table import Printed, Table, cell, counted, in_html
from structmat.errors import WIDEST, StructmatError, checked_field, checked_integer
from structmat.families.number_theory import ceil_log, prime_factors
from structmat.families.resolution import checked
from structmat.linalg.blocks import count_generators, generators_per_block
from structmat.networks.network import Network

_WIDEST = 10**100  # the largest width, so that logarithms fit into floats
_HEAD = ("goal", "quantity", "bound", "network", "excess")


@dataclass(frozen=True)
class Bound:
    """A lower bound on one quantity: a necessary condition for a goal.

    Attributes
    ----------
    goal : str
        "dense", "mixing" (perfect mixing: the product of the averaging matrices is J/d) or
        "universal" (the network covers all of SO(d), or of U(d)).
    quantity : str
        "depth", "parameters" or "nonzeros".
    least : int
        The lower bound: every network of this width that attains the goal has at least this value.
    value : int or None
        The value for the given network; None if only a width was given.
    reason : str
        The argument behind the bound.
    """

    goal: str
    quantity: str
    least: int
    value: int | None
    reason: str

    @property
    def excess(self) -> int | None:
        """Return the value minus the bound; if negative, the network cannot attain the goal.

        A value of 0 or above means that the network meets the bound, not that it attains the goal.
        """
        return None if self.value is None else self.value - self.least


@dataclass(frozen=True)
class LowerBounds(Printed):
    """The result of `lower_bounds`.

    Attributes
    ----------
    width, block : int
        The number of wires, and the largest radix.
    rows : tuple of Bound
    field : {"real", "complex"}
    """

    width: int
    block: int
    rows: tuple[Bound, ...]
    field: str = "real"

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as a JSON-serialisable dict."""
        rows = [asdict(row) | {"excess": row.excess} for row in self.rows]
        return asdict(self) | {"rows": rows}

    def _table(self) -> list[list[str]]:
        known = any(row.value is not None for row in self.rows)
        head = [*(_HEAD if known else _HEAD[:3]), "reason"]
        cells = []
        for row in self.rows:
            has = [] if row.value is None else [f"{row.value:,}", f"{row.excess:,}"]
            cells.append([row.goal, row.quantity, f"{row.least:,}", *has, row.reason])
        return [head, *cells]

    def _parts(self) -> list[object]:
        head, *lines = self._table()
        return [Table(head, lines, left=(0, 1, len(head) - 1))]

    def _repr_html_(self) -> str:
        head, *lines = self._table()
        rows = ["".join(cell("th", text) for text in head)]
        rows += ["".join(cell("td", text) for text in line) for line in lines]
        return in_html(rows)


def lower_bounds(net: Network | int, *, block: int = 2, field: str = "real") -> LowerBounds:
    """Return lower bounds for networks of this width that are dense, perfectly mixing or universal.

    A network below one of the bounds for a goal cannot attain it. Meeting all of them is necessary,
    not sufficient: check with `is_dense`, `mixing` and `dimension`. With d wires, m stages, and
    largest radix b:

    - dense: at least ⌈log_b d⌉ stages, because an output depends on at most b^m inputs; and, with
      s = ⌊d/⌈d/b⌉⌋, enough stages that s·b^(m−1) ≥ d, because the smallest switch of the first
      stage (or an idle wire) has at most s wires, and each further stage multiplies the number of
      wires that an input influences by at most b.
    - dense: at least 2d − 4 parameters (for d < 4: 0, 1, 3), at any depth. This is the gossip
      problem: a switch acts as a telephone call among its wires, and has at least as many
      parameters as there are two-party calls that replace it.
    - dense: at least m·d·d^(1/m) non-zeros, if the switches of each stage have one radix and no
      wire is idle (an output then depends on at most as many inputs as the product of the radices),
      or if m ≤ 3. With four or more stages, switches with unequal radices can have fewer.
    - mixing perfectly: at least (d/2)·log₂ d parameters. The total entropy of the rows of the
      product of the averaging matrices increases from 0 to d·log₂ d, by at most
      r·log₂ r ≤ r(r−1) at each switch. If p^a divides d, some path from an input to an output
      passes switches whose radices contain the factor p at least a times in total, so switches
      with odd prime factors cannot be avoided: the bound is (d/2)·log₂ d + Σ e(p), where the sum is
      over the odd prime factors p of d with multiplicity, and e(p) = p(p − 1 − log₂ p)/2.
    - universal: at least d(d−1)/2 parameters, and as many stages as so many parameters need.

    Unitary blocks have r² parameters each. The bounds on the depth and the non-zeros are the same;
    those on the parameters are:

    - dense: at least 3(2d − 4) (for d < 4: 0, 4, 9), because a switch has at least three times as
      many parameters as there are calls that replace it, exactly so for radix 3.
    - mixing perfectly: at least 3·d·log₃ d, because r·log₂ r ≤ r²·log₂(3)/3, with equality for
      radix 3.
    - universal: at least d(d−1)·b/(b−1). The phase of a wire between two switches can be moved from
      one to the other, so the dimension is at most d + Σ r(r−1), which must be d². Since a switch
      has r² ≥ r(r−1)·b/(b−1) parameters, the bound follows, and so does that on the depth.

    Parameters
    ----------
    net : Network or int
        A network, or a width.
    block : int
        The largest radix, if a width is given; for a network it is that of the network.
    field : {"real", "complex"}
        Whether the blocks are orthogonal or unitary.

    Raises
    ------
    StructmatError
        If the width is below 1 or above 10^100, or the block is below 2.

    References
    ----------
    A. Hajnal, E. C. Milner, E. Szemerédi, A cure for the telephone disease, Canadian Mathematical
    Bulletin 15, 1972. M. Gorbunov and others, Group and shuffle: efficient structured orthogonal
    parametrization, 2024, arXiv 2406.10019 (the depth).

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> print(lower_bounds(butterfly(16)))
    goal       quantity      bound   network  excess  reason
    dense      depth              4         4       0  an output depends on at most 2^m inputs
    dense      parameters        28        32       4  gossip: each switch is a telephone call
    dense      nonzeros         128       128       0  each pair needs a path
    mixing     parameters        32        32       0  bounded increase of entropy per switch
    universal  depth             15         4     -11  SO(16) has 120 dimensions, a stage at most 8
    universal  parameters       120        32     -88  SO(16) has 120 dimensions
    >>> [row.least for row in lower_bounds(4096, block=8).rows]
    [4, 8188, 24576, 585, 8386560]
    >>> [row.least for row in lower_bounds(4096, block=8, field="complex").rows]
    [4, 24564, 93035, 585, 19169280]
    """
    checked_field(field)
    given: Any = net
    if not isinstance(given, Real):
        net = checked(given, "lower_bounds")
    if isinstance(net, Network):
        width, largest = net.width, max([2, *(bank.radix for bank in net.banks)])
        has: dict[str, int] = {
            "depth": net.depth,
            "parameters": count_generators(net, field=field),
        }
    else:
        width, largest, has = (
            checked_integer(net, "width", 1),
            checked_integer(block, "block", 2),
            {},
        )
    if width > _WIDEST:
        raise StructmatError(
            f"a width of {width.bit_length():,} bits: bounds are computed up to a width of 10^100"
        )
    is_complex = field == "complex"
    group = generators_per_block(width, field=field)
    dimensions = f"{'U' if is_complex else 'SO'}({width}) has {counted(group, 'dimension')}"
    pairs = comb(width, 2)
    stage = width // largest * comb(largest, 2) + comb(width % largest, 2)
    universal = -(-width * (width - 1) * largest // (largest - 1)) if is_complex else pairs
    found = [
        (
            "dense",
            "depth",
            _density(width, largest),
            f"an output depends on at most {largest}^m inputs"
            if _density(width, largest) == ceil_log(width, largest)
            else f"an input of the smallest switch reaches at most {_smallest(width, largest)}"
            f"·{largest}^(m−1) outputs",
        ),
        (
            "dense",
            "parameters",
            _unitary_gossip(width) if is_complex else _gossip(width),
            "gossip: each switch is a telephone call",
        ),
        (
            "mixing",
            "parameters",
            _unitary_entropy(width) if is_complex else _entropy(width),
            "bounded increase of entropy per switch"
            if is_complex or not _odd_primes(width)
            else "bounded increase of entropy per switch, and prime factors",
        ),
        (
            "universal",
            "depth",
            -(-pairs // max(stage, 1)),
            f"besides phases, U({width}) has {2 * pairs:,} dimensions, a stage ≤ {2 * stage:,}"
            if is_complex
            else f"{dimensions}, a stage at most {stage:,}",
        ),
        (
            "universal",
            "parameters",
            max(universal, group),
            f"{dimensions}{', and phases are redundant' * is_complex}",
        ),
    ]
    rows = [Bound(goal, name, least, has.get(name), why) for goal, name, least, why in found]
    if isinstance(net, Network) and (net.depth in (1, 2, 3) or _is_even(net)):
        least = _edges(width, net.depth)
        rows.insert(2, Bound("dense", "nonzeros", least, net.nonzeros, "each pair needs a path"))
    return LowerBounds(width, largest, tuple(rows), field)


def mixing_depth_bound(width: int, block: int) -> int:
    """Return a lower bound on the number of stages of a network that mixes perfectly.

    Such a network is dense. Moreover, if p^a divides the width, some path passes switches whose
    radices contain the factor p at least a times in total, and a radix of at most b contains it at
    most ⌊log_p b⌋ times.

    Raises
    ------
    StructmatError
        If no network mixes perfectly (`mixing_obstacle`).

    Examples
    --------
    >>> mixing_depth_bound(54, 4), mixing_depth_bound(64, 16)
    (4, 2)
    """
    if obstacle := mixing_obstacle(width, block):
        raise StructmatError(obstacle)
    found = _density(width, block)
    for prime, times in Counter(prime_factors(width)).items():
        most = next(k for k in itertools.count() if prime ** (k + 1) > block)
        found = max(found, -(-times // most))
    return found


def mixing_obstacle(width: int, block: int) -> str | None:
    """Return the reason why no network of radices up to `block` mixes perfectly, or None.

    Examples
    --------
    >>> mixing_obstacle(12, 4), mixing_obstacle(12, 2)
    (None, 'no network of radices up to 2 mixes 12 wires perfectly: the prime factor 3 \
divides none of them')
    """
    largest = max(prime_factors(width), default=1)
    if largest <= block:
        return None
    return (
        f"no network of radices up to {block} mixes {width} wires perfectly: the prime factor"
        f" {largest} divides none of them"
    )


def _density(width: int, block: int) -> int:
    """Return the least m with s·b^(m−1) ≥ d, where s bounds the smallest switch of a stage."""
    if width == 1:
        return 0
    return 1 + ceil_log(-(-width // _smallest(width, block)), block)


def _smallest(width: int, block: int) -> int:
    """Return ⌊d/⌈d/b⌉⌋, the largest possible size of the smallest part of a partition."""
    return width // -(-width // block)


def _gossip(width: int) -> int:
    return 2 * width - 4 if width >= 4 else comb(width, 2)


def _unitary_gossip(width: int) -> int:
    """Return the bound for unitary blocks: 4 for a call of two wires, 9 for the calls of three."""
    return 3 * _gossip(width) if width > 2 else 4 * _gossip(width)


def _unitary_entropy(width: int) -> int:
    """Return ⌈3·d·log₃ d⌉; the logarithm is an integer only for powers of three."""
    exponent = round(log(width, 3))
    if 3**exponent == width:
        return 3 * width * exponent
    return ceil(3 * width * log(width, 3))


def _entropy(width: int) -> int:
    """Return ⌈(d·log₂ d + Σ p(p − 1) − Σ p·log₂ p)/2⌉, summed over the odd prime factors."""
    odd = _odd_primes(width)
    if not odd:
        return -(-width * (width.bit_length() - 1) // 2)
    return sum(p * (p - 1) // 2 for p in odd) + ceil(
        (width * log2(width) - sum(p * log2(p) for p in odd)) / 2
    )


def _odd_primes(width: int) -> list[int]:
    """Return the odd prime factors of a width, with repetitions, or none if it is very large."""
    if width > WIDEST:  # factoring it may take too long
        return []
    return [prime for prime in prime_factors(width) if prime > 2]


def _edges(width: int, depth: int) -> int:
    """Return ⌈m·d·d^(1/m)⌉: the least n with n^m ≥ (m·d)^m·d."""
    if depth > width.bit_length():  # d^(1/m) < 2 is irrational unless d = 1: avoid huge powers
        with localcontext() as context:
            context.prec = 60
            root = (Decimal(width).ln() / depth).exp()
            return int((depth * width * root).to_integral_value(ROUND_CEILING))
    least: int = ceil(depth * float(width) ** (1 + 1 / depth))
    bound = (depth * width) ** depth * width
    while (least - 1) ** depth >= bound:
        least -= 1
    while least**depth < bound:
        least += 1
    return least


def _is_even(net: Network) -> bool:
    """Return whether all wires of each stage are in switches of one radix."""
    return net.depth > 0 and all(
        len({bank.radix for bank in stage.banks}) == 1
        and sum(bank.reads.size for bank in stage.banks) == net.width
        for stage in net.stages
    )
