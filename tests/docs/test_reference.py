"""The reference shows every public name exactly once."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text("utf-8")
DIRECTIVE = re.compile(r"\.\. automodule:: (\S+)\n((?: +:[^\n]*\n)*)")
ELSEWHERE = {  # of structmat: modules with sections of their own, and no name at all
    "structmat": {"errors", "families", "transforms", "StructmatError", "__version__"},
}


def public(module):
    """Return the public names of a module, listed or defined, without constants.

    Sphinx shows constants only where a comment describes them, and not those of a submodule.
    """
    if hasattr(module, "__all__"):
        return {name for name in module.__all__ if not name.isupper()}
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


def shown(module, options):
    """Return the names that one directive shows."""
    asked = dict(re.findall(r":([\w-]+):[ \t]*(.*)", options))
    names = {k: set(filter(None, re.split(r",\s*", asked.get(k, "")))) for k in asked}
    assert "members" in names, f"{module.__name__}: its directive has no :members:"
    return (names["members"] or public(module)) - names.get("exclude-members", set())


SHOWN = {
    name: shown(importlib.import_module(name), options)
    for name, options in DIRECTIVE.findall(REFERENCE)
}


@pytest.mark.parametrize(
    "name",
    [
        "structmat",
        "structmat.nn",
        "structmat.adapters",
        "structmat.peft",
        "structmat.convert",
        "structmat.audit",
        "structmat.viz",
        "structmat.testing",
    ],
)
def test_every_public_name_is_in_the_reference(name):
    module = importlib.import_module(name)
    assert public(module) - SHOWN[name] == ELSEWHERE.get(name, set())


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_documented_names_exist_and_have_docstrings(name):
    module = importlib.import_module(name)
    assert SHOWN[name]
    for shown in SHOWN[name]:
        value = getattr(module, shown)
        assert inspect.isclass(value) or inspect.isroutine(value), f"{name}.{shown} is a constant"
        assert inspect.getdoc(value), f"{name}.{shown} has no docstring"


def test_every_error_is_in_the_reference():
    errors = importlib.import_module("structmat.errors")
    kinds = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert {name for name in kinds if name.endswith("Error")} <= SHOWN["structmat.errors"]
