"""Computation of the dimension of a network in a separate process, which can be terminated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

from structmat.analysis.dimension import dimension
from structmat.errors import StructmatError
from structmat.networks.network import Network

SECONDS = 30.0
_RANK = 4000  # `largest` of `dimension`: larger ranks take too long for an interactive page
_REMEMBERED = 256

Process = subprocess.Popen[str]


class Measurer:
    """Computes one dimension at a time; pages wait in a queue, each with at most one question.

    Parameters
    ----------
    seconds : float
        The time limit of a computation.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> with Measurer() as measurer:
    ...     measurer.dimension(butterfly(8))["value"]
    12
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # held while a dimension is computed
        self._known: dict[Network, dict[str, Any]] = {}
        self._newest: dict[str, object] = {}  # the latest question of each page
        self._asking: str | None = None  # the page whose question is being computed
        self._is_stopped = False
        self._process: Process | None = _started()  # started in advance

    def __enter__(self) -> Measurer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_busy(self) -> bool:
        """Whether a dimension is being computed."""
        return self._asking is not None

    def dimension(self, net: Network, page: str = "") -> dict[str, Any] | None:
        """Return the dimension as a JSON-serialisable dict, or None if a newer question arrived.

        After the time limit, only the bounds that require no rank are returned, and `late` is True.

        Parameters
        ----------
        net : Network
        page : str
            The page that asks: a new question cancels the previous one of the same page, and waits
            for those of other pages.

        Raises
        ------
        StructmatError
            If the process was terminated externally.
        """
        mine = object()
        with self._lock:
            self._newest[page] = mine
            if self._asking == page and self._process is not None:
                self._process.kill()
        try:
            known = self._known.get(net)
            if known is not None:
                return known
            with self._turn:
                return self._in_turn(net, page, mine)
        finally:
            with self._lock:
                if self._newest.get(page) is mine:
                    del self._newest[page]

    def stop(self) -> None:
        """Terminate the process, whatever it is computing."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()
        with self._turn:  # wait until the thread that uses the process has noticed
            self._cleared()

    def _in_turn(self, net: Network, page: str, mine: object) -> dict[str, Any] | None:
        with self._lock:
            if self._is_over(page, mine):
                return None
            process = self._process = self._process or _started()
            self._asking = page
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._seconds, give_up)
        timer.start()
        said = _said(process, net.to_json())
        timer.cancel()
        with self._lock:
            self._asking = None
            is_over = self._is_over(page, mine)
        if not said or is_over or late.is_set():  # terminated, possibly while answering
            self._cleared()
        if said:
            found: dict[str, Any] = json.loads(said)
            return self._remembered(net, found)
        if late.is_set():
            return self._remembered(net, _late(net))
        if is_over:
            return None
        raise StructmatError(
            "the dimension was not computed: its process was terminated; ask again"
        )

    def _is_over(self, page: str, mine: object) -> bool:
        return self._is_stopped or self._newest.get(page) is not mine

    def _cleared(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _ended(process)

    def _remembered(self, net: Network, found: dict[str, Any]) -> dict[str, Any]:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[net] = found
        return found


def measured(net: Network) -> dict[str, Any]:
    """Return the dimension of a network as a JSON-serialisable dict.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> measured(butterfly(8))
    {'lower': 12, 'upper': 12, 'parameters': 12, 'ranked': True, 'value': 12, 'proved': True, \
'redundant': 0, 'late': False}
    """
    return dimension(net, largest=_RANK).to_dict() | {"late": False}


def _late(net: Network) -> dict[str, Any]:
    most = min(net.parameters, net.width * (net.width - 1) // 2)
    bounds = {"lower": 0, "upper": most, "parameters": net.parameters, "ranked": False}
    return bounds | {"value": 0, "proved": False, "redundant": net.parameters, "late": True}


# The process reads one network per line, and writes one dimension per line ---------------------


def _started() -> Process:
    found = os.pathsep.join(path for path in sys.path if path)  # it imports the same modules
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


def _work() -> None:
    for line in sys.stdin:
        print(json.dumps(measured(Network.from_json(line))), flush=True)  # noqa: T201


if __name__ == "__main__":
    _work()
