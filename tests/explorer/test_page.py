"""The page in a real browser, compared with the library."""

from __future__ import annotations

import json
import re
import threading

import pytest

import structmat as sm
from structmat.errors import StructmatError
from structmat.explorer.queries import named
from structmat.explorer.saved_networks import WIDTHS
from tests.explorer.conftest import running
from tests.explorer.test_queries import made_by
from tests.timeouts import PATIENCE

TILES = ("density", "dimension", "parameters", "flops", "depth", "dense_depth", "nonzeros")


def node(page, column, wire):
    return page.locator(f'.node[data-column="{column}"][data-wire="{wire}"]')


def wait_for(page, spec, width):
    """Wait until a network and its dimension are shown."""
    page.locator("#title code", has_text=re.compile(f"^{re.escape(spec)}$")).wait_for()
    page.locator("#title", has_text=re.compile(rf"· {width:,} wire")).wait_for()
    page.wait_for_selector("#dimension .value:not(.waiting)")


def shown(page):
    """The numbers on the page, and the bounds."""
    tiles = {name: page.inner_text(f"#{name} .value") for name in TILES}
    rows = page.locator("#bounds tr")
    bounds = {
        row.get_attribute("data-bound"): row.locator("td").all_inner_texts()[:2]
        for row in rows.all()
    }
    return tiles, bounds


def expected(net):
    """The same numbers from the library."""
    report, group = sm.report(net), net.width**2
    reached = int(sm.reach(net).sum())
    share = "100%" if report.dense else f"{float(f'{100 * reached / group:.3g}'):g}%"
    dense_depth = "–" if report.dense_depth is None else f"{report.dense_depth:,}"
    tiles = {
        "density": share,
        "dimension": f"{sm.dimension(net).value:,}",
        "parameters": f"{net.parameters:,}",
        "flops": f"{sm.schedule(net).cost(1).flops:,}",
        "depth": f"{net.depth:,}",
        "dense_depth": dense_depth,
        "nonzeros": f"{net.nonzeros:,}",
    }
    bounds = {
        f"{row.goal} {row.quantity}": [f"{row.least:,}", f"{row.value:,}"]
        for row in sm.lower_bounds(net).rows
    }
    return tiles, bounds


# Selecting networks ---------------------------------------------------------------------------


def test_a_family_is_selected_by_clicks_and_typed_values(server, opened):
    page = opened(server.address)
    wait_for(page, "butterfly(block=4)", 16)
    assert shown(page) == expected(sm.butterfly(16, block=4))

    page.select_option("#family", "shuffle")
    wait_for(page, "shuffle(block=4)", 16)
    page.fill("#option-block", "2")
    wait_for(page, "shuffle(block=2)", 16)
    page.fill("#option-depth", "3")
    wait_for(page, "shuffle(block=2, depth=3)", 16)
    assert shown(page) == expected(sm.shuffle(16, block=2, depth=3))

    page.fill("#width", "24")
    wait_for(page, "shuffle(block=2, depth=3)", 24)
    assert shown(page) == expected(sm.shuffle(24, block=2, depth=3))
    page.get_by_role("button", name="48", exact=True).click()
    wait_for(page, "shuffle(block=2, depth=3)", 48)
    assert shown(page) == expected(sm.shuffle(48, block=2, depth=3))


def test_a_composition_is_typed_as_a_spec(server, opened):
    page = opened(server.address)
    wait_for(page, "butterfly(block=4)", 16)
    page.fill("#spec", "butterfly(repeat=2)")
    page.press("#spec", "Enter")
    wait_for(page, "butterfly * 2", 16)  # none of the families of the form
    assert shown(page) == expected(sm.butterfly(16) * 2)
    assert page.input_value("#spec") == "butterfly * 2"
    assert page.input_value("#family") == "butterfly * 2"
    assert page.locator("#options [data-option]").count() == 0
    assert '"butterfly * 2"' in page.inner_text("#shell-text")
    page.fill("#width", "8")
    wait_for(page, "butterfly * 2", 8)
    page.reload()
    wait_for(page, "butterfly * 2", 8)
    page.select_option("#family", "shuffle")
    wait_for(page, "shuffle(block=4)", 8)


@pytest.mark.parametrize(
    ("spec", "width"),
    [
        ("butterfly(block=8, depth=2)", 64),
        ("mixed_radix(largest=4, reverse=True)", 24),
        ("monarch(radices=(3, 8))", 24),
        ("benes", 8),
        ("triangle", 1),
        ("gossip", 11),
        ("block_diagonal(block=2)", 6),
        ("butterfly(block=8)", 1024),
    ],
)
def test_a_typed_spec_fills_the_form_and_the_numbers(server, opened, spec, width):
    if width == 1:
        spec, width = "random(block=2, depth=1, rng=0)", 3
    page = opened(server.address)
    page.fill("#width", str(width))
    page.fill("#spec", spec)
    page.press("#spec", "Enter")
    wait_for(page, spec, width)
    family = sm.parse(spec)
    assert page.input_value("#family") == family.name
    assert page.input_value("#width") == str(width)
    for name, value in family.options:
        assert page.input_value(f"#option-{name}") == repr(value)
    assert shown(page) == expected(family(width))
    assert page.inner_text("#spec-text") == spec
    assert page.locator("#bundles").count() == (width > 128)


def test_every_family_of_the_form_can_be_selected(server, opened):
    page = opened(server.address)
    names = page.locator("#family optgroup:not([label=compositions]) option").all_inner_texts()
    assert sorted(names) == sorted(entry.name for entry in sm.catalogue())
    for name in ("waksman", "round_robin", "torus", "ramanujan", "random"):
        page.select_option("#family", name)
        page.locator("#title code", has_text=re.compile(f"^{name}")).wait_for()
        rule = sm.parse(page.inner_text("#spec-text"))
        assert page.inner_text("#parameters .value") == f"{rule(16).parameters:,}"


def test_library_errors_are_shown_and_can_be_corrected(server, opened):
    page = opened(server.address)
    page.fill("#spec", "benes")
    page.press("#spec", "Enter")
    wait_for(page, "benes", 16)
    page.fill("#width", "12")
    alert = page.get_by_role("alert")
    alert.wait_for()
    with pytest.raises(StructmatError, match="nearest") as caught:
        sm.benes(12)
    assert alert.inner_text() == str(caught.value)
    assert page.locator(".picture").get_attribute("class") == "card picture stale"
    page.get_by_role("button", name="8", exact=True).click()
    wait_for(page, "benes", 8)
    assert alert.is_hidden()
    assert page.locator(".stale").count() == 0
    assert shown(page) == expected(sm.benes(8))


@pytest.mark.parametrize("by", ["a chip", "typing"])
def test_changing_the_width_after_an_error_keeps_the_spec(server, opened, by):
    page = opened(server.address)
    wait_for(page, "butterfly(block=4)", 16)
    page.fill("#width", "12")
    page.fill("#spec", "waksman(")
    page.press("#spec", "Enter")
    page.get_by_role("alert").wait_for()
    page.fill("#spec", "benes")
    page.press("#spec", "Enter")
    page.get_by_role("alert", name="").filter(has_text="nearest are 8 and 16").wait_for()
    if by == "typing":
        page.fill("#width", "8")
    else:
        page.get_by_role("button", name="8", exact=True).click()
    wait_for(page, "benes", 8)
    assert page.input_value("#family") == "benes"


def test_an_error_keeps_a_partly_typed_number(server, opened):
    page = opened(server.address)
    wait_for(page, "butterfly(block=4)", 16)
    page.focus("#width")
    page.keyboard.press("Control+a")
    page.keyboard.type("3.2e")
    page.get_by_role("alert").wait_for()
    page.keyboard.type("1")
    assert page.input_value("#width") == "3.2e1"


def test_an_option_survives_an_immediate_change_of_width(server, opened):
    page = opened(server.address)
    wait_for(page, "butterfly(block=4)", 16)
    page.fill("#option-depth", "2")
    page.get_by_role("button", name="32", exact=True).click()
    wait_for(page, "butterfly(block=4, depth=2)", 32)


def test_an_address_shows_its_network_after_a_reload(server, opened):
    page = opened(f"{server.address}#12:waksman")
    wait_for(page, "waksman", 12)
    page.fill("#width", "9")
    wait_for(page, "waksman", 9)
    page.reload()
    wait_for(page, "waksman", 9)


def test_the_page_does_not_wait_for_the_dimension_and_drops_late_answers(opened, monkeypatch):
    with running() as server:
        asked, free = threading.Event(), threading.Event()
        answer = server.service.answer

        def slow(name, question):
            if name == "dimension" and question["width"] == 16:
                asked.set()
                assert free.wait(PATIENCE)
            return answer(name, question)

        monkeypatch.setattr(server.service, "answer", slow)
        page = opened(server.address)
        assert asked.wait(PATIENCE)
        assert page.inner_text("#dimension .value") == "…"
        assert page.inner_text("#parameters .value") == "72"
        page.get_by_role("button", name="32", exact=True).click()
        wait_for(page, "butterfly(block=4)", 32)
        assert shown(page) == expected(sm.butterfly(32, block=4))
        with page.expect_response("**/api/dimension") as late:
            free.set()
        assert late.value.json()["value"] == sm.dimension(sm.butterfly(16, block=4)).value
        page.mouse.move(2, 2)  # time for the page to take it in
        assert shown(page) == expected(sm.butterfly(32, block=4))


@pytest.mark.parametrize(("field", "text"), [("#width", "24"), ("#spec", "shuffle(block=2)")])
def test_an_answer_does_not_overwrite_typed_text(server, opened, field, text):
    page = opened(server.address)
    held, free = [], []

    def hold(route):
        if free:
            route.continue_()
        else:
            held.append(route)

    page.route("**/api/network", hold)
    page.select_option("#family", "shuffle")
    while not held:
        page.wait_for_timeout(10)
    page.fill(field, text)
    held[0].continue_()
    page.wait_for_timeout(150)
    assert page.input_value(field) == text
    free.append(True)
    for route in held[1:]:
        route.continue_()
    page.press(field, "Enter")
    wait_for(page, *(("shuffle(block=4)", 24) if field == "#width" else (text, 16)))


def test_two_pages_both_receive_slow_dimensions(server, opened):
    pages = [opened(f"{server.address}#{width}:clos") for width in (94, 92)]
    for page, width in zip(pages, (94, 92), strict=True):
        wait_for(page, "clos", width)
        known = server.service.answer("dimension", {"spec": "clos", "width": width})
        assert page.inner_text("#dimension .value") == f"{known['lower']:,}"


def test_an_undetermined_dimension_is_reported(opened, monkeypatch):
    with running() as server:
        answer = server.service.answer

        def fails(name, question):
            if name == "dimension":
                return {"error": "no dimension today", "widths": []}
            return answer(name, question)

        monkeypatch.setattr(server.service, "answer", fails)
        page = opened(server.address)
        page.locator("#dimension .more", has_text="no dimension today").wait_for()
        assert page.inner_text("#dimension .value") == "–"
        assert page.inner_text("#parameters .value") == "72"


# Reachability ---------------------------------------------------------------------------------

LIT = """() => [...document.querySelectorAll(".node.on")]
    .map((node) => [Number(node.dataset.column), Number(node.dataset.wire)])"""


def lit(page):
    """The highlighted wires, by column."""
    columns = {}
    for column, wire in page.evaluate(LIT):
        columns.setdefault(column, set()).add(wire)
    return columns


def spread(net, column, wire):
    """The same from `structmat.reach` of the stages after and before the column."""
    columns = {}
    for t in range(net.depth + 1):
        reached = sm.reach(net[column:t])[:, wire] if t >= column else sm.reach(net[t:column])[wire]
        columns[t] = set(reached.nonzero()[0].tolist())
    return columns


@pytest.mark.parametrize(
    "spec", ["butterfly(block=4)", "benes", "omega", "deal(block=3, depth=2)", "torus"]
)
def test_hovering_shows_the_wires_that_a_wire_influences_and_depends_on(server, opened, spec):
    page = opened(f"{server.address}#16:{spec}")
    wait_for(page, spec, 16)
    net = sm.parse(spec)(16)
    for column, wire in [(0, 0), (0, 5), (1, 7), (net.depth, 2), (net.depth, 15)]:
        node(page, column, wire).hover()
        assert lit(page) == spread(net, column, wire)
        counts = page.locator("svg .count").all_text_contents()
        assert counts == [str(len(wires)) for wires in spread(net, column, wire).values()]
    page.mouse.move(2, 2)
    assert lit(page) == {}
    assert "Point at a wire" in page.inner_text("#spreading")


def test_a_click_keeps_the_highlight(server, opened):
    page = opened(server.address)
    net = sm.butterfly(16, block=4)
    node(page, 0, 3).click()
    page.mouse.move(2, 2)
    assert lit(page) == spread(net, 0, 3)
    said = page.inner_text("#spreading")
    assert said == "Input 3 influences 16 of 16 outputs; after each stage: 4, 8, 16."
    node(page, 0, 3).click()
    page.mouse.move(2, 2)
    assert lit(page) == {}


# Drawing ---------------------------------------------------------------------------------------


def drawn(page):
    """The network that the Python code on the page makes."""
    return made_by(page.inner_text("#code-text"))


def parameters(page, number):
    page.locator("#parameters .value", has_text=re.compile(f"^{number}$")).wait_for()


def test_a_network_can_be_drawn_switch_by_switch(server, opened):
    page = opened(server.address)
    page.click("#mode-draw")
    page.locator("#title", has_text="drawn by hand · 8 wires, 0 stages").wait_for()
    for column, wire in [(0, 0), (0, 4), (0, 1), (0, 5), (1, 4), (1, 1), (2, 6)]:
        node(page, column, wire).click()
    parameters(page, 3)
    assert node(page, 2, 6).get_attribute("aria-pressed") == "true"
    net = sm.Network.of(8, [[[0, 4], [1, 5]], [[1, 4]]])
    assert drawn(page) == net
    page.wait_for_selector("#dimension .value:not(.waiting)")
    assert shown(page) == expected(net)
    node(page, 0, 0).hover()
    assert {t: wires for t, wires in lit(page).items() if t <= 2} == spread(net, 0, 0)

    page.fill("#radix", "3")
    page.press("#radix", "Tab")
    for wire in (7, 2):  # with 6 selected before
        node(page, 2, wire).click()
    parameters(page, 6)
    net = sm.Network.of(8, [[[0, 4], [1, 5]], [[1, 4]], [[2, 6, 7]]])
    assert drawn(page) == net
    page.wait_for_selector("#dimension .value:not(.waiting)")
    assert shown(page) == expected(net)

    node(page, 0, 4).click()  # takes its switch away
    parameters(page, 5)
    assert drawn(page) == sm.Network.of(8, [[[1, 5]], [[1, 4]], [[2, 6, 7]]])
    node(page, 1, 1).click()  # the last switch of its stage, which goes, too
    parameters(page, 4)
    assert drawn(page) == sm.Network.of(8, [[[1, 5]], [[2, 6, 7]]])
    page.click("#undo")
    page.click("#undo")
    parameters(page, 6)
    assert drawn(page) == net
    page.fill("#draw-width", "6")
    page.press("#draw-width", "Tab")
    parameters(page, 3)
    assert drawn(page) == sm.Network.of(6, [[[0, 4], [1, 5]], [[1, 4]]])
    page.click("#clear")
    parameters(page, 0)
    assert drawn(page) == sm.Network(6)


def test_drawing_continues_from_a_selected_network(server, opened):
    page = opened(f"{server.address}#8:butterfly")
    wait_for(page, "butterfly", 8)
    page.click("#mode-draw")
    page.click("#copy-network")
    parameters(page, 12)
    assert drawn(page) == sm.butterfly(8)
    node(page, 3, 0).click()
    node(page, 3, 7).click()
    parameters(page, 13)
    assert drawn(page) == sm.butterfly(8).then(sm.Network.of(8, [[[0, 7]]]))
    page.click("#mode-pick")
    wait_for(page, "butterfly", 8)
    page.click("#mode-draw")
    parameters(page, 13)  # the drawing is still there


def test_a_wired_network_cannot_be_extended_by_drawing(server, opened):
    page = opened(f"{server.address}#8:omega")
    wait_for(page, "omega", 8)
    page.click("#mode-draw")
    assert page.is_disabled("#copy-network")


# Copying code ---------------------------------------------------------------------------------


def test_copied_code_reproduces_the_network(server, opened):
    page = opened(
        f"{server.address}#24:shuffle(block=4)", permissions=["clipboard-read", "clipboard-write"]
    )
    wait_for(page, "shuffle(block=4)", 24)
    texts = {}
    for name in ("Copy the spec", "Copy the command", "Copy the Python code"):
        button = page.get_by_role("button", name=name)
        button.click()
        page.locator("button", has_text="Copied").first.wait_for()
        texts[name] = page.evaluate("navigator.clipboard.readText()")
        page.locator("button", has_text="Copied").first.wait_for(state="detached")
    net = sm.shuffle(24, block=4)
    assert sm.parse(texts["Copy the spec"])(24) == net
    assert made_by(texts["Copy the Python code"]) == net
    assert texts["Copy the command"] == 'structmat show "shuffle(block=4)" --width 24 --full'
    layer = page.inner_text("#layer-text")
    assert made_by(f"{page.inner_text('#code-text')}\n{layer}\nassert q.network == net") == net


# Accessibility --------------------------------------------------------------------------------


def test_every_control_works_by_keyboard(server, opened):
    page = opened(server.address)
    keys = page.keyboard
    order = ["mode-pick", "mode-draw", "family"]
    for name in order:
        keys.press("Tab")
        assert page.evaluate("document.activeElement.id") == name
    keys.type("knod")
    page.locator("#title code", has_text=re.compile("^knodel$")).wait_for()
    keys.press("Tab")
    keys.press("Control+a")
    keys.type("10")
    wait_for(page, "knodel", 10)
    for _ in range(30):
        keys.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('node')"):
            break
    net = sm.families.knodel(10)
    assert lit(page) == spread(net, 0, 0)
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp"):
        keys.press(key)
    assert lit(page) == spread(net, 1, 1)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == (
        "wire 1, after stage 1"
    )
    keys.press("End")
    assert lit(page) == spread(net, net.depth, 1)
    keys.press("Enter")
    keys.press("Tab")  # the spreading stays
    assert lit(page) == spread(net, net.depth, 1)
    keys.press("Shift+Tab")
    keys.press("Escape")
    assert lit(page) == {}

    page.focus("#mode-draw")
    keys.press("Enter")
    page.locator("#title", has_text="drawn by hand").wait_for()
    node(page, 0, 0).focus()
    for key in ("Home", "Enter", "ArrowDown", "ArrowDown", " "):
        keys.press(key)
    parameters(page, 1)
    first = drawn(page).stages[0].banks[0].reads.tolist()
    assert len(first) == 1
    assert first[0][1] - first[0][0] == 2


def test_a_slow_answer_shows_a_message(server, opened):
    page = opened(server.address)
    wait_for(page, "butterfly(block=4)", 16)
    held = []
    page.route("**/api/network", lambda route: held.append(route))
    assert page.is_hidden("#working")
    page.select_option("#family", "benes")
    page.wait_for_selector("#working", state="visible")
    assert page.get_attribute("main", "aria-busy") == "true"
    held[0].continue_()
    wait_for(page, "benes", 16)
    assert page.is_hidden("#working")
    assert page.get_attribute("main", "aria-busy") == "false"


@pytest.mark.parametrize(("text", "field"), [("13", "#width"), ("nothing", "#spec")])
def test_an_error_is_visible_on_a_phone_and_linked_to_its_field(server, opened, text, field):
    page = opened(f"{server.address}#16:benes", viewport={"width": 320, "height": 600})
    wait_for(page, "benes", 16)
    page.fill(field, text)
    page.press(field, "Enter")
    alert = page.get_by_role("alert")
    alert.wait_for()
    box = alert.bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 600
    invalid = page.locator("[aria-invalid=true]")
    assert invalid.count() == 1
    assert f"#{invalid.get_attribute('id')}" == field
    assert invalid.get_attribute("aria-describedby") == alert.get_attribute("id")
    page.select_option("#family", "waksman")
    wait_for(page, "waksman", 13 if field == "#width" else 16)
    assert invalid.count() == 0


def test_a_long_error_does_not_cover_the_page(server, opened):
    page = opened(server.address)
    page.fill("#spec", "x" * 3000)
    page.press("#spec", "Enter")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert alert.bounding_box()["height"] < 250
    alert.focus()  # to be scrolled by keyboard
    assert page.evaluate("document.activeElement.id") == "error"


def test_pressed_buttons_are_distinguishable_in_forced_colours(server, opened):
    page = opened(server.address, forced_colors="active")
    look = "node => { const s = getComputedStyle(node); return [s.color, s.backgroundColor]; }"
    pressed, other = (page.locator(mode).evaluate(look) for mode in ("#mode-pick", "#mode-draw"))
    assert pressed[0] != other[0]
    assert pressed[1] != other[1]


def test_a_new_network_is_announced(server, opened):
    page = opened(server.address)
    title = page.locator("#title")
    assert title.get_attribute("aria-live") == "polite"
    assert title.inner_text() == "butterfly(block=4) · 16 wires, 3 stages"


def test_without_javascript_the_page_shows_a_message(server, browser):
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(server.address)
        assert "The explorer needs JavaScript" in page.inner_text("body")


@pytest.mark.parametrize("width", [320, 400, 1280, 1920])
def test_no_screen_scrolls_horizontally(server, opened, width):
    page = opened(server.address, viewport={"width": width, "height": 800})
    sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for spec, wires in [
        ("butterfly(block=4)", 16),
        ("brickwall", 32),
        ("product(graphs=('cycle', 'complete'), sides=(4, 3))", 12),
        ("random(block=2, depth=4, rng=0)", 64),
        ("butterfly", 512),
    ]:
        page.fill("#width", str(wires))
        page.fill("#spec", spec)
        page.press("#spec", "Enter")
        page.locator("#title", has_text=f"· {wires} wires").wait_for()
        assert page.evaluate(sideways) == 0, spec
    page.fill("#spec", "no_family_of_this_name(with_a_very_long_option=12345678901234567890)")
    page.press("#spec", "Enter")
    page.get_by_role("alert").wait_for()
    assert page.evaluate(sideways) == 0
    page.click("#mode-draw")
    page.locator("#title", has_text="drawn by hand").wait_for()
    assert page.evaluate(sideways) == 0


CONTRASTS = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number)
      .map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!colour.endsWith(", 0)")) return colour;
    }
    throw new Error("no background");
  };
  return [...document.querySelectorAll("body *")]
    .filter((node) => node.checkVisibility() && [...node.childNodes]
      .some((child) => child.nodeType === 3 && child.textContent.trim()))
    .filter((node) => !node.closest("button:disabled, script"))
    .map((node) => {
      const style = getComputedStyle(node);
      const ink = node.namespaceURI.endsWith("svg") ? style.fill : style.color;
      const [a, b] = [light(ink), light(behind(node))].sort((x, y) => y - x);
      return [node.textContent.trim().slice(0, 40), (a + 0.05) / (b + 0.05)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark_mode(server, opened, scheme):
    page = opened(server.address, color_scheme=scheme, reduced_motion="reduce")
    node(page, 0, 0).hover()
    page.fill("#spec", "nothing")
    page.press("#spec", "Enter")
    page.get_by_role("alert").wait_for()
    for mode in ("#mode-pick", "#mode-draw"):
        page.click(mode)
        page.mouse.move(2, 2)
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 40
        assert [pair for pair in contrasts if pair[1] < 4.5] == []  # WCAG AA


NAMELESS = """() => [...document.querySelectorAll("button, input, select, [role=button], section")]
  .filter((node) => node.checkVisibility())
  .filter((node) => !(node.labels?.length || node.ariaLabel || node.textContent.trim()
    || node.getAttribute("aria-labelledby")))
  .map((node) => node.outerHTML.slice(0, 80))"""


def test_every_control_has_an_accessible_name(server, opened):
    page = opened(server.address)
    assert page.evaluate(NAMELESS) == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(set(ids)) == len(ids)
    page.click("#mode-draw")
    assert page.evaluate(NAMELESS) == []


def test_the_page_contacts_only_its_own_server(server, opened):
    page = opened(server.address)
    wait_for(page, "butterfly(block=4)", 16)
    assert opened.requests
    assert all(address.startswith((server.address, "data:")) for address in opened.requests)


# A saved page ----------------------------------------------------------------------------------

EVERY = """() => {
  const found = [];
  for (const node of document.querySelectorAll('.node[data-column="0"]')) {
    node.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
    const last = Math.max(...[...document.querySelectorAll(".node")].map((n) => n.dataset.column));
    found.push([...document.querySelectorAll(`.node.on[data-column="${last}"]`)]
      .map((other) => Number(other.dataset.wire)));
  }
  return found;
}"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The page that is saved by default."""
    from structmat.cli import main

    path = tmp_path_factory.mktemp("saved") / "explorer.html"
    assert main(["explore", "--save", str(path)]) == 0
    assert path.stat().st_size < 1.5e6
    return path


def test_a_saved_page_agrees_with_the_library_offline(saved, opened):
    page = opened(saved.as_uri(), offline=True)
    specs = page.locator("#saved-spec option").all_inner_texts()
    assert len(specs) > 30
    for spec in specs:
        page.select_option("#saved-spec", spec)
        widths = page.locator("#saved-width option").all_inner_texts()
        assert widths == [str(w) for w in WIDTHS if named(spec).accepts(w)]
        for width in widths[: 1 + specs.index(spec) % 2]:  # each takes a while
            page.select_option("#saved-width", width)
            wait_for(page, spec, int(width))
            net = sm.parse(spec)(int(width))
            assert shown(page) == expected(net)
            assert made_by(page.inner_text("#code-text")) == net
            reached = [set(wires) for wires in page.evaluate(EVERY)]
            assert reached == [set(column.nonzero()[0].tolist()) for column in sm.reach(net).T]
    assert all(address.startswith(("file://", "data:")) for address in opened.requests)
    note = page.inner_text("#saved-note")
    count = len(json.loads(page.locator("#structmat-data").text_content())["saved"])
    widths = f"each at those of the widths {', '.join(map(str, WIDTHS))}"
    assert f"{count} networks of {len(specs)} specs, {widths}" in note


def test_a_network_can_be_drawn_on_a_saved_page(saved, opened):
    page = opened(saved.as_uri(), offline=True)
    page.click("#mode-draw")
    for column, wire in [(0, 0), (0, 4), (1, 4), (1, 1)]:
        node(page, column, wire).click()
    net = sm.Network.of(8, [[[0, 4]], [[1, 4]]])
    assert drawn(page) == net
    node(page, 0, 0).hover()
    assert {t: wires for t, wires in lit(page).items() if t <= 2} == spread(net, 0, 0)
    assert "structmat explore" in page.inner_text("#numbers")
    assert page.is_hidden("#bounds")
    page.click("#mode-pick")
    wait_for(page, "butterfly(block=4)", 16)
    assert shown(page) == expected(sm.butterfly(16, block=4))
