"""Several processes work on one search: in a journal file, and in a PostgreSQL database."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("forked_search.py")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks of one")


def searched(storage, folder, *, seed, trials):
    """Run the program; return its output, and the lines of the log."""
    log = folder / "log"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), storage, str(log), str(seed), str(trials)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout), log.read_text().splitlines()


def check(found, log, trials):
    """Check that the processes together found the same as one process alone."""
    assert found["codes"] == [0, 0, 0]
    assert found["running"] == 0
    assert found["together"] == found["alone"]
    assert sorted(map(int, found["together"])) == list(range(trials))
    assert found["before"].items() <= found["together"].items()  # no finished trial was lost
    assert sorted(found["front"]) == sorted(found["front_alone"])
    measured = [line.split(" ", 1) for line in log]
    assert len(set(map(tuple, measured))) == len(measured)
    networks = Counter(network for _, network in measured)
    again = [network for network, times in networks.items() if times > 1]
    assert len(again) <= 1  # only the network that the killed process was measuring
    assert all([str(found["victim"]), network] in measured for network in again)
    assert networks.total() - len(networks) == len(again)
    states = Counter(trial[0] for trial in found["together"].values())
    assert states["feasible"] > len(networks)  # equivalent networks were proposed
    assert states["infeasible"] > 0


def test_processes_share_a_journal_and_one_is_killed(tmp_path):
    seed = int.from_bytes(os.urandom(2))
    found, log = searched(str(tmp_path / "search.journal"), tmp_path, seed=seed, trials=18)
    check(found, log, 18)
    assert {path.name for path in tmp_path.iterdir()} == {"search.journal", "log"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start a PostgreSQL server that listens only on a socket; return the URL of a database."""
    tools = {name: shutil.which(name) for name in ("initdb", "pg_ctl")}
    if None in tools.values():
        pytest.skip("PostgreSQL is not installed")
    folder = Path("/tmp") / f"structmat-{os.getpid()}"  # the path of a socket must be short
    folder.mkdir(mode=0o700)
    data, user = folder / "data", []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "nobody")
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"

    def run(*command):
        subprocess.run([*user, *command], check=True, capture_output=True, cwd=folder)

    run(tools["initdb"], "-D", data, "-U", "ann", "--auth=trust", "--no-sync")
    try:
        # Its output must not be a pipe, which the server would keep open.
        run(tools["pg_ctl"], "-D", data, "-o", options, "-l", folder / "log", "-w", "start")
        yield f"postgresql://ann:secret@/postgres?host={folder}"
    finally:
        run(tools["pg_ctl"], "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


def test_processes_share_a_database_and_one_is_killed(server, tmp_path):
    pytest.importorskip("psycopg", reason="the driver psycopg is not installed")
    found, log = searched(server, tmp_path, seed=1, trials=12)
    check(found, log, 12)
