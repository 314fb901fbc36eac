"""Purposes of a topology: what each requires, and in which order it prefers topologies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from structmat.errors import StructmatError, abbreviated, suggest
from structmat.search.choice.budgets import in_digits
from structmat.search.choice.contender import FULL, Contender
from structmat.search.objectives import OBJECTIVES, Objective, objective

_MIXING = ("exact mixing", "nearly exact mixing", "uneven mixing")


@dataclass(frozen=True)
class Criterion:
    """A number by which a purpose compares topologies: a smaller one is better.

    Attributes
    ----------
    name : str
    value : Contender → number
    least : Contender → number
        A lower bound on the value that is known without building the network.
    text : Contender → str
        The value in words.
    """

    name: str
    value: Callable[[Contender], float]
    least: Callable[[Contender], float]
    text: Callable[[Contender], str]


@dataclass(frozen=True)
class Purpose:
    """A purpose of a topology.

    Attributes
    ----------
    name : str
    summary : str
        What is preferred, in one sentence.
    order : tuple of Criterion
        In order of priority; a later one decides between topologies that are equal in the others.
    straight : bool
        Whether identity blocks must give the identity matrix.
    largest : int or None
        The default limit on the largest radix.
    bounds : tuple of (str, str)
        The goals and quantities whose lower bounds are shown.
    universal : bool
        Whether all rotations must be represented.
    deepens : bool
        Whether more stages are useful as long as the budget allows them.
    """

    name: str
    summary: str
    order: tuple[Criterion, ...]
    straight: bool = False
    largest: int | None = None
    bounds: tuple[tuple[str, str], ...] = ()
    universal: bool = False
    deepens: bool = False

    def key(self, one: Contender) -> tuple[float, ...]:
        """Return the values of the criteria, of which smaller ones are better."""
        return tuple(criterion.value(one) for criterion in self.order)

    def least_key(self, one: Contender) -> tuple[float, ...]:
        """Return lower bounds on the values that need no network."""
        return tuple(criterion.least(one) for criterion in self.order)

    def reason(self, one: Contender, best: Contender) -> str:
        """Return why a topology is the best, or the first criterion in which the best is better."""
        if one is best:
            return "; ".join(criterion.text(one) for criterion in self.order)
        for criterion in self.order:
            own, other = criterion.value(one), criterion.value(best)
            if own > other:
                return _worse(criterion, one, best)
        return "as good as the first"


def _worse(criterion: Criterion, one: Contender, best: Contender) -> str:
    if criterion is UNIVERSAL:
        return "it has the dimension of all rotations, but is not known to represent each"
    if criterion is not TIME:
        return f"{criterion.text(one)} instead of {criterion.text(best)}"
    if one.depth != best.depth:
        stages = f"{one.depth:,} instead of {best.depth:,} stages"
        return f"{stages}, and {one.time / best.time - 1:.0%} more time"
    return (
        f"as many stages, but {one.parameters:,} instead of {best.parameters:,} parameters, and"
        f" {one.time / best.time - 1:.1%} more time"
    )


def _counted(name: str, noun: str) -> Criterion:
    def value(one: Contender) -> float:
        return float(getattr(one, name))

    return Criterion(name, value, value, lambda one: f"{getattr(one, name):,} {noun}")


def _zero(_: Contender) -> float:
    return 0.0


def _unknown(_: Contender) -> float:
    return -math.inf


def _mixing_text(one: Contender) -> str:
    if one.mixing_class == 0:
        return _MIXING[0]
    return f"{_MIXING[one.mixing_class]} ({in_digits(one.mixing)})"


MIXING = Criterion(
    "mixing",
    lambda one: one.mixing_class,
    lambda one: 0 if one.may_be_exact else 1,
    _mixing_text,
)
TIME = Criterion(
    "time",
    lambda one: one.time,
    lambda one: one.time,
    lambda one: f"{one.depth:,} stage{'s' * (one.depth > 1)}, {1e3 * one.time:.3g} ms",
)
PARAMETERS = _counted("parameters", "parameters")
DEPTH = _counted("depth", "stages")
DIMENSION = Criterion(  # an upper bound; of two full ones, a universal topology is preferred
    "dimension",
    lambda one: -one.dimension - bool(one.proof),
    lambda one: -min(one.parameters, one.group) - bool(one.proof),
    lambda one: "every rotation" if one.proof else f"at most {one.dimension:,} dimensions",
)
UNIVERSAL = Criterion(
    "universal",
    lambda one: 1 if one.universality == FULL else 0,
    _zero,
    lambda one: str(one.universality),
)

PURPOSES: Mapping[str, Purpose] = {
    purpose.name: purpose
    for purpose in (
        Purpose(
            "finetune",
            "exact or else nearly exact mixing, then the least time, then the fewest parameters;"
            " straight, with small switches",
            (MIXING, TIME, PARAMETERS),
            straight=True,
            largest=16,
            bounds=(("dense", "depth"), ("dense", "parameters"), ("mixing", "parameters")),
        ),
        Purpose(
            "fit",
            "the most dimensions, by an upper bound, then exact or nearly exact mixing, then the"
            " least time; 2×2 switches",
            (DIMENSION, MIXING, TIME),
            largest=2,
            bounds=(("universal", "parameters"),),
            deepens=True,
        ),
        Purpose(
            "mix",
            "exact or else nearly exact mixing, then the fewest parameters; small switches",
            (MIXING, PARAMETERS, DEPTH),
            largest=16,
            bounds=(("mixing", "parameters"), ("dense", "depth")),
        ),
        Purpose(
            "universal",
            "every rotation, with the fewest parameters, then the fewest stages, of 2×2 switches",
            (UNIVERSAL, PARAMETERS, DEPTH),
            largest=2,
            bounds=(("universal", "parameters"), ("universal", "depth")),
            universal=True,
            deepens=True,
        ),
        Purpose(
            "fast",
            "the least time, then the fewest parameters",
            (TIME, PARAMETERS),
            bounds=(("dense", "depth"), ("dense", "parameters")),
        ),
    )
}


def purpose_of(given: Any) -> Purpose:
    """Return the purpose with a given name, or that of an objective or a function of a network.

    Raises
    ------
    StructmatError
        If it is neither the name of a purpose nor an objective, a function or the name of one.

    Examples
    --------
    >>> purpose_of("mix").largest
    16
    >>> purpose_of("mixin")
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: purpose 'mixin': unknown; did you mean mixing or mix?
    """
    if isinstance(given, Purpose):
        return given
    if isinstance(given, str) and given in PURPOSES:
        return PURPOSES[given]
    if isinstance(given, str) and given not in OBJECTIVES:
        known = [*PURPOSES, *OBJECTIVES]
        fallback = f"the purposes are {', '.join(PURPOSES)}; a function of a network is one, too"
        raise StructmatError(
            f"purpose {abbreviated(given)}: unknown{suggest(given, known, fallback)}"
        )
    if not isinstance(given, str | Objective) and not callable(given):
        raise StructmatError(
            f"purpose={abbreviated(given)}: it must be {', '.join(PURPOSES)}, an objective, or a"
            " function of a network"
        )
    return _measured(objective(given))


def _measured(asked: Objective) -> Purpose:
    """Return the purpose that minimises or maximises an objective, summed over the layers."""
    sign = -1.0 if asked.direction == "maximize" else 1.0
    values: dict[tuple[Any, int], float] = {}

    def total(one: Contender) -> float:
        for width, net in one.networks.items():
            if (one.rule, width) not in values:
                values[one.rule, width] = asked.measure(net)
        return math.fsum(count * values[one.rule, width] for width, count in one.layers.items())

    criterion = Criterion(
        asked.name,
        lambda one: sign * total(one),
        _unknown,
        lambda one: f"{asked.name} {total(one):.4g}",
    )
    best = "largest" if sign < 0 else "smallest"
    return Purpose(
        asked.name, f"the {best} value of {asked.name}, then the least time", (criterion, TIME)
    )
