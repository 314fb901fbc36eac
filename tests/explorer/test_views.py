"""The views of the page in a real browser, compared with the library."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import structmat as sm
from tests.explorer.test_matrix import rotation
from tests.explorer.test_page import drawn, lit, node, parameters, spread, wait_for
from tests.explorer.test_queries import made_by

AXE = Path("structmat/explorer/web/node_modules/axe-core/axe.min.js")
FIRST = "butterfly(block=4)"


def middle(place):
    box = place.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page, start, end):
    """Drag from one wire to another in several movements, as users do."""
    page.mouse.move(*middle(node(page, *start)))
    page.mouse.down()
    page.mouse.move(*middle(node(page, *end)), steps=4)
    page.mouse.up()


def saved_file(page, name):
    """The file that an entry of the menu saves."""
    page.click("#export summary")
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    return Path(download.value.path()).read_bytes()


# The animation --------------------------------------------------------------------------------


def test_steps_show_information_spread_stage_by_stage(server, opened):
    page = opened(server.address)
    wait_for(page, FIRST, 16)
    net = sm.butterfly(16, block=4)
    node(page, 0, 5).click()
    page.mouse.move(2, 2)
    every = spread(net, 0, 5)
    for shown in range(net.depth + 1):
        page.get_by_role("button", name="Next stage").click()
        assert lit(page) == {t: wires for t, wires in every.items() if t <= shown}
    page.get_by_role("button", name="Previous stage").click()
    assert set(lit(page)) == set(range(net.depth))


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_the_animation_plays_to_the_end(server, opened, motion):
    page = opened(server.address, reduced_motion=motion)
    wait_for(page, FIRST, 16)
    page.select_option("#speed", "4")
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_role("button", name="Play").wait_for()
    assert lit(page) == spread(sm.butterfly(16, block=4), 0, 0)


# Editing --------------------------------------------------------------------------------------


def test_dragging_edits_the_shown_network(server, opened):
    page = opened(f"{server.address}#8:butterfly")
    wait_for(page, "butterfly", 8)
    drag(page, (0, 0), (1, 2))
    page.locator("#title", has_text="drawn by hand").wait_for()
    parameters(page, 16)
    net = sm.Network.of(8, [[[4, 5], [6, 7], [0, 1, 2, 3]], [[0, 2], [1, 3], [4, 6], [5, 7]],
                            [[0, 4], [1, 5], [2, 6], [3, 7]]])  # fmt: skip
    assert drawn(page) == net
    drag(page, (0, 0), (0, 3))
    parameters(page, 13)
    page.keyboard.press("Control+z")
    parameters(page, 16)
    page.keyboard.press("Control+z")
    parameters(page, 12)
    assert drawn(page) == sm.butterfly(8)
    page.keyboard.press("Control+Shift+z")
    parameters(page, 16)
    assert drawn(page) == net


def test_stages_are_inserted_and_removed_anywhere(server, opened):
    page = opened(f"{server.address}#8:butterfly")
    wait_for(page, "butterfly", 8)
    page.click("#edit")
    parameters(page, 12)
    page.get_by_role("button", name="Insert a stage before stage 2").click()
    drag(page, (1, 0), (1, 7))
    parameters(page, 13)
    parts = list(sm.butterfly(8).stages)
    extra = sm.Network.of(8, [[[0, 7]]]).stages[0]
    assert drawn(page) == sm.Network(8, [parts[0], extra, *parts[1:]])
    page.get_by_role("button", name="Remove stage 1").click()
    parameters(page, 9)
    node(page, 1, 0).focus()
    page.keyboard.press("Delete")
    parameters(page, 5)
    assert drawn(page) == sm.Network(8, [extra, parts[2]])


# The matrix -----------------------------------------------------------------------------------


def test_the_exported_angles_make_the_matrix_on_the_page(server, opened):
    page = opened(f"{server.address}#12:deal(block=3)&view=matrix")
    page.wait_for_selector("#matrix")
    page.get_by_role("button", name="Random").click()
    page.locator("[data-plane='0']").fill("-30")
    saved = json.loads(saved_file(page, "Network with angles as JSON"))
    net = sm.Network.from_json(json.dumps(saved["network"]))
    assert net == sm.parse("deal(block=3)")(12)
    assert saved["angles"][0][0][0] == pytest.approx(-np.pi / 6)
    matrix = rotation(net, saved["angles"]).matrix()
    page.locator("#input").fill("4")
    energies = matrix[:, 4] ** 2
    bars = page.locator(".bars rect").evaluate_all(
        "bars => bars.map((bar) => Number(bar.getAttribute('width')))"
    )
    assert np.allclose(np.array(bars) / max(bars), energies / energies.max(), atol=1e-12)
    x, y = middle(page.locator("#matrix"))
    page.mouse.move(x, y)
    row, column, entry = re.match(
        r"row (\d+), column (\d+): (.*)", page.inner_text(".entry")
    ).groups()
    assert float(entry) == pytest.approx(matrix[int(row), int(column)], abs=6e-5)
    program = saved_file(page, "Network with angles as Python").decode()
    scope = {}
    exec(program, scope)  # noqa: S102
    assert np.abs(scope["rotation"].matrix() - matrix).max() < 1e-12


# Two networks, the schedule and all families ----------------------------------------------------


def test_two_networks_are_shown_and_shared(server, opened):
    page = opened(server.address)
    wait_for(page, FIRST, 16)
    page.click("#beside")
    page.select_option("#family", "shuffle")
    wait_for(page, "shuffle(block=4)", 16)
    assert page.inner_text("#second h3") == f"{FIRST} · 16 wires, 3 stages"
    assert page.inner_text("#parameters .beside") == "compared with 72"
    assert page.evaluate("decodeURIComponent(location.hash)") == f"#16:shuffle(block=4)&16:{FIRST}"
    page.reload()
    wait_for(page, "shuffle(block=4)", 16)
    page.locator("#dimension .beside", has_text="compared with 56").wait_for()
    page.click("#swap")
    wait_for(page, FIRST, 16)
    assert page.inner_text("#second h3") == "shuffle(block=4) · 16 wires, 2 stages"
    page.click("#close-second")
    page.locator("#second").wait_for(state="detached")
    assert page.evaluate("decodeURIComponent(location.hash)") == f"#16:{FIRST}"


def test_the_schedule_moves_every_wire(server, opened):
    page = opened(f"{server.address}#16:{FIRST}&view=schedule")
    page.wait_for_selector(".box")
    plan = sm.schedule(sm.butterfly(16, block=4))
    assert page.locator("#steps li").all_inner_texts() == [str(step) for step in plan.steps]
    assert page.locator(".thread").count() == 16 * len(plan.steps)
    assert page.locator(".box").count() == 12
    page.get_by_role("button", name="Next step").click()
    assert page.locator(".bead").count() == 16
    assert page.inner_text("#step") == f"Step 1 of 6: {plan.steps[0]}."


def test_every_point_opens_its_network(server, opened):
    page = opened(f"{server.address}#6:gossip&view=families")
    page.locator(".survey [role=status]", has_text="not known to be dense.").wait_for()
    page.wait_for_function("() => !document.body.innerText.includes('being measured')")
    points = page.locator(".point")
    assert points.count() > 10
    page.select_option("#axis-y", "seconds")
    assert points.count() > 10
    point = page.locator(".point[aria-label^='triangle:']")
    assert "parameters 15" in point.get_attribute("aria-label")
    point.focus()
    page.keyboard.press("Enter")
    wait_for(page, "triangle", 6)
    assert page.get_attribute("#tab-network", "aria-selected") == "true"


def test_a_wide_network_is_shown_as_densities(server, opened):
    page = opened(f"{server.address}#4096:butterfly(block=16)")
    page.wait_for_selector("#bundles")
    page.locator("#group").fill("1")
    assert page.locator(".bundles output").inner_text().startswith("wires ")
    before = page.locator("#bundles").screenshot()
    page.locator("#bundles").hover()
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(200)
    assert page.locator("#bundles").screenshot() != before


def test_a_network_with_components_is_never_called_dense(server, opened):
    page = opened(f"{server.address}#62:block_diagonal(block=2)")
    page.locator("#title", has_text="62 wires").wait_for()
    said = page.inner_text("#density .more")
    assert "31 connected components: no repetition makes it dense" in said
    assert "✓" not in page.inner_text("body")


# Sharing and exporting ---------------------------------------------------------------------------


def test_the_share_button_copies_the_address(server, opened):
    page = opened(f"{server.address}#8:benes", permissions=["clipboard-read", "clipboard-write"])
    wait_for(page, "benes", 8)
    page.get_by_role("tab", name="Matrix").click()
    page.click("#share")
    page.locator("#share", has_text="Copied").wait_for()
    assert (
        page.evaluate("navigator.clipboard.readText()") == f"{server.address}#8:benes&view=matrix"
    )


def test_files_contain_the_shown_network(server, opened):
    page = opened(f"{server.address}#8:omega")
    wait_for(page, "omega", 8)
    net = sm.families.omega(8)
    assert sm.Network.from_json(saved_file(page, "Network as JSON").decode()) == net
    assert made_by(saved_file(page, "Network as Python").decode()) == net
    svg = saved_file(page, "Picture as SVG").decode()
    assert svg.startswith("<svg")
    assert svg.count("<circle") == 8 * (net.depth + 1)
    assert saved_file(page, "Picture as PNG").startswith(b"\x89PNG")


# Accessibility ----------------------------------------------------------------------------------

VIOLATIONS = """async () => (await axe.run(document, { resultTypes: ["violations"] }))
    .violations.map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => node.html)])"""


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is installed by make web")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_violates_the_rules_of_accessibility(server, opened, scheme):
    page = opened(f"{server.address}#8:benes", color_scheme=scheme, reduced_motion="reduce")
    wait_for(page, "benes", 8)
    page.evaluate(AXE.read_text("utf-8"))
    for name in ("Network", "Matrix", "Schedule", "All families"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_selector("[data-picture]")
        assert page.evaluate(VIOLATIONS) == [], name
    page.click("#mode-draw")
    page.locator("#title", has_text="drawn by hand").wait_for()
    page.get_by_role("tab", name="Network").click()
    assert page.evaluate(VIOLATIONS) == []


@pytest.mark.parametrize("width", [320, 420])
def test_no_view_scrolls_horizontally(server, opened, width):
    page = opened(f"{server.address}#16:{FIRST}&8:benes", viewport={"width": width, "height": 800})
    wait_for(page, FIRST, 16)
    sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for name in ("Matrix", "Schedule", "All families", "Network"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_selector("[data-picture]")
        assert page.evaluate(sideways) == 0, name
