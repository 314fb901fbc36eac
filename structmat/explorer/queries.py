"""Queries that the page sends: a spec, or a network drawn by hand."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from structmat.errors import SpecError, StructmatError, abbreviated, checked_integer
from structmat.families import Composition, Family, Rule, parse
from structmat.families.registry import entry
from structmat.networks.network import Network

WIDEST = 1024  # maximum width; most questions are answered within a second
DRAWN = 64  # maximum width of a legible drawing
_NODES = 2**20  # maximum of width × stages
_READING = threading.Lock()
_LARGEST = 1024  # maximum number in an option; a huge depth would exhaust memory


class Asked(NamedTuple):
    """A network, and its rule, a family or composition, unless the network was drawn."""

    network: Network
    rule: Rule | None


def asked(question: Any) -> Asked:
    """Return the network of a question.

    Parameters
    ----------
    question : mapping
        A width, and either a spec or the stages of a drawing: lists of switches, which are lists of
        wires.

    Raises
    ------
    StructmatError
        If the question is invalid or would take too long, or the library rejects the network.

    Examples
    --------
    >>> asked({"spec": "butterfly(block=4)", "width": 16}).network
    Network(width=16, depth=3, parameters=72)
    >>> asked({"width": 3, "stages": [[[0, 1]], [[1, 2]]]})
    Asked(network=Network(width=3, depth=2, parameters=2), rule=None)
    >>> asked({"spec": "butterfly", "width": 2048})
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: width=2048: the explorer accepts up to 1,024 wires; \
in Python and for `structmat show` there is no such limit
    """
    if not isinstance(question, Mapping):
        raise SpecError(
            f"{abbreviated(question)}: a question is an object with a width and a spec or stages"
        )
    width = _width(question.get("width"))
    if "stages" in question:
        return Asked(_drawn(width, question["stages"]), None)
    rule = named(question.get("spec"))
    depth = rule.claims(width).depth
    _check_size(width, depth or 0)
    net = rule(width)
    _check_size(width, net.depth)
    return Asked(net, rule)


def named(spec: Any) -> Rule:
    """Return the rule of a spec; random families are given a seed, to make them reproducible.

    Raises
    ------
    SpecError
        As for `parse`.
    StructmatError
        If an option is a number above 1,024.

    Examples
    --------
    >>> print(named("random(block=4, depth=2)"))
    random(block=4, depth=2, rng=0)
    """
    rule = _parsed(spec)
    _check_counts(rule)
    return rule.map(_seeded)


def _seeded(family: Family) -> Family:
    for name, value in family.options:
        _check_option(family, name, value)
    if "rng" in entry(family.name).options and dict(family.options).get("rng") is None:
        return family.with_options(rng=0)
    return family


def _check_counts(rule: Rule) -> None:
    """Check the numbers of repetitions, whose product may exceed the limit."""
    if isinstance(rule, Composition):
        if rule.count > _LARGEST:
            raise StructmatError(
                f"{rule}: the explorer accepts numbers up to {_LARGEST:,}; in Python there is no"
                " such limit"
            )
        for part in rule.rules:
            _check_counts(part)


def _parsed(spec: Any) -> Rule:
    """Parse a spec, one at a time across threads.

    In Python 3.11, the parser can fail if several threads use it (SystemError, recursion depth).
    """
    with _READING:
        return parse(spec)


def _width(value: Any) -> int:
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise StructmatError(f"width={abbreviated(value)}: width must be an integer") from None
    width = checked_integer(value, "width", 1)
    if width > WIDEST:
        raise StructmatError(
            f"width={abbreviated(width)}: the explorer accepts up to {WIDEST:,} wires; in Python"
            " and for `structmat show` there is no such limit"
        )
    return width


def _check_option(family: Family, name: str, value: Any) -> None:
    if name == "rng":
        return
    if isinstance(value, tuple):
        for part in value:
            _check_option(family, name, part)
    elif isinstance(value, int | float) and abs(value) > _LARGEST:
        raise StructmatError(
            f"{family.name}({name}={abbreviated(value)}): the explorer accepts numbers up to"
            f" {_LARGEST:,};"
            " in Python there is no such limit"
        )


def _check_size(width: int, depth: int) -> None:
    if width * depth > _NODES:
        raise StructmatError(
            f"{depth:,} stages of {width:,} wires: the explorer accepts width × stages up to"
            f" {_NODES:,}; use fewer stages or wires"
        )


def _drawn(width: int, stages: Any) -> Network:
    if width > DRAWN:
        raise StructmatError(f"width={width}: up to {DRAWN} wires can be drawn by hand")
    if not isinstance(stages, list) or not all(isinstance(stage, list) for stage in stages):
        raise SpecError(
            f"stages={abbreviated(stages)}: give a list of stages, each a list of switches"
        )
    _check_size(width, len(stages))
    return Network.of(width, stages)
