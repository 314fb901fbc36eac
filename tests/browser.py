"""Find or install a Chromium for the explorer tests.

`python -m tests.browser` finds a browser, installs one if none is found, and fails with one line if
neither is possible. `BROWSER=none` skips these tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.timeouts import PATIENCE

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LEFT_OUT = "the tests that need a browser are left out: BROWSER=none"
MISSING = (
    "no browser for the tests of the explorer{}. Install Chromium or Chrome on the PATH, or run"
    " `.venv/bin/playwright install --with-deps chromium`; BROWSER=none leaves these tests out"
)
_LONGEST = 600  # seconds of an installation


def left_out() -> bool:
    """Return whether the tests that need a browser are disabled."""
    return os.environ.get("BROWSER") == "none"


def candidates(driver) -> Iterator[str]:
    """Yield the paths of browsers: those on the PATH, then the one that playwright installs."""
    yield from filter(None, map(shutil.which, NAMES))
    if Path(driver.chromium.executable_path).exists():
        yield driver.chromium.executable_path


def launch(driver):
    """Return the first browser that starts.

    Raises
    ------
    FileNotFoundError
        If no browser starts; the message lists the browsers tried and the remedy.
    """
    from playwright.sync_api import Error

    tried = []
    for path in candidates(driver):
        try:
            return driver.chromium.launch(executable_path=path, timeout=1000 * PATIENCE)
        except Error as error:
            tried.append(f"{path} does not start: {error.message.splitlines()[0]}")
    raise FileNotFoundError(MISSING.format("".join(f"; {one}" for one in tried)))


def installations() -> Iterator[list[list[str]]]:
    """Yield the installation methods as lists of commands: playwright's, then apt-get for root."""
    yield [[sys.executable, "-m", "playwright", "install", "--no-shell", "chromium"]]
    apt = shutil.which("apt-get")
    if apt and hasattr(os, "geteuid") and os.geteuid() == 0:
        yield [[apt, "update"], [apt, "install", "-y", "--no-install-recommends", "chromium"]]


def succeeds(command: list[str]) -> bool:
    """Run a command, discarding its output, and return whether it succeeded."""
    sys.stdout.write(f"    {' '.join(command)}\n")
    sys.stdout.flush()
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=_LONGEST,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def ensure() -> str:
    """Return the version of a browser that starts; install one if none is found.

    Raises
    ------
    FileNotFoundError
        If no browser starts and none can be installed.
    """
    from playwright.sync_api import sync_playwright

    ways = installations()
    while True:
        with sync_playwright() as driver:
            try:
                with launch(driver) as chromium:
                    return chromium.version
            except FileNotFoundError:
                commands = next(ways, None)
                if commands is None:
                    raise
        all(map(succeeds, commands))


def main() -> int:
    if left_out():
        sys.stdout.write(f"    {LEFT_OUT}\n")
        return 0
    try:
        sys.stdout.write(f"    Chromium {ensure()}\n")
    except FileNotFoundError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
