"""Selection of the families that are dense at a given width within a parameter budget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from structmat.analysis.reachability import dense_depth, leading_dense_depth
from structmat.errors import FamilyError, StructmatError, checked_integer, checked_width
from structmat.families import Composition, Entry, Family, Rule, catalogue
from structmat.families.number_theory import ceil_log, divisors, least_factorizations
from structmat.families.registry import entry
from structmat.families.variants import accepts, combinations

_LARGEST = 256  # the largest radix tried
_REPEATS = 32  # the maximum number of repetitions of a graph
_WIDEST = 16_384  # the maximum width at which networks are built and measured, which takes minutes
_WIDEST_GRAPH = 2048  # the same limit for graphs, which are slower to build
_SPARE = 8  # extra stages, beyond the minimum, that are tried for a random network
_ALONE = ("block_diagonal", "mixed_radix")  # preferred names for a network that is one switch


def dense_networks(width: int, budget: int | None = None) -> list[Family]:
    """Return the families that are dense at a width within a budget, fewest parameters first.

    Every registered family that accepts the width is tried with its default options and with other
    values of its options: blocks up to 256 that divide the width, are powers of two, or are near
    the minimum for each depth; the radices of smallest sum for each number of stages; and the
    choices that the family registers. The depth of a family, or the number of repetitions of a
    graph, is the smallest one that makes the network dense; where it is not claimed in closed form,
    up to 8 stages beyond the theoretical minimum, or 32 repetitions, are tried. Seeds are 0.
    Networks are not built if their family claims their parameters and density in closed form;
    others are built and checked up to width 16,384, or 2048 for families defined by a graph.

    Parameters
    ----------
    width : int
        At least 2.
    budget : int, optional
        The maximum number of parameters; by default d(d−1)/2, the dimension of SO(d).

    Returns
    -------
    list of Family
        Sorted by parameters, then depth, then name. Of several networks of one family with the same
        parameters and depth, only one is listed, and only one of the families that reduce to a
        single switch on all wires. The list is empty only if the budget is too small: at every
        width `gossip` attains the minimum number of parameters of a dense network.

    Raises
    ------
    StructmatError
        If the width is not an integer from 2 to 2^22, or the budget is not an integer ≥ 0.
    FamilyError
        If a user-defined family is faulty.

    Examples
    --------
    >>> best = dense_networks(384, budget=5_000)
    >>> best[0].claims(384).parameters <= best[-1].claims(384).parameters <= 5_000
    True
    >>> "shuffle(block=8)" in map(str, best)
    True
    """
    return [member.family for member in dense_members(width, budget)]


def dense_member(rule: Family, width: int) -> Member | None:
    """Return the dense network of a family at a width, or None if it is not known to have one.

    The options are not changed. Wide networks without claims are not built, as in `dense_networks`.

    Examples
    --------
    >>> from structmat.families import parse
    >>> dense_member(parse("shuffle(block=4)"), 64).depth, dense_member(parse("benes"), 12)
    (3, None)
    """
    found = _dense(rule, width, math.comb(width, 2)) if accepts(rule, width) else None
    return found if found is not None and found.family == rule else None


def deepened(
    rule: Family, members: Mapping[int, Member], stages: int, *, cycled: bool
) -> tuple[Rule, dict[int, Member]] | None:
    """Return a dense topology with more stages and its networks, or None if there is none.

    Parameters
    ----------
    rule : Family
        A family that is dense at all widths.
    members : mapping from a width to its dense network
    stages : int
        The number of stages, at the width where the family has the most.
    cycled : bool
        Whether the stages are repeated in the same order, as in "butterfly * 2" or, for a part of
        the last cycle, "(butterfly * 2)[:13]"; otherwise the family's option `depth` is set.

    Examples
    --------
    >>> from structmat.families import parse
    >>> [butterfly] = parse("butterfly").families
    >>> members = {64: dense_member(butterfly, 64)}
    >>> deeper, found = deepened(butterfly, members, 12, cycled=True)
    >>> print(deeper, found[64].parameters)
    butterfly * 2 384
    """
    once = max(member.depth for member in members.values())
    if stages <= once:
        return None
    deeper: Rule
    if not cycled:
        if "depth" not in entry(rule.name).options:
            return None
        deeper = rule.with_options(depth=stages)
    elif stages % once == 0:
        deeper = rule * (stages // once)
    else:  # at a width with fewer stages, this is more than a part of the last cycle
        deeper = (rule * (stages // once + 1))[:stages]
    if not all(accepts(deeper, width) for width in members):
        return None
    return deeper, {width: _deeper(deeper, width, members[width]) for width in members}


def _deeper(rule: Rule, width: int, once: Member) -> Member:
    """Return the network of a rule; its first stages are those of another if it is a cycle."""
    dense_at = once.dense_at if isinstance(rule, Composition) else None
    claims = rule.claims(width)
    if claims.parameters is not None and claims.depth is not None:
        return Member(claims.parameters, claims.depth, claims.dense_at or dense_at, once.family)
    net = rule(width)
    return Member(net.parameters, net.depth, dense_at, once.family)


class Member(NamedTuple):
    """A dense network of a given width, with the family of which it is made."""

    parameters: int
    depth: int
    dense_at: int | None  # the number of leading stages that are already dense, if known
    family: Family


def dense_members(width: int, budget: int | None = None) -> list[Member]:
    """Return the result of `dense_networks` together with the depths and parameter counts found.

    Raises
    ------
    StructmatError
        As for `dense_networks`.

    Examples
    --------
    >>> [member.depth for member in dense_members(2)][:1]
    [1]
    """
    size = checked_width(checked_integer(width, "width", 2))
    most = size * (size - 1) // 2 if budget is None else checked_integer(budget, "budget", 0)
    found: dict[tuple[int, int, str], Member] = {}
    for known in catalogue():
        for member in _tried(known, size, most):
            found.setdefault((member.parameters, member.depth, known.name), member)
    members = [found[key] for key in sorted(found)]
    alone = [member for member in members if member.depth == 1]  # a single switch on all wires
    named = [m for name in _ALONE for m in alone if m.family.name == name]
    return [m for m in members if m.depth > 1 or m in (named or alone)[:1]]


def _tried(known: Entry, width: int, budget: int) -> Iterator[Member]:
    """Yield the dense networks of a family within the budget; name the family in any error."""
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
    """Yield a family with every choice of options that is worth trying and valid at this width."""
    optional = _optional(known)
    for rule in combinations(known, width, option_values(known, width)):
        if accepts(rule, width):
            yield rule
            claims = rule.claims(width)
            if "depth" in optional and claims.dense_at and claims.dense_at != claims.depth:
                yield rule.with_options(depth=claims.dense_at)


def option_values(known: Entry, width: int) -> dict[str, Iterable[Any]]:
    """Return the values of the options of a family that are worth trying at a width.

    An optional depth, which extends a network, is left unset, and seeds are 0.

    Examples
    --------
    >>> from structmat.families.registry import entry
    >>> option_values(entry("random"), 12)["block"]
    [2, 3, 4, 5, 6, 8, 12]
    """
    optional = _optional(known)
    powers = [1 << k for k in range(2, _LARGEST.bit_length())]
    return {
        "block": _blocks(width),
        "depth": () if "depth" in optional else (1,),
        "radices": () if "repeat" in optional else least_factorizations(width, _LARGEST),
        "largest": powers,
        "degree": (3, 4, 6, 8),
        "rng": (0,),
    }


def _optional(known: Entry) -> set[str]:
    """Return the names of the options that have a default."""
    return {n for n, option in known.options.items() if option.default is not option.empty}


def _blocks(width: int) -> list[int]:
    """Return radices to try: powers of two, divisors, and the least for each depth, or one more."""
    sizes = range(2, min(width, _LARGEST) + 1)
    least = {ceil_log(width, size): size for size in reversed(sizes)}
    powers = {1 << k for k in range(1, _LARGEST.bit_length())}
    after = {size + 1 for size in least.values()}  # `deal` often needs one more
    return sorted({*powers, *divisors(width), *least.values(), *after} & {*sizes})


def _dense(rule: Family, width: int, budget: int) -> Member | None:
    """Return the dense network of a family within the budget, with its parameters and depth."""
    claims = rule.claims(width)
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
        rule = rule.with_options(depth=stages)
        net = rule(width)
        found = Member(net.parameters, stages, stages, rule)
    elif "repeat" in entry(rule.name).options:
        stages = leading_dense_depth(net.repeat(min(budget // net.parameters, _REPEATS)))
        if stages is None:
            return None
        times = -(-stages // net.depth)
        rule = rule if times == 1 else rule.with_options(repeat=times)
        found = Member(times * net.parameters, times * net.depth, stages, rule)
    else:
        found = Member(net.parameters, net.depth, leading_dense_depth(net), rule)
    return found if found.dense_at is not None and found.parameters <= budget else None
