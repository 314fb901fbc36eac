"""The files around the package agree with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import structmat

ROOT = Path(__file__).parents[1]
PINS = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
]


@pytest.mark.parametrize("pin", PINS)
def test_constraints_pin_plain_releases(pin):
    assert re.fullmatch(r"[\w.-]+==[\w.]+", pin)  # no addresses, no local versions


def test_constraints_pin_every_direct_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["dev"]
    for extra in re.findall(r"\w+", extras["all"][0].removeprefix("structmat")):
        wanted += [need for need in extras[extra] if not need.startswith("structmat[")]
    pinned = {pin.split("==")[0].lower().replace("_", "-") for pin in PINS}
    assert {re.match(r"[\w.-]+", need)[0] for need in wanted} <= pinned


def test_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == structmat.__version__
    [paper] = citation["references"]
    assert len(paper["authors"]) == 14
