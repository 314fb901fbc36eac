"""A program for tests: one search by several processes, of which one is killed and one joins late.

python forked_search.py STORAGE LOG SEED TRIALS prints a JSON object: the results of the processes
together, those of one process alone, and those that were finished when a process was killed.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from structmat.search.study.engine import search, stored

PROCESSES = 4
OPTIONS = {
    "require": ["dense"],
    "proposals": ["families", "free"],
    "families": ["butterfly", "gossip"],
    "sampler": "random",
    "rng": 6,
}


def slow(net):
    """Return the number of parameters after a while; log the process and the network."""
    with open(LOG, "ab", buffering=0) as log:  # noqa: PTH123 (one write, so lines do not mix)
        log.write(f"{os.getpid()} {net.to_json()}\n".encode())
    time.sleep(0.05)
    return net.parameters


def quick(net):
    """Return the same as `slow`, at once."""
    return net.parameters


def described(result):
    """Return the network and the values of each trial, which must not depend on the processes."""
    return {
        t.number: [t.state, t.topology, t.violation, [*t.values.values()]] for t in result.trials
    }


def started():
    """Start a process that works on the search."""
    child = os.fork()
    if child == 0:
        try:
            search(8, [slow, "depth"], storage=STORAGE, **OPTIONS)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def main():
    """Run the processes, kill one, and print the results."""
    source = random.Random(int(sys.argv[3]))
    children = [started() for _ in range(PROCESSES - 1)]
    log = Path(LOG)
    while not log.exists() or log.read_bytes().count(b"\n") < 3:
        time.sleep(0.01)
    time.sleep(source.uniform(0, 0.1))
    victim = source.choice(children)
    before = described(stored(STORAGE))
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    children.remove(victim)
    children.append(started())
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    together = stored(STORAGE)
    alone = search(8, [quick, "depth"], progress=False, **OPTIONS)
    print(
        json.dumps(
            {
                "codes": codes,
                "victim": victim,
                "before": before,
                "together": described(together),
                "alone": described(alone),
                "front": [[*t.values.values()] for t in together.front],
                "front_alone": [[*t.values.values()] for t in alone.front],
                "running": together.running,
            }
        )
    )


if __name__ == "__main__":
    STORAGE, LOG = sys.argv[1:3]
    OPTIONS["trials"] = int(sys.argv[4])
    main()
