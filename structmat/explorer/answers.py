"""Answers to the questions of the page, as JSON-serialisable values.

The page sends each question under a name, and every source of answers (the server, the data of a
saved page, the widget) returns the same answer. TypeScript types of all of them are in
`web/src/types.ts`.

A question about a network is ``{"width", "spec"}``, ``{"width", "stages"}`` (lists of switches,
which are lists of wires), or ``{"width", "network"}``, where the network is the JSON object of
`Network.to_json`; the page sends the last form back as it received it.

- "network" (for such a question): see `answer`. A number that would take too long to compute is
  None, and `reasons` states why, by the name of the entry.
- "dimension" (for such a question): lower, upper, parameters, ranked, value (None if only bounds
  are known), proved, redundant, late; the answer is None if a newer question of the same page has
  replaced this one.
- "atlas" (for ``{"width"}``): the records of the atlas, see `records`.
- "survey" (for ``{"width", "start"}``): ``{"rows", "next", "refused"}``. The rows begin with number
  `start` (0 if it is missing), and are as many as can be computed in about a second; `next` is the
  start of the next question, or None after the last row. `refused` lists the families without a
  network of this width, as ``{"family", "reason"}``. The answer is None as for "dimension".

A question that the library refuses is answered by ``{"error", "widths"}``: see `refusal`. The
questions "dimension" and "survey" may have a key "page", which identifies the page that asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from structmat.analysis.lower_bounds import lower_bounds
from structmat.errors import StructmatError
from structmat.explorer.drawings import bundles, is_drawable, steps, wires
from structmat.explorer.numbers import connected, density, dimension_value, mixing_value
from structmat.explorer.python_code import code
from structmat.explorer.queries import DRAWN, WIDEST, asked, named
from structmat.families import Family, Rule
from structmat.families.variants import accepts
from structmat.linalg.schedule import schedule
from structmat.networks.network import Network
from structmat.search.atlas.lookup import selected
from structmat.search.atlas.questions import WIDTHS
from structmat.search.atlas.record_file import Record, packaged
from structmat.viz.text_diagram import diagram

_WIDTHS = (
    2,
    3,
    4,
    6,
    8,
    9,
    12,
    16,
    24,
    25,
    27,
    32,
    48,
    64,
    128,
)  # widths suggested if many are accepted
_FEW = 10
_ENOUGH = 5

Answer = dict[str, Any]
RANK = 4000  # argument `largest` of `dimension`: larger ranks take too long for a page


def answer(question: Any) -> Answer:
    """Return the properties of a network that can be computed within about a second.

    Returns
    -------
    dict
        - spec (None if the network was not given by one), form (None if it is not a single family),
          code, widths (valid ones), width, depth, labels, straight
        - stages, for up to 128 wires: see `structmat.explorer.drawings.wires`; otherwise None, with
          densities as bundles (of each stage) and reach (for each of depth + 1 columns), or, if
          there are too many stages for that, with a summary as text
        - parameters, nonzeros, free_edges, bounds, cost (of one vector)
        - reached (the number of pairs of an input and an output that it influences), dense,
          dense_depth, why_not_dense, components (their count and, if there are several, sizes),
          mixing (its value and method): see `structmat.explorer.numbers`
        - permutations: the steps of the schedule, see `structmat.explorer.drawings.steps`
        - reasons: why entries are None, by their names

    Raises
    ------
    StructmatError
        As for `asked`.

    Examples
    --------
    >>> found = answer({"spec": "butterfly(block=4)", "width": 8})
    >>> found["parameters"], found["reached"], found["dense_depth"]
    (24, 64, 2)
    >>> found["stages"][0]
    {'switches': [[[0, 1, 2, 3]], [[4, 5, 6, 7]]], 'moves': [], 'banks': [2]}
    """
    net, rule = asked(question)
    components = connected(net)
    numbers, reasons = density(net, rule)
    mixing = mixing_value(net, separate=components["count"] > 1)
    if mixing is None:
        reasons["mixing"] = "a Lanczos iteration takes too long at this width; use sm.mixing(net)"
    drawable = is_drawable(net)
    coarse = None if drawable else bundles(net)
    if not (drawable or coarse):
        reasons["bundles"] = f"{net.depth:,} stages are too many to show"
    return {
        "spec": None if rule is None else str(rule),
        "form": _form(rule) if isinstance(rule, Family) else None,
        "code": code(net, rule),
        "widths": [] if rule is None else widths(rule),
        "width": net.width,
        "depth": net.depth,
        "labels": _labels(net) if drawable else None,
        "straight": net.is_straight,
        "stages": wires(net) if drawable else None,
        "bundles": coarse and coarse[0],
        "reach": coarse and coarse[1],
        "summary": None if drawable or coarse else diagram(net, columns=96),
        "parameters": net.parameters,
        "nonzeros": net.nonzeros,
        "free_edges": net.free_edges,
        **numbers,
        "components": components,
        "mixing": mixing,
        "bounds": lower_bounds(net).to_dict()["rows"],
        "cost": _cost(net),
        "permutations": steps(net),
        "reasons": reasons,
    }


def dimension_answer(question: Any) -> Answer:
    """Return the dimension of a network, or bounds on it.

    Raises
    ------
    StructmatError
        As for `asked`.

    Examples
    --------
    >>> dimension_answer({"spec": "butterfly", "width": 8})["value"]
    12
    """
    return dimension_value(asked(question).network, largest=RANK)


def refusal(question: Any, error: StructmatError) -> Answer:
    """Return the answer for an error: its message, and valid widths.

    Examples
    --------
    >>> question = {"spec": "benes", "width": 12}
    >>> try:
    ...     answer(question)
    ... except StructmatError as error:
    ...     refusal(question, error)["widths"]
    [2, 4, 8, 16, 32, 64, 128]
    """
    try:
        fitting = widths(named(question.get("spec"))) if isinstance(question, Mapping) else []
    except StructmatError:
        fitting = []
    return {"error": str(error), "widths": fitting}


def widths(rule: Rule) -> list[int]:
    """Return valid widths of a rule: all widths up to 128 if they are few, otherwise a selection.

    The selection consists of the valid ones among common widths or, if there are fewer than five,
    of every k-th valid width.

    Examples
    --------
    >>> from structmat.families import parse
    >>> widths(parse("butterfly(block=4)"))
    [4, 8, 16, 32, 64, 128]
    >>> widths(parse("block_diagonal(block=5)"))
    [5, 20, 35, 50, 65, 80, 95, 110, 125]
    """
    every = [width for width in range(1, DRAWN + 1) if accepts(rule, width)]
    if len(every) <= _FEW:
        return every
    usual = [width for width in _WIDTHS if width in every]
    return usual if len(usual) >= _ENOUGH else every[:: -(-len(every) // _FEW)]


def records(question: Any) -> list[Answer]:
    """Return the records of the atlas at the width of a question, or none if it has no such width.

    Each record has the question of its network, or None if the explorer cannot show it.

    Examples
    --------
    >>> [row for row in records({"width": 16}) if row["purpose"] == "mixing"][0]["value"]
    32
    >>> records({"width": 65})
    []
    """
    width = question.get("width") if isinstance(question, Mapping) else None
    if width not in WIDTHS:
        return []
    rows: dict[str, Answer] = {}
    for record in selected(packaged(), width):
        row: Answer = {
            "purpose": record.purpose,
            "title": record.question.title,
            "blocks": [],
            "value": record.value,
            "bound": record.bound,
            "meets": record.meets,
            "reason": record.reason,
            "topology": record.topology and str(record.topology),
            "question": _question(record),
        }
        rows.setdefault(str(row), row)["blocks"].append(record.block)
    return list(rows.values())


def _question(record: Record) -> Answer | None:
    """Return the question that shows the network of a record, if there is one."""
    topology = record.topology
    if topology is None or record.width > WIDEST:
        return None
    if topology.spec is not None and topology.switches is None:
        return {"spec": topology.spec, "width": record.width}
    if record.width > DRAWN:
        return None
    stages = [[row for bank in s.banks for row in bank.reads.tolist()] for s in topology.network]
    return {"width": record.width, "stages": stages}


def _form(family: Family) -> Answer:
    options = {name: repr(value) for name, value in family.options}
    return {"family": family.name, "options": options}


def _labels(net: Network) -> list[str] | None:
    return None if net.labels is None else [str(label) for label in net.labels]


def _cost(net: Network) -> Answer:
    plan = schedule(net)
    one = plan.cost(1)
    return {
        "flops": one.flops,
        "dense": 2 * net.width**2,
        "bytes": one.bytes,
        "launches": one.launches,
        "steps": [str(step) for step in plan.steps],
    }
