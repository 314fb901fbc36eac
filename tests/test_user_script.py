"""The public API in user code: it is typed, and it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("user_script.py")


@pytest.mark.slow
def test_user_code_passes_mypy_strict(tmp_path):
    """Outside this project and its settings, so that only `py.typed` counts."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", SCRIPT],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_script_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, encoding="utf-8", check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
