"""Which families are dense at a width, and within which budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from structmat.errors import FamilyError, StructmatError, checked_width, whole
from structmat.families import Entry, Family, catalogue
from structmat.families.arithmetic import ceil_log, divisors, least_factorizations
from structmat.families.options import combinations, taken
from structmat.families.registry import entry
from structmat.reachability import dense_depth, first_dense

_LARGEST = 256  # the largest switch that is tried
_REPEATS = 32  # how often a graph is repeated at most to make it dense
_WIDEST = 16_384  # wires up to which networks are built and measured: beyond, it takes minutes
_WIDEST_GRAPH = 2048  # the same of graphs, which are slower to build
_SPARE = 8  # stages that a random network is tried with beyond the fewest possible
_ALONE = ("block_diagonal", "mixed_radix")  # who is listed of those that are one switch


def dense_networks(width: int, budget: int | None = None) -> list[Family]:
    """Return the families that are dense at a width within a budget, fewest parameters first.

    Every registered family is tried that takes the width: with switches up to 256 that divide it,
    powers of two, and about the least that could suffice for a depth; with radices of the least sum
    for each number of them; with other values of its options worth trying, and with its defaults.
    A family that has to be given a depth, or a graph to be repeated, gets the fewest stages that
    are dense, where a few more than the least possible suffice. Seeds are 0. A family that
    promises its parameters and density in closed form is not built; one that does not is tried
    up to width 16,384, where it is built from a graph up to 2048.

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
        parameters and depth; of those that are one switch of all wires, only one. For every
        width there is some: `gossip` has the fewest parameters that a dense network can have.

    Raises
    ------
    StructmatError
        For a width below 2 or a budget that is no whole number; a FamilyError where a family of
        one's own is faulty.

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
    size = checked_width(whole(width, "width", 2))
    most = size * (size - 1) // 2 if budget is None else whole(budget, "budget", 0)
    found: dict[tuple[int, int, str], Member] = {}
    for known in catalogue():
        for member in _tried(known, size, most):
            found.setdefault((member.parameters, member.depth, known.name), member)
    members = [found[key] for key in sorted(found)]
    alone = [member for member in members if member.depth == 1]  # one switch of all wires
    named = [m for name in _ALONE for m in alone if m.family.name == name]
    return [m for m in members if m.depth > 1 or m in (named or alone)[:1]]


def _tried(known: Entry, width: int, budget: int) -> Iterator[Member]:
    """Yield the dense members of a family within the budget, or say which of them is faulty."""
    for rule in _candidates(known, width):
        try:
            member = _dense(rule, width, budget)
        except FamilyError:
            raise
        except StructmatError as error:
            raise FamilyError(f"{rule} at width {width}: {error}") from error
        if member is not None:
            yield member


def _candidates(known: Entry, width: int) -> Iterator[Family]:
    """Yield a family with the options worth trying at a width where it takes them."""
    optional = {n for n, option in known.options.items() if option.default is not option.empty}
    powers = [1 << k for k in range(2, _LARGEST.bit_length())]
    values: dict[str, Iterable[Any]] = {
        "block": _blocks(width),
        "depth": () if "depth" in optional else (1,),
        "radices": () if "repeat" in optional else least_factorizations(width, _LARGEST),
        "largest": powers,
        "degree": (3, 4, 6, 8),
        "rng": (0,),
    }
    for rule in combinations(known, width, values):
        if taken(rule, width):
            yield rule
            claims = rule.promised(width)
            if "depth" in optional and claims.dense_at and claims.dense_at != claims.depth:
                yield rule.having(depth=claims.dense_at)


def _blocks(width: int) -> list[int]:
    """Return powers of two, divisors, and for each depth the least that could suffice, and next."""
    sizes = range(2, min(width, _LARGEST) + 1)
    least = {ceil_log(width, size): size for size in reversed(sizes)}
    powers = {1 << k for k in range(1, _LARGEST.bit_length())}
    after = {size + 1 for size in least.values()}  # `deal` often needs it
    return sorted({*powers, *divisors(width), *least.values(), *after} & {*sizes})


def _dense(rule: Family, width: int, budget: int) -> Member | None:
    """Return the dense member of a family within the budget, with its parameters and depth."""
    claims = rule.promised(width)
    if claims.dense is False and "depth" not in dict(rule.options):
        return None
    if claims.parameters is not None and claims.parameters > budget:
        return None
    if claims.dense and claims.parameters is not None and claims.depth is not None:
        return Member(claims.parameters, claims.depth, claims.dense_at, rule)
    if width > (_WIDEST_GRAPH if "repeat" in entry(rule.name).options else _WIDEST):
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
