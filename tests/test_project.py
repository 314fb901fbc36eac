"""Project files agree with the package."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import structmat

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
]


@pytest.mark.parametrize("pin", PINS)
def test_constraints_pin_plain_releases(pin):
    assert re.fullmatch(r"[\w.-]+==[\w.]+", pin)  # no addresses, no local versions


def test_constraints_pin_every_direct_dependency():
    wanted = PROJECT["dependencies"] + sorted(closure("dev"))
    pinned = {pin.split("==")[0].lower().replace("_", "-") for pin in PINS}
    assert {re.match(r"[\w.-]+", need)[0] for need in wanted} <= pinned


def closure(extra):
    """Return the requirements of an extra, with those of the extras that it names."""
    found = set()
    for need in EXTRAS[extra]:
        if named := re.fullmatch(r"structmat\[([\w,]+)\]", need):
            found |= set().union(*map(closure, named[1].split(",")))
        else:
            found.add(need)
    return found


def test_user_extras_contain_no_development_tools():
    names = {re.match(r"[\w.-]+", need)[0] for need in closure("all")}
    assert not names & {"jupyterlab", "sphinx", "pytest", "mypy", "ruff", "hatchling"}
    assert closure("dev") == set().union(*map(closure, EXTRAS))


def test_every_extra_named_in_messages_is_a_user_extra():
    named = set()
    for path in [*(ROOT / "structmat").rglob("*.py"), *(ROOT / "docs").glob("*.md")]:
        text = path.read_text("utf-8")
        for found in re.findall(r"structmat\[([\w,]+)\]", text):
            named |= set(found.split(","))
        named |= set(re.findall(r"\brequire\(\s*\"[\w.]+\",\s*\"(\w+)\"", text))
    named -= {"none"}  # of the doctest of require
    assert {"plot", "peft", "finetune", "gpu"} < named
    assert all(closure(extra) <= closure("all") for extra in named)


def test_contributing_lists_every_module():
    """Modules are listed in the order of the import-linter layers, with their docstring summary."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    wanted = []
    for name in re.findall(r"\w+", " ".join(layers)):
        module = Path("structmat") / f"{name}.py"
        home = module if (ROOT / module).exists() else Path("structmat") / name
        source = module if home == module else home / "__init__.py"
        said = ast.get_docstring(ast.parse((ROOT / source).read_text("utf-8"))) or ""
        wanted.append(f"- [`{name}`]({home.as_posix()}): {said.splitlines()[0]}")
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert [line for line in text.splitlines() if line.startswith("- [`")] == wanted


def test_the_version_is_semantic_and_defined_once():
    assert re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", structmat.__version__)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert PROJECT["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "structmat/__init__.py"
    said = re.findall(r"^## (.*)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    released = [title.split(" ")[0].strip("[]") for title in said if title != "Unreleased"]
    assert not released or released[0] == structmat.__version__


def test_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == structmat.__version__
    [paper] = citation["references"]
    assert len(paper["authors"]) == 14
