"""Exception classes, and argument checks used throughout the library."""

from __future__ import annotations

import difflib
import importlib
import math
import operator
import re
from collections.abc import Collection, Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np


class StructmatError(ValueError):
    """Base class of all errors; the message states the value, the rule and the remedy.

    Examples
    --------
    >>> print(StructmatError(f"depth={10**400}: take fewer stages"))
    depth=100000…(401 digits)…000000: take fewer stages
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*(_shortened(a) if isinstance(a, str) else a for a in args))


def _shortened(message: str) -> str:
    """Return a message with long numbers abbreviated."""
    return _LONG.sub(lambda m: f"{m[0][:6]}…({len(m[0])} digits)…{m[0][-6:]}", message)


class WiringError(StructmatError):
    """Wires, switches or stages do not form a valid network."""


class WidthError(StructmatError):
    """A width is not supported by a family, differs from a network's, or is out of range."""


class SpecError(StructmatError):
    """A spec string cannot be parsed, or names an unknown family or option."""


class UnknownFamilyError(SpecError):
    """No family of this name is registered."""


class FamilyError(SpecError):
    """A function of a registered family raises an exception or returns an invalid value."""


class GraphError(StructmatError):
    """A graph is not the grid graph of any network, or cannot be converted to a network."""


class BlockError(StructmatError):
    """Blocks, or vectors to rotate, have an unsuitable number, shape, dtype, value or exponent.

    An unknown parametrization raises it, too.
    """


class RoutingError(StructmatError):
    """No setting of the switches of a network realises the permutation."""


class UndecidedError(StructmatError):
    """A search reached its limit without deciding the question."""


class ObjectiveError(StructmatError):
    """An objective or a requirement of a search is unknown, fails, or returns no finite number."""


class FileError(StructmatError):
    """A file is missing, damaged or of the wrong kind or version, or cannot be written.

    Conversion also raises it for contents that the requested format cannot represent.
    """


class BaseModelWarning(UserWarning):
    """The weights of a model differ from those that an adapter was trained on.

    The adapter belongs to another model, or has already been merged into this one.
    """


class MissingExtraError(StructmatError, ImportError):
    """An optional dependency is not installed; the message names the extra that installs it."""


WIDEST = 2**22  # maximum width; a square float64 matrix of this size takes 128 TiB
_LONG = re.compile(r"\d{60,}")  # long numbers, which messages abbreviate
_LONGEST = 200  # maximum length in characters of a value in a message
_BITS = 512  # maximum size of an integer in a message; Python refuses to print very long ones
_DIGITS = 640  # the lowest limit on integer digits to which Python can be set


def abbreviated(value: Any, longest: int = _LONGEST) -> str:
    """Return repr(value) for use in a message, abbreviated if long.

    An exception raised by `repr` is caught.

    Examples
    --------
    >>> abbreviated("butterfly"), abbreviated("ab" * 50, 20), abbreviated(10**5000)
    ("'butterfly'", "'ababab…(102)…babab'", 'an integer of 16,610 bits')
    """
    if isinstance(value, int) and value.bit_length() > _BITS:
        return f"an integer of {value.bit_length():,} bits"
    try:
        text = repr(value)
        if "\n" in text:  # as in the repr of an array
            text = " ".join(text.split())
        if len(text) <= longest:
            return text
        shape = getattr(value, "shape", None)
    except Exception:  # for example for a huge integer inside, or deep nesting
        return f"a {type(value).__name__} that cannot be printed"
    if isinstance(shape, tuple):
        return f"{type(value).__name__} of shape {tuple(shape)}"
    mark = f"…({len(text):,})…"
    kept = max(longest - len(mark), 2)
    return f"{text[: kept - kept // 2]}{mark}{text[len(text) - kept // 2 :]}"


def checked_integer(value: Any, name: str, least: int = 0) -> int:
    """Return `value` as an int that is at least `least`.

    Raises
    ------
    StructmatError
        If `value` is not an integer (floats and bools are not), or is below `least`.

    Examples
    --------
    >>> checked_integer(8, "block", 2)
    8
    >>> checked_integer(2.5, "depth")
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: depth=2.5: depth must be an integer ≥ 0
    """
    rule = f"{name} must be an integer ≥ {least}"
    if isinstance(value, bool):
        raise StructmatError(f"{name}={value!r}: {rule}")
    try:
        number = operator.index(value)
    except TypeError:
        raise StructmatError(f"{name}={abbreviated(value)}: {rule}") from None
    if number < least:
        raise StructmatError(f"{name}={abbreviated(number)}: {rule}")
    return number


def checked_field(value: Any) -> str:
    """Return "real" or "complex", the field of the entries of the blocks.

    Raises
    ------
    StructmatError
        For any other value.

    Examples
    --------
    >>> checked_field("complex")
    'complex'
    >>> checked_field("unitary")
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: field='unitary': it must be "real" (orthogonal blocks) or \
"complex" (unitary blocks)
    """
    if isinstance(value, str) and value in ("real", "complex"):
        return value
    raise StructmatError(
        f'field={abbreviated(value)}: it must be "real" (orthogonal blocks) or "complex" (unitary'
        " blocks)"
    )


def checked_choice(value: Any, name: str, choices: Collection[str]) -> str:
    """Return `value` after checking that it is one of the choices.

    Raises
    ------
    StructmatError
        If it is not; the message suggests similar choices.

    Examples
    --------
    >>> checked_choice("both", "side", ("inputs", "outputs", "both"))
    'both'
    """
    if not isinstance(value, str) or value not in choices:
        raise StructmatError(
            f"{name}={abbreviated(value)}: no such choice{suggest(str(value), choices)}"
        )
    return value


def check_digits(value: Any, name: str) -> None:
    """Raise an error for an integer that Python may refuse to print, also in lists and tuples.

    Python's limit on the digits of an integer can be set to 640 or more.

    Raises
    ------
    SpecError
        If an integer has more than 640 digits.

    Examples
    --------
    >>> check_digits((3, 10**5000), "radices")
    Traceback (most recent call last):
    ...
    structmat.errors.SpecError: radices=an integer of 16,610 bits: it must have at most 640 digits
    """
    if isinstance(value, list | tuple):
        for part in value:
            check_digits(part, name)
    elif isinstance(value, int) and abs(value) >= 10**_DIGITS:
        raise SpecError(f"{name}={abbreviated(value)}: it must have at most {_DIGITS} digits")


def checked_width(value: Any) -> int:
    """Return the width of a network as an int from 1 to 2^22.

    Raises
    ------
    StructmatError
        If the value is not an integer, or is below 1.
    WidthError
        If the integer is above 2^22.

    Examples
    --------
    >>> checked_width(2**61 - 1)
    Traceback (most recent call last):
    ...
    structmat.errors.WidthError: width=2305843009213693951: a network has at most 4,194,304 wires
    """
    width = checked_integer(value, "width", 1)
    if width > WIDEST:
        raise WidthError(f"width={abbreviated(width)}: a network has at most {WIDEST:,} wires")
    return width


def is_sequence(value: Any) -> bool:
    """Return whether `value` is an array with an axis, or a `Sequence`: also a str or a range.

    Examples
    --------
    >>> is_sequence((2, 3)), is_sequence(np.array([2, 3])), is_sequence(np.array(6))
    (True, True, False)
    """
    return isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim > 0)


def plain(value: Any) -> Any:
    """Convert numpy scalars, arrays and lists to Python numbers and tuples.

    Raises
    ------
    ValueError
        For infinity and NaN, which cannot be written as Python literals.
    TypeError
        For values of any other type.

    Examples
    --------
    >>> plain(np.int64(3)), plain([np.arange(2), "a"])
    (3, ((0, 1), 'a'))
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    if value is None or isinstance(value, int | float | str):
        return value
    raise TypeError(value)


def check_format(data: Any, *, what: str, form: str, version: int, writer: str) -> None:
    """Raise an error for JSON data of another format or a newer schema version.

    Raises
    ------
    FileError
        If the format differs from the expected one, or the version is newer or invalid.

    Examples
    --------
    >>> check_format(
    ...     {"format": "ours", "version": 2}, what="a.json", form="ours", version=1, writer="save"
    ... )
    Traceback (most recent call last):
    ...
    structmat.errors.FileError: a.json has schema version 2, but this version of structmat reads \
version 1; upgrade structmat or write the file again
    """
    if not isinstance(data, dict) or data.get("format") != form:
        raise FileError(f'{what} lacks "format": "{form}"; expected the output of {writer}')
    if type(data.get("version")) is not int or not 1 <= data["version"] <= version:  # True == 1
        readable = "version 1" if version == 1 else f"versions 1 to {version}"
        raise FileError(
            f"{what} has schema version {abbreviated(data.get('version'))}, but this version of"
            f" structmat reads {readable}; upgrade structmat or write the file again"
        )


def suggest(name: str, names: Iterable[str], fallback: str | None = None) -> str:
    """Return the end of an error message about an unknown name: close matches, or all known names.

    If there is no close match, `fallback` replaces the list of names, if given.

    Examples
    --------
    >>> suggest("cayly", ["cayley", "exp"]), suggest("qr", ["cayley", "exp"])
    ('; did you mean cayley?', '; the choices are cayley, exp')
    """
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=2)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    if fallback is not None:
        return f"; {fallback}"
    return f"; the choices are {', '.join(known)}" if known else "; there are none"


def random_source(rng: Any) -> np.random.Generator:
    """Return a numpy random generator for `rng`, as `numpy.random.default_rng` does.

    Raises
    ------
    StructmatError
        If numpy cannot make a generator from it.

    Examples
    --------
    >>> random_source(-1)
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: rng=-1: rng must be a Generator, an integer ≥ 0 or None
    """
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise StructmatError(
            f"rng={abbreviated(rng)}: rng must be a Generator, an integer ≥ 0 or None"
        ) from None


def check_source(rng: Any) -> None:
    """Raise an error for any `rng` that `random_source` would reject.

    None and non-negative ints are accepted without making a generator, which takes time.

    Raises
    ------
    StructmatError
        If numpy cannot make a generator from it.

    Examples
    --------
    >>> check_source(3)
    """
    if rng is not None and not (type(rng) is int and rng >= 0):
        random_source(rng)


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or raise an error that names the extra that installs it.

    Raises
    ------
    MissingExtraError
        If `module` is not installed.

    Examples
    --------
    >>> require("json", "none").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f'{module} is not installed; install it with: pip install "structmat[{extra}]"'
        ) from error
