"""The dimension of a network, found in a process of its own, which can be ended."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

from structmat.errors import StructmatError
from structmat.expressivity import dimension
from structmat.network import Network

SECONDS = 30.0
_REMEMBERED = 256
_RANK = 4000  # beyond, a rank takes longer than anyone waits for a page


class Measurer:
    """Finds out one dimension at a time; a newer question ends the older one.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> Measurer().dimension(butterfly(8))["value"]
    12
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._running: subprocess.Popen[str] | None = None
        self._known: dict[Network, dict[str, Any]] = {}

    def dimension(self, net: Network) -> dict[str, Any] | None:
        """Return the dimension, ready for JSON; None where a newer question came between.

        Where it took too long the bounds are those that take no time, and `late` is True.

        Raises
        ------
        StructmatError
            When the process fails.
        """
        if net not in self._known:
            found = self._found(net)
            if found is None:
                return None
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[net] = found
            return found
        return self._known[net]

    def stop(self) -> None:
        """End what runs."""
        with self._lock:
            if self._running is not None:
                self._running.kill()

    def _found(self, net: Network) -> dict[str, Any] | None:
        with self._lock:
            if self._running is not None:
                self._running.kill()
            running = self._running = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        with running:
            try:
                said, problem = running.communicate(net.to_json(), timeout=self._seconds)
            except subprocess.TimeoutExpired:
                running.kill()
                return _late(net)
            finally:
                with self._lock:
                    newer = self._running is not running
                    if not newer:
                        self._running = None
        if newer:
            return None
        if running.returncode:
            raise StructmatError(f"the dimension was not found: {problem.strip() or 'stopped'}")
        found: dict[str, Any] = json.loads(said)
        return found


def measured(net: Network) -> dict[str, Any]:
    """Return the dimension of a network, ready for JSON.

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


if __name__ == "__main__":
    json.dump(measured(Network.from_json(sys.stdin.read())), sys.stdout)
