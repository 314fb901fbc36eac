"""The tests of the explorer fail where no browser is, unless they are left out knowingly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import browser

ROOT = Path(__file__).parents[1]
ONE = "tests/explorer/test_page.py::test_only_its_own_server_is_asked"


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
def test_without_a_browser_the_tests_fail_and_say_the_remedy(bare):
    done = one_test()
    assert done.returncode == 1
    assert "no browser for the tests of the explorer. Install Chromium" in done.stdout
    assert "BROWSER=none" in done.stdout


@pytest.mark.slow
def test_left_out_knowingly_they_are_skipped_and_it_is_said(bare, monkeypatch, capsys):
    monkeypatch.setenv("BROWSER", "none")
    done = one_test()
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert browser.LEFT_OUT in done.stdout
    assert browser.main() == 0
    assert browser.LEFT_OUT in capsys.readouterr().out


def test_the_ways_are_tried_in_order_and_the_last_word_is_one_line(bare, monkeypatch, capsys):
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


def test_what_was_installed_is_used(bare, monkeypatch, capsys):
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


def test_one_that_does_not_start_is_passed_over_and_named(bare, monkeypatch, capsys):
    program(bare / "chromium")
    monkeypatch.setattr(browser, "installations", lambda: iter(()))
    assert browser.main() == 1
    assert f"{bare / 'chromium'} does not start: " in capsys.readouterr().err


def test_a_command_that_fails_or_is_missing_did_not_succeed(bare, capsys):
    program(bare / "well", "exit 0")
    program(bare / "ill")
    found = [browser.succeeds([str(bare / name)]) for name in ("well", "ill", "missing")]
    assert found == [True, False, False]
    assert str(bare / "missing") in capsys.readouterr().out
