"""The choice of a topology for a width or a model, a budget and a purpose."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from structmat._util.text_table import counted
from structmat.analysis.lower_bounds import Bound, lower_bounds
from structmat.errors import StructmatError, abbreviated, checked_integer
from structmat.families import Family, parse
from structmat.linalg.throughput import RATES
from structmat.search.choice.budgets import checked_budget, in_units
from structmat.search.choice.choice_table import Choice, Row
from structmat.search.choice.contender import BUILT, FULL, NEAR, TOKENS, Contender
from structmat.search.choice.layer_widths import Widths, layer_widths
from structmat.search.choice.purposes import Purpose, purpose_of
from structmat.search.dense_networks import Member, deepened, dense_member, dense_members
from structmat.search.objectives import OBJECTIVES, Objective

# Of equally good networks, those with these names are preferred, in this order.
_WELL_KNOWN = ("butterfly", "mixed_radix", "mixing_network", "shuffle", "block_diagonal")

_WIDEST = 2**19  # wider networks take minutes to list, and most are not built (see BUILT)

DEFAULT = "mixing_network(block=16)"  # for finetuning, without a budget


def choose(
    width: Any,
    *,
    purpose: Any = "finetune",
    budget: Any = None,
    largest: int | None = None,
    rows: int = 8,
    device: str = "cpu",
    measure: bool = False,
) -> Choice:
    """Choose a topology: a table of dense networks, the most suitable first.

    Parameters
    ----------
    width : int, iterable of int, mapping from a name to an int, or torch model
        One width, or several for which one topology is chosen; for a model, the inputs of its
        linear layers, without the output embedding of a language model. Numbers of parameters, time
        and memory are totals over all layers; depth and mixing are the largest over the widths.
    purpose : str, structmat.search.objectives.Objective or callable
        - "finetune": straight networks, with switches of at most 16 wires. Exact mixing is best,
          then nearly exact mixing (`structmat.mixing` at most 0.2), then the least time. Without a
          budget, the best is `mixing_network(block=16)` wherever it mixes exactly, and nearly
          always elsewhere.
        - "fit": approximating matrices by 2×2 switches, which fit random matrices best at equal
          numbers of parameters. Within the budget, the most dimensions are best, by an upper bound,
          then exact mixing, or else nearly exact mixing. Networks with more stages than density
          requires are included, such as "butterfly * 2".
        - "mix": exact mixing, or else nearly exact mixing, with the fewest parameters, for switches
          of at most 16 wires.
        - "universal": every rotation, by 2×2 switches, with the fewest parameters, then stages.
        - "fast": the least time.
        - The name of an objective, such as "conditioning", an Objective, or a function from a
          network to a number, which is minimised. It is computed for every topology, which takes
          long if the objective does.
    budget : int, or mapping from a quantity to a number, optional
        The maximum of parameters, or of any of "parameters", "depth" (stages), "time" (seconds),
        "relative_time" (to a dense matrix of the same width) and "memory" (bytes).
    largest : int, optional
        The largest radix of a switch; by default that of the purpose.
    rows : int
        The maximum number of rows.
    device : {"cpu", "compiled", "cuda"}
        The kind of machine for which time is modelled.
    measure : bool
        Measure the time of the listed networks on this machine, with numpy, and use it in place of
        the modelled time to order them.

    Returns
    -------
    Choice

    Raises
    ------
    StructmatError
        If a width is not an integer from 2 to 524,288; if the purpose or an option is invalid; or
        if no network fits the budget, and the message then states the least that would do.
    ObjectiveError
        If the objective or function fails, or returns no finite number.

    Examples
    --------
    >>> best = choose(768).best
    >>> best.spec, best.parameters, best.depth, best.mixing
    ('mixing_network(block=16)', 9600, 3, 0.0)
    >>> choose(768, purpose="mix").best.spec
    'mixed_radix'
    >>> choose(768, budget=100)
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: budget of 100 parameters at width 768: no dense network for \
finetune is within it; the least is 1,532 parameters, for gossip
    """
    layers = layer_widths(width)
    wanted = purpose_of(purpose)
    limits = checked_budget(budget)
    count = checked_integer(rows, "rows", 1)
    if str(device) not in RATES:
        raise StructmatError(
            f"device={abbreviated(device)}: unknown; the choices are {', '.join(RATES)}"
        )
    if (widest := max(layers)) > _WIDEST:
        raise StructmatError(
            f"width={widest:,}: topologies are compared up to width {_WIDEST:,}; take {DEFAULT},"
            " which is the default for finetuning"
        )
    if largest is not None:
        wanted = replace(wanted, largest=checked_integer(largest, "largest", 2))
    within = [one for one in _contenders(layers, wanted, limits, device) if _fits(one, limits)]
    first = list(itertools.islice(_ranked(within, wanted), count))
    if not first:
        raise StructmatError(_impossible(layers, wanted, limits, device))
    if measure:
        for one in first:
            one.time = _measured_time(one)
        first.sort(key=lambda one: _order(one, wanted.key(one)))
    table = tuple(_row(one, first[0], wanted, measured=measure) for one in first)
    return Choice(
        purpose=wanted.name,
        summary=wanted.summary,
        widths=layers,
        budget=limits,
        rows=table,
        bounds=tuple(_bounds(first[0], wanted)),
        notes=_notes(len(within), limits, device, measured=measure),
    )


# The candidates --------------------------------------------------------------------------------


def _contenders(
    layers: Widths, purpose: Purpose, limits: Mapping[str, float], device: str
) -> Iterator[Contender]:
    """Yield every topology that is dense at all widths."""
    most = limits.get("parameters")
    found: dict[Family, dict[int, Member]] = {}
    [default] = parse(DEFAULT).families
    for width in layers:
        group = math.comb(width, 2)
        listed = dense_members(width, group if most is None else min(int(most), group))
        found |= {member.family: {} for member in listed}
        for member in listed:
            found[member.family][width] = member
    for rule in dict.fromkeys([default, *found]):
        members: dict[int, Member] = {}
        for width in layers:
            known = found.get(rule, {}).get(width) or dense_member(rule, width)
            if known is None:
                break
            members[width] = known
        else:
            once = Contender(rule, members, layers, device=device, limit=purpose.largest)
            yield once
            if limits and purpose.deepens and _may_suit(once):
                deeper = {str(one.rule): one for one in _deeper(once, rule, purpose, limits)}
                yield from deeper.values()


def _may_suit(once: Contender) -> bool:
    """Return whether the switches are small enough, which parameters suffice to refute."""
    limit = once.limit
    if limit is None:
        return once.is_small
    few = all(2 * m.parameters <= m.depth * d * (limit - 1) for d, m in once.members.items())
    return few and once.is_small and once.largest <= limit


def _deeper(
    once: Contender, rule: Family, purpose: Purpose, limits: Mapping[str, float]
) -> Iterator[Contender]:
    """Yield a topology with more stages: as many as a budget allows, and in whole cycles.

    The stages are at most those of as many cycles as have the parameters of all rotations. To
    represent all of them, one cycle more may be necessary. All limited quantities are proportional
    to the number of stages, or nearly so.
    """

    def made(stages: int, *, cycled: bool) -> Contender | None:
        found = deepened(rule, once.members, stages, cycled=cycled)
        if found is None:
            return None
        one = Contender(*found, once.layers, device=once.device, limit=once.limit)
        return one if _fits(one, limits) else None

    full = max(-(-math.comb(d, 2) // member.parameters) for d, member in once.members.items())
    room = min((limit / getattr(once, name) for name, limit in limits.items()), default=math.inf)
    room = min(room, full + purpose.universal, BUILT / (once.depth * max(once.layers)))
    cycles = range(full, full + 2) if purpose.universal else [int(room)]
    for times in cycles:
        if times <= room and (one := made(times * once.depth, cycled=True)):
            yield one
    if purpose.universal:
        return
    for cycled in (True, False):
        stages = range(int(room * once.depth), once.depth, -1)
        longest = next(filter(None, (made(count, cycled=cycled) for count in stages)), None)
        if longest is not None:
            yield longest


def _suits(one: Contender, purpose: Purpose) -> bool:
    """Return whether a topology is suitable for a purpose, whatever the budget."""
    if purpose.universal and one.parameters < one.group:
        return False
    if purpose.largest is not None and one.largest > purpose.largest:
        return False
    if purpose.straight and not one.is_straight:
        return False
    if purpose.universal and one.universality is None:
        return False
    return one.is_small or purpose.universal or not purpose.straight


def _fits(one: Contender, limits: Mapping[str, float]) -> bool:
    return all(getattr(one, name) <= limit for name, limit in limits.items())


def _order(one: Contender, key: tuple[float, ...]) -> tuple[Any, ...]:
    """Return the sort key; of equal topologies, the default comes first, then well-known ones."""
    spec, name = str(one.rule), one.rule.families[0].name
    known = _WELL_KNOWN.index(name) if name in _WELL_KNOWN else len(_WELL_KNOWN)
    return key, spec != DEFAULT, known, len(spec), spec


def _ranked(contenders: list[Contender], purpose: Purpose) -> Iterator[Contender]:
    """Yield the suitable topologies in order, and build and measure no more than necessary.

    A topology is first sorted by lower bounds on its values that need no network, and by its values
    as soon as it comes first. A topology with the same networks as an earlier one is added to the
    `also` of that one.
    """
    order = [_order(one, purpose.least_key(one)) for one in contenders]
    queue = [(key, k, False) for k, key in enumerate(order)]
    heapq.heapify(queue)
    last: list[Contender] = []  # those with the same values as the previous one
    while queue:
        (key, *_), k, known = heapq.heappop(queue)
        one = contenders[k]
        if not known:
            if _suits(one, purpose):
                heapq.heappush(queue, (_order(one, purpose.key(one)), k, True))
            continue
        last = [other for other in last if purpose.key(other) == key]
        twin = next((other for other in last if other.is_equal(one)), None)
        if twin is None:
            last.append(one)
            yield one
        else:
            twin.also.append(str(one.rule))


def _impossible(layers: Widths, purpose: Purpose, limits: Mapping[str, float], device: str) -> str:
    """Return the message for a budget within which no network is suitable."""
    sizes = ", ".join(f"{width:,}" for width in layers)
    where = f"at width{'s' * (len(layers) > 1)} {sizes}"
    suited = [one for one in _contenders(layers, purpose, {}, device) if _suits(one, purpose)]
    if not suited:
        small = f" with switches of at most {purpose.largest} wires" if purpose.largest else ""
        return f"no dense network {where}{small} suits {purpose.name}; increase largest="
    asked = " and ".join(in_units(*limit) for limit in limits.items())
    told = []
    for name, limit in limits.items():
        others = {other: most for other, most in limits.items() if other != name}
        rest = [one for one in suited if _fits(one, others)]
        if rest:
            least, spec = _least(rest, name)
            if least > limit:
                beside = " within the rest of the budget" if others else ""
                told.append(f"the least is {in_units(name, least)}{beside}, for {spec}")
    if not told:
        for name in limits:
            least, spec = _least(suited, name)
            told.append(f"the least is {in_units(name, least)}, for {spec}")
    return (
        f"budget of {asked} {where}: no dense network for {purpose.name} is within it;"
        f" {'; '.join(told)}"
    )


def _least(contenders: list[Contender], name: str) -> tuple[float, str]:
    """Return the least value of a quantity, and the topology that has it."""
    best = min(contenders, key=lambda one: (getattr(one, name), len(str(one.rule))))
    return getattr(best, name), str(best.rule)


# The table -------------------------------------------------------------------------------------


def _measured_time(one: Contender) -> float:
    clock: Objective = OBJECTIVES["time"]
    return math.fsum(count * clock.measure(one.networks[d]) for d, count in one.layers.items())


def _row(one: Contender, best: Contender, purpose: Purpose, *, measured: bool) -> Row:
    asked = any(criterion.name == "mixing" for criterion in purpose.order) or one.is_exact
    mixed = one.mixing if asked and one.is_small else None
    evidence = {
        "dense": "proved",
        "dimension": "proved",  # an upper bound
        "mixing": "proved" if one.is_exact else "computed",
        "time": "measured" if measured else "modelled",
        "memory": "modelled",
    }
    if mixed is None:
        del evidence["mixing"]
    if purpose.universal:
        evidence["universal"] = "not proved" if one.universality == FULL else "proved"
    return Row(
        rule=one.rule,
        widths=tuple(one.layers),
        parameters=one.parameters,
        depth=one.depth,
        largest=None if math.isinf(one.largest) else int(one.largest),
        dimension=one.dimension,
        mixing=mixed,
        time=one.time,
        relative_time=one.relative_time,
        memory=one.memory,
        reason=purpose.reason(one, best),
        evidence=evidence,
        also=tuple(one.also),
    )


def _bounds(best: Contender, purpose: Purpose) -> Iterator[Bound]:
    """Yield lower bounds for any network of these widths, with the values of the best."""
    block = int(purpose.largest or best.largest)
    tables = {
        width: {(row.goal, row.quantity): row for row in lower_bounds(width, block=block).rows}
        for width in best.layers
    }
    combined: Mapping[str, Callable[[Iterator[int]], int]] = {"parameters": sum, "depth": max}
    for goal, quantity in purpose.bounds:
        if goal == "mixing" and best.mixing_class:
            continue  # a bound for exact mixing
        least = combined[quantity](
            tables[width][goal, quantity].least * (count if quantity == "parameters" else 1)
            for width, count in best.layers.items()
        )
        reason = next(iter(tables.values()))[goal, quantity].reason
        yield Bound(goal, quantity, least, getattr(best, quantity), reason)


def _notes(
    considered: int, limits: Mapping[str, float], device: str, *, measured: bool
) -> tuple[str, ...]:
    number = counted(considered, "dense topology", "dense topologies")
    verb = "is" if considered == 1 else "are"
    listed = f"{verb} within the budget" if limits else f"{verb} known"
    seconds = (
        "Time is measured on this machine with numpy, for 256 vectors."
        if measured
        else f"Time is modelled, not measured: operations and bytes of {TOKENS:,} vectors in"
        f" float32 ({device})."
    )
    return (
        f"{number} {listed}; density is proved.",
        f"Mixing of 0 is proved by unique paths, or computed (below 1e-12); at most {NEAR} counts"
        " as nearly exact. The dimension is a proved upper bound.",
        seconds,
    )
