"""Validation of a family at registration, and error messages about unknown options."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from structmat.errors import FamilyError, SpecError, abbreviated, suggest
from structmat.families.universal_options import UNIVERSAL


def no_option(name: str, key: str, options: Iterable[str]) -> str:
    """Return the error message about an unknown option of a family.

    Examples
    --------
    >>> no_option("butterfly", "blok", ["block", "depth"])
    "butterfly has no option 'blok'; did you mean block?"
    """
    return f"{name} has no option {abbreviated(key)}{suggest(key, [*options, *UNIVERSAL])}"


def example(name: str, option: str, *, width: str = "64, ") -> str:
    """Return an example of a call with a required option, if it is a block size.

    A spec has no width: its example is one with an empty `width`.

    Examples
    --------
    >>> example("shuffle", "block"), example("random", "depth")
    (', such as shuffle(64, block=4)', '')
    """
    return f", such as {name}({width}{option}=4)" if option == "block" else ""


def binding_error(
    name: str, signature: inspect.Signature, given: int, named: Mapping[str, object]
) -> str | None:
    """Return the error message about options that a family does not take, or None."""
    width, *options = signature.parameters.values()
    for key in named:
        if key not in signature.parameters:
            return no_option(name, key, [option.name for option in options])
    if not given and width.name not in named:
        return None
    for option in options[max(given - 1, 0) :]:
        if option.default is option.empty and option.name not in named:
            return f"{name} needs the option {option.name}{example(name, option.name)}"
    return None


def check_words(widths: Any) -> None:
    """Raise an error for a family without a description of the widths that it accepts.

    Raises
    ------
    SpecError
    """
    if not isinstance(widths, str):
        of = f"family {widths.__name__!r}" if inspect.isfunction(widths) else f"{widths!r}"
        raise SpecError(f'{of}: describe in words which widths it takes, as in @sm.family("any")')


def check_asked(name: str, signature: inspect.Signature, asked: Any, called: str) -> None:
    """Raise an error for a rule that cannot be called with the width and, by name, all options.

    Raises
    ------
    SpecError
    """
    options = list(signature.parameters)[1:]
    call = ", ".join(["width", *(f"{option}={option}" for option in options)])
    if not callable(asked):
        raise SpecError(
            f"family {abbreviated(name)}: {called} must be a function, called as {called}({call}),"
            f" not {abbreviated(asked)}"
        )
    try:
        takes = inspect.signature(asked)
    except (TypeError, ValueError):  # written in C, so that its signature is unknown
        return
    try:
        takes.bind(0, **dict.fromkeys(options))
    except TypeError as error:
        who = getattr(asked, "__name__", called)
        raise SpecError(
            f"family {abbreviated(name)}: {called} is called as {who}({call}), but its signature is"
            f" {who}{takes} ({error}); give it the parameters of {name}"
        ) from None


def check_choices(name: str, signature: inspect.Signature, choices: Any) -> None:
    """Raise an error for choices that are not functions of the width or belong to no option.

    Raises
    ------
    SpecError
    """
    if not isinstance(choices, Mapping | None):
        raise SpecError(
            f"family {abbreviated(name)}: choices must be a dict from an option to a function of"
            f" the width, not {abbreviated(choices)}"
        )
    for option, values in (choices or {}).items():
        if option not in list(signature.parameters)[1:]:
            options = list(signature.parameters)[1:]
            raise SpecError(
                f"choices of family {abbreviated(name)}: {no_option(name, str(option), options)}"
            )
        if not callable(values):
            raise SpecError(
                f"family {abbreviated(name)}: the choices of {option} must be a function of the"
                f" width, not {abbreviated(values)}"
            )


def worded(rule: Any, name: str, width: int) -> str | None:
    """Validate the text or None that `refuses` returned, and return it.

    Raises
    ------
    FamilyError
        For anything but a string or None.

    Examples
    --------
    >>> worded(False, "halves", 3)
    Traceback (most recent call last):
    ...
    structmat.errors.FamilyError: halves at width 3: refuses returned False; it must return, in \
words, the rule that the width breaks, or None where the width is valid
    """
    if rule is None or isinstance(rule, str):
        return rule
    raise FamilyError(
        f"{name} at width {width}: refuses returned {abbreviated(rule)}; it must return, in words,"
        " the rule that the width breaks, or None where the width is valid"
    )
