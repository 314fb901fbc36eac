"""Exception classes, and argument checks shared by all layers of the library."""

from __future__ import annotations

import difflib
import importlib
import math
import operator
import re
from collections.abc import Iterable, Sequence
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
    """A family does not accept a width, or the width exceeds the maximum of a network."""


class SpecError(StructmatError):
    """A spec string cannot be parsed, or names an unknown family or option."""


class UnknownFamilyError(SpecError):
    """No family of this name is registered."""


class FamilyError(SpecError):
    """A registered family is faulty: a function of it fails or returns a value of wrong type."""


class GraphError(StructmatError):
    """A graph is not the grid graph of any network, or cannot be converted to a network."""


class BlockError(StructmatError):
    """The number, shape or values of the blocks do not fit the network."""


class RoutingError(StructmatError):
    """No setting of the switches of a network realises the permutation."""


class UndecidedError(StructmatError):
    """A search reached its limit without deciding the question."""


class FileError(StructmatError):
    """A file is missing, truncated, of a newer version, or of the wrong kind."""


class MissingExtraError(StructmatError, ImportError):
    """An optional dependency is not installed; the message names the extra that installs it."""


WIDEST = 2**22  # maximum width: a matrix with this many rows does not fit into memory
_LONG = re.compile(r"\d{60,}")  # long numbers, which messages abbreviate
_LONGEST = 200  # maximum length in characters of a value in a message
_BITS = 512  # maximum size of an integer in a message; Python refuses to print very long ones
_DIGITS = 640  # the lowest limit on integer digits to which Python can be set


def abbreviated(value: Any, longest: int = _LONGEST) -> str:
    """Return repr(value) for use in a message, abbreviated if long; never raises.

    Examples
    --------
    >>> abbreviated("butterfly"), abbreviated("ab" * 50, 20), abbreviated(10**5000)
    ("'butterfly'", "'ababab…(102)…babab'", 'an integer of 16,610 bits')
    """
    if isinstance(value, int) and value.bit_length() > _BITS:
        return f"an integer of {value.bit_length():,} bits"
    try:
        text = repr(value)
        if "\n" in text:  # of an array
            text = " ".join(text.split())
    except (ValueError, RecursionError):  # a huge integer inside, or deep nesting
        return f"a {type(value).__name__} that cannot be printed"
    if len(text) <= longest:
        return text
    mark = f"…({len(text):,})…"
    kept = max(longest - len(mark), 2)
    return f"{text[: kept - kept // 2]}{mark}{text[len(text) - kept // 2 :]}"


def checked_integer(value: Any, name: str, least: int = 0) -> int:
    """Return `value` as an int that is at least `least`; reject floats, bools and NaN.

    Raises
    ------
    StructmatError
        If `value` is not an integer, or is below `least`.

    Examples
    --------
    >>> checked_integer(8, "block", 2)
    8
    >>> checked_integer(2.5, "depth")
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: depth=2.5: depth must be an integer, at least 0
    """
    rule = f"{name} must be an integer, at least {least}"
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


def check_digits(value: Any, name: str) -> None:
    """Raise an error if a value is or contains an integer too long for Python to print.

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
    """Return whether `value` is an ordered collection: a tuple, a list, or an array with an axis.

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
    TypeError, ValueError
        If the value cannot be written as a Python literal, such as infinity or NaN.

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
    """Raise an error for JSON data of another format or another schema version.

    Raises
    ------
    FileError
        If they differ; the message states the expected format or version.

    Examples
    --------
    >>> check_format(
    ...     {"format": "ours", "version": 2}, what="a.json", form="ours", version=1, writer="save"
    ... )
    Traceback (most recent call last):
    ...
    structmat.errors.FileError: a.json of version 2: this structmat reads version 1; upgrade \
structmat or write the file again
    """
    if not isinstance(data, dict) or data.get("format") != form:
        raise FileError(f'{what} has no "format": "{form}": expected the output of {writer}')
    if type(data.get("version")) is not int or data["version"] != version:  # True == 1
        raise FileError(
            f"{what} of version {abbreviated(data.get('version'))}: this structmat reads version"
            f" {version}; upgrade structmat or write the file again"
        )


def suggest(name: str, names: Iterable[str], far: str | None = None) -> str:
    """Return the end of an error message about an unknown name: close matches, or all known names.

    If there is no close match and there are too many names, `far` is used instead.

    Examples
    --------
    >>> suggest("cayly", ["cayley", "exp"]), suggest("qr", ["cayley", "exp"])
    ('; did you mean cayley?', '; there are cayley, exp')
    """
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=2)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    if far is not None:
        return f"; {far}"
    return f"; there are {', '.join(known)}" if known else "; it takes none"


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
    structmat.errors.StructmatError: rng=-1: rng must be a Generator, an integer at least 0, or None
    """
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise StructmatError(
            f"rng={abbreviated(rng)}: rng must be a Generator, an integer at least 0, or None"
        ) from None


def check_source(rng: Any) -> None:
    """Raise an error for any `rng` that `random_source` would reject, without making a generator.

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
            f'{module} is not installed; it comes with: pip install "structmat[{extra}]"'
        ) from error
