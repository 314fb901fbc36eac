"""The requests of the page and their answers, without server and browser."""

import contextlib
import json
import threading

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError
from structmat.explorer.answers import answer, dimension_answer, records, refusal, widths
from structmat.explorer.families_offered import (
    COMPOSITIONS,
    EXAMPLES,
    example,
    kin,
    offered,
    ordered,
)
from structmat.explorer.numbers import density, dimension_bounds
from structmat.explorer.python_code import code
from structmat.explorer.queries import asked, named, question_of
from structmat.explorer.saved_networks import SPECS, WIDTHS, precomputed
from structmat.explorer.survey import candidates, row
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


@given(networks(screens=True))
def test_every_network_has_a_question_and_code_that_reproduce_it(net):
    question = json.loads(json.dumps(question_of(net)))
    assert asked(question).network == net
    assert made_by(answer(question)["code"]) == net


def test_labels_are_part_of_the_question():
    net = sm.from_graph(nx.grid_2d_graph(2, 3))
    assert asked(question_of(net)).network.labels == net.labels


def test_a_large_network_needs_a_spec():
    net = sm.benes(2**15)
    with pytest.raises(StructmatError, match="give the spec of a family instead"):
        question_of(net)
    wide = sm.shuffle(1024, block=8)
    assert code(wide).startswith("import structmat as sm\n\nnet = sm.Network")
    assert "sm.network('network.json')" in code(sm.benes(2**12))


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
        ("mirror(butterfly * 1000) * 1000", "the explorer accepts width × stages up to"),
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
    components = counts.pop("components")
    assert {key: found[key] for key in counts} == counts
    assert found["components"]["count"] == components
    assert found["reached"] == sm.reach(net).sum()
    assert found["mixing"]["value"] == pytest.approx(sm.mixing(net), abs=1e-12)
    assert found["reasons"] == {}
    assert found["bounds"] == sm.lower_bounds(net).to_dict()["rows"]
    plan = sm.schedule(net)
    assert found["cost"]["steps"] == [str(step) for step in plan.steps]
    assert found["cost"]["flops"] == plan.cost(1).flops
    assert found["cost"]["dense"] == 2 * width**2
    assert all(family.accepts(one) for one in found["widths"])


def matrix(density):
    return np.reshape(density["values"], (density["rows"], density["columns"]))


@pytest.mark.parametrize("spec", ["butterfly(block=8)", "gossip", "benes"])
def test_a_network_too_wide_to_draw_is_shown_by_densities(spec):
    found = json.loads(json.dumps(answer({"spec": spec, "width": 512})))
    net = sm.parse(spec)(512)
    assert found["stages"] is None
    assert found["labels"] is None
    assert len(found["bundles"]) == net.depth
    assert len(found["reach"]) == net.depth + 1
    for t, stage in enumerate(net.stages):
        edges = matrix(found["bundles"][t])
        bins = len(edges)
        whole = sm.reach(sm.Network(512, [stage])).reshape(bins, 512 // bins, bins, -1)
        assert np.array_equal(edges, whole.sum(axis=(1, 3)))
        after = sm.reach(net[: t + 1]).reshape(bins, 512 // bins, bins, -1)
        reached = matrix(found["reach"][t + 1])
        assert reached == pytest.approx(after.mean(axis=(1, 3)), abs=1e-4)
        assert np.array_equal(reached == 1, after.all(axis=(1, 3)))
        assert np.array_equal(reached == 0, ~after.any(axis=(1, 3)))


def test_many_stages_are_described_as_text():
    found = answer({"spec": "brickwall", "width": 600})
    assert found["bundles"] is found["reach"] is found["stages"] is None
    assert "600 stages" in found["reasons"]["bundles"]
    assert found["summary"] == sm.diagram(sm.brickwall(600), columns=96)


@pytest.mark.parametrize(
    ("spec", "dense", "depth"),
    [
        ("butterfly", True, 16),
        ("butterfly(depth=15)", False, None),
        ("block_diagonal(block=4)", False, None),
        ("butterfly[:12]", False, None),
        ("butterfly @ shuffle(block=2)", True, 16),
    ],
)
def test_the_widest_networks_have_all_cheap_numbers(spec, dense, depth):
    found = answer({"spec": spec, "width": 65_536})
    net = named(spec)(65_536)
    assert (found["parameters"], found["nonzeros"]) == (net.parameters, net.nonzeros)
    assert found["cost"]["flops"] == sm.schedule(net).cost(1).flops
    assert found["bounds"] == sm.lower_bounds(net).to_dict()["rows"]
    assert (found["dense"], found["dense_depth"]) == (dense, depth)
    assert found["reached"] == (65_536**2 if dense else None)
    assert all(found["reasons"][name] for name in ("reached", "mixing") if found[name] is None)
    if spec == "block_diagonal(block=4)":
        assert found["components"] == {"count": 16_384, "sizes": [4] * 16_384}
        assert found["mixing"]["value"] == 1
        assert "16,384 connected components" in found["why_not_dense"]


def test_a_wide_network_without_a_family_is_undecided_unless_an_output_is_missing():
    net = sm.butterfly(65_536)
    numbers, reasons = density(net)
    assert numbers["dense"] is numbers["reached"] is numbers["dense_depth"] is None
    assert "512 of 65,536 inputs were tried, and influence every output" in reasons["dense"]
    numbers, _ = density(sm.butterfly(4096))
    assert numbers == {
        "reached": 4096**2, "dense": True, "dense_depth": 12, "why_not_dense": None,
    }  # fmt: skip


def test_a_single_very_wide_switch_is_dense_by_the_claims_of_its_family():
    rule = named("mixed_radix")
    numbers, reasons = density(rule(65_521), rule)  # a prime
    assert (numbers["dense"], numbers["dense_depth"], reasons) == (True, 1, {})


@given(networks(screens=True))
def test_components_agree_with_networkx(net):
    found = answer(question_of(net))["components"]
    graph = nx.Graph()
    straight = net.straightened().network
    graph.add_nodes_from(range(net.width))
    for bank in straight.banks:
        for wires in bank.reads.tolist():
            nx.add_path(graph, wires)
    sizes = sorted(map(len, nx.connected_components(graph)), reverse=True)
    assert found["count"] == len(sizes)
    assert found.get("sizes", sizes) == sizes
    assert ("sizes" in found) == (len(sizes) > 1)


@given(networks(screens=True))
def test_the_steps_of_the_schedule_move_and_multiply_the_wires(net):
    steps = answer(question_of(net))["permutations"]
    blocks = sm.random_blocks(net, rng=0)
    x = np.random.default_rng(0).standard_normal(net.width)
    y, banks = x.copy(), iter(blocks)
    for step in steps:
        if step["kind"] == "gather":
            y = y[step["order"]]
        else:
            run = slice(step["start"], step["start"] + step["count"] * step["radix"])
            parts = y[run].reshape(-1, step["radix"], 1)
            y[run] = (next(banks) @ parts).ravel()
    assert next(banks, None) is None
    assert np.allclose(y, sm.Rotation(net, blocks) @ x, rtol=0, atol=1e-12 * max(1, net.depth))


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
        ({"spec": "butterfly", "width": 2**17}, "up to 65,536 wires"),
        ({"spec": "butterfly", "width": 10**400}, "up to 65,536 wires"),
        ({"spec": "butterfly", "width": "wide"}, "must be an integer"),
        ({"spec": "butterfly", "width": None}, "must be an integer"),
        ({"spec": "butterfly", "width": 0}, "integer ≥ 1"),
        ({"spec": "random(block=2, depth=1000000000)", "width": 8}, "numbers up to 1,024"),
        ({"spec": "torus(repeat=1000000000)", "width": 8}, "numbers up to 1,024"),
        ({"spec": "clos(radices=(2, 100000))", "width": 8}, "numbers up to 1,024"),
        ({"spec": "brickwall(depth=1024)", "width": 2**16 + 1}, "up to 65,536 wires"),
        ({"spec": "triangle", "width": 2048}, "width × stages up to"),
        ({"width": 3, "network": "text"}, "the JSON object that Network.to_json writes"),
        ({"width": 3, "network": {"width": 4}}, "the network has width 4"),
        ({"width": 3, "network": {"width": 3, "stages": [[]] * 10**6}}, "width × stages up to"),
        ({"width": 3, "network": {"width": 3, "stages": []}}, "lacks"),
        ({"width": 3, "stages": [[[0, 1], [1, 2]]]}, "wire 1 is read 2 times"),
        ({"width": 3, "stages": [[[0, 3]]]}, "wire 3"),
        ({"width": 3, "stages": [[[]]]}, "at least 1 wire"),
        ({"width": 3, "stages": [[0, 1]]}, "a switch is a list of wires"),
        ({"width": 3, "stages": "[[0, 1]]"}, "a list of stages"),
        ({"width": 3, "stages": [5]}, "a list of stages"),
        ({"width": 129, "stages": []}, "up to 128 wires"),
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

    assert refused({"spec": "benes", "width": 12})["widths"] == [2, 4, 8, 16, 32, 64, 128]
    assert refused({"spec": "no", "width": 12})["widths"] == []
    assert refused([])["widths"] == []


def test_long_lists_of_widths_are_truncated():
    assert widths(sm.parse("omega(block=3)")) == [3, 9, 27, 81]
    primes = widths(sm.parse("chordal_cycle"))
    assert primes[0] == 5
    assert len(primes) <= 10
    assert all(sm.parse("chordal_cycle").accepts(width) for width in primes)
    many = widths(sm.parse("gossip"))
    assert {2, 64} <= set(many)
    assert len(many) < 20


def test_the_form_has_every_family_and_option():
    forms = {form["name"]: form for form in offered()}
    assert set(forms) == {entry.name for entry in sm.catalogue()}
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


def test_families_are_grouped_by_kin():
    groups = [form["kin"] for form in offered()]
    assert len({*groups}) == sum(a != b for a, b in zip(groups, [None, *groups], strict=False))
    assert all(kin(known) == form["kin"] for known, form in zip(ordered(), offered(), strict=True))


def test_every_family_has_a_working_example():
    assert set(EXAMPLES) == {known.name for known in sm.catalogue()}
    for known in sm.catalogue():
        question = example(known)
        found = asked(question)
        assert [family.name for family in found.rule.families] == [known.name]
        assert found.network.depth > 0
        assert question["spec"] == str(found.rule)
    for spec, width in COMPOSITIONS.items():
        assert str(asked({"spec": spec, "width": width}).rule) == spec


def test_a_custom_family_has_an_example():
    def refuses(width, size):
        return "width must be a multiple of 5" if width % 5 else None

    @sm.family("multiples of 5", refuses)
    def fifths(width, size=3):
        return sm.Network.of(width, [[[0, 1]]])

    @sm.family("any")
    def needy(width, size):
        return sm.Network(width)

    try:
        forms = {form["name"]: form for form in offered()}
        specs, refused = candidates(10)
    finally:
        unregister("fifths")
        unregister("needy")
    assert forms["fifths"]["example"] == {"spec": "fifths", "width": 5}
    assert forms["fifths"]["kin"] == "your own families"
    assert forms["needy"]["example"] is None
    assert "fifths" in specs
    assert {"family": "needy", "reason": "needy needs a value for size"} in refused


def test_every_example_is_in_the_survey_of_its_width():
    for width in {width for _, width in EXAMPLES.values()}:
        specs, refused = candidates(width)
        assert len(specs) == len(set(specs))
        for name, (spec, own) in EXAMPLES.items():
            assert own != width or spec in specs
            families = {family.name for one in specs for family in named(one).families}
            reasons = [one["reason"] for one in refused if one["family"] == name]
            assert (name in families) or reasons[0]


@pytest.mark.parametrize("width", [1, 2, 12, 127, 4096, 65_536])
def test_a_survey_lists_each_family_or_states_why_it_does_not(width):
    specs, refused = candidates(width)
    listed = {family.name for spec in specs for family in named(spec).families}
    assert {one["family"] for one in refused} | listed == {e.name for e in sm.catalogue()}
    assert all(named(spec).accepts(width) for spec in specs)
    assert all(one["reason"] for one in refused)
    if width == 65_536:
        assert "width × stages" in next(o["reason"] for o in refused if o["family"] == "triangle")


@given(families(max_width=16))
def test_a_row_agrees_with_the_library(member):
    family, width = member
    net = named(str(family))(width)
    found = row({"spec": str(named(str(family))), "width": width})
    assert found["family"] == family.name
    assert (found["parameters"], found["depth"]) == (net.parameters, net.depth)
    assert found["dense"] == sm.is_dense(net)
    assert found["flops"] == sm.schedule(net).cost(1).flops
    assert found["mixing"] == pytest.approx(sm.mixing(net), abs=1e-12)
    exact = sm.dimension(net)
    assert found["dimension"]["lower"] <= exact.lower <= exact.upper <= found["dimension"]["upper"]
    assert found["dimension"]["value"] in (exact.value, None)
    assert found["seconds"] > 0


@given(networks())
def test_bounds_without_a_rank_enclose_the_dimension(net):
    bounds = dimension_bounds(net)
    exact = dimension_answer(question_of(net))
    assert bounds["lower"] <= exact["lower"] <= exact["upper"] <= bounds["upper"]
    assert bounds["value"] in (None, exact["value"])
    assert exact["value"] == sm.dimension(net).value


def test_saved_pages_contain_a_network_of_every_family():
    picked = {family.name for spec in SPECS for family in named(spec).families}
    assert picked == {entry.name for entry in sm.catalogue()}
    for spec in SPECS:
        assert any(named(spec).accepts(width) for width in WIDTHS), spec


def test_saved_answers_equal_served_answers():
    found = precomputed(["benes", "shuffle(block=2)"], [6, 8])
    assert [(one["spec"], one["width"]) for one in found.networks] == [
        ("benes", 8),
        ("shuffle(block=2)", 6),
        ("shuffle(block=2)", 8),
    ]
    for one in found.networks:
        question = {"spec": one["spec"], "width": one["width"]}
        dimension = one.pop("dimension")
        assert one == answer(question)
        assert dimension == dimension_answer(question)
        [shown] = [r for r in found.survey[one["width"]] if r["spec"] == one["spec"]]
        assert shown.pop("seconds") > 0
        assert shown.items() <= row(question).items()
    assert found.atlas == {width: records({"width": width}) for width in (6, 8)}
    twice = precomputed(["benes", "benes"], [8, 8]).networks
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
