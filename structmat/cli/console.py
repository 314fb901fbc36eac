"""Output to terminals and pipes: in colour where that is displayed, and in any encoding.

Terminals get tables and colour from rich; pipes and files get the plain text of the results. rich
is imported only if it is used, because the import takes a tenth of a second.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

from structmat._util.progress import is_terminal

# One substitute character each, so that the columns of drawings and tables stay aligned.
_NEAR = dict(zip("─│●┼×·…–—−²³→←▸✓✗“”‘’", "-|o+x*~---23><>vx\"\"''", strict=True))
_HANDLER = "structmat.near"


@contextmanager
def every_character() -> Iterator[None]:
    """Let standard output and standard error print characters that their encoding lacks.

    Characters in drawings and formulas are replaced by similar ASCII characters, others by escapes.
    """
    with ExitStack() as after:
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                after.callback(_restored, stream, stream.errors)
                reconfigure(errors=_HANDLER)
        yield


def show(*parts: object) -> None:
    """Print lines as they are, and results in colour and fitted to the width of a terminal."""
    for part in parts:
        if isinstance(part, str) or not is_styled(sys.stdout):
            print(part)
        else:
            print(_styled(part, sys.stdout), end="")


def complain(name: str, message: str) -> None:
    """Print an error on one line to standard error, with the name of the command in colour."""
    line = f"{name}: {' '.join(message.split())}"
    if is_styled(sys.stderr):
        from rich.text import Text

        text = Text(line)
        text.stylize("bold red", 0, len(name) + 1)
        print(_styled(text, sys.stderr, wrap=False), end="", file=sys.stderr)
    else:
        print(line, file=sys.stderr)


def is_styled(stream: TextIO) -> bool:
    """Return whether output is styled: in terminals, and elsewhere if FORCE_COLOR is set alone."""
    forced = os.environ.get("FORCE_COLOR") and not os.environ.get("NO_COLOR")
    return bool(forced) or is_terminal(stream)


def _styled(part: object, stream: TextIO, *, wrap: bool = True) -> str:
    """Return the text that rich would print: rich itself ends the program if a pipe is closed."""
    from rich.console import Console

    console = Console(file=stream, force_terminal=True)
    with console.capture() as captured:
        console.print(part, highlight=False, soft_wrap=not wrap)
    return captured.get()


def is_unicode(stream: Any) -> bool:
    """Return whether a stream can write every character: it has a Unicode encoding, or none.

    Examples
    --------
    >>> import io
    >>> is_unicode(io.StringIO()), is_unicode(io.TextIOWrapper(io.BytesIO(), "ascii"))
    (True, False)
    """
    encoding = getattr(stream, "encoding", None)
    try:
        return encoding is None or codecs.lookup(encoding).name.startswith("utf")
    except LookupError:
        return False


def _restored(stream: Any, errors: str | None) -> None:
    try:
        stream.reconfigure(errors=errors)
    except (OSError, ValueError):  # reconfiguring flushes, and the pipe may be closed
        return


def _near(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    mark = error.object[error.start]
    if mark in _NEAR:
        return _NEAR[mark], error.start + 1
    alone = UnicodeEncodeError(
        error.encoding, error.object, error.start, error.start + 1, error.reason
    )
    return codecs.backslashreplace_errors(alone)


codecs.register_error(_HANDLER, _near)
