"""Computation of answers in separate processes, which can be terminated and limit their memory."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from structmat.errors import StructmatError

_REMEMBERED = 256  # answers kept by each worker
_SHORT = 2**14  # maximum length of an answer that is kept
_MEMORY = 2**32  # bytes of a process

Process = subprocess.Popen[str]


class Late(StructmatError):  # noqa: N818 (a result, for which bounds are the remedy)
    """An answer took longer than the time limit."""


class Worker:
    """Computes one answer at a time in a process; pages wait in a queue.

    Parameters
    ----------
    seconds : float
        The time limit of an answer.

    Examples
    --------
    >>> with Worker(60) as worker:
    ...     worker.answer("dimension", {"spec": "butterfly", "width": 8})["value"]
    12
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # held while an answer is computed
        self._known: dict[str, Any] = {}
        self._newest: dict[str, object] = {}  # the latest question of each page
        self._asking: str | None = None  # the page whose question is being computed
        self._is_busy = self._is_stopped = False
        self._process: Process | None = _started()  # started in advance

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_busy(self) -> bool:
        """Whether an answer is being computed."""
        return self._is_busy

    def answer(self, name: str, question: Any, page: str | None = None) -> Any:
        """Return the answer to a question, or None if a newer question of the page arrived.

        Parameters
        ----------
        name : str
            A key of `ANSWERS`.
        question : JSON-serialisable
        page : str, optional
            The page that asks: a new question cancels the previous one of the same page, and waits
            for those of other pages. Without a page, a question is never cancelled.

        Returns
        -------
        JSON value
            An object with an entry "error" if the library refuses the question.

        Raises
        ------
        Late
            After the time limit.
        StructmatError
            If the process was terminated externally.
        """
        line = json.dumps([name, question])
        mine = object()
        if page is not None:
            with self._lock:
                self._newest[page] = mine
                if self._asking == page and self._process is not None:
                    self._process.kill()
        try:
            if line in self._known:
                return self._known[line]
            with self._turn:
                return self._in_turn(line, page, mine)
        finally:
            with self._lock:
                if page is not None and self._newest.get(page) is mine:
                    del self._newest[page]

    def stop(self) -> None:
        """Terminate the process, whatever it is computing."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()
        with self._turn:  # wait until the thread that uses the process has noticed
            self._cleared()

    def _in_turn(self, line: str, page: str | None, mine: object) -> Any:
        with self._lock:
            if self._is_over(page, mine):
                return None
            process = self._process = self._process or _started()
            self._asking, self._is_busy = page, True
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._seconds, give_up)
        timer.start()
        said = _said(process, line)
        timer.cancel()
        with self._lock:
            self._asking, self._is_busy = None, False
            is_over = self._is_over(page, mine)
        if not said or is_over or late.is_set():  # terminated, possibly while answering
            self._cleared()
        if said:
            return self._remembered(line, said)
        if late.is_set():
            raise Late(f"the answer takes more than {self._seconds:g} seconds")
        if is_over:
            return None
        raise StructmatError(
            f"the answer was not computed: its process was terminated, for example by the"
            f" system when memory ran out ({_MEMORY >> 30} GiB are allowed); ask about a smaller"
            " network"
        )

    def _is_over(self, page: str | None, mine: object) -> bool:
        return self._is_stopped or (page is not None and self._newest.get(page) is not mine)

    def _cleared(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _ended(process)

    def _remembered(self, line: str, said: str) -> Any:
        found = json.loads(said)
        if len(said) + len(line) <= _SHORT:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[line] = found
        return found


# The process reads one question per line, and writes one answer per line ------------------------


def _started() -> Process:
    found = os.pathsep.join(path for path in sys.path if path)  # for the same modules
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        env=os.environ | {"PYTHONPATH": found},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )


def _said(process: Process, line: str) -> str:
    """Return the answer of a process to a line, or an empty text if it was terminated."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        said = process.stdout.readline()
    except OSError:
        return ""
    return said if said.endswith("\n") else ""


def _ended(process: Process) -> None:
    """Wait for a terminated process, and close its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:  # closing stdin flushes text that the process has not read
            pass


def answers() -> Mapping[str, Callable[[Any], Any]]:
    """Return the functions that answer questions, by name.

    Examples
    --------
    >>> sorted(answers())
    ['dimension', 'network', 'row']
    """
    from structmat.explorer.answers import answer, dimension_answer
    from structmat.explorer.survey import row

    return {"network": answer, "dimension": dimension_answer, "row": row}


def computed(name: str, question: Any) -> Any:
    """Return the answer to a question, or its refusal if the library raises an error.

    Examples
    --------
    >>> print(computed("network", {"spec": "benes", "width": 12})["error"])
    benes(width=12): width must be 2^n with n ≥ 1; nearest are 8 and 16. mixed_radix(12) serves \
any width
    """
    from structmat.explorer.answers import refusal

    try:
        return answers()[name](question)
    except StructmatError as error:
        return refusal(question, error)
    except MemoryError:
        return refusal(question, StructmatError("not enough memory; use a smaller network"))


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows and macOS have no limit
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))


def _work() -> None:
    _limit_memory()
    for line in sys.stdin:
        print(json.dumps(computed(*json.loads(line))), flush=True)  # noqa: T201


if __name__ == "__main__":
    _work()
