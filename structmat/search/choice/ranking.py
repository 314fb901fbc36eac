"""The choice of a topology for a width or a model, a budget and a purpose."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from structmat._util.text_table import cell, counted, in_html, left, plain
from structmat.analysis.lower_bounds import Bound, lower_bounds
from structmat.errors import StructmatError, checked_integer, suggest
from structmat.families import Family, parse
from structmat.linalg.throughput import RATES
from structmat.networks.network import Network
from structmat.search.choice.budgets import checked_budget, in_units
from structmat.search.choice.contender import NEAR, TOKENS, Contender
from structmat.search.choice.layer_widths import Widths, layer_widths
from structmat.search.choice.purposes import Purpose, purpose_of
from structmat.search.dense_networks import Member, deepened, dense_member, dense_members
from structmat.search.objectives import OBJECTIVES, Objective

DEFAULT = "mixing_network(block=16)"  # at every width, the best for finetuning without a budget


@dataclass(frozen=True)
class Row:
    """A topology of a `Choice`.

    Attributes
    ----------
    rule : Family
        The topology; `str` gives its spec.
    widths : tuple of int
    parameters, depth, largest : int
        The parameters of all layers, the stages at the width with the most, and the largest radix.
        `largest` is None for a network too large to be built.
    dimension : int
        An upper bound on the dimension, summed over the layers (`structmat.dimension` may be less).
    mixing : float or None
        `structmat.mixing` at the width with the largest; None if it was not needed for the ranking,
        or the network is too large.
    time, relative_time : float
        Seconds of all layers for 2,048 vectors in float32, modelled or measured, and its ratio to
        the modelled time of dense matrices.
    memory : int
        Bytes of training with Adam for 2,048 vectors: parameters, blocks, and inputs of stages.
    reason : str
        Why it is the first, or why the first is better.
    evidence : dict from str to str
        How each property is known: "proved", "computed", "modelled" or "measured".
    also : tuple of str
        Specs of other families with the same network.
    """

    rule: Family
    widths: tuple[int, ...]
    parameters: int
    depth: int
    largest: int | None
    dimension: int
    mixing: float | None
    time: float
    relative_time: float
    memory: int
    reason: str
    evidence: Mapping[str, str]
    also: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        """The topology as text, which every command and function takes."""
        return str(self.rule)

    @property
    def network(self) -> Network:
        """The network.

        Raises
        ------
        StructmatError
            If there are several widths; `networks` has them all.
        """
        if len(self.widths) > 1:
            raise StructmatError(
                f"{self.spec}: it was chosen for {len(self.widths)} widths; use networks[width]"
            )
        return self.rule(self.widths[0])

    @property
    def networks(self) -> dict[int, Network]:
        """The network of each width."""
        return {width: self.rule(width) for width in self.widths}

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as a JSON-serialisable dict."""
        values = {key: value for key, value in self.__dict__.items() if key != "rule"}
        return {"network": self.spec} | values | {"evidence": dict(self.evidence)}


@dataclass(frozen=True)
class Choice:
    """The result of `choose`: topologies in order of preference.

    Attributes
    ----------
    purpose, summary : str
        The purpose, and what it prefers.
    widths : dict from int to int
        The number of layers of each width.
    budget : dict from str to number
    rows : tuple of Row
        The best first.
    bounds : tuple of structmat.analysis.lower_bounds.Bound
        Lower bounds for any network of these widths, with the values of the best; parameters are
        summed over the layers.
    notes : tuple of str
        What was proved, computed, modelled or measured.
    """

    purpose: str
    summary: str
    widths: Mapping[int, int]
    budget: Mapping[str, float]
    rows: tuple[Row, ...]
    bounds: tuple[Bound, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Row:
        """The first row."""
        return self.rows[0]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a JSON-serialisable dict."""
        return {
            "purpose": self.purpose,
            "summary": self.summary,
            "widths": {str(width): count for width, count in self.widths.items()},
            "budget": dict(self.budget),
            "rows": [row.to_dict() for row in self.rows],
            "bounds": [asdict(bound) | {"excess": bound.excess} for bound in self.bounds],
            "notes": list(self.notes),
        }

    @property
    def _title(self) -> str:
        sizes = ", ".join(
            f"{width:,}" + (f" (×{count})" if count > 1 else "")
            for width, count in self.widths.items()
        )
        noun = "width" if len(self.widths) == 1 else "widths"
        limits = "".join(f"; at most {in_units(*limit)}" for limit in self.budget.items())
        return f"{self.purpose}, {noun} {sizes}{limits}: {self.summary}"

    @property
    def _below(self) -> list[str]:
        lines = [
            f"Any {bound.goal} network has at least {in_units(bound.quantity, bound.least)};"
            f" the first row has {bound.value:,}."
            for bound in self.bounds
        ]
        return [*lines, *self.notes]

    def __str__(self) -> str:
        table = plain(_HEAD, [_cells(row) for row in self.rows], left=(0, len(_HEAD) - 1))
        return "\n".join([self._title, "", table, "", *self._below])

    def _repr_html_(self) -> str:
        rows = ["".join(left("th", title) for title in _HEAD)]
        rows += ["".join(left("td", text) for text in _cells(row)) for row in self.rows]
        paragraphs = "".join(cell("p", line) for line in self._below)
        return f"{cell('p', self._title)}\n{in_html(rows)}\n{paragraphs}"


_HEAD = ("network", "parameters", "stages", "switch", "mixing", "dimension", "time", "reason")


def _cells(row: Row) -> list[str]:
    return [
        row.spec,
        f"{row.parameters:,}",
        f"{row.depth:,}",
        "–" if row.largest is None else f"{row.largest:,}",
        "–" if row.mixing is None else f"{row.mixing:.3f}" if row.mixing else "0",
        f"≤ {row.dimension:,}",
        f"{1e3 * row.time:.3g} ms",
        row.reason,
    ]


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
        and memory are totals over all layers, and the depth and the mixing are the largest.
    purpose : str, structmat.search.objectives.Objective or callable
        - "finetune": straight networks, with switches of at most 16 wires. Exact mixing is best,
          then nearly exact mixing (`structmat.mixing` at most 0.15), then the least time. Without a
          budget, the best is `mixing_network(block=16)` at every width.
        - "fit": approximating matrices by 2×2 switches, which fit random matrices best at equal
          numbers of parameters. The most dimensions within the budget are best, by an upper bound;
          networks with more stages than density requires are included.
        - "mix": exact mixing, or else nearly exact mixing, with the fewest parameters, for switches
          of at most 16 wires.
        - "universal": every rotation, by 2×2 switches, in the fewest stages.
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
        Measure the time of the listed networks on this machine, with numpy, and sort by it.

    Returns
    -------
    Choice

    Raises
    ------
    StructmatError
        If a width, the purpose or an option is invalid, or no network fits the budget; the message
        then states the least that would do.
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
    structmat.errors.StructmatError: budget of 100 parameters at width 768: no dense network suits \
finetune; the least is 1,532 parameters, for gossip
    """
    layers = layer_widths(width)
    wanted = purpose_of(purpose)
    limits = checked_budget(budget)
    count = checked_integer(rows, "rows", 1)
    if device not in RATES:
        raise StructmatError(f"device={device!r}: unknown{suggest(str(device), RATES)}")
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
        notes=_notes(len(within), device, measured=measure),
    )


# The candidates --------------------------------------------------------------------------------


def _contenders(
    layers: Widths, purpose: Purpose, limits: Mapping[str, float], device: str
) -> Iterator[Contender]:
    """Yield every topology that is dense at all widths."""
    most = limits.get("parameters")
    found: dict[Family, dict[int, Member]] = {}
    default = parse(DEFAULT)
    for width in layers:
        group = math.comb(width, 2)
        listed = dense_members(width, group if most is None else min(int(most), group))
        found |= {member.family: {} for member in listed}
        for member in listed:
            found[member.family][width] = member
    for rule in dict.fromkeys([default, *found]):
        members = found.get(rule, {})
        for width in layers:
            if width not in members:
                member = dense_member(rule, width)
                if member is None:
                    break
                members[width] = member
        else:
            yield Contender(rule, members, layers, device=device, limit=purpose.largest)
            if purpose.deepens and most is not None:
                deeper = deepened(rule, members, layers, int(most))
                if deeper is not None:
                    yield Contender(*deeper, layers, device=device, limit=purpose.largest)


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
    """Return what to sort by: of equal topologies, the default one, then the shortest spec."""
    spec = str(one.rule)
    return key, spec != DEFAULT, len(spec), spec


def _ranked(contenders: list[Contender], purpose: Purpose) -> Iterator[Contender]:
    """Yield the suitable topologies in order, and build and measure no more than necessary.

    A topology is first sorted by lower bounds on its values that need no network, and by its values
    as soon as it comes first. Topologies with the networks of an earlier one are added to `also`.
    """
    order = [_order(one, purpose.least_key(one)) for one in contenders]
    queue = [(key, k, False) for k, key in enumerate(order)]
    heapq.heapify(queue)
    last: list[Contender] = []  # those with the values of the one before
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
        return f"no dense network {where}{small} suits {purpose.name}; give a larger largest"
    asked = " and ".join(in_units(*limit) for limit in limits.items())
    told = []
    for name, limit in limits.items():
        others = {other: most for other, most in limits.items() if other != name}
        rest = [one for one in suited if _fits(one, others)]
        if rest:
            best = min(rest, key=lambda one: (getattr(one, name), len(str(one.rule))))
            least = getattr(best, name)
            if least > limit:
                beside = " within the rest of the budget" if others else ""
                told.append(f"the least is {in_units(name, least)}{beside}, for {best.rule}")
    if not told:
        for name in limits:
            best = min(suited, key=lambda one: (getattr(one, name), len(str(one.rule))))
            told.append(f"the least is {in_units(name, getattr(best, name))}, for {best.rule}")
    return f"budget of {asked} {where}: no dense network suits {purpose.name}; {'; '.join(told)}"


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
        proved = one.universality is not None and "dimension" not in one.universality
        evidence["universal"] = "proved" if proved else "not proved"
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


def _notes(considered: int, device: str, *, measured: bool) -> tuple[str, ...]:
    seconds = (
        "Time is measured on this machine with numpy, for 256 vectors."
        if measured
        else f"Time is modelled, not measured: operations and bytes of {TOKENS:,} vectors in"
        f" float32 ({device})."
    )
    return (
        f"{counted(considered, 'dense topology is', 'dense topologies are')} within the budget;"
        " density is proved.",
        f"Mixing of 0 is proved by unique paths; other values are computed, and at most {NEAR}"
        " counts as nearly exact. The dimension is a proved upper bound.",
        seconds,
    )
