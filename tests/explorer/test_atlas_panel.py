"""The records of the atlas in the explorer: listed at the current width, and opened by a click."""

from __future__ import annotations

import re

import pytest

import structmat as sm
from structmat.explorer.answers import records
from structmat.explorer.html import page as written
from structmat.explorer.queries import asked
from structmat.explorer.saved_networks import precomputed
from structmat.search.atlas.questions import WIDTHS
from tests.explorer.test_page import wait_for
from tests.explorer.test_queries import made_by

SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def unfolded(page):
    """Show the records, which are folded at first."""
    page.locator("section.atlas summary").click()


def row(page, purpose, block):
    return page.locator(f'#atlas tr[data-purpose="{purpose}"][data-blocks~="{block}"]')


@pytest.mark.parametrize("width", [2, 7, 24, 768, 4096])
def test_every_record_is_listed_with_a_question_that_shows_it(width):
    found = {(r["purpose"], block): r for r in records({"width": width}) for block in r["blocks"]}
    table = sm.atlas(width)
    assert set(found) == {(record.purpose, record.block) for record in table}
    for record in table:
        shown = found[record.purpose, record.block]
        assert (shown["value"], shown["bound"], shown["meets"]) == (
            record.value, record.bound, record.meets,
        )  # fmt: skip
        if shown["question"] is None:
            assert record.value is None or width > 64
        elif width <= 64:
            assert asked(shown["question"]).network == record.network


@pytest.mark.parametrize("question", [{"width": 65}, {"width": "8"}, {"width": [8]}, {}, None, 3])
def test_other_widths_have_no_records(question):
    assert records(question) == []


def test_a_click_opens_a_record(server, opened):
    page = opened(f"{server.address}#16:butterfly(block=4)")
    wait_for(page, "butterfly(block=4)", 16)
    unfolded(page)
    assert page.locator("#atlas tr").count() == len(records({"width": 16}))
    assert "meets the bound" in row(page, "mixing", 2).inner_text()
    button = row(page, "universal-depth", 8).get_by_role("button")
    assert button.inner_text() == "ruler(block=8)"
    button.click()
    wait_for(page, "ruler(block=8)", 16)
    pressed = row(page, "universal-depth", 8).get_by_role("button")
    pressed.and_(page.locator("[aria-current=true]")).wait_for()
    page.go_back()
    wait_for(page, "butterfly(block=4)", 16)


def test_a_part_of_a_family_opens_as_a_drawing(server, opened):
    page = opened(f"{server.address}#7:gossip")
    wait_for(page, "gossip", 7)
    unfolded(page)
    row(page, "half-dimension", 2).get_by_role("button").click()
    page.locator("#title", has_text="drawn by hand · 7 wires").wait_for()
    assert made_by(page.inner_text("#code-text")) == sm.atlas(7, 2, "half-dimension").best().network


def test_the_panel_follows_the_width(server, opened):
    page = opened(f"{server.address}#64:gossip")
    wait_for(page, "gossip", 64)
    unfolded(page)
    page.fill("#width", "65")
    page.locator("#title", has_text="· 65 wires").wait_for()
    page.locator("section.atlas").wait_for(state="hidden")
    page.fill("#width", "10")
    page.locator("section.atlas").wait_for()
    assert "5 divides none of them" in row(page, "mixing", 4).inner_text()
    assert set(WIDTHS) >= {10, 64}


def test_a_narrow_screen_shows_the_records_without_scrolling_sideways(server, opened):
    page = opened(
        f"{server.address}#24:gossip", viewport={"width": 420, "height": 800}, color_scheme="dark"
    )
    wait_for(page, "gossip", 24)
    unfolded(page)
    assert page.evaluate(SIDEWAYS) == 0


def test_a_saved_page_lists_records_and_opens_those_that_it_contains(tmp_path, opened):
    path = tmp_path / "page.html"
    path.write_text(written(saved=precomputed(["gossip", "benes"], [8])), "utf-8")
    page = opened(path.as_uri(), offline=True)
    unfolded(page)
    assert row(page, "universal", 2).locator("code").inner_text() == "ruler"
    assert page.locator("#atlas button", has_text=re.compile("^ruler")).count() == 0
    assert row(page, "dense", 2).inner_text().startswith("dense")
