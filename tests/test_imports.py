"""The modules that an import loads, and the layers of imports."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import structmat as sm

ROOT = Path(__file__).parents[1]


def modules_of(program):
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(done.stdout.split())


def loaded_by(program):
    return {name.split(".")[0] for name in modules_of(program)}


@pytest.mark.parametrize(
    "program",
    [
        "import structmat",
        "import structmat as sm; sm.Rotation(sm.Network(8), []).matrix()",
        "import structmat.testing",
    ],
)
def test_the_core_does_not_load_torch(program):
    heavy = {"torch", "transformers", "peft", "matplotlib", "pandas", "sklearn", "theory"}
    assert not heavy & loaded_by(program)


def test_importing_loads_few_modules():
    """Modules are counted, not timed; the import takes 0.15 s, 0.1 s of it for numpy."""
    modules = modules_of("import structmat")
    heavy = {"scipy.linalg", "scipy.sparse", "scipy.stats", "importlib.metadata"}
    assert not heavy & modules  # each is loaded by what first needs it
    assert not {"networkx", "sympy"} & modules
    assert len(modules) < 500  # 299 with CPython 3.11; 930 when all of scipy was loaded
    used = "import structmat as sm; sm.spectral_statistics(sm.butterfly(8), rng=0); sm.catalogue()"
    assert heavy <= modules_of(used)


def test_the_core_does_not_load_test_dependencies():
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


def test_every_public_name_exists():
    import structmat

    assert len(set(structmat.__all__)) == len(structmat.__all__)
    for name in structmat.__all__:
        assert getattr(structmat, name) is not None


PUBLIC = {
    "structmat": "Network Rotation network from_graph from_layers families butterfly fit route",
    "structmat.nn": "Orthogonal orthogonal",
    "structmat.adapters": "adapt merge unmerge save_adapter load_adapter audit path",
    "structmat.peft": "StructmatConfig",
    "structmat.convert": "convert",
    "structmat.testing": "networks blocks_for assert_orthogonal assert_dense check_family",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_available_in_their_modules(module):
    found = importlib.import_module(module)
    assert [name for name in PUBLIC[module].split() if not hasattr(found, name)] == []
    assert not hasattr(found, "no_such_name")


def test_the_error_for_a_missing_top_level_family_names_its_module():
    with pytest.raises(AttributeError, match=r"'omega'; it is structmat\.families\.omega"):
        sm.omega  # noqa: B018
    assert len(sm.__all__) <= 56


def test_dir_lists_every_public_name():
    """Notebooks complete names by it, also those that are imported when they are first used."""
    listed = set(dir(sm))
    assert set(sm.__all__) <= listed
    assert not {"Any", "TYPE_CHECKING", "import_module"} & listed
    assert all(hasattr(sm, name) for name in listed)
    assert set(dir(sm.transforms)) == set(sm.transforms.__all__)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("omega", r"; it is structmat\.families\.omega"),
        ("audit", r"; it is a package: import structmat\.audit"),
        ("dct", r"; structmat\.transforms has dct"),
        ("Hadamard", r"; structmat\.transforms has hadamard"),
        ("fft", r"; structmat\.transforms has dft\(n\)"),
        ("load", r"; use structmat\.Rotation\.load\(path\)"),
        ("rotatr", r"; did you mean rotator or Rotator\?"),
        ("quantise", r"; dir\(structmat\) lists its names"),
        ("_repr_html_", ""),
    ],
)
def test_a_missing_name_says_where_it_is(name, hint, monkeypatch):
    monkeypatch.delitem(vars(sm), name, raising=False)  # an imported package is an attribute
    with pytest.raises(AttributeError, match=f"'structmat' has no attribute '{name}'{hint}$"):
        getattr(sm, name)


def test_the_names_of_transforms_elsewhere_are_known():
    call = r"([a-z_]+)\("
    for name, use in sm.transforms._OTHER_NAMES.items():
        with pytest.raises(AttributeError, match=f"'{name}'; use {re.escape(use)}$"):
            getattr(sm.transforms, name)
        assert set(re.findall(call, use)) <= set(sm.transforms.__all__)
    with pytest.raises(AttributeError, match=r"'dtc'; did you mean dst or dft"):
        _ = sm.transforms.dtc
