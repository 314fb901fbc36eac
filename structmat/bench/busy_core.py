"""A program that occupies one core, to measure beside other load on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from structmat.errors import StructmatError

# It ends when its standard input is closed, hence also if the measuring process is killed.
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
    """Run a program that occupies one core, and yield the id of its process.

    The program computes from before the first statement of the context until after the last. It is
    pinned to the last core on which this process may run, where the system supports pinning. It is
    killed at the end of the context, whatever ends it.

    Raises
    ------
    StructmatError
        If the program ended before the context did.

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
            with suppress(AttributeError, OSError):  # no pinning here, or it is not allowed
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
