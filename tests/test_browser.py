"""The tests of the explorer fail without a browser, unless BROWSER=none skips them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import browser

ROOT = Path(__file__).parents[1]
ONE = "tests/explorer/test_page.py::test_the_page_contacts_only_its_own_server"


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine without a browser and apt-get; the folder is the only one on its PATH."""
    pytest.importorskip("playwright")
    monkeypatch.delenv("BROWSER", raising=False)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "browsers"))
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    return path


def program(path, text="exit 1"):
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def one_test():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ONE]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)


@pytest.mark.slow
def test_a_missing_browser_is_an_error_with_the_remedy(bare):
    done = one_test()
    assert done.returncode == 1
    assert "no browser for the tests of the explorer. Install Chromium" in done.stdout
    assert "BROWSER=none" in done.stdout


@pytest.mark.slow
def test_tests_are_skipped_with_a_reason_when_the_browser_is_disabled(bare, monkeypatch, capsys):
    monkeypatch.setenv("BROWSER", "none")
    done = one_test()
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert browser.LEFT_OUT in done.stdout
    assert browser.main() == 0
    assert browser.LEFT_OUT in capsys.readouterr().out


def test_installation_methods_are_tried_in_order_and_end_with_a_one_line_error(
    bare, monkeypatch, capsys
):
    program(bare / "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    tried = []

    def refused(command):
        tried.append(" ".join(command[1:3]))
        return False

    monkeypatch.setattr(browser, "succeeds", refused)
    assert browser.main() == 1
    assert tried == ["-m playwright", "update"]  # no package is asked for without a list of them
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no browser" in said
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tried.clear()
    assert browser.main() == 1
    assert tried == ["-m playwright"]


def test_an_installed_browser_is_used(bare, monkeypatch, capsys):
    here = os.pathsep.join(["/usr/bin", "/usr/local/bin"])
    real = next(filter(None, (browser.shutil.which(n, path=here) for n in browser.NAMES)), None)
    if real is None:
        pytest.skip("no browser of the system to install in the test's place")

    def installed(command):
        (bare / "chromium").symlink_to(real)
        return True

    monkeypatch.setattr(browser, "succeeds", installed)
    assert browser.main() == 0
    assert "Chromium" in capsys.readouterr().out


def test_a_browser_that_does_not_start_is_skipped_and_reported(bare, monkeypatch, capsys):
    program(bare / "chromium")
    monkeypatch.setattr(browser, "installations", lambda: iter(()))
    assert browser.main() == 1
    assert f"{bare / 'chromium'} does not start: " in capsys.readouterr().err


def test_a_failing_or_missing_command_is_a_failure(bare, capsys):
    program(bare / "well", "exit 0")
    program(bare / "ill")
    found = [browser.succeeds([str(bare / name)]) for name in ("well", "ill", "missing")]
    assert found == [True, False, False]
    assert str(bare / "missing") in capsys.readouterr().out
