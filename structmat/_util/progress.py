"""Progress bars, if tqdm is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Never

from structmat.errors import MissingExtraError, require

if TYPE_CHECKING:
    from tqdm import tqdm


@contextmanager
def bar(what: str, total: int, *, unit: str, shown: bool) -> Iterator[tqdm[Never] | None]:
    """Yield a progress bar if one is wanted and tqdm is installed, and None otherwise.

    Nothing is shown for work that takes less than a second.

    Examples
    --------
    >>> with bar("fit", 10, unit="sweep", shown=False) as steps:
    ...     steps is None
    True
    """
    try:
        made = require("tqdm", "finetune").tqdm if shown else None
    except MissingExtraError:
        made = None
    if made is None:
        yield None
        return
    with made(desc=what, total=total, unit=unit, delay=1, leave=False) as steps:
        yield steps
