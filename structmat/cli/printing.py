"""Characters for terminals and pipes of any encoding: where one is missing, one that is near."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

# One for one, as the columns of drawings and tables have to stay.
_NEAR = dict(zip("─│●┼×·…–—−²³→←▸✓✗“”‘’", "-|o+x*~---23><>vx\"\"''", strict=True))
_HANDLER = "structmat.near"


@contextmanager
def every_character() -> Iterator[None]:
    """Let standard output and standard error print what their encoding does not have.

    Characters of drawings and formulas are replaced by near ones of ASCII, others by escapes.
    """
    with ExitStack() as after:
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                after.callback(_restored, stream, stream.errors)
                reconfigure(errors=_HANDLER)
        yield


def is_unicode(stream: Any) -> bool:
    """Return whether a stream has every character: UTF-8 and its kin, or no encoding at all.

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
    except (OSError, ValueError):  # it is flushed, and its reader has gone
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
