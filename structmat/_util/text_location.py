"""The place of an error in a user's file: the file, the line number and the text of the line."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

_LONGEST = 80  # maximum length of the text of a line in a message


def quoted(text: str, line: int, column: int = 1) -> str:
    r"""Return the number and the text of a line, shortened around a column if it is long.

    Examples
    --------
    >>> quoted("{\n  'a': 1\n}", 2)
    "line 2: 'a': 1"
    >>> quoted("x" * 500 + "!" + "y" * 500, 1, 501)
    'line 1: …xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx!yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…'
    """
    lines = text.split("\n")
    content = lines[line - 1] if 1 <= line <= len(lines) else ""
    if len(content) > _LONGEST:
        first = max(0, min(column - 1 - _LONGEST // 2, len(content) - _LONGEST))
        end = first + _LONGEST
        content = "…" * (first > 0) + content[first:end] + "…" * (end < len(content))
    return f"line {line}: {content.strip()}"


def undecodable(data: bytes) -> str:
    r"""Return the first line of a text that is not in UTF-8, in the form of `quoted`.

    Examples
    --------
    >>> undecodable(b"a\nb\xff\n")
    'line 2: b\\xff'
    """
    good = data.decode("utf-8", "backslashreplace")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return quoted(good, data.count(b"\n", 0, error.start) + 1)
    return quoted(good, 1)


def of_error(error: BaseException) -> str:
    """Return the file, the number and the text of the user's line that failed, or "".

    This is the innermost line that belongs neither to this package nor to an installed library.
    """
    for one in reversed(list(_chain(error))):
        if isinstance(one, SyntaxError) and one.filename and not one.filename.startswith("<"):
            text = f": {one.text.strip()}" if one.text else ""
            return f"{one.filename}, line {one.lineno}{text}"
        for frame in reversed(traceback.extract_tb(one.__traceback__)):
            if is_of_user(frame.filename):
                return f"{frame.filename}, line {frame.lineno}: {frame.line}"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def is_of_user(filename: str) -> bool:
    """Return whether a file belongs neither to this package nor to an installed library.

    Examples
    --------
    >>> is_of_user("/home/me/my_families.py"), is_of_user(traceback.__file__), is_of_user("<stdin>")
    (True, False, False)
    """
    installed = [Path(__file__).parents[1], *map(Path, sysconfig.get_paths().values())]
    return not filename.startswith("<") and not any(
        folder in Path(filename).parents for folder in installed
    )
