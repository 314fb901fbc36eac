"""The explorer in a notebook: its messages, its network, and its page in a browser."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from traitlets import TraitError

import structmat as sm
from structmat.errors import MissingExtraError, StructmatError
from structmat.explorer.answers import answer, dimension_answer, records
from structmat.explorer.exploring import opening
from structmat.explorer.html import page_data
from structmat.explorer.queries import question_of
from structmat.explorer.widget import Explorer
from structmat.testing import networks


@pytest.fixture(scope="module")
def explorer():
    return sm.explore("benes", 8)


def replied(explorer, message, monkeypatch):
    """The messages that the kernel sends in reply to one from the page."""
    sent = []
    monkeypatch.setattr(explorer, "send", sent.append)
    explorer.reply(message)
    return json.loads(json.dumps(sent))


def test_a_widget_has_the_same_page_as_the_server(explorer):
    assert explorer.data == page_data({"spec": "benes", "width": 8})
    assert "export" in explorer._esm
    assert explorer.network == sm.benes(8)
    assert explorer.question == {"spec": "benes", "width": 8}


def test_questions_of_the_page_are_answered(explorer, monkeypatch):
    question = {"spec": "benes", "width": 8}
    expected = {
        "network": answer(question),
        "dimension": dimension_answer(question),
        "atlas": records(question),
    }
    for number, (name, found) in enumerate(expected.items()):
        message = {"id": number, "name": name, "question": question}
        assert replied(explorer, message, monkeypatch) == [
            {"id": number, "answer": json.loads(json.dumps(found))}
        ]
    message = {"id": 7, "name": "survey", "question": {"width": 3}}
    [reply] = replied(explorer, message, monkeypatch)
    assert reply["answer"]["rows"][0]["spec"]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"id": 1, "name": "network", "question": {"spec": "benes", "width": 12}}, "nearest are 8"),
        ({"id": 1, "name": "else", "question": {}}, "the questions are network"),
        ({"id": 1}, "the questions are network"),
        ("text", "the questions are network"),
    ],
)
def test_refused_messages_are_answered_by_an_error(explorer, monkeypatch, message, words):
    [reply] = replied(explorer, message, monkeypatch)
    assert words in reply["error"]
    assert "answer" not in reply
    assert reply["id"] == (1 if isinstance(message, dict) else None)


@given(networks(screens=True))
def test_a_network_that_is_set_is_shown_and_observed(explorer, net):
    seen = []
    explorer.network = sm.Network(3)
    explorer.observe(seen.append, "network")
    explorer.network = net
    assert explorer.network == net
    assert Explorer(explorer.question).network == net
    assert [change["new"] for change in seen] == ([] if net == sm.Network(3) else [net])
    explorer.unobserve_all("network")


def test_a_network_drawn_on_the_page_is_a_network_in_python(explorer):
    seen = []
    explorer.observe(seen.append, "network")
    state = {"question": {"width": 3, "stages": [[[0, 1]], [[1, 2]]]}}
    explorer.set_state(state)  # as the page sends it
    assert explorer.network == sm.Network.of(3, [[[0, 1]], [[1, 2]]])
    assert explorer.question == state["question"]
    assert [change["new"] for change in seen] == [explorer.network]
    explorer.network = sm.benes(4)
    explorer.network = explorer.network
    assert len(seen) == 2
    explorer.unobserve_all("network")


def test_every_topology_can_be_explored():
    net = sm.shuffle(8, block=2)
    assert net.explore().network == net
    assert sm.explore(net.to_networkx()).network.parameters == net.parameters
    assert sm.explore(lambda width: sm.Network(width), 5).network == sm.Network(5)
    assert sm.explore(width=8).question == {"spec": "butterfly(block=4)", "width": 8}
    assert sm.explore("butterfly * 2").network == sm.parse("butterfly * 2")(16)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["benes", 12], "nearest are 8 and 16"),
        (["benes", 2**17], "up to 65,536 wires"),
        ([lambda width: sm.Network(width)], "give the width"),
        ([sm.Network(2**17)], "up to 65,536 wires"),
        ([sm.benes(8), 16], "has width 8"),
        ([5], "it must be a spec string"),
    ],
)
def test_topologies_that_cannot_be_shown_are_refused(arguments, words):
    with pytest.raises(StructmatError, match=words):
        sm.explore(*arguments)


def test_only_networks_can_be_set(explorer):
    before = explorer.network
    with pytest.raises(TraitError, match="Network"):
        explorer.network = "benes"
    with pytest.raises(StructmatError, match="up to 65,536 wires"):
        explorer.network = sm.Network(2**17)
    assert explorer.network == before


def test_the_error_without_anywidget_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(MissingExtraError, match=r"pip install \"structmat\[explore\]\""):
        sm.benes(8).explore()
    assert opening("benes", 8) == {"spec": "benes", "width": 8}


def test_the_library_does_not_load_the_widget():
    program = (
        "import structmat as sm, sys; sm.explore; sm.butterfly(4);"
        "print(*{'anywidget', 'ipywidgets', 'IPython'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


HOST = """<!doctype html><html lang="en"><meta charset="utf-8"><title>host</title>
<link rel="icon" href="data:,"><style>%s</style><main id="here"></main>
<script type="module">%s</script>"""
MODEL = """
const page = new Blob([window.source], { type: "text/javascript" });
const { default: widget } = await import(URL.createObjectURL(page));
const [state, handlers] = [window.state, {}];
const call = (event, ...values) => (handlers[event] ?? []).forEach((one) => one(...values));
window.model = {
  get: (name) => state[name],
  set: (name, value) => {
    if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
    state[name] = value;
    call(`change:${name}`);
  },
  save_changes: () => window.saved(state.question),
  send: async (message) => call("msg:custom", await window.ask(message)),
  on: (event, one) => { (handlers[event] ??= []).push(one); },
  off: (event, one) => { handlers[event] = handlers[event].filter((other) => other !== one); },
};
widget.render({ model: window.model, el: document.getElementById("here") });
"""


def test_the_page_and_the_kernel_share_a_network(explorer, context):
    """A host that stands in for the widget manager of a notebook."""
    page = context(viewport={"width": 1100, "height": 900}).new_page()
    faults, replies = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)

    def ask(message):
        explorer.reply(message)
        return replies.pop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explorer, "send", replies.append)
        explorer.network = sm.shuffle(8, block=2)
        page.expose_function("ask", ask)
        page.expose_function("saved", lambda question: explorer.set_state({"question": question}))
        state = json.dumps({"data": explorer.data, "question": explorer.question})
        page.set_content(HOST % (explorer._css, ""))
        page.evaluate("([source, state]) => Object.assign(window, { source, state })", [
            explorer._esm, json.loads(state),
        ])  # fmt: skip
        page.add_script_tag(content=MODEL, type="module")
        page.wait_for_selector("#here h2, #here h1")
        page.wait_for_function("document.body.innerText.includes('8 wires')")
        for question in (question_of(sm.benes(4)), {"spec": "brickwall", "width": 9}):
            explorer.question = question
            page.evaluate("question => model.set('question', question)", explorer.question)
            shown = f"document.body.innerText.includes('{question['width']} wires')"
            page.wait_for_function(shown)
        changed = []
        explorer.observe(changed.append, "network")
        page.locator("[id$=-width]").fill("10")
        page.locator("[id$=-family]").select_option("gossip")
        page.wait_for_function("document.body.innerText.includes('10 wires')")
        page.wait_for_function("model.get('question').spec === 'gossip'")
        page.evaluate("saved(model.get('question'))")
    assert explorer.network == sm.gossip(10)
    assert changed[-1]["new"] == sm.gossip(10)
    explorer.unobserve_all("network")
    assert faults == []
    page.close()
