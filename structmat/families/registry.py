"""The registry of families: their names, the widths that they accept, and their claims."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, overload

from structmat._util.text_table import Table, in_html, left
from structmat.errors import (
    FamilyError,
    SpecError,
    StructmatError,
    UnknownFamilyError,
    WidthError,
    abbreviated,
    check_digits,
    checked_width,
    plain,
    suggest,
)
from structmat.families.number_theory import prime_factors
from structmat.families.registration_checks import (
    binding_error,
    check_asked,
    check_choices,
    check_words,
    worded,
)
from structmat.families.universal_options import RESERVED, applied, separated
from structmat.networks.network import Network, check_size

P = ParamSpec("P")
Refusal = Callable[..., str | None]
Choices = Mapping[str, Callable[[int], Iterable[Any]]]

PLUGINS = "structmat.families"  # the entry point group of packages that provide families

IF_YOURS = (
    "a user-defined family is available once its module is imported (on the command line:"
    " --load FILE.py)"
)

# Names in the literature, with the family and the options that they stand for.
ALIASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "boft": ("butterfly", {}),
    "clements": ("brickwall", {}),
    "fft": ("butterfly", {}),
    "gsoft": ("shuffle", {"depth": 2}),
    "oft": ("block_diagonal", {}),
    "reck": ("triangle", {}),
}

_ROTATIONS = {  # names that users expect to be families
    "rotator": "structmat.rotator(width), or structmat.Rotator.from_description(text), returns",
}
_MOST_STEPS = 1 << 18  # maximum distance at which the nearest valid width is searched
_HEAD = ("family", "widths", "description")
_LARGE = 64  # switches above this radix are not suggested as a remedy
_SMALL = 2048  # width and depth up to which networks are built without checking their size
_STAGES = ("depth", "repeat")  # options that are lower bounds on the number of stages


@dataclass(frozen=True)
class Claims:
    """The claims of a family about one of its networks: properties that it states in closed form.

    They are known without building the network, and `structmat.testing.check_family` verifies them
    against the network itself. A property about which the family claims nothing is None.

    Attributes
    ----------
    depth : int or None
        The number of stages.
    parameters : int or None
        The number of free parameters.
    dense : bool or None
        Whether the network is dense. It is set to True if `dense_at` is given.
    dense_at : int or None
        The smallest number of leading stages that form a dense network.
    like : str or None
        The spec of a family whose network of this width is the same up to a relabelling of the
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


class Registered(Protocol[P]):
    """The type of the function of a registered family, which takes the universal options, too."""

    __name__: str

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Network: ...
    @overload
    def __call__(self, width: int, *, repeat: int, **options: Any) -> Network: ...
    @overload
    def __call__(self, width: int, *, mirror: bool, **options: Any) -> Network: ...
    @overload
    def __call__(self, width: int, *, reverse: bool, **options: Any) -> Network: ...


@dataclass(frozen=True)
class Entry:
    """A registered family: its function, the widths that it accepts, and its claims.

    Attributes
    ----------
    name : str
    build : function from a width and options to a Network
    widths : str
        A description of the widths that the family accepts.
    refuses : function returning str or None
        Returns the rule that a width violates, or None if the width is accepted.
    claims : function returning Claims
        Returns the claims; called like `refuses`, but only at accepted widths.
    choices : mapping from an option to a function of the width
        Values of an option to try.
    """

    name: str
    build: Callable[..., Network]
    widths: str
    refuses: Refusal
    claims: Callable[..., Claims]
    choices: Choices = field(default_factory=dict, hash=False)

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """The signature, with the width first, then the options with their defaults."""
        return inspect.signature(self.build)

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return (inspect.getdoc(self.build) or "").split("\n\n")[0].replace("\n", " ")

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that specs may use for the family, such as "boft" for butterfly."""
        return tuple(alias for alias, (name, _) in ALIASES.items() if name == self.name)

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The parameters after the width."""
        return dict(list(self.signature.parameters.items())[1:])

    def filled(self, width: int, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options, filling in the defaults."""
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
) -> Callable[[Callable[P, Network]], Registered[P]]:
    """Register a function (width, options…) → Network under its own name.

    The family can then be named in specs, is listed by `catalogue()` and `structmat list`, is tried
    by `dense_networks`, and can be tested with `structmat.testing.check_family`. If a family has an
    option named depth, the network of a smaller depth must consist of the first stages of the
    network of a larger one. Every family takes the options reverse, repeat and mirror, too; if it
    has an option reverse or repeat of its own, this must mean the same. A package makes its
    families available through an entry point of the group "structmat.families" that names the
    module.

    Parameters
    ----------
    widths : str
        A description of the widths that the family accepts, for tables and error messages.
    refuses : callable
        Called with the width and all options, including defaults; returns a description of the rule
        that the width violates, or None if the width is accepted. Raises StructmatError for an
        invalid option.
    claims : callable
        Called in the same way, but only at accepted widths; returns the `Claims` about the network.
    choices : mapping from an option to a function of the width, optional
        Values of an option to try, in place of those tried for a common name such as block.

    Returns
    -------
    decorator
        The decorated function checks the width first; its error suggests the nearest valid widths.

    Raises
    ------
    SpecError
        If the widths are not described, for example because the parentheses are missing; if
        the first parameter is not named width; if `refuses`, `claims` or `choices` do not fit the
        parameters of the family; or if the name is taken. Families defined in `__main__` may be
        redefined there, so that a notebook cell can be run again.

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

    def register(build: Callable[P, Network]) -> Registered[P]:
        signature = inspect.signature(build)
        name = build.__name__

        @functools.wraps(build)
        def checked(*args: Any, **kwargs: Any) -> Network:
            options, universal = separated(kwargs, signature.parameters)
            try:
                bound = signature.bind(*args, **options)
            except TypeError:
                said = binding_error(name, signature, len(args), options)
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
            net: Network = applied(build(*bound.args, **bound.kwargs), universal)
            return net

        if next(iter(signature.parameters), None) != "width":
            raise SpecError(f"family {abbreviated(name)}: its first parameter must be the width")
        check_asked(name, signature, refuses, "refuses")
        check_asked(name, signature, claims, "claims")
        check_choices(name, signature, choices)
        if name in RESERVED:
            raise SpecError(
                f"family {abbreviated(name)}: in specs, {name}(…) is an operation; choose another"
                " name"
            )
        if name in _ENTRIES and not _is_redefinition(build, _ENTRIES[name].build):
            raise SpecError(
                f"family {abbreviated(name)} is already registered: choose another name"
            )
        _ENTRIES[name] = Entry(name, checked, widths, refuses, claims, choices or {})
        return checked

    return register


def _check_built(
    name: str, width: int, options: dict[str, Any], claims: Callable[..., Claims]
) -> None:
    """Raise an error for a network that, by its claims, would not fit into memory."""
    depths = [given for option in _STAGES if isinstance(given := options.get(option), int)]
    if width > _SMALL or any(given > _SMALL for given in depths):
        promised = claims(width, **options)
        if promised.depth is not None:
            depths.append(promised.depth)
        check_size(_called(name, width, options), width, max(depths, default=1))


def _is_redefinition(build: Callable[..., object], old: Callable[..., object]) -> bool:
    """Return whether a notebook or an interactive session redefines its own family."""
    return build.__module__ == old.__module__ == "__main__"


def unregister(name: str) -> None:
    """Remove a family from the registry.

    Raises
    ------
    SpecError
        If there is no family of this name.
    """
    del _ENTRIES[entry(name).name]


def _refusal(name: str, width: int, options: dict[str, Any], rule: str, refuses: Refusal) -> str:
    call = _called(name, width, options)
    most = 4 * _MOST_STEPS // max(4, _leaves(options.values()))  # a rule examines all of these
    below, above = (_first(widths[:most], refuses, options) for widths in nearby(width))
    near = [str(w) for w in (below, above) if w is not None]
    nearest = f"; nearest {'is' if len(near) == 1 else 'are'} {' and '.join(near)}" if near else ""
    return f"{call}: {rule}{nearest}{_remedy(width)}"


def _called(name: str, width: int, options: dict[str, Any]) -> str:
    given = {"width": width} | {k: v for k, v in options.items() if v is not None and k != "rng"}
    return f"{name}({', '.join(f'{key}={_shown(value)}' for key, value in given.items())})"


def nearby(width: int) -> tuple[range, range]:
    """Return the widths to search for a valid one, below and above, in order of distance.

    For widths up to 2^19 they extend to the next power of two.

    Examples
    --------
    >>> nearby(100_000)
    (range(99999, 0, -1), range(100001, 200001))
    """
    steps = min(_MOST_STEPS, max(65_536, width), 64 * max(64, width))
    return range(width - 1, max(0, width - steps - 1), -1), range(width + 1, width + steps + 1)


def _leaves(values: Iterable[Any]) -> int:
    """Count the numbers and strings among values and in sequences of values."""
    return sum(_leaves(value) if isinstance(value, list | tuple) else 1 for value in values)


def _shown(value: Any) -> str:
    try:
        return abbreviated(plain(value))
    except (TypeError, ValueError, RecursionError):
        return abbreviated(value)


def _first(widths: Iterable[int], refuses: Refusal, options: dict[str, Any]) -> int | None:
    return next((w for w in widths if refuses(w, **options) is None), None)


def _remedy(width: int) -> str:
    """Suggest a family that accepts this width and has switches of moderate radix."""
    if width < 2:
        return ""
    if prime_factors(width)[-1] <= _LARGE:
        return f". mixed_radix({width}) serves any width"
    return f". waksman({width}) serves any width"


@contextmanager
def blamed(who: object, width: int) -> Iterator[None]:
    """Name the family or function, and the width, in errors that user-defined code raises.

    Raises
    ------
    FamilyError
        In place of any exception other than a StructmatError, which is passed on.

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
    """Return the registered family with this name.

    Raises
    ------
    UnknownFamilyError
        If there is none; the message suggests similar names.
    """
    if name not in _ENTRIES:
        _load_plugins()
    try:
        return _ENTRIES[name]
    except KeyError:
        if name in _ROTATIONS:
            raise UnknownFamilyError(
                f"no family {name!r}: {_ROTATIONS[name]} a rotation with values"
            ) from None
        fallback = f"see `structmat list` or structmat.catalogue(); {IF_YOURS}"
        raise UnknownFamilyError(
            f"no family {abbreviated(name)}{suggest(name, [*_ENTRIES, *ALIASES], fallback)}"
        ) from None


def canonical(name: str) -> tuple[str, Mapping[str, Any]]:
    """Return the family name and the options for which a name in a spec stands.

    Registered families take precedence over aliases.

    Examples
    --------
    >>> canonical("gsoft"), canonical("benes")
    (('shuffle', {'depth': 2}), ('benes', {}))
    """
    if name in ALIASES and name not in _ENTRIES:
        _load_plugins()
    return (name, {}) if name in _ENTRIES else ALIASES.get(name, (name, {}))


class Catalogue(tuple[Entry, ...]):
    """The registered families in order of name, as a tuple that is displayed as a table.

    Examples
    --------
    >>> print(Catalogue([entry("benes"), entry("monarch")]))
    family   widths        description
    benes    2^n           Route every permutation of 2^n wires by 2n−1 stages of 2×2 switches: ...
    monarch  products p·q  Join blocks of p adjacent wires, then of q wires at stride p, with ...
    """

    __slots__ = ()

    def __str__(self) -> str:
        return str(Table(_HEAD, self._rows(), left=range(3)))

    def _repr_html_(self) -> str:
        rows = ["".join(left("th", title) for title in _HEAD)]
        rows += ["".join(left("td", text) for text in row) for row in self._rows()]
        return in_html(rows)

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(known.name, known.widths, known.summary) for known in self]


def catalogue() -> Catalogue:
    """Return all registered families in order of name, with the widths that they accept.

    The result is displayed as a table.

    Examples
    --------
    >>> [e.widths for e in catalogue() if e.name == "benes"]
    ['2^n']
    """
    _load_plugins()
    return Catalogue(_ENTRIES[name] for name in sorted(_ENTRIES))


@functools.cache
def _load_plugins() -> None:
    """Import, on the first call, the modules that installed packages declare for families."""
    from importlib.metadata import entry_points

    for point in entry_points(group=PLUGINS):
        try:
            point.load()
        except (Exception, SystemExit) as error:
            raise SpecError(
                f"entry point {point.name} = {point.value} of the group {PLUGINS} does not load"
                f" ({abbreviated(error)}); repair or uninstall"
                f" {point.dist.name if point.dist else 'it'}"
            ) from error
