"""The registry of families: which there are, which widths they take, and what they promise."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec

from structmat.errors import (
    FamilyError,
    SpecError,
    StructmatError,
    UnknownFamilyError,
    WidthError,
    check_digits,
    checked_width,
    plain,
    shown,
    suggest,
)
from structmat.families.arithmetic import prime_factors
from structmat.families.registering import (
    check_asked,
    check_choices,
    check_words,
    misfit,
    worded,
)
from structmat.network import Network, check_size
from structmat.texttable import in_html, left
from structmat.texttable import plain as plaintable

P = ParamSpec("P")
Refusal = Callable[..., str | None]
Choices = Mapping[str, Callable[[int], Iterable[Any]]]

PLUGINS = "structmat.families"  # the entry point group under which a package offers its families

IF_YOURS = (
    "one of your own is known once the module that registers it is imported (on the command line"
    " --load FILE.py)"
)

_MOST_STEPS = 1 << 18  # how far from a refused width the nearest valid one is looked for
_HEAD = ("family", "widths", "what it does")
_LARGE = 64  # a switch of more wires is a remedy for nothing
_SMALL = 2048  # wires, and stages, of networks that are built without asking how large they are
_STAGES = ("depth", "repeat")  # options that say at least how many stages there are


@dataclass(frozen=True)
class Claims:
    """What a family promises of one network in closed form; None where it promises nothing.

    `structmat.testing.check_family` compares it with the network.

    Attributes
    ----------
    depth : int or None
        The number of stages.
    parameters : int or None
        The free parameters.
    dense : bool or None
        Whether the network is dense. True follows from `dense_at`.
    dense_at : int or None
        How few of the first stages are dense.
    like : str or None
        The spec of a family whose network of this width is the same up to new names for the
        wires before the first and after the last stage.

    Examples
    --------
    >>> Claims(depth=3, dense_at=2).dense
    True
    """

    depth: int | None = None
    parameters: int | None = None
    dense: bool | None = None
    dense_at: int | None = None
    like: str | None = None

    def __post_init__(self) -> None:
        if self.dense_at is not None:
            object.__setattr__(self, "dense", True)


@dataclass(frozen=True)
class Entry:
    """One registered family: its function, the widths it takes, and what it promises.

    Attributes
    ----------
    name : str
    build : function from a width and options to a Network
    widths : str
        Which widths it takes, in words.
    refuses : function returning str or None
        The rule that a width breaks.
    claims : function returning Claims
        What it promises, called as `refuses` is, at a width that it takes.
    choices : mapping from an option to a function of the width
        Values of that option worth trying.
    """

    name: str
    build: Callable[..., Network]
    widths: str
    refuses: Refusal
    claims: Callable[..., Claims]
    choices: Choices = field(default_factory=dict, hash=False)

    @functools.cached_property
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

    def filled(self, width: int, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options, those not given at their defaults."""
        bound = self.signature.bind(width, **options)
        bound.apply_defaults()
        return {key: bound.arguments[key] for key in self.options}


_ENTRIES: dict[str, Entry] = {}


def _takes_any(*_: object, **__: object) -> str | None:
    return None


def _claims_nothing(*_: object, **__: object) -> Claims:
    return Claims()


def family(
    widths: str,
    refuses: Refusal = _takes_any,
    *,
    claims: Callable[..., Claims] = _claims_nothing,
    choices: Choices | None = None,
) -> Callable[[Callable[P, Network]], Callable[P, Network]]:
    """Register a function (width, options…) → Network under its own name.

    It then has a spec string, stands in `catalogue()`, `structmat list` and `dense_networks`,
    and `structmat.testing.check_family` tests it. A family with an option named depth has the
    first stages of the deeper member in the shallower one. A package offers its families to
    others by an entry point of the group "structmat.families" that names the module.

    Parameters
    ----------
    widths : str
        Which widths it takes, in words, for tables and errors.
    refuses : callable
        Called with the width and all options, defaults filled in; returns the broken rule in
        words, or None where the width is taken. Raises StructmatError for a bad option.
    claims : callable
        Called in the same way, at a width that is taken; returns the `Claims` of the network.
    choices : mapping from an option to a function of the width, optional
        Values of that option worth trying, for an option of a name that no family here has.

    Returns
    -------
    decorator
        The decorated function checks the width first, and names the nearest valid widths.

    Raises
    ------
    SpecError
        Without words for the widths, as where the parentheses are left out; where `refuses`,
        `claims` or `choices` cannot be called as they will be; and for a name that is taken. A
        cell of a notebook may be run again, though: what `__main__` defined, it may define anew.

    Examples
    --------
    >>> def refuses(width):
    ...     return None if width % 2 == 0 else "width must be even"
    >>> @family("even", refuses, claims=lambda width: Claims(parameters=width // 2))
    ... def ends_meet(width: int) -> Network:
    ...     "Join each wire to the one as far from the other end."
    ...     return Network.of(width, [[[i, width - 1 - i] for i in range(width // 2)]])
    >>> ends_meet(7)
    Traceback (most recent call last):
    ...
    structmat.errors.WidthError: ends_meet(width=7): width must be even; nearest are 6 and 8. \
mixed_radix(7) serves any width
    >>> unregister("ends_meet")
    """
    check_words(widths)

    def register(build: Callable[P, Network]) -> Callable[P, Network]:
        signature = inspect.signature(build)
        name = build.__name__

        @functools.wraps(build)
        def checked(*args: P.args, **kwargs: P.kwargs) -> Network:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                said = misfit(name, signature, len(args), kwargs)
                if said is None:  # no width, or too many arguments
                    raise
                raise SpecError(said) from None
            bound.apply_defaults()
            given = dict(bound.arguments)
            width = checked_width(given.pop("width"))
            for key, value in given.items():
                check_digits(value, f"{name}: {key}")
            rule = worded(refuses(width, **given), name, width)
            if rule is not None:
                raise WidthError(_refusal(name, width, given, rule, refuses))
            _check_built(name, width, given, claims)
            bound.arguments["width"] = width
            return build(*bound.args, **bound.kwargs)

        if next(iter(signature.parameters), None) != "width":
            raise SpecError(f"family {name!r}: its first parameter must be the width")
        check_asked(name, signature, refuses, "refuses")
        check_asked(name, signature, claims, "claims")
        check_choices(name, signature, choices)
        if name in _ENTRIES and not _is_anew(build, _ENTRIES[name].build):
            raise SpecError(f"family {name!r} is registered already: choose another name")
        _ENTRIES[name] = Entry(name, checked, widths, refuses, claims, choices or {})
        return checked

    return register


def _check_built(
    name: str, width: int, options: dict[str, Any], claims: Callable[..., Claims]
) -> None:
    """Refuse a network that memory does not hold, as far as can be told before it is built."""
    depths = [given for option in _STAGES if isinstance(given := options.get(option), int)]
    if width > _SMALL or any(given > _SMALL for given in depths):
        promised = claims(width, **options)
        if promised.depth is not None:
            depths.append(promised.depth)
        check_size(_called(name, width, options), width, max(depths, default=1))


def _is_anew(build: Callable[..., object], old: Callable[..., object]) -> bool:
    """Return whether a notebook or a session at the prompt defines its own family once more."""
    return build.__module__ == old.__module__ == "__main__"


def unregister(name: str) -> None:
    """Take a family out of the registry.

    Raises
    ------
    SpecError
        When there is none of this name.
    """
    del _ENTRIES[entry(name).name]


def _refusal(name: str, width: int, options: dict[str, Any], rule: str, refuses: Refusal) -> str:
    call = _called(name, width, options)
    most = 4 * _MOST_STEPS // max(4, _leaves(options.values()))  # a rule looks at all of these
    below, above = (_first(widths[:most], refuses, options) for widths in nearby(width))
    near = [str(w) for w in (below, above) if w is not None]
    nearest = f"; nearest {'is' if len(near) == 1 else 'are'} {' and '.join(near)}" if near else ""
    return f"{call}: {rule}{nearest}{_remedy(width)}"


def _called(name: str, width: int, options: dict[str, Any]) -> str:
    given = {"width": width} | {k: v for k, v in options.items() if v is not None and k != "rng"}
    return f"{name}({', '.join(f'{key}={_shown(value)}' for key, value in given.items())})"


def nearby(width: int) -> tuple[range, range]:
    """Return the widths, nearest first, among which a valid one is looked for: below and above.

    They reach to the next power of two of any width up to 2^19.

    Examples
    --------
    >>> nearby(100_000)
    (range(99999, 0, -1), range(100001, 200001))
    """
    steps = min(_MOST_STEPS, max(65_536, width), 64 * max(64, width))
    return range(width - 1, max(0, width - steps - 1), -1), range(width + 1, width + steps + 1)


def _leaves(values: Iterable[Any]) -> int:
    """Return how many numbers and strings there are in values and sequences of values."""
    return sum(_leaves(value) if isinstance(value, list | tuple) else 1 for value in values)


def _shown(value: Any) -> str:
    try:
        return shown(plain(value))
    except (TypeError, ValueError, RecursionError):
        return shown(value)


def _first(widths: Iterable[int], refuses: Refusal, options: dict[str, Any]) -> int | None:
    return next((w for w in widths if refuses(w, **options) is None), None)


def _remedy(width: int) -> str:
    """Return the end of a refusal: a family that takes this width, with switches of any use."""
    if width < 2:
        return ""
    if prime_factors(width)[-1] <= _LARGE:
        return f". mixed_radix({width}) serves any width"
    return f". waksman({width}) serves any width"


@contextmanager
def blamed(who: object, width: int) -> Iterator[None]:
    """Say whose function it is that fails, and at which width.

    Raises
    ------
    FamilyError
        From any exception but a StructmatError, which goes through.

    Examples
    --------
    >>> with blamed("halves", 3):
    ...     1 / 0
    Traceback (most recent call last):
    ...
    structmat.errors.FamilyError: halves at width 3: its function fails \
(ZeroDivisionError: division by zero)
    """
    try:
        yield
    except StructmatError:
        raise
    except Exception as error:
        raise FamilyError(
            f"{who} at width {width}: its function fails ({type(error).__name__}: {error})"
        ) from error


def entry(name: str) -> Entry:
    """Return the registered family of this name.

    Raises
    ------
    UnknownFamilyError
        When there is none; the message suggests the nearest names.
    """
    if name not in _ENTRIES:
        _load_plugins()
    try:
        return _ENTRIES[name]
    except KeyError:
        far = f"`structmat list` and structmat.catalogue() have all; {IF_YOURS}"
        raise UnknownFamilyError(f"no family {shown(name)}{suggest(name, _ENTRIES, far)}") from None


class Catalogue(tuple[Entry, ...]):
    """The registered families by name: a tuple that prints, and in a notebook shows, a table.

    Examples
    --------
    >>> print(Catalogue([entry("benes"), entry("monarch")]))
    family   widths        what it does
    benes    2^n           Route every permutation of 2^n wires by 2n−1 stages of 2×2 switches: ...
    monarch  products p·q  Two stages, blocks of p side by side and then blocks of q with stride ...
    """

    __slots__ = ()

    def __str__(self) -> str:
        return plaintable(_HEAD, self._rows(), left=range(3))

    def _repr_html_(self) -> str:
        rows = ["".join(left("th", title) for title in _HEAD)]
        rows += ["".join(left("td", text) for text in row) for row in self._rows()]
        return in_html(rows)

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(known.name, known.widths, known.summary) for known in self]


def catalogue() -> Catalogue:
    """Return every registered family, by name, with the widths it takes.

    Printed, and in a notebook, it is a table.

    Examples
    --------
    >>> [e.widths for e in catalogue() if e.name == "benes"]
    ['2^n']
    """
    _load_plugins()
    return Catalogue(_ENTRIES[name] for name in sorted(_ENTRIES))


@functools.cache
def _load_plugins() -> None:
    """Import, once, the modules in which installed packages say that they have families."""
    from importlib.metadata import entry_points

    for point in entry_points(group=PLUGINS):
        try:
            point.load()
        except (Exception, SystemExit) as error:
            raise SpecError(
                f"entry point {point.name} = {point.value} of the group {PLUGINS} does not load"
                f" ({error!r}); mend or uninstall {point.dist.name if point.dist else 'it'}"
            ) from error
