"""The address encodes the shown network: links, reloads and Back, on served and saved pages."""

from __future__ import annotations

import pytest

import structmat as sm
from structmat.explorer.html import page as written
from structmat.explorer.saved_networks import precomputed
from tests.explorer.test_page import drawn, expected, node, parameters, shown, wait_for


def ending(page):
    return page.evaluate("decodeURIComponent(location.hash)")


def goes_to(page, link):
    """Paste a link into the tab."""
    page.evaluate("hash => { location.hash = hash; }", link)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A saved page of a few networks."""
    path = tmp_path_factory.mktemp("saved") / "small.html"
    path.write_text(written(saved=precomputed(["benes", "omega"], [8, 16])), "utf-8")
    return path.as_uri()


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("#100%", "ends in #100%: no such network"),
        ("#8:%E0%A4", "%E0%A4"),
        ("#butterfly", "no such network"),
        ("#8:", "no such network"),
        ("#13:benes", "nearest are 8 and 16"),
        ("#8:nothing", "no family 'nothing'"),
        ("#8=0-9", '"9" is not one of 8 wires'),
        ("#8=0-x", '"x" is not one of 8 wires'),
        ("#8=0-1,1-2", "joins wire 1 twice"),
        ("#8=1-1", "joins wire 1 twice"),
        ("#129=0-1", "2 to 128 wires can be drawn"),
    ],
)
def test_an_invalid_link_shows_an_error_and_the_default_network(server, opened, link, words):
    page = opened(f"{server.address}{link}")
    wait_for(page, "butterfly(block=4)", 16)
    alert = page.get_by_role("alert").inner_text()
    assert words in alert
    assert alert.endswith("Shown instead: butterfly(block=4) at width 16.")
    assert page.evaluate("location.hash") == link  # so that it can be corrected
    assert page.input_value("#family") == "butterfly"
    page.get_by_role("button", name="8", exact=True).click()
    wait_for(page, "butterfly(block=4)", 8)
    assert page.get_by_role("alert").is_hidden()
    page.click("#mode-draw")
    page.locator("#title", has_text="drawn by hand").wait_for()
    page.click("#mode-pick")
    wait_for(page, "butterfly(block=4)", 8)


@pytest.mark.parametrize(("link", "words"), [("#9:benes", "benes at width 9"), ("#8%", "#8%")])
def test_a_saved_page_reports_networks_it_does_not_contain(small, opened, link, words):
    page = opened(f"{small}{link}", offline=True)
    wait_for(page, "benes", 8)
    assert words in page.get_by_role("alert").inner_text()
    page.select_option("#saved-spec", "omega")
    wait_for(page, "omega", 8)
    assert page.get_by_role("alert").is_hidden()


def test_an_invalid_link_keeps_the_shown_network(server, opened):
    page = opened(server.address)
    wait_for(page, "butterfly(block=4)", 16)
    goes_to(page, "#13:benes")
    page.get_by_role("alert").wait_for()
    assert page.locator(".picture.stale").count() == 1
    assert (page.input_value("#width"), page.input_value("#spec")) == ("13", "benes")
    page.fill("#width", "32")
    wait_for(page, "benes", 32)
    goes_to(page, "#14:benes")
    page.get_by_role("alert").wait_for()
    page.get_by_role("button", name="8", exact=True).click()
    wait_for(page, "benes", 8)
    page.click("#mode-draw")
    page.locator("#title", has_text="drawn by hand").wait_for()
    goes_to(page, "#13:benes")
    page.get_by_role("alert").wait_for()
    node(page, 0, 0).click()
    node(page, 0, 1).click()
    parameters(page, 1)
    assert page.get_by_role("alert").is_hidden()


def test_pasted_links_and_the_back_button_work(server, opened):
    page = opened(server.address)
    wait_for(page, "butterfly(block=4)", 16)
    goes_to(page, "#8:benes")
    wait_for(page, "benes", 8)
    page.select_option("#family", "waksman")
    wait_for(page, "waksman", 8)
    for width in (2, 24, 9):
        page.fill("#width", str(width))
        wait_for(page, "waksman", width)
    page.click("#mode-draw")
    for column, wire in [(0, 0), (0, 4), (1, 4), (1, 1)]:
        node(page, column, wire).click()
    parameters(page, 2)
    assert ending(page) == "#8=0-4;1-4"
    for spec, width in [
        ("waksman", 9),  # widths typed one after the other are one step, as a drawing is
        ("waksman", 8),
        ("benes", 8),
        ("butterfly(block=4)", 16),
    ]:
        page.go_back()
        wait_for(page, spec, width)
        assert page.input_value("#family") == sm.parse(spec).name
        assert page.input_value("#width") == str(width)
        assert page.get_attribute("#mode-pick", "aria-pressed") == "true"
        assert shown(page) == expected(sm.parse(spec)(width))
    for end in ("#8:benes", "#8:waksman", "#9:waksman"):  # before the answers have come
        page.go_forward()
        page.wait_for_url(f"**{end}")
    wait_for(page, "waksman", 9)
    page.go_forward()
    parameters(page, 2)
    assert drawn(page) == sm.Network.of(8, [[[0, 4]], [[1, 4]]])


def test_the_first_network_adds_no_history_entry(server, opened):
    page = opened(server.address)
    wait_for(page, "butterfly(block=4)", 16)
    assert ending(page) == "#16:butterfly(block=4)"
    assert page.evaluate("history.length") == 2  # with the empty page before


def test_a_drawing_survives_a_reload(server, small, opened):
    net = sm.Network.of(6, [[[0, 4], [1, 5]], [[1, 2, 4]]])
    for address in (server.address, small):
        page = opened(f"{address}#6=0-4,1-5;1-2-4")
        page.locator("#title", has_text="drawn by hand · 6 wires, 2 stages").wait_for()
        assert page.get_attribute("#mode-draw", "aria-pressed") == "true"
        assert drawn(page) == net
        node(page, 2, 0).click()
        node(page, 2, 3).click()
        page.locator("#title", has_text="3 stages").wait_for()
        assert ending(page) == "#6=0-4,1-5;1-2-4;0-3"
        page.reload()
        page.locator("#title", has_text="drawn by hand · 6 wires, 3 stages").wait_for()
        assert drawn(page) == net.then(sm.Network.of(6, [[[0, 3]]]))
        page.click("#mode-pick")
        page.locator("#title code").wait_for()
        page.click("#mode-draw")
        page.locator("#title", has_text="drawn by hand · 6 wires, 3 stages").wait_for()


def test_any_text_in_an_address_is_handled(server, opened):
    spec = "product(graphs=('cycle', 'complete'), sides=(4, 3))"
    page = opened(server.address)
    page.fill("#width", "12")
    page.fill("#spec", spec)
    page.press("#spec", "Enter")
    wait_for(page, spec, 12)
    page.reload()
    wait_for(page, spec, 12)
    assert ending(page) == f"#12:{spec}"
