"""Objectives agree with the analyses; requirements hold if and only if their violation is 0."""

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.jacobian import component_error
from structmat.errors import ObjectiveError, StructmatError
from structmat.fitting.multistart import Search
from structmat.search.objectives import (
    OBJECTIVES,
    Objective,
    Requirement,
    objective,
    requirement,
    requirements,
)
from structmat.testing import networks

fields = st.sampled_from(["real", "complex"])
NET = sm.butterfly(8)
ROTATION = sm.Rotation(NET, sm.random_blocks(NET, rng=0))


def measured(name, net, **options):
    return objective(name, **options).measure(net)


@given(networks(max_width=6, screens=True), fields)
def test_named_objectives_agree_with_the_analyses(net, field):
    report = sm.report(net, field=field)
    for name in ("parameters", "depth", "nonzeros", "concentration", "fourth_moment", "mixing"):
        assert measured(name, net, field=field) == getattr(report, name), name
    assert measured("dimension", net, field=field) == report.dimension.value
    assert measured("density", net) == np.mean(sm.reach(net))
    radices = [bank.reads.shape[1] for bank in net.banks]
    assert measured("radix", net) == max([1, *radices])
    scale = measured("error_tolerance", net, field=field)
    assert scale == component_error(net, field=field)
    assert scale == pytest.approx(np.sqrt(2 * report.parameters / net.width))
    ratio = sm.conditioning(net, field=field, rng=3).ratio
    assert measured("conditioning", net, field=field, rng=3) == pytest.approx(ratio, abs=1e-12)
    assert measured("time", net, field=field) > 0


def test_fit_error_agrees_with_fit_for_one_target_or_several():
    targets = np.stack(
        [ROTATION.matrix(), *np.linalg.qr(np.random.default_rng(0).normal(size=(2, 8, 8)))[0]]
    )
    errors = [sm.fit(NET, target, rng=5, starts=2).error for target in targets]
    for target, error in zip(targets, errors, strict=True):
        assert measured("fit_error", NET, target=target, rng=5) == pytest.approx(error)
    assert errors[0] < 1e-12 < errors[1]
    assert measured("fit_error", NET, target=ROTATION) < 1e-12
    together = measured("fit_error", NET, target=targets, rng=5)
    assert together == pytest.approx(np.sqrt(np.mean(np.square(errors))))


@given(networks(max_width=6), st.sampled_from([n for n in OBJECTIVES if n != "time"]))
def test_a_measure_is_the_same_every_time_and_in_another_process(net, name):
    target = np.eye(net.width)[::-1]
    found = objective(name, target=target)
    sent = pickle.loads(pickle.dumps(found))  # noqa: S301 (our own)
    assert sent.measure(net) == found.measure(net)
    assert (sent.name, sent.direction, sent.cost) == (name, found.direction, found.cost)
    assert str(found) == name
    assert found.description


def test_cheap_objectives_come_first():
    costs = [known.cost for known in OBJECTIVES.values()]
    assert costs == sorted(costs)
    assert list(OBJECTIVES) == [known.name for known in OBJECTIVES.values()]
    assert {known.direction for known in OBJECTIVES.values()} == {"minimize", "maximize"}


# Requirements ---------------------------------------------------------------------------------


@given(networks(max_width=6), st.integers(0, 40), st.sampled_from(["<=", ">=", "==", " ≤ ", "≥"]))
def test_a_comparison_holds_where_its_violation_is_zero(net, limit, sign):
    found = requirement(f"parameters{sign}{limit}")
    holds = {
        "<=": net.parameters <= limit,
        ">=": net.parameters >= limit,
        "==": net.parameters == limit,
    }[{"≤": "<=", "≥": ">="}.get(sign.strip(), sign)]
    assert found.satisfied(net) == holds
    distance = abs(net.parameters - limit) / max(1, limit)
    assert found.violation(net) == pytest.approx(0 if holds else distance)
    assert requirement(str(found)).violation(net) == found.violation(net)


@given(networks(max_width=6), fields)
def test_violations_of_dense_and_universal_are_the_missing_shares(net, field):
    dense, universal = requirement("dense"), requirement("universal", field=field)
    assert dense.satisfied(net) == sm.is_dense(net)
    assert dense.violation(net) == pytest.approx(1 - np.mean(sm.reach(net)))
    full = net.width**2 if field == "complex" else net.width * (net.width - 1) // 2
    missing = full - sm.dimension(net, field=field).value
    assert universal.satisfied(net) == (missing == 0)
    assert universal.violation(net) * full == pytest.approx(missing)


def test_rounding_errors_do_not_violate_a_requirement():
    net = sm.mixed_radix(55)
    assert 0 < sm.mixing(net) < 1e-12
    assert requirement("mixing<=0").satisfied(net)
    assert not requirement("mixing<=0").satisfied(sm.gossip(55))


def test_cheap_requirements_come_first():
    given_ = ["conditioning>=1e-3", "universal", lambda _: True, "depth<=3", "dense", "radix==2"]
    costs = [found.cost for found in requirements(given_)]
    assert costs == sorted(costs)
    assert [found.name for found in requirements("depth<=3")] == ["depth<=3"]
    assert requirements([]) == ()


# User functions -------------------------------------------------------------------------------


def switches(net):
    return sum(bank.count for bank in net.banks)


@pytest.mark.parametrize(
    "value",
    [3, 2.5, np.float32(2.5), np.int64(3), np.array(2.5), np.array([2.5]), Fraction(5, 2)],
)
def test_functions_may_return_any_kind_of_number(value):
    found = objective(lambda _: value).measure(NET)
    assert type(found) is float
    assert found == value


def test_functions_become_objectives_and_requirements():
    found = objective(switches)
    assert (found.name, found.direction, found.measure(NET)) == ("switches", "minimize", 12)
    upwards = objective(switches, direction="maximize")
    assert (upwards.direction, upwards.measure(NET)) == ("maximize", 12)
    assert objective(upwards) is upwards
    assert objective("depth", direction="maximize").direction == "maximize"
    for function, violation in [
        (lambda _: True, 0),
        (lambda _: np.False_, 1),
        (lambda net: net.depth - 2, 1),
        (lambda net: net.depth - 4, 0),
        (lambda _: math.inf, math.inf),
    ]:
        condition = requirement(function)
        assert condition.violation(NET) == violation
        assert condition.satisfied(NET) == (violation == 0)
        assert requirement(condition) is condition
    own = Requirement("own", 0, switches)
    assert requirements(["dense", own])[0] is own


def raises(net):
    raise KeyError("a")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raises, r"^objective raises: KeyError: 'a'; .*test_objectives\.py, line \d+: raise Key"),
        (lambda _: math.nan, r"^objective <lambda> returned nan: it must return a finite num"),
        (lambda _: -math.inf, r"^objective <lambda> returned -inf: it must return a finite num"),
        (lambda _: 10**400, r"^objective <lambda> returned an integer of 1,329 bits: it must"),
        (lambda _: None, r"^objective <lambda> returned None: it must return a finite number$"),
        (lambda _: "3", r"^objective <lambda> returned '3': it must return a finite number$"),
        (lambda _: True, r"^objective <lambda> returned True: it must return a finite number$"),
        (lambda _: 1j, r"^objective <lambda> returned 1j: it must return a finite number$"),
        (lambda _: np.ones(2), r"returned array\(\[1., 1.\]\): it must return a finite number$"),
        (lambda: 3, r"^objective <lambda>: TypeError: .*takes 0 positional arguments"),
        (sm.fit, r"^objective fit: TypeError: fit\(\) missing 1 required .*'target'$"),
    ],
)
def test_an_objective_that_fails_is_named(function, message):
    with pytest.raises(ObjectiveError, match=message):
        objective(function).measure(NET)
    with pytest.raises(ObjectiveError, match=r"^objective o"):
        Objective("o", "minimize", 0, function).measure(NET)


def test_messages_of_any_form_become_a_short_line():
    class UnprintableError(Exception):
        def __str__(self):
            raise RuntimeError

    def failing(error):
        def function(net):
            raise error

        return function

    with pytest.raises(ObjectiveError, match="Error: without a message that can be printed"):
        objective(failing(UnprintableError())).measure(sm.butterfly(4))
    with pytest.raises(ObjectiveError, match="MemoryError: x") as raised:
        objective(failing(MemoryError("x" * 10**6))).measure(sm.butterfly(4))
    assert len(str(raised.value)) < 1100 + len(__file__)
    with pytest.raises(ObjectiveError, match="returned an integer of 1,329 bits"):
        requirement(lambda _: 10**400).violation(sm.butterfly(4))


def test_the_cause_of_a_failure_is_kept():
    with pytest.raises(ObjectiveError, match="raises") as caught:
        objective(raises).measure(NET)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(
        ObjectiveError, match=r"^requirement raises: KeyError: 'a'; .*: raise KeyError"
    ):
        requirement(raises).satisfied(NET)
    with pytest.raises(ObjectiveError, match=r"^requirement <lambda> returned nan: it must"):
        requirement(lambda _: math.nan).satisfied(NET)
    with pytest.raises(ObjectiveError, match=r"^objective fit_error: .*target"):
        objective("fit_error", target=np.eye(4)).measure(NET)


def test_an_interruption_is_not_a_failure(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        objective(interrupted).measure(NET)
    monkeypatch.setattr(Search, "sweep", interrupted)
    net = sm.random(6, 2, 2, rng=0)
    target = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    assert sm.fit(net, target).method.endswith("interrupted")
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        objective("fit_error", target=target).measure(net)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("mixng", r"^objective 'mixng': unknown; did you mean mixing\?$"),
        ("qr", r"^objective 'qr': unknown; the choices are concentration, .*, time$"),
        ("fit_error", r"^objective fit_error: it needs a target; give target=, the matrix"),
        (3, r"^objective 3: it must be a name, a function of a network, or an Objective$"),
    ],
)
def test_unknown_objectives_are_rejected(given_, message):
    with pytest.raises(ObjectiveError, match=message):
        objective(given_)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("dens", r"^requirement 'dens': unknown; did you mean dense\?$"),
        ("xyz", r"^requirement 'xyz': it must be dense, universal, or a comparison of an obj"),
        ("mixing", r"^requirement 'mixing': it must be dense, universal, or a comparison"),
        ("depth<4", r"it must be .* by <=, >= or ==, such as mixing<=0.01$"),
        ("__import__('os')<=1", "it must be dense"),
        ("depth<=1;2", "'1;2' is not a finite number"),
        ("depth<=nan", "'nan' is not a finite number"),
        ("depth<=-inf", "'-inf' is not a finite number"),
        ("dept<=4", r"^objective 'dept': unknown; did you mean depth"),
        ("fit_error<=0.1", r"^objective fit_error: it needs a target"),
        ("", "it must be dense"),
        (None, r"^requirement None: it must be text, a function of a network, or a Requir"),
    ],
)
def test_unknown_requirements_are_rejected(given_, message):
    with pytest.raises(ObjectiveError, match=message):
        requirement(given_)


def test_options_of_objectives_are_checked():
    with pytest.raises(ObjectiveError, match=r'^direction=.up. of depth: it must be "minimize" or'):
        objective("depth", direction="up")
    with pytest.raises(ObjectiveError, match=r"^function=3 of o: it must be a function of a net"):
        Objective("o", "minimize", 0, 3)
    with pytest.raises(StructmatError, match=r"^field='unitary': it must be"):
        objective("depth", field="unitary")
    with pytest.raises(StructmatError, match=r"^field='unitary': it must be"):
        requirement("universal", field="unitary")
    with pytest.raises(StructmatError, match=r"^rng=None: rng must be an integer ≥ 0$"):
        objective("depth", rng=None)
