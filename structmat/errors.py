"""The kinds of error, and the few checks that every layer of the library needs."""

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
    """Anything structmat refuses; the message says the value, the rule and the remedy.

    Examples
    --------
    >>> print(StructmatError(f"depth={10**400}: take fewer stages"))
    depth=100000…(401 digits)…000000: take fewer stages
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*(_shortened(a) if isinstance(a, str) else a for a in args))


def _shortened(message: str) -> str:
    """Return a message in which long numbers are cut."""
    return _LONG.sub(lambda m: f"{m[0][:6]}…({len(m[0])} digits)…{m[0][-6:]}", message)


class WiringError(StructmatError):
    """Wires, switches or stages that do not make a network."""


class WidthError(StructmatError):
    """A width that a family does not take, or that is too large for any network."""


class SpecError(StructmatError):
    """A spec string that does not parse, or names what is not there."""


class UnknownFamilyError(SpecError):
    """A name under which no family is registered."""


class FamilyError(SpecError):
    """A registered family that is faulty: a function of it fails, or returns something else."""


class GraphError(StructmatError):
    """A graph that no orthogonal matrix can have, or that is not a grid graph."""


class BlockError(StructmatError):
    """Blocks whose number, shape or values do not fit the network."""


class RoutingError(StructmatError):
    """A permutation that a network blocks: no setting of its switches realises it."""


class UndecidedError(StructmatError):
    """A question whose search ended at its bound: the answer may be either."""


class FileError(StructmatError):
    """A file that is missing, cut, too new, or does not fit."""


class MissingExtraError(StructmatError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


WIDEST = 2**22  # wires of a network: no memory holds a matrix of so many rows
_LONG = re.compile(r"\d{60,}")  # numbers that are cut in messages
_LONGEST = 200  # characters of a value in a message
_BITS = 512  # of an integer in a message; Python refuses to print very long ones
_DIGITS = 640  # Python's limit on the digits that it prints cannot be set lower


def shown(value: Any, longest: int = _LONGEST) -> str:
    """Return repr(value) for a message: shortened where it is long, and never failing.

    Examples
    --------
    >>> shown("butterfly"), shown("ab" * 50, 20), shown(10**5000)
    ("'butterfly'", "'ababab…(102)…babab'", 'an integer of 16,610 bits')
    """
    if isinstance(value, int) and value.bit_length() > _BITS:
        return f"an integer of {value.bit_length():,} bits"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a huge integer inside, or deep nesting
        return f"a {type(value).__name__} that cannot be printed"
    if len(text) <= longest:
        return text
    mark = f"…({len(text):,})…"
    kept = max(longest - len(mark), 2)
    return f"{text[: kept - kept // 2]}{mark}{text[len(text) - kept // 2 :]}"


def whole(value: Any, name: str, least: int = 0) -> int:
    """Return `value` as an int that is at least `least`, refusing floats, bools and NaN.

    Raises
    ------
    StructmatError
        When `value` is no integer, or is below `least`.

    Examples
    --------
    >>> whole(8, "block", 2)
    8
    >>> whole(2.5, "depth")
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
        raise StructmatError(f"{name}={shown(value)}: {rule}") from None
    if number < least:
        raise StructmatError(f"{name}={shown(number)}: {rule}")
    return number


def check_digits(value: Any, name: str) -> None:
    """Refuse an integer that is too long for Python to print, also inside lists and tuples.

    Raises
    ------
    SpecError
        For more than 640 digits.

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
        raise SpecError(f"{name}={shown(value)}: it must have at most {_DIGITS} digits")


def checked_width(value: Any) -> int:
    """Return the width of a network as an int from 1 to 2^22.

    Raises
    ------
    StructmatError
        For a value that is not an integer, or is below 1.
    WidthError
        For an integer above 2^22.

    Examples
    --------
    >>> checked_width(2**61 - 1)
    Traceback (most recent call last):
    ...
    structmat.errors.WidthError: width=2305843009213693951: a network has at most 4,194,304 wires
    """
    width = whole(value, "width", 1)
    if width > WIDEST:
        raise WidthError(f"width={shown(width)}: a network has at most {WIDEST:,} wires")
    return width


def is_sequence(value: Any) -> bool:
    """Return whether `value` has an order and a length: a tuple or list, or an array of numbers.

    Examples
    --------
    >>> is_sequence((2, 3)), is_sequence(np.array([2, 3])), is_sequence(np.array(6))
    (True, True, False)
    """
    return isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim > 0)


def plain(value: Any) -> Any:
    """Return a value as Python writes it: numpy's numbers and lists as numbers and tuples.

    Raises
    ------
    TypeError, ValueError
        For what no literal stands for: infinity and NaN, and any other object.

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
    """Refuse data read from JSON that is not of our format, or of another schema version.

    Raises
    ------
    FileError
        Saying what was expected.

    Examples
    --------
    >>> check_format(
    ...     {"format": "ours", "version": 2}, what="a.json", form="ours", version=1, writer="save"
    ... )
    Traceback (most recent call last):
    ...
    structmat.errors.FileError: a.json of version 2: this structmat reads version 1; upgrade \
structmat or write it anew
    """
    if not isinstance(data, dict) or data.get("format") != form:
        raise FileError(f'{what} has no "format": "{form}": expected what {writer} wrote')
    if type(data.get("version")) is not int or data["version"] != version:  # True == 1
        raise FileError(
            f"{what} of version {shown(data.get('version'))}: this structmat reads version"
            f" {version}; upgrade structmat or write it anew"
        )


def suggest(name: str, names: Iterable[str], far: str | None = None) -> str:
    """Return the end of an error message about an unknown name: the nearest ones, or all.

    Where none is near and all are too many, `far` is said instead.

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
    """Return the random generator that `rng` stands for, as `numpy.random.default_rng` does.

    Raises
    ------
    StructmatError
        When numpy cannot make a generator of it.

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
            f"rng={shown(rng)}: rng must be a Generator, an integer at least 0, or None"
        ) from None


def check_source(rng: Any) -> None:
    """Refuse what `random_source` refuses, without making a generator.

    Raises
    ------
    StructmatError
        When numpy cannot make a generator of it.

    Examples
    --------
    >>> check_source(3)
    """
    if rng is not None and not (type(rng) is int and rng >= 0):
        random_source(rng)


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    Raises
    ------
    MissingExtraError
        When `module` is not installed.

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
