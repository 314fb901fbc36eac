"""Compositions of families: their networks, claims, specs and limits."""

import functools
import pickle

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.reachability import leading_dense_depth
from structmat.errors import SpecError, StructmatError, WidthError
from structmat.families import Composition, Family, Rule
from structmat.testing import check_family, families
from structmat.testing.members import cases


@functools.cache
def families_by_width():
    found = {}
    for members in cases(12, 4).values():
        for family, width in members:
            found.setdefault(width, []).append(family)
    return found


OPERATIONS = {
    "@": lambda a, b: a @ b,
    "then": lambda a, b: a.then(b),
    "*": lambda a, k: a * k,
    "**": lambda a, k: a**k,
    "inverse": lambda a: a.inverse(),
    "T": lambda a: a.T,
    "mirror": lambda a: a.mirror(),
    "leading": lambda a, k: a[:k],
}


@st.composite
def expressions(draw, max_leaves=4):
    """Draw an expression, as nested tuples, and a width that all its families accept."""
    width = draw(st.sampled_from(sorted(families_by_width())))

    def composed(inner):
        counted = st.tuples(st.sampled_from(["*", "**", "leading"]), inner, st.integers(1, 4))
        pairs = st.tuples(st.sampled_from(["@", "then"]), inner, inner)
        alone = st.tuples(st.sampled_from(["inverse", "T", "mirror"]), inner)
        return counted | pairs | alone

    leaves = st.sampled_from(families_by_width()[width])
    return draw(st.recursive(leaves, composed, max_leaves=max_leaves)), width


def evaluated(expression, leaf):
    """Evaluate an expression on rules or on networks."""
    if isinstance(expression, Family):
        return leaf(expression)
    if isinstance(expression, int):
        return expression
    operation, *operands = expression
    return OPERATIONS[operation](*(evaluated(one, leaf) for one in operands))


def rule_of(expression):
    return evaluated(expression, lambda family: family)


@given(expressions())
def test_the_network_of_a_composition_is_the_composition_of_the_networks(drawn):
    expression, width = drawn
    rule = rule_of(expression)
    assert rule(width) == evaluated(expression, lambda family: family(width))
    assert rule.accepts(width)


@given(expressions())
def test_a_composition_is_a_value_that_its_spec_and_its_pickle_restore(drawn):
    rule = rule_of(drawn[0])
    for again in (sm.parse(str(rule)), pickle.loads(pickle.dumps(rule))):  # noqa: S301
        assert type(again) is type(rule)
        assert again == rule
        assert hash(again) == hash(rule)
        assert str(again) == str(rule)
    assert rule.map(lambda family: family) == rule


@given(expressions())
def test_the_claims_of_a_composition_are_true(drawn):
    expression, width = drawn
    rule = rule_of(expression)
    claims, net = rule.claims(width), rule(width)
    dense_at = leading_dense_depth(net)
    assert claims.depth in (None, net.depth)
    assert claims.parameters in (None, net.parameters)
    assert claims.dense in (None, bool(sm.reach(net).all()))
    assert claims.dense_at in (None, dense_at)


@given(expressions(), st.integers(1, 3))
def test_compositions_claim_what_follows_from_the_claims_of_their_families(drawn, times):
    expression, width = drawn
    rule = rule_of(expression)
    once = rule.claims(width)
    for larger, count in ((rule * times, times), (rule @ rule, 2)):
        claims = larger.claims(width)
        for name in ("depth", "parameters"):
            value = getattr(once, name)
            assert getattr(claims, name) == (None if value is None else count * value)
        assert claims.dense or not once.dense
        assert claims.dense_at == once.dense_at
    assert (rule.T.claims(width).depth, rule.T.claims(width).dense) == (once.depth, once.dense)


@given(st.data())
def test_the_parameters_of_leading_stages_and_mirrors_follow_from_an_option_depth(data):
    width = data.draw(st.sampled_from(sorted(families_by_width())[1:]))
    deep = [family for family in families_by_width()[width] if family.has_depth]
    family = data.draw(st.sampled_from(deep))
    whole = family.claims(width)
    assume(whole.depth is not None)
    assume(whole.parameters is not None)
    for rule in (family, family * 3, family.T, family.mirror(), family @ family.T, family[:2] * 2):
        net = rule(width)
        assert rule.claims(width).parameters == net.parameters
        for k in range(1, net.depth + 2):
            assert rule[:k].claims(width).parameters == net[:k].parameters
            assert rule[:k].claims(width).depth == net[:k].depth


@given(families(max_width=12, max_depth=4), st.booleans(), st.booleans(), st.integers(1, 3))
def test_every_family_takes_the_universal_options(case, reverse, mirror, repeat):
    family, width = case
    options = {"reverse": reverse, "mirror": mirror, "repeat": repeat}
    own = {key for key in options if key in dict(family.options)}
    given_options = dict(family.options) | {k: v for k, v in options.items() if k not in own}
    written = ", ".join(f"{key}={value!r}" for key, value in given_options.items())
    rule = sm.parse(f"{family.name}({written})")
    net = family(width)
    if reverse and "reverse" not in own:
        net = net.inverse()
    if "repeat" not in own:
        net = net.repeat(repeat)
    if mirror:
        net = net.mirror()
    assert rule(width) == net
    assert getattr(sm.families, family.name)(width, **given_options) == net


# Canonical forms --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("butterfly*2", "butterfly * 2"),
        ("butterfly ** 2", "butterfly * 2"),
        ("butterfly(repeat=2)", "butterfly * 2"),
        ("butterfly(repeat=1, mirror=False)", "butterfly"),
        ("butterfly * 1", "butterfly"),
        ("(butterfly * 2) * 3", "butterfly * 6"),
        ("butterfly(mirror=True, repeat=2, block=4)", "mirror(butterfly(block=4) * 2)"),
        ("boft(reverse=True)", "reverse(butterfly)"),
        ("reverse(reverse(butterfly))", "butterfly"),
        ("reverse(mirror(butterfly))", "mirror(butterfly)"),
        ("reverse(mixed_radix(largest=4))", "mixed_radix(largest=4, reverse=True)"),
        ("reverse(mixed_radix(reverse=True))", "mixed_radix"),
        ("hypercube * 2", "hypercube(repeat=2)"),
        ("hypercube(repeat=2) * 3", "hypercube(repeat=6)"),
        ("hypercube(repeat=2, mirror=True)", "mirror(hypercube(repeat=2))"),
        ("benes @ (butterfly @ clos)", "benes @ butterfly @ clos"),
        ("benes @ butterfly * 2", "(benes @ butterfly) * 2"),
        ("benes @ (butterfly * 2)", "benes @ (butterfly * 2)"),
        ("benes @ butterfly ** 2", "benes @ (butterfly * 2)"),
        ("butterfly * 2 @ benes", "(butterfly * 2) @ benes"),
        ("butterfly[:5][:3]", "butterfly[:3]"),
        ("(butterfly * 2)[:3]", "(butterfly * 2)[:3]"),
        ("(benes @ clos)[:3]", "(benes @ clos)[:3]"),
        ("mirror(benes @ clos)[:3]", "mirror(benes @ clos)[:3]"),
        ("mirror(mirror(butterfly))", "mirror(mirror(butterfly))"),
        ("((gsoft(block=4)))", "shuffle(depth=2, block=4)"),
    ],
)
def test_equal_compositions_have_the_same_form(spec, canonical):
    assert str(sm.parse(spec)) == canonical
    assert sm.parse(canonical) == sm.parse(spec)


@pytest.mark.parametrize("n", range(1, 6))
def test_the_mirrored_baseline_network_is_the_benes_network(n):
    assert sm.parse("mirror(baseline)")(2**n) == sm.benes(2**n)


def test_the_cycled_butterfly_is_a_spec():
    cycled = sm.parse("butterfly * 3")
    assert cycled(16) == sm.butterfly(16, repeat=3) == sm.butterfly(16) * 3
    assert sm.network("butterfly * 3", 16) == cycled(16)
    assert sm.dense_depth("butterfly * 3", 16) == 4
    assert sm.dense_depth("shuffle(block=2, depth=1) @ shuffle(block=2, depth=3)", 16) is None
    assert cycled.with_options(block=4) == sm.parse("butterfly(block=4) * 3")


@pytest.mark.parametrize(
    "spec",
    [
        "butterfly * 2",
        "benes @ shuffle(block=4)",
        "mirror(deal(block=3))",
        "reverse(omega) * 2",
        "(waksman @ knodel)[:4]",
        "torus(mirror=True)",
    ],
)
def test_compositions_satisfy_the_contract_of_families(spec):
    assert check_family(spec, range(1, 17))


# Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("butterfly +", "cannot be parsed; a spec looks like"),
        ("butterfly *", "cannot be parsed"),
        ("butterfly @", "cannot be parsed"),
        ("butterfly * 1.5", r"'butterfly \* 1.5': times=1.5: times must be an integer ≥ 1"),
        ("butterfly * 0", "times=0: times must be an integer ≥ 1"),
        ("butterfly * -2", "times=-2: times must be an integer ≥ 1"),
        ("butterfly * True", "times=True"),
        ("butterfly * 'x'", "times='x'"),
        ("butterfly * " + "9" * 700, "times=an integer of .*: it must have at most 640 digits"),
        ("2 * butterfly", r"the number of repetitions follows .*, as in butterfly \* 2"),
        ("butterfly * benes", "a product of two specs is butterfly @ benes"),
        ("butterfly * None", "the number of repetitions follows"),
        ("butterfly + benes", r"the operators are @ \(product\), \* \(repetition\)"),
        ("butterfly / 2", "the operators are @"),
        ("-butterfly", "is not a name with options"),
        ("butterfly and benes", "is not a name with options"),
        ("benes @ nonesuch", "no family 'nonesuch'"),
        ("benes @ buterfly", "did you mean butterfly"),
        ("benes @ 8", "is not a name with options"),
        ("butterfly[3]", r"only leading stages can be selected, as in butterfly\[:3\]"),
        ("butterfly[1:3]", "only leading stages"),
        ("butterfly[:3:2]", "only leading stages"),
        ("butterfly[:]", "only leading stages"),
        ("butterfly[:0]", "stages=0: stages must be an integer ≥ 1"),
        ("butterfly[:-1]", "stages=-1"),
        ("butterfly[:benes]", "stages=None: stages must be an integer ≥ 1"),
        ("mirror", r"mirror is applied to a spec, as in mirror\(butterfly\)"),
        ("reverse()", "reverse is applied to a spec"),
        ("mirror(butterfly, benes)", "mirror takes one spec"),
        ("mirror(butterfly, repeat=2)", "mirror takes one spec"),
        ("mirror(*butterfly)", "is not a name with options"),
        ("butterfly(repeat=0)", "repeat=0: repeat must be an integer ≥ 1"),
        ("butterfly(repeat=2.0)", "repeat=2.0: repeat must be an integer ≥ 1"),
        ("butterfly(mirror=1)", "mirror=1: it must be True or False"),
        ("butterfly(reverse='yes')", "reverse='yes': it must be True or False"),
        ("butterfly(repat=2)", "butterfly has no option 'repat'; did you mean repeat"),
        ("benes(width=8, repeat=2)", "width is not an option"),
        ("mirror(" * 33 + "benes" + ")" * 33, "33 nested operations: .* at most 32"),
        (" * 2".join(["benes", *[""] * 150]), "too many nested operations"),
        (" @ ".join(["benes"] * 257), "257 families: it must have at most 256"),
        ("@".join(["benes"] * 9000), "256|cannot be parsed"),
    ],
)
def test_the_error_for_an_invalid_composition_names_the_fault(spec, message):
    with pytest.raises(SpecError, match=message) as caught:
        sm.parse(spec)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "spec",
    [
        "butterfly * 1000000000",
        "butterfly * " + "9" * 600,
        "hypercube * 1000000000",
        "butterfly(repeat=1000000000)",
        "mirror(butterfly * 500000)",
        "benes @ (butterfly * 1000000)",
        "circulant(offsets=(1, 2)) * 1000000000",
        "random(block=4, depth=2, rng=0) * 1000000000",
        "*".join(["butterfly", *["1000"] * 6]),
    ],
)
def test_networks_too_large_for_memory_are_rejected_before_they_are_built(spec):
    rule = sm.parse(spec)
    with pytest.raises(
        StructmatError, match=r"width × stages must be at most 33,554,432"
    ) as caught:
        rule(16)
    assert "\n" not in str(caught.value)


def test_repetitions_in_calls_are_limited_too():
    with pytest.raises(StructmatError, match="width × stages must be at most"):
        sm.butterfly(64, repeat=10**9)
    with pytest.raises(SpecError, match="mirror='yes': it must be True or False"):
        sm.butterfly(64, mirror="yes")
    with pytest.raises(SpecError, match="butterfly has no option 'mirrored'; did you mean mirror"):
        sm.butterfly(64, mirrored=True)


def test_the_error_for_an_unsupported_width_names_the_spec_and_the_family():
    rule = sm.parse("benes @ shuffle(block=3)")
    for use in (rule, rule.claims):
        with pytest.raises(
            WidthError,
            match=r"^benes @ shuffle\(block=3\) at width 12: benes\(width=12\): width must be 2\^n",
        ):
            use(12)
        with pytest.raises(
            WidthError, match=r"^benes @ .* at width 8: shuffle\(width=8, block=3\)"
        ):
            use(8)
    assert not any(rule.accepts(width) for width in range(1, 65))
    with pytest.raises(StructmatError, match="block='x': block must be an integer"):
        sm.parse("benes @ shuffle(block='x')").accepts(8)


def test_operators_accept_only_rules():
    rule = sm.parse("butterfly")
    for operation in (lambda: rule @ 2, lambda: rule @ "benes", lambda: 2 * rule, lambda: [*rule]):
        with pytest.raises(TypeError, match=r"unsupported operand|not iterable"):
            operation()
    with pytest.raises(SpecError, match="'benes': only a family or composition can follow butterf"):
        rule.then("benes")
    with pytest.raises(StructmatError, match=r"times=1\.5: times must be an integer ≥ 1"):
        rule * 1.5
    for slices in (3, slice(1, 3), slice(None, None, 2)):
        with pytest.raises(SpecError, match=r"only leading stages can be selected, as in \[:3\]"):
            rule[slices]
    with pytest.raises(SpecError, match="benes @ butterfly: it has 2 families; set the options of"):
        (sm.parse("benes") @ rule).with_options(block=4)
    for options in ({"repeat": 2}, {"mirror": True}):
        with pytest.raises(SpecError, match=r"is an operation on butterfly, .*; use repeat"):
            rule.with_options(**options)


def test_claims_of_the_deepest_nesting_take_no_longer_than_its_parts():
    rule = sm.parse("knodel")
    for _ in range(16):
        rule = rule.mirror()[:1000]
    assert rule[:7][:9] == rule[:7]
    with pytest.raises(SpecError, match="33 nested operations"):
        rule.mirror()
    assert rule.claims(64).depth == 1000  # doubling the work at each level would never end
    assert rule.claims(64).parameters == rule(64).parameters


def test_building_a_product_stops_when_it_is_too_large(monkeypatch):
    monkeypatch.setattr("structmat.families.registry._ENTRIES", {})
    monkeypatch.setattr("structmat.networks.network._MOST", 1000)
    built = []

    @sm.family("any")
    def unclaimed(width: int) -> sm.Network:
        """Repeat a switch on all wires, at a depth that is not claimed."""
        built.append(width)
        return sm.Network.of(width, [[range(width)]]).repeat(30)

    rule = sm.parse(" @ ".join(["unclaimed"] * 20))
    with pytest.raises(StructmatError, match="120 stages of 10 wires; width × stages must be at m"):
        rule(10)
    assert len(built) == 4


def test_a_family_without_seed_is_built_once_in_a_repetition():
    drawn = sm.parse("random(block=2, depth=1) * 2")(64)
    assert drawn.stages[0] == drawn.stages[1]


def test_an_option_of_the_family_takes_precedence(monkeypatch):
    monkeypatch.setattr("structmat.families.registry._ENTRIES", {})

    @sm.family("any")
    def twice(width: int, repeat: int = 2, mirror: str = "no") -> sm.Network:
        """Join all wires."""
        return sm.Network.of(width, [[range(width)]]).repeat(repeat)

    rule = sm.parse("twice(mirror='yes')")
    assert isinstance(rule, Family)
    assert (rule * 3)(4).depth == 6
    assert isinstance(rule.mirror(), Composition)
    assert isinstance(rule, Rule)
