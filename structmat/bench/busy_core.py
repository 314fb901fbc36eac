"""A program that occupies one core, for measurements on a loaded machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from structmat.errors import StructmatError

# The program exits when its standard input is closed, which happens even if its parent is killed.
_PROGRAM = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print(flush=True)
x = 0.5
while True:
    x = 3.7 * x * (1 - x)
"""


@contextmanager
def busy_core() -> Iterator[int]:
    """Run a program that occupies one core, and yield its process id.

    The program is already computing when the context is entered, and is killed when the context
    ends, even with an error. If the system allows it, the program is pinned to the last core on
    which this process may run.

    Raises
    ------
    StructmatError
        If the program ends before the context does.

    Examples
    --------
    >>> with busy_core() as process:
    ...     sum(range(10))
    45
    """
    with subprocess.Popen(
        [sys.executable, "-I", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        try:
            with suppress(AttributeError, OSError):  # pinning is unsupported or not allowed
                os.sched_setaffinity(child.pid, {max(os.sched_getaffinity(0))})
            assert child.stdout is not None
            child.stdout.readline()  # written just before the computation
            yield child.pid
            if child.poll() is not None:
                raise StructmatError(
                    "the program that occupies one core ended during the measurement, with exit"
                    f" code {child.returncode}; measure again"
                )
        finally:
            child.kill()
