"""The wheel holds the package and nothing else."""

import email
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import structmat

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = wheel.namelist()
    info = f"structmat-{structmat.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"structmat", info}
    assert "structmat/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "structmat").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    page = (ROOT / "structmat" / "explorer" / "page").iterdir()
    assert {f"structmat/explorer/page/{part.name}" for part in page} < set(names)
    assert not [name for name in names if "test_" in name or "__pycache__" in name]


def test_the_metadata_say_what_it_is(wheel):
    text = wheel.read(f"structmat-{structmat.__version__}.dist-info/METADATA").decode()
    data = email.message_from_string(text)
    assert data["Name"] == "structmat"
    assert data["Version"] == structmat.__version__
    assert data["License-Expression"] == "Apache-2.0"
    assert {"plot", "adapters", "testing", "finetune"} <= set(data.get_all("Provides-Extra"))
