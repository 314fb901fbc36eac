"""A user script passes mypy --strict and runs."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("user_script.py")


@pytest.mark.slow
def test_user_code_passes_mypy_strict(tmp_path):
    """mypy runs outside this project, so it relies on `py.typed`."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", SCRIPT],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_user_code_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, encoding="utf-8", check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
