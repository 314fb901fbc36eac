"""`choose` returns the best dense network within the budget, with the reasons."""

import json
import math
import types

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import ObjectiveError, StructmatError
from structmat.finetune.methods import named
from structmat.search.choice.purposes import PURPOSES
from structmat.search.choice.ranking import DEFAULT
from structmat.search.objectives import OBJECTIVES
from tests.search.choice import brute_force

FAST = settings(max_examples=5, deadline=None)  # each example lists the dense networks


# The best of all --------------------------------------------------------------------------------


@FAST
@given(st.integers(2, 40), st.sampled_from(["finetune", "mix", "fast", "universal"]))
@example(23, "finetune")
@example(16, "universal")
def test_no_family_is_better_for_the_purpose(width, purpose):
    net = brute_force.check(width, purpose)
    assert brute_force.is_dense(net)


@FAST
@given(st.integers(8, 40), st.integers(0, 200), st.sampled_from(["finetune", "mix", "fast"]))
def test_no_family_within_a_budget_is_better(width, extra, purpose):
    net = brute_force.check(width, purpose, budget=2 * width - 4 + extra)
    assert brute_force.is_dense(net)


@pytest.mark.parametrize("width", [97, 214])
def test_the_default_is_the_best_for_finetuning_at_larger_widths(width):
    assert sm.choose(width, rows=1).best.spec == DEFAULT
    brute_force.check_default(width)


@FAST
@given(st.integers(2, 45))
@example(23)
def test_the_default_is_chosen_at_every_width(width):
    best = sm.choose(width, rows=1).best
    assert best.spec == DEFAULT
    assert best.network == sm.parse(DEFAULT)(width)


@FAST
@given(st.integers(2, 40), st.sampled_from(sorted(PURPOSES)))
def test_rows_are_sorted_and_agree_with_their_networks(width, purpose):
    choice = sm.choose(width, purpose=purpose, rows=5)
    wanted = PURPOSES[purpose]
    assert len({row.spec for row in choice.rows}) == len(choice.rows)
    for row in choice.rows:
        net = row.network
        assert (net.parameters, net.depth) == (row.parameters, row.depth)
        assert row.largest == max(bank.radix for bank in net.banks)
        assert wanted.largest is None or row.largest <= wanted.largest
        assert net.is_straight or not wanted.straight
        assert row.time == pytest.approx(brute_force.modelled(net), rel=1e-9)
        assert row.dimension >= sm.dimension(net, largest=200).lower
        if row.mixing is not None:
            assert row.mixing == pytest.approx(brute_force.deviation(net), abs=1e-10)
            assert row.mixing == 0 or row.evidence["mixing"] == "computed"
        for spec in row.also:
            assert sm.parse(spec)(width) == net
    if purpose == "finetune":
        times = [row.time for row in choice.rows if row.mixing == 0]
        assert times == sorted(times)


@pytest.mark.parametrize("width", [4, 9, 16, 31])
def test_universal_networks_represent_every_rotation(width):
    best = sm.choose(width, purpose="universal").best
    assert sm.dimension(best.network).value == width * (width - 1) // 2
    assert best.evidence["universal"] == "proved"
    expected = "ruler" if width & (width - 1) == 0 else "brickwall"
    assert best.spec.startswith(expected)


@pytest.mark.parametrize("budget", [150, 320])
def test_fit_uses_the_budget_and_has_the_largest_dimension_of_all_rows(budget):
    """The dimension of the best is computed as a rank, and is at least that of other rows."""
    choice = sm.choose(32, purpose="fit", budget=budget, rows=4)
    covered = [sm.dimension(row.network).value for row in choice.rows]
    assert covered[0] == max(covered)
    assert budget - 16 < choice.best.parameters <= budget


@FAST
@given(st.integers(2, 20).map(lambda half: 2 * half), st.integers(1, 4), st.integers(0, 30))
def test_a_fit_is_never_given_fewer_dimensions_than_a_cycled_network(width, times, extra):
    """The bound of the best is compared with that of cycles of the butterfly and its relatives."""
    specs = [
        f"{spec} * {times}" for spec in ("mixed_radix(largest=2)", "shuffle(block=2)", "gossip")
    ]
    nets = [sm.parse(spec)(width) for spec in specs]
    nets = [net for net in nets if brute_force.largest(net) == 2 and sm.is_dense(net)]
    budget = max(net.parameters for net in nets) + extra
    choice = sm.choose(width, purpose="fit", budget=budget, rows=2)
    assert all(row.parameters <= budget for row in choice.rows)
    assert sm.is_dense(choice.best.network)
    assert choice.best.dimension >= max(sm.dimension(net, largest=200).lower for net in nets)


def test_cycles_are_chosen_for_fits_as_deep_as_the_budget_allows():
    """The cycled butterfly has the lowest error in docs/fitting.md at the same parameters."""
    assert sm.choose(512, purpose="fit", budget=11_520, rows=1).best.spec == "butterfly * 5"
    choice = sm.choose(32, purpose="fit", budget={"depth": 12}, rows=1)
    assert choice.best.spec == "(butterfly * 3)[:12]"
    assert choice.best.mixing == 0
    assert choice.best.evidence["mixing"] == "proved"
    assert brute_force.deviation(choice.best.network) < 1e-12
    several = sm.choose([8, 32], purpose="fit", budget={"depth": 12}, rows=1).best
    assert {net.depth for net in several.networks.values()} <= set(range(9, 13))


def test_cycles_represent_every_rotation_if_they_have_the_dimension():
    choice = sm.choose(16, purpose="universal", largest=4, budget={"depth": 9})
    cycled = [row for row in choice.rows if "*" in row.spec]
    assert cycled
    for row in cycled:
        assert row.evidence["universal"] == "not proved"
        assert sm.dimension(row.network).value == math.comb(16, 2)


@FAST
@given(st.integers(4, 30))
def test_a_function_is_minimised_over_all_dense_networks(width):
    def heaviest(net):
        return float(brute_force.averaging(net).max())

    best = sm.choose(width, purpose=heaviest, rows=1).best
    others = [heaviest(rule(width)) for rule in sm.dense_networks(width)]
    assert heaviest(best.network) == pytest.approx(min(others))


def test_an_objective_is_optimised_in_its_direction():
    choice = sm.choose(12, purpose="radix", rows=1)
    assert choice.best.largest == 2
    most = sm.choose(12, purpose=OBJECTIVES["density"], rows=3)
    assert "density 1" in most.best.reason
    deepest = sm.choose(6, purpose=sm_negative_depth, rows=1).best.depth
    assert deepest == max(rule(6).depth for rule in sm.dense_networks(6))


def sm_negative_depth(net):
    return -net.depth


def test_the_demo_trains_the_topology_chosen_for_as_many_parameters_as_lora():
    layers = [384] * 5 + [1536]  # of a block of all-MiniLM-L6-v2
    lora = 4 * (4 * 768 + 2 * 1920)
    best = sm.choose(layers, budget=lora, rows=1).best
    assert best.spec == named("mixed-radix").topology


# Budgets ----------------------------------------------------------------------------------------


@FAST
@given(st.integers(8, 48), st.integers(1, 8))
def test_a_limit_on_the_stages_is_respected_or_the_error_names_the_minimum(width, depth):
    possible = brute_force.least_depth(width)
    if possible > depth:
        with pytest.raises(StructmatError, match=f"the least is {possible} stages?, for"):
            sm.choose(width, budget={"depth": depth})
    else:
        assert all(row.depth <= depth for row in sm.choose(width, budget={"depth": depth}).rows)


def test_limits_on_time_and_memory_are_respected():
    free = sm.choose(64, purpose="mix").best
    for name in ("time", "relative_time", "memory"):
        limit = getattr(free, name) * 0.9
        rows = sm.choose(64, purpose="mix", budget={name: limit}).rows
        assert rows
        assert all(getattr(row, name) <= limit for row in rows)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (10, "10 parameters at width 64: .* the least is 124 parameters, for gossip"),
        ({"time": 1e-9}, "budget of 1e-06 ms at width 64: .* the least is .* ms, for "),
        ({"memory": 10}, "the least is .* MiB, for "),
        ({"depth": 2, "parameters": 130}, "the least is 10 stages within the rest of the budget"),
        (math.nan, "budget parameters=nan: it must be a finite number"),
        (-1, "budget parameters=-1: it must be a finite number ≥ 0"),
        (True, "budget parameters=True"),
        (1.5, "budget parameters=1.5: it must be an integer"),
        ("100", "budget parameters='100'"),
        ({"stages": 3}, "no quantity 'stages'; the quantities are parameters, depth"),
        ({"dept": 3}, "no quantity 'dept'; did you mean depth"),
    ],
)
def test_an_impossible_or_invalid_budget_is_explained(budget, message):
    with pytest.raises(StructmatError, match=message) as caught:
        sm.choose(64, budget=budget)
    assert "\n" not in str(caught.value)


# Several widths, and models ----------------------------------------------------------------------


def layer(inputs, outputs):
    return types.SimpleNamespace(in_features=inputs, weight=np.zeros((outputs, inputs)))


class Model:
    """The part of a torch model that `choose` uses, without torch."""

    def __init__(self, **modules):
        self.modules = modules

    def named_modules(self):
        yield "", self
        yield from self.modules.items()

    def get_output_embeddings(self):
        return self.modules.get("head")


def test_one_topology_serves_all_linear_layers_of_a_model():
    conv = types.SimpleNamespace(nf=5, weight=np.zeros((8, 5)))
    norm = types.SimpleNamespace(weight=np.zeros(12))
    model = Model(up=layer(12, 48), down=layer(48, 12), out=layer(12, 3), c=conv, norm=norm,
                  gate=layer(1, 12), head=layer(12, 999))  # fmt: skip
    choice = sm.choose(model)
    assert choice.widths == {8: 1, 12: 2, 48: 1}
    best = choice.best
    nets = best.networks
    assert best.parameters == nets[8].parameters + 2 * nets[12].parameters + nets[48].parameters
    assert best.depth == max(net.depth for net in nets.values())
    single = [sm.choose(width, rows=1).best.time for width in (8, 12, 12, 48)]
    assert best.time == pytest.approx(sum(single))
    with pytest.raises(StructmatError, match="3 widths; use networks"):
        _ = best.network
    assert choice.widths == sm.choose([12, 48, 8, 12]).widths == sm.choose(
        {"a": 12, "b": 48, "c": 8, "d": 12}
    ).widths  # fmt: skip


def test_torch_models_are_read():
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(24, 7), torch.nn.ReLU(), torch.nn.Linear(7, 2))
    assert sm.choose(net, rows=1).widths == {7: 1, 24: 1}


def test_a_rule_for_several_widths_accepts_each():
    choice = sm.choose([6, 16], purpose="mix", rows=20)
    for row in choice.rows:
        assert {width: net.width for width, net in row.networks.items()} == {6: 6, 16: 16}
        assert all(map(sm.is_dense, row.networks.values()))
    assert not any(row.spec.startswith("butterfly(block=4") for row in choice.rows)


# The table --------------------------------------------------------------------------------------


def test_the_table_shows_reasons_bounds_and_evidence():
    choice = sm.choose(96, rows=8)
    text, page = str(choice), choice._repr_html_()
    for row in choice.rows:
        assert row.spec in text
        assert row.reason in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100
    assert "Any dense network has at least 188 parameters" in text  # 2·96 − 4
    assert "Time is modelled, not measured" in text
    assert page.count("<tr>") == 9
    data = json.loads(json.dumps(choice.to_dict()))
    assert [row["network"] for row in data["rows"]] == [row.spec for row in choice.rows]
    assert data["bounds"][0]["quantity"] == "depth"
    assert data["bounds"][0]["value"] == choice.best.depth
    assert data["budget"] == {}


@FAST
@given(st.integers(3, 40), st.sampled_from(sorted(PURPOSES)))
def test_lower_bounds_are_at_most_the_values_of_the_best(width, purpose):
    choice = sm.choose(width, purpose=purpose, rows=1)
    for bound in choice.bounds:
        if bound.goal != "universal" or purpose == "universal":
            assert bound.least <= bound.value


def test_times_are_measured_on_request():
    choice = sm.choose(48, rows=3, measure=True)
    assert "Time is measured" in str(choice)
    assert all(row.evidence["time"] == "measured" for row in choice.rows)
    exact = [row.time for row in choice.rows if row.mixing == 0]
    assert exact == sorted(exact)
    assert min(exact) > 0


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "options", "message"),
    [
        (1, {}, "width=1: width must be an integer ≥ 2"),
        (0, {}, "width=0: width must be an integer ≥ 2"),
        (-5, {}, "width=-5"),
        (math.nan, {}, "width=nan: width must be an integer"),
        (2.5, {}, "width=2.5"),
        ("768", {}, "width='768'"),
        ([], {}, "give at least one width"),
        ({}, {}, "give at least one width"),
        (None, {}, "width=None"),
        (2**30, {}, "a network has at most"),
        (
            Model(norm=types.SimpleNamespace(weight=np.zeros(4))),
            {},
            "Model: it has no linear layer",
        ),
        (8, {"purpose": "finetuning"}, "purpose 'finetuning': unknown; did you mean finetune"),
        (8, {"purpose": "zzz"}, "the purposes are finetune, fit, mix, universal, fast"),
        (8, {"purpose": 3}, "purpose=3: it must be finetune, fit"),
        (8, {"purpose": "fit_error"}, "fit_error: it needs a target"),
        (8, {"largest": 1}, "largest=1"),
        (16, {"purpose": "universal", "largest": 2.5}, "largest=2.5"),
        (8, {"rows": 0}, "rows=0"),
        (8, {"device": "tpu"}, "device='tpu': unknown"),
    ],
)
def test_bad_input_is_rejected_in_one_line(width, options, message):
    with pytest.raises(StructmatError, match=message) as caught:
        sm.choose(width, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", [lambda _: math.nan, lambda _: 1 / 0, lambda _: None])
def test_functions_must_return_a_finite_number(function):
    with pytest.raises(ObjectiveError, match="objective <lambda>"):
        sm.choose(6, purpose=function)


# Limits that are no parameters, and values out of range ------------------------------------------


@pytest.mark.parametrize("budget", [{"depth": 10}, {"depth": 10, "parameters": 10**40}])
def test_fitting_uses_all_stages_that_the_budget_allows(budget):
    best = sm.choose(32, purpose="fit", budget=budget).best
    assert best.depth <= 10
    assert best.dimension >= sm.parse("shuffle(block=2, depth=10)")(32).parameters


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 2**22}, "topologies are compared up to width 524,288"),
        ({"width": 8, "device": []}, "device=.*unknown"),
        ({"width": 8, "budget": {"time": 10**400}}, "finite number"),
        ({"width": 8, "purpose": lambda _: 10**400}, "must return a finite number"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(StructmatError, match=message):
        sm.choose(**options)
