"""Families as values: the name of a registered family, with options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from structmat.errors import (
    FamilyError,
    SpecError,
    StructmatError,
    abbreviated,
    check_digits,
    checked_width,
    plain,
)
from structmat.families.composition import Rule
from structmat.families.registration_checks import example, no_option, worded
from structmat.families.registry import Claims, blamed, canonical, entry
from structmat.families.universal_options import UNIVERSAL, applied, checked_times, separated
from structmat.networks.network import Network


@dataclass(frozen=True)
class Family(Rule):
    """A rule from a width to a network: the name of a registered family with options.

    Call a family with a width to build the network; `str` converts it to its spec. Families are
    hashable: option values are stored as numbers, strings, None or tuples of these.

    Raises
    ------
    SpecError
        If an option value has another type, or is an integer of more than 640 digits.

    Examples
    --------
    >>> boft = Family("butterfly", (("block", 8), ("depth", 2)))
    >>> boft(64)
    Network(width=64, depth=2, parameters=448)
    >>> print(boft)
    butterfly(block=8, depth=2)
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        kept = tuple((key, _kept(self.name, key, value)) for key, value in self.options)
        object.__setattr__(self, "options", kept)

    def __call__(self, width: int) -> Network:
        """Return the network of this width.

        Raises
        ------
        WidthError
            If there is none.
        FamilyError
            If the function of the family fails, or does not return such a Network.
        """
        with blamed(self, width):
            net: Any = entry(self.name).build(width, **dict(self.options))
        if not isinstance(net, Network) or net.width != width:
            raise FamilyError(
                f"{self} at width {width}: a family returns a Network of that width, not"
                f" {abbreviated(net)}"
            )
        return net

    def __str__(self) -> str:
        if not self.options:
            return self.name
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.options)})"

    def with_options(self, **options: Any) -> Family:
        """Return the family with the given options set.

        Examples
        --------
        >>> print(Family("shuffle", (("block", 4),)).with_options(depth=3))
        shuffle(block=4, depth=3)
        """
        return _checked(self.name, dict(self.options) | options, str(self))

    def accepts(self, width: int) -> bool:
        """Return whether the family has a network of this width.

        Raises
        ------
        StructmatError
            If an option is invalid, or the options exclude each other.

        Examples
        --------
        >>> boft = Family("butterfly", (("block", 4),))
        >>> boft.accepts(32), boft.accepts(48)
        (True, False)
        """
        known, size = entry(self.name), checked_width(width)
        with blamed(self, size):
            rule = known.refuses(size, **known.filled(size, dict(self.options)))
        return worded(rule, str(self), size) is None

    def claims(self, width: int) -> Claims:
        """Return the claims of the family about its network of this width, without building it.

        Raises
        ------
        WidthError
            If the family does not accept this width.
        FamilyError
            If the function of the family fails, or does not return Claims.

        Examples
        --------
        >>> Family("butterfly", (("block", 8),)).claims(64)
        Claims(depth=4, parameters=896, dense=True, dense_at=4, like=None)
        """
        known, size = entry(self.name), checked_width(width)
        if not self.accepts(size):
            self(size)  # raises an error with the reason
        with blamed(self, size):
            claims = known.claims(size, **known.filled(size, dict(self.options)))
        if not isinstance(claims, Claims):
            raise FamilyError(
                f"{self} at width {size}: the claims of a family return"
                f" structmat.families.Claims(…), not {abbreviated(claims)}"
            )
        return claims

    @property
    def has_depth(self) -> bool:
        """Whether the family has an option `depth`."""
        return "depth" in entry(self.name).options

    @property
    def families(self) -> tuple[Family, ...]:
        """The family itself."""
        return (self,)

    def map(self, function: Callable[[Family], Rule]) -> Rule:
        """Return the value of `function` for this family."""
        return function(self)

    def repeat(self, times: int) -> Rule:
        """Return the family repeated `times` times: by its own option `repeat`, if it has one.

        Examples
        --------
        >>> print(Family("butterfly") * 2, Family("hypercube") * 2)
        butterfly * 2 hypercube(repeat=2)
        """
        own = self._own("repeat")
        if own is None:
            return super().repeat(times)
        count = checked_times(times)
        return self if count == 1 else self.with_options(repeat=count * checked_times(own))

    def inverse(self) -> Rule:
        """Return the rule for Rᵀ: by the family's own option `reverse`, if it has one.

        Examples
        --------
        >>> print(Family("butterfly").T, Family("mixed_radix").T, Family("mixed_radix").T.T)
        reverse(butterfly) mixed_radix(reverse=True) mixed_radix
        """
        own = self._own("reverse")
        if own is None:
            return super().inverse()
        if not own:
            return self.with_options(reverse=True)
        return Family(self.name, tuple(pair for pair in self.options if pair[0] != "reverse"))

    def _own(self, option: str) -> Any:
        """Return the value of an option, or None if the family has no such option."""
        parameter = entry(self.name).options.get(option)
        return parameter and dict(self.options).get(option, parameter.default)


def _kept(name: str, key: str, value: Any) -> Any:
    try:
        kept = plain(value)
    except (TypeError, ValueError, RecursionError):
        raise SpecError(
            f"{name}: {key}={abbreviated(value)}: the value of an option must be a number, a"
            " string, None, or a tuple of these"
        ) from None
    check_digits(kept, f"{name}: {key}")
    return kept


def checked_family(name: str, options: dict[str, Any], spec: str) -> Rule:
    """Return the family with this name or alias and these options, and apply the universal ones.

    Raises
    ------
    SpecError
        If the name or an option is unknown, or a required option is missing; the message begins
        with the spec.

    Examples
    --------
    >>> print(checked_family("fft", {"repeat": 2}, "fft(repeat=2)"))
    butterfly * 2
    """
    name, preset = canonical(name)
    own, universal = separated({**preset, **options}, entry(name).options)
    made = _checked(name, own, spec)
    try:
        rule: Rule = applied(made, universal)
    except StructmatError as error:
        raise SpecError(f"{abbreviated(spec)}: {error}") from None
    return rule


def _checked(name: str, options: dict[str, Any], spec: str) -> Family:
    known = entry(name)
    if "width" in options:
        rule = Family(name, tuple((k, value) for k, value in options.items() if k != "width"))
        raise SpecError(
            f"{abbreviated(spec)}: the width is not an option; give it separately, as in"
            f' parse("{rule}")({abbreviated(options["width"])}); on the command line by --width'
        )
    for key in options:
        if key in UNIVERSAL and key not in known.options:
            raise SpecError(
                f"{abbreviated(spec)}: {key} is an operation on {name}, not an option of it; use"
                " repeat(times), inverse() or mirror()"
            )
        if key not in known.options:
            raise SpecError(f"{abbreviated(spec)}: {no_option(name, key, known.options)}")
    for key, parameter in known.options.items():
        if parameter.default is parameter.empty and key not in options:
            raise SpecError(
                f"{abbreviated(spec)}: {name} needs the option {key}{example(name, key)}"
            )
    return Family(name, tuple(options.items()))
