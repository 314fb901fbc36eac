"""The program that occupies one core runs during its context, and always ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from structmat.bench.busy_core import busy_core
from structmat.errors import StructmatError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition):
    """Wait until a condition is true, for up to a minute."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the condition is still false after a minute")


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_the_program_ends_with_the_context(error):
    with busy_core() as process:
        assert is_running(process)
    assert not is_running(process)

    def interrupted():
        nonlocal process
        with busy_core() as process:
            raise error

    with pytest.raises(error):
        interrupted()
    assert not is_running(process)


@LINUX
def test_the_program_computes_on_one_core():
    def seconds():
        fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
        return int(fields[11])

    with busy_core() as process:
        assert os.sched_getaffinity(process) == {max(os.sched_getaffinity(0))}
        before = seconds()
        wait_until(lambda: seconds() > before)


@LINUX
def test_the_program_runs_unpinned_where_pinning_is_not_allowed(monkeypatch):
    def refused(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refused)
    with busy_core() as process:
        assert os.sched_getaffinity(process) == os.sched_getaffinity(0)


def test_the_measurement_is_invalid_if_the_program_ends_early():
    def measured():
        with busy_core() as process:
            os.kill(process, signal.SIGTERM)
            wait_until(lambda: ended(process))

    def ended(process):
        return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    with pytest.raises(StructmatError, match="ended during the measurement, with exit code -15"):
        measured()


@LINUX
def test_the_program_ends_if_the_measuring_process_is_killed():
    program = (
        "import time\n"
        "from structmat.bench.busy_core import busy_core\n"
        "with busy_core() as process:\n"
        "    print(process, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        process = int(parent.stdout.readline())
        assert is_running(process)
        parent.kill()
    # The program may remain as a zombie if no process waits for orphans.
    stat = Path(f"/proc/{process}/stat")
    wait_until(lambda: not stat.exists() or stat.read_text("utf-8").rpartition(")")[2][1] == "Z")
