"""Progress bars, if tqdm is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from structmat.errors import MissingExtraError, require


@contextmanager
def bar(what: str, total: int, *, unit: str, shown: bool) -> Iterator[Any]:
    """Show a progress bar if wanted and tqdm is installed; otherwise yield None.

    Nothing is shown for work that takes less than a second.

    Examples
    --------
    >>> with bar("fit", 10, unit="sweep", shown=False) as steps:
    ...     steps is None
    True
    """
    try:
        tqdm = require("tqdm", "finetune").tqdm if shown else None
    except MissingExtraError:
        tqdm = None
    if tqdm is None:
        yield None
        return
    with tqdm(desc=what, total=total, unit=unit, delay=1, leave=False) as steps:
        yield steps
