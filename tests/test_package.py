"""Wheel and sdist are complete, and the installed wheel works."""

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import structmat

ROOT = Path(__file__).parents[1]


EXTRAS = ("hypothesis", "matplotlib", "peft", "safetensors", "shtab", "tqdm", "transformers")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist and the wheel built from it."""
    folder = tmp_path_factory.mktemp("built")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_contains_only_the_package(wheel):
    names = wheel.namelist()
    info = f"structmat-{structmat.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"structmat", info}
    assert "structmat/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "structmat").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert "structmat/finetune/report/report.css" in names
    page = (ROOT / "structmat" / "explorer" / "page").iterdir()
    assert {f"structmat/explorer/page/{part.name}" for part in page} < set(names)
    assert not [name for name in names if "test_" in name or "__pycache__" in name]


def test_the_metadata_are_complete(wheel):
    text = wheel.read(f"structmat-{structmat.__version__}.dist-info/METADATA").decode()
    data = email.message_from_string(text)
    assert data["Name"] == "structmat"
    assert data["Version"] == structmat.__version__
    assert data["License-Expression"] == "Apache-2.0"
    assert {"plot", "adapters", "testing", "finetune"} <= set(data.get_all("Provides-Extra"))


def test_the_sdist_contains_the_files_that_tests_and_docs_need(built):
    (path,) = built.glob("*.tar.gz")
    top = f"structmat-{structmat.__version__}"
    with tarfile.open(path) as archive:
        names = {name.removeprefix(f"{top}/") for name in archive.getnames()}
    for file in ("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff"):
        assert file in names
    for folder in ("structmat", "tests", "theory", "docs", "notebooks"):
        assert [name for name in names if name.startswith(f"{folder}/")]
    assert not {name.split("/")[0] for name in names} & {".git", ".venv", "build", "dist", ".ci"}


@pytest.fixture(scope="module")
def site(built, tmp_path_factory):
    """A folder in which the wheel is installed."""
    (path,) = built.glob("*.whl")
    folder = tmp_path_factory.mktemp("site")
    offline = ["--no-deps", "--no-index", "--no-compile"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, "--target", folder, path],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "extras"])
def test_the_wheel_works_when_installed(site, tmp_path, bare):
    """The installed dependencies are used, offline; `.ci/release` uses clean environments."""
    if bare:  # extras that are installed here look as if they were not
        (tmp_path / "sitecustomize.py").write_text(
            f"import sys\nsys.modules |= dict.fromkeys({EXTRAS})\n", encoding="utf-8"
        )
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "smoke.py", *["--bare"] * bare],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path / "elsewhere",
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(
                [str(tmp_path), str(site), os.environ.get("PYTHONPATH", "")]
            )
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") == 4
