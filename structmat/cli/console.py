"""Output to terminals and pipes of any encoding, with ASCII substitutes for missing characters."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

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
