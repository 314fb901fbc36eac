"""What importing loads, and who may import whom."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded_by(program):
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "program",
    [
        "import structmat",
        "import structmat as sm; net = sm.butterfly(8); sm.dense(net, sm.random_blocks(net))",
        "import structmat.testing",
    ],
)
def test_the_core_does_not_load_torch(program):
    heavy = {"torch", "transformers", "peft", "matplotlib", "pandas", "sklearn", "theory"}
    assert not heavy & loaded_by(program)


def test_the_core_does_not_load_the_tests_tools():
    assert not {"hypothesis", "pytest"} & loaded_by("import structmat")


def test_layers_import_downwards_only():
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_all_names_are_there():
    import structmat

    assert len(set(structmat.__all__)) == len(structmat.__all__)
    for name in structmat.__all__:
        assert getattr(structmat, name) is not None
