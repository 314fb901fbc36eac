"""Lines of code on the documentation pages have at most 100 characters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
FENCE = re.compile(r"^```(?:python|console|text|toml|json)\n(.*?)^```$", re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_of_code_have_at_most_100_characters(page):
    lines = [line for block in FENCE.findall(page.read_text("utf-8")) for line in block.split("\n")]
    assert [line for line in lines if len(line) > 100] == []
