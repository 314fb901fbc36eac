"""Progress bars with rich, for terminals and notebooks."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_DELAY = 1  # seconds of work before a bar appears
_PAUSE = 0.1  # minimum number of seconds between updates of the display


class Steps:
    """The number of finished steps, and the bar that shows it once the work takes a while.

    There is no thread that redraws the bar: it would disturb measurements and forked processes.
    """

    def __init__(self, what: str, total: int, unit: str, done: int, *, shown: bool) -> None:
        self.n = done
        self._about = {"description": what, "total": total, "unit": unit, "note": ""}
        self._begun = time.monotonic()
        self._due = self._begun + _DELAY if shown else math.inf
        self._display: Any = None

    def update(self, count: int = 1) -> None:
        """Add finished steps."""
        self.n += count
        self._refresh()

    def describe(self, note: str) -> None:
        """Show a note next to the bar."""
        self._about["note"] = note
        self._refresh()

    def close(self) -> None:
        """Remove the bar."""
        self._due = math.inf
        if self._display is not None:
            self._display.stop()

    def _refresh(self) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _PAUSE
        if self._display is None:
            self._display = _display()
            self._display.start()
            task = self._display.add_task(completed=self.n, **self._about)
            self._display.tasks[task].start_time = self._begun
        self._display.update(0, completed=self.n, note=self._about["note"], refresh=True)


@contextmanager
def bar(what: str, total: int, *, unit: str, shown: bool, done: int = 0) -> Iterator[Steps]:
    """Yield a counter of steps, which shows a progress bar if one is wanted and can be seen.

    The bar is written to standard error if that is a terminal, or in a notebook, and only if the
    work takes more than a second; it is removed at the end.

    Examples
    --------
    >>> with bar("fit", 10, unit="sweep", shown=False) as steps:
    ...     steps.update(3)
    ...     steps.n
    3
    """
    seen = is_terminal(sys.stderr) or _is_notebook()
    steps = Steps(what, total, unit, done, shown=shown and seen)
    try:
        yield steps
    finally:
        steps.close()


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can move its cursor.

    Examples
    --------
    >>> import io
    >>> is_terminal(io.StringIO())
    False
    """
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def _is_notebook() -> bool:
    """Return whether this is a notebook in which rich can show a bar."""
    return "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets") is not None


def _display() -> Any:
    """Return a progress display of rich, which is imported only if a bar is shown."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    def text(form: str) -> TextColumn:
        return TextColumn(form, markup=False, table_column=Column(no_wrap=True))

    return Progress(
        text("{task.description}"),
        BarColumn(bar_width=24),
        text("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        text("{task.fields[note]}"),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        get_time=time.monotonic,
    )
