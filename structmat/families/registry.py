"""The registry of families, and spec strings such as "butterfly(block=8, depth=2)"."""

from __future__ import annotations

import ast
import functools
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec

from structmat.errors import SpecError, WidthError, suggest, whole
from structmat.network import Network

P = ParamSpec("P")
Refusal = Callable[..., str | None]

_MOST_STEPS = 65_536  # how far from a refused width the nearest valid one is looked for


@dataclass(frozen=True)
class Entry:
    """One registered family: its function, which widths it takes, and why it refuses others."""

    name: str
    build: Callable[..., Network]
    widths: str
    refuses: Refusal

    @property
    def signature(self) -> inspect.Signature:
        """The options, with the defaults; the width comes first."""
        return inspect.signature(self.build)

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return (inspect.getdoc(self.build) or "").split("\n\n")[0].replace("\n", " ")

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The parameters after the width."""
        return dict(list(self.signature.parameters.items())[1:])


_ENTRIES: dict[str, Entry] = {}


def _takes_any(*_: object, **__: object) -> str | None:
    return None


def family(
    widths: str, refuses: Refusal = _takes_any
) -> Callable[[Callable[P, Network]], Callable[P, Network]]:
    """Register a function (width, options…) → Network under its own name.

    Parameters
    ----------
    widths : str
        Which widths it takes, in words, for tables and errors.
    refuses : callable
        Called with the width and all options, defaults filled in; returns the broken rule in
        words, or None where the width is taken. Raises StructmatError for a bad option.

    Returns
    -------
    decorator
        The decorated function checks the width first, and names the nearest valid widths.
    """

    def register(build: Callable[P, Network]) -> Callable[P, Network]:
        signature = inspect.signature(build)
        name = build.__name__

        @functools.wraps(build)
        def checked(*args: P.args, **kwargs: P.kwargs) -> Network:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            options = dict(bound.arguments)
            width = whole(options.pop("width"), "width", 1)
            rule = refuses(width, **options)
            if rule is not None:
                raise WidthError(_refusal(name, width, options, rule, refuses))
            bound.arguments["width"] = width
            return build(*bound.args, **bound.kwargs)

        if name in _ENTRIES:
            raise SpecError(f"family {name!r} is registered already: choose another name")
        _ENTRIES[name] = Entry(name, checked, widths, refuses)
        return checked

    return register


def _refusal(name: str, width: int, options: dict[str, Any], rule: str, refuses: Refusal) -> str:
    given = {"width": width} | {k: v for k, v in options.items() if v is not None and k != "rng"}
    call = f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
    steps = min(_MOST_STEPS, 64 * max(64, width))
    below = _first(range(width - 1, max(0, width - steps), -1), refuses, options)
    above = _first(range(width + 1, width + steps), refuses, options)
    near = [str(w) for w in (below, above) if w is not None]
    nearest = f"; nearest {'is' if len(near) == 1 else 'are'} {' and '.join(near)}" if near else ""
    remedy = f". mixed_radix({width}) serves any width" if width > 1 else ""
    return f"{call}: {rule}{nearest}{remedy}"


def _first(widths: Iterable[int], refuses: Refusal, options: dict[str, Any]) -> int | None:
    return next((w for w in widths if refuses(w, **options) is None), None)


@dataclass(frozen=True)
class Family:
    """A rule from a width to a network: a registered name and its options.

    It is callable on a width and prints as its spec string.

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

    def __call__(self, width: int) -> Network:
        """Return the network of this width; raises WidthError where there is none."""
        return entry(self.name).build(width, **dict(self.options))

    def __str__(self) -> str:
        if not self.options:
            return self.name
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.options)})"

    def having(self, **options: Any) -> Family:
        """Return the family with these options set.

        Examples
        --------
        >>> print(parse("shuffle(block=4)").having(depth=3))
        shuffle(block=4, depth=3)
        """
        return _family(self.name, dict(self.options) | options, str(self))

    def takes(self, width: int) -> bool:
        """Return whether there is a network of this width.

        Examples
        --------
        >>> boft = parse("butterfly(block=4)")
        >>> boft.takes(32), boft.takes(48)
        (True, False)
        """
        known = entry(self.name)
        bound = known.signature.bind(width, **dict(self.options))
        bound.apply_defaults()
        options = dict(bound.arguments)
        return known.refuses(whole(options.pop("width"), "width", 1), **options) is None

    @property
    def has_depth(self) -> bool:
        """Whether the family has a depth to choose."""
        return "depth" in entry(self.name).options


def entry(name: str) -> Entry:
    """Return the registered family of this name.

    Raises
    ------
    SpecError
        When there is none; the message suggests the nearest names.
    """
    try:
        return _ENTRIES[name]
    except KeyError:
        raise SpecError(f"no family {name!r}{suggest(name, _ENTRIES)}") from None


def catalogue() -> tuple[Entry, ...]:
    """Return every registered family, by name, with the widths it takes.

    Examples
    --------
    >>> [e.widths for e in catalogue() if e.name == "benes"]
    ['2^n']
    """
    return tuple(_ENTRIES[name] for name in sorted(_ENTRIES))


def parse(spec: str) -> Family:
    """Return the family that a spec string names.

    A spec is a name, or a name with options: numbers, strings, None, or tuples of these.
    It is parsed, never evaluated.

    Raises
    ------
    SpecError
        For anything else, for unknown names or options, and for missing options.

    Examples
    --------
    >>> parse("monarch(radices=(16, 24))")(384)
    Network(width=384, depth=2, parameters=7296)
    >>> parse("buterfly")
    Traceback (most recent call last):
    ...
    structmat.errors.SpecError: no family 'buterfly'; did you mean butterfly?
    """
    form = 'a spec looks like "butterfly(block=8, depth=2)"'
    if not isinstance(spec, str):
        raise SpecError(f"{spec!r}: a spec is a string; {form}")
    try:
        tree = ast.parse(spec.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise SpecError(f"{spec!r} does not parse; {form}") from None
    if isinstance(tree, ast.Name):
        return _family(tree.id, {}, spec)
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise SpecError(f"{spec!r} is not a name with options; {form}")
    if tree.args or any(keyword.arg is None for keyword in tree.keywords):
        raise SpecError(f"{spec!r}: every option is written name=value; {form}")
    options: dict[str, Any] = {}
    for keyword in tree.keywords:
        key = str(keyword.arg)
        if key in options:
            raise SpecError(f"{spec!r}: {key} is given twice; give one value")
        try:
            options[key] = _plain(ast.literal_eval(keyword.value))
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise SpecError(
                f"{spec!r}: the value of {key} must be a literal such as 8 or (2, 3)"
            ) from None
    return _family(tree.func.id, options, spec)


def _plain(value: Any) -> Any:
    """Return a value that a Family can hold: hashable, and printed as it is written."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    if value is None or isinstance(value, int | float | str):
        return value
    raise TypeError(value)


def _family(name: str, options: dict[str, Any], spec: str) -> Family:
    known = entry(name)
    for key in options:
        if key not in known.options:
            raise SpecError(f"{spec!r}: {name} has no option {key!r}{suggest(key, known.options)}")
    for key, parameter in known.options.items():
        if parameter.default is parameter.empty and key not in options:
            raise SpecError(f"{spec!r}: {name} needs the option {key}")
    return Family(name, tuple(options.items()))


def as_family(family: Family | str) -> Family:
    """Return a family from a spec string, or as it is.

    Raises
    ------
    SpecError
        For anything else.
    """
    return family if isinstance(family, Family) else parse(family)
