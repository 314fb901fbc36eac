"""Rules that map a width to a network, and their composition by products, repetition and more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from operator import matmul
from typing import TYPE_CHECKING, Any

from structmat.errors import (
    SpecError,
    WidthError,
    abbreviated,
    checked_width,
)
from structmat.families.composed_claims import COMBINED, Known
from structmat.families.registry import Claims
from structmat.families.universal_options import checked_times
from structmat.networks.network import Network, check_size

if TYPE_CHECKING:
    from structmat.families.spec import Family

_MOST_FAMILIES = 256  # maximum number of families in a composition
_DEEPEST = 32  # maximum number of nested operations


class Rule(ABC):
    """A rule that maps a width to a network: a `Family`, or a `Composition` of families.

    Rules are immutable, hashable values. Call a rule with a width to build the network; `str`
    converts it to its spec, which `structmat.parse` reads. The operations are those of `Network`,
    and commute with building: `(a @ b)(width) == a(width) @ b(width)`.

    Examples
    --------
    >>> from structmat import parse
    >>> butterfly, benes = parse("butterfly"), parse("benes")
    >>> print(butterfly * 2, benes @ butterfly.T, butterfly.mirror()[:3], sep="; ")
    butterfly * 2; benes @ reverse(butterfly); mirror(butterfly)[:3]
    >>> (butterfly * 2)(8) == butterfly(8) * 2
    True
    """

    __array_ufunc__ = None  # makes `array @ rule` an error instead of an elementwise operation
    __iter__ = None  # `rule[:k]` does not make a rule a sequence

    @abstractmethod
    def __call__(self, width: int) -> Network:
        """Return the network of this width.

        Raises
        ------
        WidthError
            If there is none.
        """

    @abstractmethod
    def accepts(self, width: int) -> bool:
        """Return whether the rule has a network of this width.

        Raises
        ------
        StructmatError
            If an option of a family is invalid.
        """

    @abstractmethod
    def claims(self, width: int) -> Claims:
        """Return what is known about the network of this width without building it.

        Raises
        ------
        WidthError
            If the rule does not accept this width.
        """

    @property
    @abstractmethod
    def families(self) -> tuple[Family, ...]:
        """The families of which the rule is composed, from left to right."""

    @property
    def has_depth(self) -> bool:
        """Whether the rule is a family with an option `depth`."""
        return False

    @abstractmethod
    def map(self, function: Callable[[Family], Rule]) -> Rule:
        """Return the rule with each family replaced by the value of `function` for it."""

    def with_options(self, **options: Any) -> Rule:
        """Return the rule with the given options of its family set.

        Raises
        ------
        SpecError
            If the rule is composed of several families, or the family lacks an option.

        Examples
        --------
        >>> from structmat import parse
        >>> print(parse("butterfly * 2").with_options(block=4))
        butterfly(block=4) * 2
        """
        if len(self.families) > 1:
            raise SpecError(
                f"{self}: it has {len(self.families)} families; set the options of each before"
                " composing them"
            )
        return self.map(lambda family: family.with_options(**options))

    def then(self, other: Rule) -> Rule:
        """Return the composition of two rules, of which this one acts first.

        Raises
        ------
        SpecError
            If `other` is not a rule, or the composition has more than 256 families.

        Examples
        --------
        >>> from structmat import parse
        >>> print(parse("butterfly").then(parse("benes")))
        benes @ butterfly
        """
        if not isinstance(other, Rule):
            raise SpecError(
                f"{abbreviated(other)}: only a family or composition can follow {self}; make one"
                " with structmat.parse"
            )
        return Composition("then", (*_factors(other), *_factors(self)))

    def __matmul__(self, other: Rule) -> Rule:
        """Return the product `self @ other`, in which `other` acts first, as for matrices."""
        if not isinstance(other, Rule):
            return NotImplemented
        return other.then(self)

    def repeat(self, times: int) -> Rule:
        """Return the rule whose networks are those of this rule, repeated `times` times.

        Raises
        ------
        StructmatError
            If `times` is not an integer of at least 1 and at most 640 digits.
        """
        count = checked_times(times)
        return self if count == 1 else Composition("repeat", (self,), count)

    def __mul__(self, times: int) -> Rule:
        """Return the rule repeated `times` times in sequence (see `repeat`)."""
        return self.repeat(times)

    def __pow__(self, times: int) -> Rule:
        """Return the rule repeated `times` times in sequence, as for matrices."""
        return self.repeat(times)

    def inverse(self) -> Rule:
        """Return the rule for Rᵀ, with the stages in reverse order (see `Network.inverse`)."""
        return Composition("reverse", (self,))

    @property
    def T(self) -> Rule:  # noqa: N802 (as numpy calls it)
        """The rule for Rᵀ (see `inverse`)."""
        return self.inverse()

    def mirror(self) -> Rule:
        """Return the rule followed by its inverse, with a common middle stage.

        Examples
        --------
        >>> from structmat import benes, parse
        >>> parse("mirror(baseline)")(8) == benes(8)
        True
        """
        return Composition("mirror", (self,))

    def __getitem__(self, which: slice) -> Rule:
        """Return the rule for the k leading stages, `rule[:k]`, or for all if there are fewer.

        Raises
        ------
        SpecError
            For other slices and for indices, which depend on the width.
        """
        return Composition("leading", (self,), _stages(self, which))


@dataclass(frozen=True)
class Composition(Rule):
    """A rule made from others by an operation, as in "butterfly * 2" or "mirror(baseline)".

    Compositions are made by `structmat.parse` and by the operations of a `Rule`, which choose the
    same form for the same composition: products are flat, and nested repetitions are combined.

    Attributes
    ----------
    operation : str
        "then", "repeat", "reverse", "mirror" or "leading".
    rules : tuple of Rule
        One or, for "then", at least two, of which the last acts first.
    count : int
        The number of repetitions or of leading stages; otherwise 1.

    Raises
    ------
    SpecError
        If the composition has more than 256 families or 32 nested operations.

    Examples
    --------
    >>> from structmat import parse
    >>> cycled = parse("butterfly(block=4) * 2")
    >>> cycled(64).depth, cycled.claims(64).dense_at
    (10, 5)
    """

    operation: str
    rules: tuple[Rule, ...]
    count: int = 1

    def __post_init__(self) -> None:
        if (several := len(self.families)) > _MOST_FAMILIES:
            raise SpecError(
                f"a composition of {several:,} families: it must have at most {_MOST_FAMILIES};"
                " build the network in Python"
            )
        if (depth := _nesting(self)) > _DEEPEST:
            raise SpecError(
                f"{depth} nested operations: a topology must have at most {_DEEPEST}; build the"
                " network in Python"
            )

    def __call__(self, width: int) -> Network:
        """Return the network of this width.

        Raises
        ------
        WidthError
            If a family does not accept this width.
        StructmatError
            If width × stages exceeds 2^25.
        """
        size = self._accepted(width)
        depth = self.claims(size).depth
        if depth is not None:
            check_size(self, size, depth)
        nets: list[Network] = []
        for rule in self.rules:
            nets.append(rule(size))
            check_size(self, size, sum(net.depth for net in nets))
        net: Network = _APPLIED[self.operation](nets, self.count)
        return net

    def accepts(self, width: int) -> bool:
        """Return whether every family accepts this width.

        Raises
        ------
        StructmatError
            If an option of a family is invalid.

        Examples
        --------
        >>> from structmat import parse
        >>> parse("butterfly @ shuffle(block=3)").accepts(8)
        False
        """
        return all(family.accepts(width) for family in self.families)

    def claims(self, width: int) -> Claims:
        """Return the claims that follow from those of the families.

        A product is dense if one of its factors is: each wire at the beginning of this factor is
        influenced by some input, and each wire at its end influences some output.

        Raises
        ------
        WidthError
            If a family does not accept this width.

        Examples
        --------
        >>> from structmat import parse
        >>> parse("mirror(butterfly)").claims(64)
        Claims(depth=11, parameters=352, dense=True, dense_at=6, like=None)
        """
        return _known(self, self._accepted(width)).claims

    def _accepted(self, width: int) -> int:
        """Return the width as an int, or raise the error of the first family that rejects it."""
        size = checked_width(width)
        for family in self.families:
            if not family.accepts(size):
                try:
                    family(size)
                except WidthError as error:
                    raise WidthError(f"{self} at width {size}: {error}") from None
        return size

    @property
    def families(self) -> tuple[Family, ...]:
        """The families of which the rule is composed, from left to right."""
        return tuple(family for rule in self.rules for family in rule.families)

    def map(self, function: Callable[[Family], Rule]) -> Rule:
        """Return the composition with each family replaced by the value of `function` for it.

        Examples
        --------
        >>> from structmat import parse
        >>> print(parse("mirror(butterfly) @ benes").map(lambda family: family * 2))
        mirror(butterfly * 2) @ (benes * 2)
        """
        mapped: Rule = _APPLIED[self.operation](
            [rule.map(function) for rule in self.rules], self.count
        )
        return mapped

    def repeat(self, times: int) -> Rule:
        """Return the composition repeated `times` times in sequence."""
        count = checked_times(times)
        if self.operation != "repeat":
            return super().repeat(count)
        return self.rules[0].repeat(checked_times(count * self.count))

    def inverse(self) -> Rule:
        """Return the rule for Rᵀ, with the stages in reverse order."""
        match self.operation:
            case "reverse":
                return self.rules[0]
            case "mirror":  # it is its own inverse
                return self
            case _:
                return super().inverse()

    def __getitem__(self, which: slice) -> Rule:
        """Return the rule for the leading stages, `rule[:k]`."""
        if self.operation != "leading":
            return super().__getitem__(which)
        return replace(self, count=min(self.count, _stages(self, which)))

    def __str__(self) -> str:
        match self.operation:
            case "then":
                return " @ ".join(_bracketed(rule, "repeat") for rule in self.rules)
            case "repeat":
                return f"{_bracketed(self.rules[0], 'then')} * {self.count}"
            case "leading":
                return f"{_bracketed(self.rules[0], 'then', 'repeat')}[:{self.count}]"
            case _:
                return f"{self.operation}({self.rules[0]})"


def _stages(rule: Rule, which: Any) -> int:
    """Return the number of leading stages that a slice selects."""
    if not isinstance(which, slice) or which.start not in (None, 0) or which.step is not None:
        raise SpecError(
            f"{rule}: only leading stages can be selected, as in [:3]; to select others, build the"
            " network first"
        )
    return checked_times(which.stop, "stages")


def _nesting(rule: Rule) -> int:
    return 1 + max(map(_nesting, rule.rules)) if isinstance(rule, Composition) else 0


def _factors(rule: Rule) -> tuple[Rule, ...]:
    return rule.rules if isinstance(rule, Composition) and rule.operation == "then" else (rule,)


def _bracketed(rule: Rule, *operations: str) -> str:
    """Return the spec of a rule, in parentheses if it is the result of one of the operations."""
    if isinstance(rule, Composition) and rule.operation in operations:
        return f"({rule})"
    return str(rule)


# The operations, which apply to networks and to rules.
_APPLIED: dict[str, Callable[[list[Any], int], Any]] = {
    "then": lambda parts, _: reduce(matmul, parts),
    "repeat": lambda parts, count: parts[0].repeat(count),
    "reverse": lambda parts, _: parts[0].inverse(),
    "mirror": lambda parts, _: parts[0].mirror(),
    "leading": lambda parts, count: parts[0][:count],
}


def _known(rule: Rule, width: int) -> Known:
    """Return what the families claim about a rule at a width that it accepts."""
    if isinstance(rule, Composition):
        parts = [_known(part, width) for part in rule.rules]
        return COMBINED[rule.operation](parts, rule.count)

    def leading(stages: int) -> Claims:
        if rule.has_depth:
            shallow = rule.with_options(depth=stages)
            if shallow.accepts(width):
                return shallow.claims(width)
        return Claims()

    return Known(rule.claims(width), leading)
