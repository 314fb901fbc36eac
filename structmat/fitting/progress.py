"""A bar over long work, where tqdm is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _NoBar:
    def update(self, steps: int = 1) -> None:
        """Do nothing."""

    def set_postfix_str(self, text: str) -> None:
        """Do nothing."""


@contextmanager
def bar(what: str, total: int, *, shown: bool) -> Iterator[Any]:
    """Show a bar with `update` and `set_postfix_str`, if wanted; one of less than a second never.

    Examples
    --------
    >>> with bar("fit", 10, shown=False) as steps:
    ...     steps.update()
    """
    if not shown or importlib.util.find_spec("tqdm") is None:
        yield _NoBar()
        return
    from tqdm import tqdm

    with tqdm(desc=what, total=total, unit="sweep", delay=1, leave=False) as steps:
        yield steps
