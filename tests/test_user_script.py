"""A user script runs; `make types` checks its types."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("user_script.py")


@pytest.mark.slow
def test_user_code_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, encoding="utf-8", check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
