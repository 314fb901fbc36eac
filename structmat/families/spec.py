"""Families as values, and spec strings such as "butterfly(block=8, depth=2)"."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from structmat.errors import FamilyError, SpecError, abbreviated, check_digits, checked_width, plain
from structmat.families.registration_checks import example, no_option, worded
from structmat.families.registry import Claims, blamed, canonical, entry
from structmat.networks.network import Network

_LONGEST = 2**16  # characters; Python's parser uses some hundred bytes per character


@dataclass(frozen=True)
class Family:
    """A rule from a width to a network: the name of a registered family with options.

    Call a family with a width to build the network; `str` converts it to its spec. Families are
    hashable: option values are stored as numbers, strings, None or tuples of these.

    Raises
    ------
    SpecError
        If an option value has another type, or is an integer of more than 640 digits.

    Examples
    --------
    >>> boft = parse("butterfly(block=8, depth=2)")
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
        >>> print(parse("shuffle(block=4)").with_options(depth=3))
        shuffle(block=4, depth=3)
        """
        return _family(self.name, dict(self.options) | options, str(self))

    def accepts(self, width: int) -> bool:
        """Return whether the family has a network of this width.

        Raises
        ------
        StructmatError
            If an option is invalid, or the options exclude each other.

        Examples
        --------
        >>> boft = parse("butterfly(block=4)")
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
        >>> parse("butterfly(block=8)").claims(64)
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


def parse(spec: str) -> Family:
    """Return the family described by a spec string.

    A spec is a name, optionally followed by options, whose values are numbers, strings, None, or
    tuples of these. It is parsed, not evaluated. Names from the literature are accepted, too: boft
    and fft (butterfly), oft (block_diagonal), gsoft (shuffle of depth 2), clements (brickwall) and
    reck (triangle).

    Raises
    ------
    SpecError
        If the spec does not parse, has an unknown name or option, or lacks a required option.

    Examples
    --------
    >>> parse("monarch(radices=(16, 24))")(384)
    Network(width=384, depth=2, parameters=7296)
    >>> print(parse("boft(block=8, depth=4)"))
    butterfly(block=8, depth=4)
    >>> parse("buterfly")
    Traceback (most recent call last):
    ...
    structmat.errors.UnknownFamilyError: no family 'buterfly'; did you mean butterfly?
    """
    form = 'a spec looks like "butterfly(block=8, depth=2)"'
    if not isinstance(spec, str):
        raise SpecError(f"{abbreviated(spec)}: a spec is a string; {form}")
    if len(spec) > _LONGEST:
        raise SpecError(
            f"a spec of {len(spec):,} characters: it must have at most {_LONGEST:,}; build the"
            " network in Python and save it with Network.to_json"
        )
    try:
        tree = ast.parse(spec.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise SpecError(f"{abbreviated(spec)} cannot be parsed; {form}") from None
    if isinstance(tree, ast.Name):
        return _family(tree.id, {}, spec)
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise SpecError(f"{abbreviated(spec)} is not a name with options; {form}")
    entry(canonical(tree.func.id)[0])  # an unknown name is an error before any of its options
    if tree.args or any(keyword.arg is None for keyword in tree.keywords):
        raise SpecError(f"{abbreviated(spec)}: options are written name=value; {form}")
    options: dict[str, Any] = {}
    for keyword in tree.keywords:
        key = str(keyword.arg)
        if key in options:
            raise SpecError(f"{abbreviated(spec)}: {key} is repeated; give one value")
        try:
            options[key] = plain(ast.literal_eval(keyword.value))
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            text = keyword.value.id if isinstance(keyword.value, ast.Name) else "text"
            raise SpecError(
                f"{abbreviated(spec)}: the value of {key} must be a literal such as 8 or (2, 3), or"
                f" a string in quotes, as in {key}={abbreviated(text)}"
            ) from None
    return _family(tree.func.id, options, spec)


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


def _family(name: str, options: dict[str, Any], spec: str) -> Family:
    name, preset = canonical(name)
    options = {**preset, **options}
    known = entry(name)
    if "width" in options:
        rule = Family(name, tuple((k, value) for k, value in options.items() if k != "width"))
        raise SpecError(
            f"{abbreviated(spec)}: the width is not an option; give it separately, as in"
            f' parse("{rule}")({abbreviated(options["width"])}); on the command line by --width'
        )
    for key in options:
        if key not in known.options:
            raise SpecError(f"{abbreviated(spec)}: {no_option(name, key, known.options)}")
    for key, parameter in known.options.items():
        if parameter.default is parameter.empty and key not in options:
            raise SpecError(
                f"{abbreviated(spec)}: {name} needs the option {key}{example(name, key)}"
            )
    return Family(name, tuple(options.items()))


def as_family(family: Family | str) -> Family:
    """Return a family, parsing it if it is given as a spec string.

    Raises
    ------
    SpecError
        For an invalid spec, and for any other value.
    """
    return family if isinstance(family, Family) else parse(family)
