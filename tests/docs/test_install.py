"""The extras and targets that the installation page names exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "install.md").read_text("utf-8")


def test_every_extra_is_documented():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
    assert sorted(named) == sorted(project["optional-dependencies"])


def test_every_make_target_in_the_page_exists():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^\$ (?:\S+ )?make (\w+)", PAGE, re.M)
    assert len(targets) > 3
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target
