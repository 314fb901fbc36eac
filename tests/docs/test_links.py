"""Every link between files of the repository resolves to a file and a heading."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
spec = importlib.util.spec_from_file_location("links", DOCS / "links.py")
links = importlib.util.module_from_spec(spec)
spec.loader.exec_module(links)

PAGES = [str(page.relative_to(links.ROOT)) for page in links.pages()]


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    assert list(links.broken(links.ROOT / page)) == []


def test_the_pages_contain_links():  # or the pattern has stopped finding them
    found = [t for page in links.pages() for t in links.links(links.prose(page))]
    assert len([t for t in found if "#" in t]) >= 4
    assert len([t for t in found if not links.outside(t)]) >= 50
    assert len([t for t in found if links.outside(t)]) >= 5


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](nowhere.md)", "there is no nowhere.md"),
        ("[a](model.md#nowhere)", "no heading of model.md is called nowhere"),
        ("[a](#nowhere)", "is called nowhere"),
        ("<img src='x.svg'>\n<img src=\"_static/x.svg\">", "there is no _static/x.svg"),
        ("```{image} _static/y.svg\n:alt: y\n```", "there is no _static/y.svg"),
        ("[a](../../outside.md)", "there is no ../../outside.md"),
    ],
)
def test_broken_links_are_found(text, wrong, tmp_path, monkeypatch):
    monkeypatch.setattr(links, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "model.md").write_text("# The model\n", "utf-8")
    page = tmp_path / "docs" / "page.md"
    page.write_text(f"# Page\n\n{text}\n\n[good](model.md#the-model), [this](#page)\n", "utf-8")
    [found] = links.broken(page)
    assert wrong in found


def test_code_examples_are_not_links():
    assert links.links("```text\n[a](b.md)\n```\n`[c](d.md)` [e](f.md)") == ["f.md"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<script defer="defer" src="https://d.org/a.js"></script>', ["https://d.org/a.js"]),
        ('<link rel="stylesheet" href="//d.org/a.css" />', ["//d.org/a.css"]),
        ('<img alt="x" src="_images/missing.svg">', ["_images/missing.svg"]),
        ('<script src="_static/a%20b.js?v=1f"></script><link rel="index" href="#" />', []),
        ('<img src="data:image/png;base64,AA=="><a href="https://d.org">a link</a>', []),
    ],
)
def test_built_pages_load_nothing_from_the_network(text, found, tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "a b.js").touch()
    (tmp_path / "page.html").write_text(text, "utf-8")
    assert list(links.unavailable(tmp_path / "page.html")) == found


def test_no_page_has_the_name_of_a_page_that_sphinx_writes():
    """Sphinx would write over it, without a warning."""
    assert {path.stem for path in (links.ROOT / "docs").glob("*.md")}.isdisjoint(
        {"search", "genindex"}
    )
