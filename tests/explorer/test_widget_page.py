"""The page as the widget of a notebook, in a browser with a model that the test provides."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

import structmat as sm
from structmat.explorer.html import page_data
from structmat.explorer.service import Service
from tests.explorer.test_page import node

HOME = "http://widget.test/"
RENDER = """async (data) => {
  const { default: widget } = await import("/explorer.js");
  const handlers = {};
  const state = { data, question: data.first };
  const model = {
    get: (name) => state[name],
    set: (name, value) => { state[name] = value; },
    save_changes: () => { window.question = state.question; },
    on: (event, handler) => { (handlers[event] ??= []).push(handler); },
    off: (event, handler) => {
      handlers[event] = handlers[event].filter((one) => one !== handler);
    },
    send: async (message) => {
      const answer = await window.answered(message);
      for (const handler of handlers["msg:custom"]) handler(answer);
    },
  };
  window.put = (question) => {
    state.question = question;
    for (const handler of handlers["change:question"]) handler();
  };
  window.close = widget.render({ model, el: document.querySelector("#cell") });
}"""


@pytest.fixture
def cell(context):
    """A page with one cell, which shows the widget."""
    files_of = {
        HOME: ("text/html", "<!doctype html><div id=cell></div>"),
        f"{HOME}explorer.js": (
            "text/javascript",
            (files("structmat.explorer") / "page" / "explorer.js").read_text("utf-8"),
        ),
    }
    faults = []
    page = context().new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))

    def serve(route):
        kind, body = files_of.get(route.request.url, ("text/plain", ""))
        route.fulfill(content_type=kind, body=body)

    page.route(f"{HOME}**", serve)
    with Service() as service:

        def answered(message):
            found = service.answer(message["name"], message["question"])
            refused = isinstance(found, dict) and "error" in found
            return {"id": message["id"]} | (found if refused else {"answer": found})

        page.expose_function("answered", answered)
        page.goto(HOME)
        page.evaluate(RENDER, page_data({"spec": "benes", "width": 8}))
        yield page
        page.close()
    assert faults == []


def title(page, words):
    page.locator("[id$=-title]", has_text=re.compile(words)).first.wait_for()


def test_the_widget_follows_the_kernel_and_the_kernel_the_widget(cell):
    title(cell, "^benes · 8 wires")
    parameters = cell.locator("[id$=-parameters] .value")
    assert parameters.inner_text() == str(sm.benes(8).parameters)
    cell.evaluate("put({ spec: 'butterfly', width: 16 })")
    title(cell, "^butterfly · 16 wires")
    cell.locator("[id$=-mode-draw]").click()
    title(cell, "drawn by hand")
    for place in [(0, 0), (0, 4)]:
        node(cell, *place).click()
    cell.wait_for_function("() => window.question?.stages?.length === 1")
    assert cell.evaluate("question") == {"width": 8, "stages": [[[0, 4]]]}


def test_the_widget_shows_a_network_from_python(cell):
    net = sm.families.omega(8)
    cell.evaluate(f"put({{ width: 8, network: {net.to_json()} }})")
    title(cell, "^from Python · 8 wires")
    parameters = cell.locator("[id$=-parameters] .value")
    assert parameters.inner_text() == str(net.parameters)
    cell.evaluate("window.close()")
    assert cell.locator("#cell").inner_html() == ""
