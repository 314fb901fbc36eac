"""The requests of the page and their answers, without server and browser."""

import contextlib
import json
import threading

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError
from structmat.explorer.answers import answer, offered, refusal, widths
from structmat.explorer.python_code import code
from structmat.explorer.queries import asked, named
from structmat.explorer.saved_networks import SPECS, WIDTHS, precomputed
from structmat.families import unregister
from structmat.testing import families, networks
from tests.timeouts import PATIENCE


def made_by(program):
    """The value of `net` after running a program."""
    names = {}
    exec(program, names)  # noqa: S102 - our own code, which is to be run
    return names["net"]


def drawing_of(net):
    """The request of a page on which a straight network was drawn."""
    stages = [[row for bank in stage.banks for row in bank.reads.tolist()] for stage in net.stages]
    return json.loads(json.dumps({"width": net.width, "stages": stages}))


@given(networks(wired=False))
def test_the_code_of_a_drawing_reproduces_the_network(net):
    drawn = asked(drawing_of(net)).network
    assert set(drawn.to_networkx().edges) == set(net.to_networkx().edges)
    assert drawn.parameters == net.parameters
    assert made_by(code(drawn)) == drawn


def test_the_code_of_wide_stages_is_wrapped():
    net = sm.shuffle(64, block=4)
    program = code(net)
    assert max(map(len, program.splitlines())) <= 88
    assert made_by(program) == net


@given(families(max_width=16))
def test_the_code_of_a_family_reproduces_the_network(member):
    family, width = member
    question = {"spec": str(family), "width": width}
    found = answer(question)
    assert made_by(found["code"]) == asked(question).network
    assert asked({"spec": found["spec"], "width": str(width)}) == asked(question)
    options = ", ".join(f"{name}={text}" for name, text in found["form"]["options"].items() if text)
    spec = f"{found['form']['family']}({options})" if options else found["form"]["family"]
    assert asked({"spec": spec, "width": width}) == asked(question)


@pytest.mark.parametrize(
    "spec",
    [
        "butterfly * 2",
        "benes @ (shuffle(block=4) * 2)",
        "mirror(omega)[:3]",
        "random(block=4, depth=2) @ random_regular(degree=3, rng=None)",
    ],
)
def test_a_composition_is_answered_like_a_family(spec):
    question = {"spec": spec, "width": 16}
    found = json.loads(json.dumps(answer(question)))
    assert found["form"] is None
    assert 16 in found["widths"]
    assert all(sm.parse(spec).accepts(width) for width in found["widths"])
    assert made_by(found["code"]) == asked(question).network == named(spec)(16)
    assert asked({"spec": found["spec"], "width": 16}) == asked(question)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("butterfly * 1025", r"butterfly \* 1025: the explorer accepts numbers up to 1,024"),
        ("hypercube * 1025", r"hypercube\(repeat=1025\): the explorer accepts"),
        ("mirror(butterfly * 600) * 600", "the explorer accepts width × stages up to"),
        ("butterfly @ shuffle(block=4096)", "the explorer accepts numbers up to 1,024"),
        ("butterfly +", "cannot be parsed"),
    ],
)
def test_large_compositions_are_refused(spec, message):
    with pytest.raises(StructmatError, match=message):
        asked({"spec": spec, "width": 16})


def test_the_code_of_a_composition_imports_the_modules_of_its_families():
    @sm.family("any")
    def joined(width: int) -> sm.Network:
        """Join all wires."""
        return sm.Network.of(width, [[range(width)]])

    try:
        program = code(*asked({"spec": "joined @ butterfly * 2", "width": 8}))
    finally:
        unregister("joined")
    assert f"import {__name__}  # registers joined\n" in program
    assert "# registers butterfly" not in program


def rebuilt(found):
    """The network that the stages of an answer describe."""
    stages = []
    for stage in found["stages"]:
        banks = [sm.Bank([rows[0]], [rows[-1]]) for rows in stage["switches"]]
        stages.append(sm.Stage(found["width"], banks, stage["moves"]))
    return sm.Network(found["width"], stages)


def by_switch(net):
    """The same network with a bank for each switch."""
    stages = []
    for stage in net.stages:
        rows = [(r, w) for b in stage.banks for r, w in zip(b.reads, b.writes, strict=True)]
        stages.append(sm.Stage(net.width, [sm.Bank([r], [w]) for r, w in rows], stage.moves))
    return sm.Network(net.width, stages)


@given(families(max_width=16))
def test_an_answer_agrees_with_the_library(member):
    family, width = member
    question = {"spec": str(named(str(family))), "width": width}
    found = json.loads(json.dumps(answer(question)))
    net = sm.parse(question["spec"])(width)
    assert rebuilt(found) == by_switch(net)
    counts = sm.report(net).to_dict()
    assert {key: found[key] for key in counts} == counts
    assert found["reached"] == sm.reach(net).sum()
    assert found["bounds"] == sm.lower_bounds(net).to_dict()["rows"]
    plan = sm.schedule(net)
    assert found["cost"]["steps"] == [str(step) for step in plan.steps]
    assert found["cost"]["flops"] == plan.cost(1).flops
    assert found["cost"]["dense"] == 2 * width**2
    assert all(family.accepts(one) for one in found["widths"])


def test_a_network_too_wide_to_draw_is_described():
    found = answer({"spec": "butterfly(block=8)", "width": 1024})
    assert found["stages"] is None
    assert found["summary"] == sm.diagram(sm.butterfly(1024, block=8), columns=96)


def test_wires_are_shown_by_their_labels():
    @sm.family("9")
    def named_wires(width):
        return sm.from_graph(nx.grid_2d_graph(3, 3))

    try:
        found = answer({"spec": "named_wires", "width": 9})
    finally:
        unregister("named_wires")
    assert found["labels"][:2] == ["(0, 0)", "(0, 1)"]


def test_random_families_have_a_fixed_seed():
    for spec in ("random(block=2, depth=2)", "ramanujan(rng=None)"):
        assert dict(named(spec).options)["rng"] == 0
    again = {"spec": "random(block=2, depth=2)", "width": 12}
    assert asked(again) == asked(again)
    assert dict(named("random(block=2, depth=2, rng=7)").options)["rng"] == 7


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"spec": "benes", "width": 12}, "nearest are 8 and 16"),
        ({"spec": "buterfly", "width": 8}, "did you mean butterfly"),
        ({"spec": "butterfly(block=3)", "width": 12}, "block must be even"),
        ({"spec": "butterfly(blok=4)", "width": 8}, "no option 'blok'"),
        ({"spec": "butterfly(block=4+)", "width": 8}, "cannot be parsed"),
        ({"width": 8}, "a spec is a string"),
        ({"spec": "butterfly", "width": 4096}, "up to 1,024 wires"),
        ({"spec": "butterfly", "width": "wide"}, "must be an integer"),
        ({"spec": "butterfly", "width": None}, "must be an integer"),
        ({"spec": "butterfly", "width": 0}, "integer ≥ 1"),
        ({"spec": "random(block=2, depth=1000000000)", "width": 8}, "numbers up to 1,024"),
        ({"spec": "torus(repeat=1000000000)", "width": 8}, "numbers up to 1,024"),
        ({"spec": "clos(radices=(2, 100000))", "width": 8}, "numbers up to 1,024"),
        ({"spec": "brickwall(depth=1024)", "width": 1024 + 1}, "up to 1,024 wires"),
        ({"spec": "triangle", "width": 1024}, "width × stages up to"),
        ({"width": 3, "stages": [[[0, 1], [1, 2]]]}, "wire 1 is read 2 times"),
        ({"width": 3, "stages": [[[0, 3]]]}, "wire 3"),
        ({"width": 3, "stages": [[[]]]}, "at least 1 wire"),
        ({"width": 3, "stages": [[0, 1]]}, "a switch is a list of wires"),
        ({"width": 3, "stages": "[[0, 1]]"}, "a list of stages"),
        ({"width": 3, "stages": [5]}, "a list of stages"),
        ({"width": 65, "stages": []}, "up to 64 wires"),
        ([], "a question is an object"),
    ],
)
def test_invalid_requests_are_refused_with_a_remedy(question, words):
    with pytest.raises(StructmatError, match=words.replace("+", r"\+")):
        answer(question)


def test_errors_suggest_valid_widths():
    def refused(question):
        with pytest.raises(StructmatError, match=r"\w") as caught:
            answer(question)
        return refusal(question, caught.value)

    assert refused({"spec": "benes", "width": 12})["widths"] == [2, 4, 8, 16, 32, 64]
    assert refused({"spec": "no", "width": 12})["widths"] == []
    assert refused([])["widths"] == []


def test_long_lists_of_widths_are_truncated():
    assert widths(sm.parse("omega(block=3)")) == [3, 9, 27]
    assert widths(sm.parse("chordal_cycle")) == [5, 11, 17, 23, 31, 41, 47, 59]
    many = widths(sm.parse("gossip"))
    assert {2, 64} <= set(many)
    assert len(many) < 20


def test_the_form_has_every_family_and_option():
    forms = {form["name"]: form for form in offered()}
    assert list(forms) == [entry.name for entry in sm.catalogue()]
    for entry in sm.catalogue():
        options = {option["name"]: option for option in forms[entry.name]["options"]}
        assert list(options) == list(entry.options)
        for name, parameter in entry.options.items():
            assert options[name]["needed"] is (parameter.default is parameter.empty)
            assert options[name]["hint"] or name in ("rng", "repeat"), (entry.name, name)


def test_the_code_of_a_custom_family_imports_it():
    @sm.family("any")
    def halved(width):
        return sm.Network.of(width, [[[0, 1]]])

    try:
        found = answer({"spec": "halved", "width": 4})
    finally:
        unregister("halved")
    assert f"import {halved.__module__}  # registers halved" in found["code"]
    assert "net = sm.parse('halved')(4)" in found["code"]


def test_saved_pages_contain_a_network_of_almost_every_family():
    picked = {family.name for spec in SPECS for family in named(spec).families}
    without = {entry.name for entry in sm.catalogue()} - picked
    assert without == {"cayley_graph", "hamming", "product"}
    for spec in SPECS:
        assert any(named(spec).accepts(width) for width in WIDTHS), spec


def test_saved_answers_equal_served_answers():
    found = precomputed(["benes", "shuffle(block=2)"], [6, 8])
    assert [(one["spec"], one["width"]) for one in found] == [
        ("benes", 8),
        ("shuffle(block=2)", 6),
        ("shuffle(block=2)", 8),
    ]
    for one in found:
        question = {"spec": one["spec"], "width": one["width"]}
        dimension = one.pop("dimension")
        assert one == answer(question)
        covered = sm.dimension(asked(question).network)
        assert covered.to_dict().items() <= dimension.items()
    twice = precomputed(["benes", "benes"], [8, 8])
    assert [(one["spec"], one["width"]) for one in twice] == [("benes", 8)]
    with pytest.raises(StructmatError, match="none of benes accepts a width of 6, 10"):
        precomputed(["benes"], [6, 10])


def test_a_slow_network_does_not_block_others():
    started, free = threading.Event(), threading.Event()

    @sm.family("any")
    def slow_to_build(width):
        started.set()
        assert free.wait(PATIENCE)
        return sm.Network(width)

    slow = threading.Thread(target=answer, args=[{"spec": "slow_to_build", "width": 4}])
    try:
        slow.start()
        assert started.wait(PATIENCE)
        assert answer({"spec": "benes", "width": 8})["depth"] == 5
        assert slow.is_alive()
    finally:
        free.set()
        slow.join(PATIENCE)
        unregister("slow_to_build")


@given(st.text(max_size=30))
def test_the_parser_handles_any_text(text):
    with contextlib.suppress(StructmatError):
        asked({"spec": text, "width": 8})
