"""Drawing by hand: selecting, undoing, resizing and messages."""

from __future__ import annotations

import structmat as sm
from tests.explorer.test_page import drawn, node, parameters, wait_for


def begun(opened, address, width=8):
    page = opened(f"{address}#{width}=")
    page.locator("#title", has_text=f"drawn by hand · {width} wires, 0 stages").wait_for()
    return page


def choose(page, *places):
    for column, wire in places:
        node(page, column, wire).click()


def fill(page, field, text):
    page.fill(field, text)
    page.press(field, "Tab")


def selected(page):
    pressed = page.locator('.node[aria-pressed="true"]')
    return [int(one.get_attribute("data-wire")) for one in pressed.all()]


def test_numbers_typed_before_drawing_are_discarded(server, opened):
    for field, text in [("#width", "32"), ("#option-depth", "1")]:
        page = opened(server.address)
        wait_for(page, "butterfly(block=4)", 16)
        page.fill(field, text)
        page.click("#mode-draw")
        page.locator("#title", has_text="drawn by hand").wait_for()
        page.wait_for_timeout(500)  # the page reacts to typing after 300
        assert page.locator("#title").inner_text() == "drawn by hand · 8 wires, 0 stages"
        assert drawn(page) == sm.Network(8)
        page.click("#mode-pick")
        wait_for(page, "butterfly(block=4)", 16)
        assert page.input_value("#width") == "16"
        assert page.input_value("#option-depth") == ""


def test_a_smaller_radix_deselects_the_wires(server, opened):
    page = begun(opened, server.address)
    fill(page, "#radix", "4")
    choose(page, (0, 0), (0, 1), (0, 2))
    fill(page, "#radix", "2")
    assert selected(page) == []
    choose(page, (0, 2), (0, 2))  # selected and deselected
    assert drawn(page) == sm.Network(8)
    choose(page, (0, 2), (0, 7))
    parameters(page, 1)
    assert drawn(page) == sm.Network.of(8, [[[2, 7]]])


def test_no_switch_is_wider_than_the_network(server, opened):
    page = begun(opened, server.address)
    fill(page, "#radix", "8")
    fill(page, "#draw-width", "4")
    assert page.input_value("#radix") == "4"
    choose(page, (0, 0))
    assert "Select 3 more." in page.inner_text("#spreading")
    choose(page, (0, 1), (0, 2), (0, 3))
    parameters(page, 6)
    assert drawn(page) == sm.Network.of(4, [[[0, 1, 2, 3]]])


def test_the_stage_being_drawn_is_not_counted(server, opened):
    page = opened(f"{server.address}#8=0-1;0-2")
    parameters(page, 2)
    node(page, 0, 0).hover()
    said = page.inner_text("#spreading")
    assert "Input 0 influences 3 of 8 outputs; after each stage: 2, 3." in said
    for column in (2, 3):  # before and after the next stage
        node(page, column, 0).hover()
        said = page.inner_text("#spreading")
        assert "Output 0 depends on 3 of 8 inputs; before each stage: 3, 2." in said


def test_an_empty_width_or_radix_changes_nothing(server, opened):
    page = opened(f"{server.address}#8=0-1,6-7")
    parameters(page, 2)
    for field, text, kept in [("#draw-width", "", "8"), ("#radix", "", "2")]:
        fill(page, field, text)
        assert page.input_value(field) == kept
        assert drawn(page) == sm.Network.of(8, [[[0, 1], [6, 7]]])


def test_a_smaller_width_reports_the_dropped_switches(server, opened):
    page = opened(f"{server.address}#8=0-1,6-7;2-5")
    parameters(page, 3)
    fill(page, "#draw-width", "4")
    parameters(page, 1)
    assert "2 switches dropped; undo restores them." in page.inner_text("#spreading")
    fill(page, "#draw-width", "8")
    page.click("#undo")
    page.click("#undo")
    parameters(page, 3)
    assert drawn(page) == sm.Network.of(8, [[[0, 1], [6, 7]], [[2, 5]]])


def test_undo_and_escape_deselect_wires_first(server, opened):
    page = begun(opened, server.address)
    choose(page, (0, 3))
    page.click("#undo")  # the first step there is
    assert selected(page) == []
    assert page.is_disabled("#undo")
    choose(page, (0, 0), (0, 1), (0, 3))
    parameters(page, 1)
    page.click("#undo")
    assert selected(page) == []
    assert drawn(page) == sm.Network.of(8, [[[0, 1]]])
    choose(page, (0, 3))
    assert selected(page) == [3]
    page.keyboard.press("Escape")
    assert selected(page) == []
    choose(page, (0, 4), (0, 5))
    page.click("#undo")
    parameters(page, 1)
    assert drawn(page) == sm.Network.of(8, [[[0, 1]]])


def test_drawing_continues_without_the_server(server, opened):
    page = begun(opened, server.address)
    page.route("**/api/*", lambda route: route.fulfill(body=""))  # as good as none
    choose(page, (0, 0), (0, 4))
    page.locator("#title", has_text="drawn by hand · 8 wires, 1 stage").wait_for()
    assert page.locator(".stale").count() == 0
    assert drawn(page) == sm.Network.of(8, [[[0, 4]]])
    assert "The server does not answer" in page.inner_text("#numbers")
    page.unroute("**/api/*")
    choose(page, (0, 1), (0, 5))
    parameters(page, 2)


def test_a_stage_in_the_middle_can_be_redrawn(server, opened):
    page = opened(f"{server.address}#8=0-1;2-3;4-5")
    parameters(page, 3)
    choose(page, (1, 2))
    parameters(page, 2)
    assert "Fill the stage again" in page.inner_text("#spreading")
    assert drawn(page) == sm.Network.of(8, [[[0, 1]], [[4, 5]]])
    choose(page, (1, 6), (1, 7))
    parameters(page, 3)
    assert drawn(page) == sm.Network.of(8, [[[0, 1]], [[6, 7]], [[4, 5]]])
    page.click("#undo")
    parameters(page, 2)
    choose(page, (1, 6), (1, 3))  # it is there again
    parameters(page, 3)
    assert drawn(page) == sm.Network.of(8, [[[0, 1]], [[3, 6]], [[4, 5]]])

    choose(page, (1, 3))
    parameters(page, 2)
    choose(page, (2, 6))  # in the third stage: the second is closed
    assert page.locator(".stage").all_text_contents() == ["B1", "B2", "next"]
    choose(page, (1, 7))
    parameters(page, 3)
    assert drawn(page) == sm.Network.of(8, [[[0, 1]], [[4, 5], [6, 7]]])
    choose(page, (1, 4), (1, 6))  # the last stage goes at once
    parameters(page, 1)
    assert page.locator(".stage").all_text_contents() == ["B1", "next"]


def test_already_joined_wires_are_reported(server, opened):
    page = opened(f"{server.address}#8=0-1-4")
    parameters(page, 3)
    assert node(page, 0, 1).get_attribute("aria-label") == "wire 1, input, joined with 0, 4"
    assert node(page, 0, 2).get_attribute("aria-label") == "wire 2, input"
    assert node(page, 1, 1).get_attribute("aria-label") == "wire 1, after stage 1"


def test_a_single_switch_is_visible_in_a_wide_drawing(server, opened):
    page = opened(f"{server.address}#64=3-40")
    parameters(page, 1)
    width = page.locator("#graph path.switch").evaluate(
        "node => parseFloat(getComputedStyle(node).strokeWidth)"
    )
    assert width >= 1.2
