"""Which families are dense at a width, and within which budget."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from structmat.errors import StructmatError, whole
from structmat.families import Entry, Family, catalogue
from structmat.families.arithmetic import ceil_log, divisors
from structmat.families.registry import entry
from structmat.reachability import dense_depth, first_dense

_LARGEST = 256  # the largest switch that is tried
_REPEATS = 32  # how often a graph is repeated at most to make it dense
_WIDEST = 2048  # wires up to which graphs are built and repeated: beyond, it takes minutes
_SPARE = 8  # stages that a random network is tried with beyond the fewest possible


def dense_networks(width: int, budget: int | None = None) -> list[Family]:
    """Return the families that are dense at a width within a budget, fewest parameters first.

    Every registered family is tried that takes the width: with switches that divide it, with
    powers of two, with other values of its options worth trying, and with its defaults. A family
    that has to be given a depth, or a graph to be repeated, gets the fewest stages that are
    dense, where a few more than the least possible suffice. Seeds are 0. A family that promises
    its parameters and density in closed form is not built; graphs, which do not, are tried up
    to width 2048.

    Parameters
    ----------
    width : int
        At least 2.
    budget : int, optional
        The most parameters; by default d(d−1)/2, those of all rotations.

    Returns
    -------
    list of Family
        By parameters, then by depth, then by name. Of one family, only one with the same
        parameters and depth. For every width there is some: `gossip` has the fewest parameters
        that any dense network of 2×2 switches can have.

    Raises
    ------
    StructmatError
        For a width below 2 or a budget that is no whole number.

    Examples
    --------
    >>> best = dense_networks(384, budget=5_000)
    >>> best[0].promised(384).parameters <= best[-1].promised(384).parameters <= 5_000
    True
    >>> "shuffle(block=8)" in map(str, best)
    True
    """
    return [member.family for member in dense_members(width, budget)]


class Member(NamedTuple):
    """A dense network of some width, by its family."""

    parameters: int
    depth: int
    dense_at: int | None  # how few of the first stages are dense, where that is known
    family: Family


def dense_members(width: int, budget: int | None = None) -> list[Member]:
    """Return what `dense_networks` returns, with what was found out on the way.

    Raises
    ------
    StructmatError
        As `dense_networks` does.

    Examples
    --------
    >>> [member.depth for member in dense_members(2)][:1]
    [1]
    """
    size = whole(width, "width", 2)
    most = size * (size - 1) // 2 if budget is None else whole(budget, "budget", 0)
    found: dict[tuple[int, int, str], Member] = {}
    for known in catalogue():
        for rule in _candidates(known, size):
            member = _dense(rule, size, most)
            if member is not None:
                found.setdefault((member.parameters, member.depth, rule.name), member)
    return [found[key] for key in sorted(found)]


def _candidates(known: Entry, width: int) -> Iterator[Family]:
    """Yield a family with the options worth trying at a width where it takes them."""
    powers = [1 << k for k in range(1, _LARGEST.bit_length())]
    values: dict[str, Any] = {
        "block": sorted({*powers, *divisors(width)} & {*range(2, min(width, _LARGEST) + 1)}),
        "depth": [1],
        "largest": powers[1:],
        "degree": [3, 4, 6, 8],
        "rng": [0],
    }
    absent = object()
    choices: list[list[Any]] = []
    for name, option in known.options.items():
        required = option.default is option.empty
        if name in ("block", "largest", "degree", "rng") or (required and name in values):
            choices.append([absent] * (not required and name != "rng") + list(values[name]))
        elif required:
            choices.append(list(known.choices[name](width)) if name in known.choices else [])
        else:
            choices.append([absent])
    for chosen in itertools.product(*choices):
        pairs = zip(known.options, chosen, strict=True)
        rule = Family(known.name, tuple((n, value) for n, value in pairs if value is not absent))
        try:
            if rule.takes(width):
                yield rule
        except StructmatError:  # options that exclude each other
            continue


def _dense(rule: Family, width: int, budget: int) -> Member | None:
    """Return the dense member of a family within the budget, with its parameters and depth."""
    claims = rule.promised(width)
    if claims.dense is False and "depth" not in dict(rule.options):
        return None
    if claims.parameters is not None and claims.parameters > budget:
        return None
    if claims.dense and claims.parameters is not None and claims.depth is not None:
        return Member(claims.parameters, claims.depth, claims.dense_at, rule)
    if width > _WIDEST and "repeat" in entry(rule.name).options:
        return None
    net = rule(width)
    if not 0 < net.parameters <= budget:
        return None
    if "depth" in dict(rule.options):
        least = ceil_log(width, max(bank.radix for bank in net.banks))
        stages = dense_depth(rule, width, most=min(budget // net.parameters, least + _SPARE))
        if stages is None:
            return None
        rule = rule.having(depth=stages)
        net = rule(width)
        found = Member(net.parameters, stages, stages, rule)
    elif "repeat" in entry(rule.name).options:
        stages = first_dense(net.repeat(min(budget // net.parameters, _REPEATS)))
        if stages is None:
            return None
        times = -(-stages // net.depth)
        rule = rule if times == 1 else rule.having(repeat=times)
        found = Member(times * net.parameters, times * net.depth, stages, rule)
    else:
        found = Member(net.parameters, net.depth, first_dense(net), rule)
    return found if found.dense_at is not None and found.parameters <= budget else None
