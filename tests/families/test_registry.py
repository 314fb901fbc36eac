"""Spec strings: parsed, never evaluated, and refused in one line."""

import ast

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import structmat as sm
from structmat.convert import gsoft
from structmat.errors import FamilyError, SpecError, StructmatError, WidthError
from structmat.families import Family, Rule, as_rule, family
from structmat.families.registry import ALIASES, unregister
from structmat.testing import families


def outcome(call):
    """Return the value of a call, or the message of its StructmatError."""
    try:
        return call(), ""
    except StructmatError as error:
        return None, str(error)


@given(families())
def test_specs_round_trip(case):
    rule, width = case
    assert sm.parse(str(rule)) == rule
    assert hash(sm.parse(str(rule))) == hash(rule)
    assert as_rule(rule) is rule
    assert as_rule(str(rule)) == rule
    direct = getattr(sm.families, rule.name)(width, **dict(rule.options))
    assert rule(width) == direct


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["block", "depth"]), values), st.integers(1, 64))
def test_any_literal_is_accepted_or_rejected_in_one_line(options, width):
    text = ", ".join(f"{key}={value!r}" for key, value in options.items())
    rule = sm.parse(f"butterfly({text})")
    assert sm.parse(str(rule)) == rule
    hash(rule)
    net, refusal = outcome(lambda: rule(width))
    assert "\n" not in refusal
    assert net is None or net.width == width


@given(st.text() | st.text(alphabet="buterfly(block=8,dph2)[]{}'\"*@:. \n#", max_size=40))
@example("butterfly(block=8")
@example("butterfly(block=8))")
@example("butterfly(**{'block': 8})")
@example("butterfly(8)")
@example("butterfly(*[8])")
@example("butterfly(block:=8)")
@example("lambda: butterfly")
@example("butterfly.build")
@example("butterfly(block=8)(64)")
@example("butterfly(block=8); benes")
@example("(" * 5000)
@example("-" * 50_000 + "1")
@example("butterfly(block=" + "9" * 5000 + ")")
@example("\x00")
@example("\ud800")
@example("")
def test_any_text_is_a_family_or_a_spec_error(text):
    rule, refusal = outcome(lambda: sm.parse(text))
    assert "\n" not in refusal
    if rule is not None:
        assert isinstance(rule, Rule)
        assert sm.parse(str(rule)) == rule


@pytest.mark.parametrize(
    "spec",
    [
        "__import__('os').system('touch {}')",
        "butterfly(block=__import__('pathlib').Path('{}').touch())",
        "butterfly(block=open('{}', 'w'))",
        "butterfly(block=[open('{}', 'w') for _ in (1,)])",
        "butterfly(block=(lambda: open('{}', 'w'))())",
        'butterfly(block=f\'{{open("{}", "w")}}\')',
        "open('{}', 'w')",
        "exec(\"open('{}', 'w')\")",
    ],
)
def test_specs_are_never_evaluated(spec, tmp_path):
    mark = tmp_path / "mark"
    text = spec.format(mark)
    ast.parse(text, mode="eval")  # it would run, if it were evaluated
    with pytest.raises(SpecError, match=r"a spec looks like|no family|must be a literal"):
        sm.parse(text)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("buterfly(block=8)", "no family 'buterfly'; did you mean butterfly"),
        ("buterfly(8)", "no family 'buterfly'; did you mean butterfly"),
        ("rotator", r"no family 'rotator': structmat\.rotator\(width\).* returns a rotation"),
        ("rotator(768)", r"structmat\.rotator\(width\), or structmat\.Rotator\.from_description"),
        ("rotator(768, block=16, seed=0, version=1)", r"Rotator\.from_description\(text\)"),
        ("xyzzy", "no family 'xyzzy'; see `structmat list` .* user-defined .*--load FILE.py"),
        ("butterfly(blok=8)", "butterfly has no option 'blok'; did you mean block"),
        (
            "butterfly(width=8)",
            r'width is not an option; give it separately, as in parse\("butterfly"\)\(8\); on the',
        ),
        (
            "clos(width=8, block=2)",
            r'as in parse\("clos\(block=2\)"\)\(8\); on the command line by',
        ),
        ("benes(mode=b)", "a literal such as 8 or .*, or a string in quotes, as in mode='b'"),
        ("benes(mode=b + c)", "or a string in quotes, as in mode='text'"),
        ("benes(block=2)", "benes has no option 'block'; the choices are mirror, repeat, reverse"),
        ("shuffle", "shuffle needs the option block"),
        ("random(block=4)", "random needs the option depth"),
        ("butterfly(8)", "options are written name=value"),
        ("butterfly(**{})", "options are written name=value"),
        ("butterfly(block=2, block=4)", "block is repeated"),
        ("butterfly(block=2**3)", "the value of block must be a literal"),
        ("butterfly(block=size)", "the value of block must be a literal"),
        ("butterfly(block={2: 3})", "the value of block must be a literal"),
        ("butterfly(block={2})", "the value of block must be a literal"),
        ("butterfly(block=1e999)", "the value of block must be a literal"),
        ("butterfly(block=2j)", "the value of block must be a literal"),
        ("butterfly(block=b'8')", "the value of block must be a literal"),
        ("butterfly(block=8", "cannot be parsed; a spec looks like"),
        ("butterfly.a(block=8)", "is not a name with options"),
        ("8", "is not a name with options"),
        (8, "8: a spec is a string"),
        (None, "None: a spec is a string"),
    ],
)
def test_the_error_for_an_invalid_spec_names_the_fault(spec, message):
    with pytest.raises(SpecError, match=message):
        sm.parse(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("butterfly(depth=2.5)", "depth=2.5: depth must be an integer ≥ 1"),
        ("butterfly(block='x')", "block='x': block must be an integer ≥ 2"),
        ("butterfly(block=None)", "block=None: block must be an integer"),
        ("butterfly(block=True)", "block=True"),
        ("butterfly(block=(2, 3))", r"block=\(2, 3\): block must be an integer"),
        ("butterfly(depth=-1)", "depth=-1: depth must be an integer ≥ 1"),
        ("monarch(radices='ab')", "radix='a': radix must be an integer"),
        ("monarch(radices=4)", "radices=4: radices must be a sequence"),
        ("monarch(radices=(8, 8.0))", "radix=8.0"),
        ("random(block=2, depth=1, rng='x')", "rng='x': rng must be a Generator"),
        ("random(block=2, depth=1, rng=-3)", "rng=-3: rng must be a Generator"),
    ],
)
def test_invalid_values_are_rejected_when_a_width_is_given(spec, message):
    rule = sm.parse(spec)
    for use in (rule, rule.accepts):
        with pytest.raises(StructmatError, match=message) as caught:
            use(64)
        assert "\n" not in str(caught.value)


def test_lists_and_spaces_are_accepted():
    assert sm.parse(" monarch( radices = [16, 24] ) ") == sm.parse("monarch(radices=(16, 24))")
    assert str(sm.parse("shuffle(block=-2)")) == "shuffle(block=-2)"
    assert sm.parse("benes()") == sm.parse("benes")


def test_with_options_sets_options():
    rule = sm.parse("butterfly(block=4)").with_options(depth=2)
    assert rule == sm.parse("butterfly(block=4, depth=2)")
    assert rule.with_options(depth=3).with_options(depth=2) == rule
    with pytest.raises(SpecError, match="has no option 'deep'"):
        rule.with_options(deep=3)
    assert rule.has_depth
    assert not sm.parse("benes").has_depth


@given(st.lists(st.integers(2, 9), min_size=1, max_size=4), st.integers(1, 20))
def test_options_of_every_form_make_the_same_family(radices, depth):
    written = sm.parse(f"mixed_radix(radices={radices})")
    for form in (radices, tuple(radices), np.array(radices), [np.int64(r) for r in radices]):
        rule = sm.parse("mixed_radix").with_options(radices=form)
        assert (rule, hash(rule), str(rule)) == (written, hash(written), str(written))
        assert Family("mixed_radix", (("radices", form),)) == written
        assert sm.parse(str(rule)) == rule
    deep = sm.parse("shuffle(block=4)").with_options(depth=np.int64(depth))
    assert str(deep) == f"shuffle(block=4, depth={depth})"


@pytest.mark.parametrize("value", [float("nan"), np.inf, {2: 3}, {2}, 2j, b"8", object(), [{}]])
def test_options_without_a_literal_form_are_rejected(value):
    with pytest.raises(SpecError, match=r"shuffle: block=.* must be a number, a string, None, or"):
        sm.parse("shuffle(block=4)").with_options(block=value)


def test_errors_print_numpy_values_as_plain_numbers():
    with pytest.raises(WidthError, match=r"^butterfly\(width=48, block=4\): "):
        sm.butterfly(np.int64(48), block=np.int64(4))
    with pytest.raises(WidthError, match=r"^monarch\(width=48, radices=\(4, 4\)\): "):
        sm.monarch(48, np.array([4, 4]))


@pytest.mark.parametrize(
    "make", [sm.mixed_radix, sm.monarch, sm.families.clos, sm.families.hamming]
)
def test_a_scalar_array_is_not_a_sequence_of_radices(make):
    with pytest.raises(StructmatError, match=r"radices=array\(6\): radices must be a sequence"):
        make(6, np.array(6))


@pytest.mark.parametrize("width", [3, 1000, 65_537, 100_000, 200_000, 300_000, 524_287])
def test_the_error_names_the_nearest_powers_of_two(width):
    n = width.bit_length()
    with pytest.raises(WidthError, match=f"nearest are {2 ** (n - 1)} and {2**n}\\."):
        sm.benes(width)


def test_numpy_bools_are_accepted_as_options():
    assert sm.mixed_radix(6, reverse=np.True_) == sm.mixed_radix(6, reverse=True)


def test_the_catalogue_lists_every_family():
    entries = sm.catalogue()
    names = [entry.name for entry in entries]
    assert names == sorted(names)
    assert {"block_diagonal", "butterfly", "mixed_radix", "monarch", "shuffle", "benes"} <= {*names}
    for entry in entries:
        assert entry.widths
        assert entry.summary.endswith(".")
        assert "\n" not in entry.summary
        assert next(iter(entry.signature.parameters)) == "width"
        assert getattr(sm.families, entry.name) is entry.build


def test_custom_families_are_registered_parsed_and_catalogued(monkeypatch):
    monkeypatch.setattr("structmat.families.registry._ENTRIES", {})

    @family("even", lambda width: None if width % 2 == 0 else "width must be even")
    def ends(width: int) -> sm.Network:
        """Join the first wire to the last.

        And nothing else.
        """
        return sm.Network.of(width, [[[0, width - 1]]])

    assert sm.parse("ends")(6) == ends(6)
    assert sm.catalogue()[0].summary == "Join the first wire to the last."
    with pytest.raises(StructmatError, match="width must be even; nearest are 6 and 8"):
        ends(7)
    with pytest.raises(SpecError, match="'ends' is already registered"):
        family("any")(ends)


def test_calls_and_specs_report_unknown_options_alike():
    with pytest.raises(SpecError, match=r"^butterfly has no option 'blok'; did you mean block\?$"):
        sm.butterfly(8, blok=4)
    with pytest.raises(
        SpecError, match=r"^benes has no option 'block'; the choices are mirror, repeat, reverse$"
    ):
        sm.benes(8, block=4)
    for call in (
        lambda: sm.shuffle(8),
        lambda: sm.shuffle(width=8),
        lambda: sm.shuffle(8, depth=2),
    ):
        with pytest.raises(
            SpecError, match=r"^shuffle needs the option block, such as shuffle\(64, block=4\)$"
        ):
            call()
    with pytest.raises(TypeError, match="too many positional arguments"):
        sm.butterfly(8, 2, 3, 4)
    with pytest.raises(TypeError, match="multiple values for argument 'block'"):
        sm.shuffle(8, 2, block=4)
    with pytest.raises(TypeError, match="missing a required argument: 'width'"):
        sm.butterfly(block=4)


@pytest.mark.parametrize(("widths", "said"), [(sm.benes, "family 'benes'"), (8, "8"), (None, "N")])
def test_the_decorator_accepts_a_description_of_the_widths(widths, said):
    with pytest.raises(SpecError, match=rf'^{said}.*: describe .* as in @sm\.family\("any"\)'):
        family(widths)
    assert sm.parse("benes")(8) == sm.benes(8)


def test_a_notebook_cell_may_redefine_its_family(monkeypatch):
    monkeypatch.setattr("structmat.families.registry._ENTRIES", {})

    def define(module, width):
        def mine(width: int) -> sm.Network:
            """Join all wires."""
            return sm.Network.of(width, [[range(width)]])

        mine.__module__ = module
        return family(f"{width} only", lambda w: None if w == width else f"width must be {width}")(
            mine
        )

    define("__main__", 4)
    define("__main__", 6)
    assert sm.parse("mine").accepts(6)
    assert not sm.parse("mine").accepts(4)
    with pytest.raises(SpecError, match="'mine' is already registered"):
        define("elsewhere", 4)
    assert sm.parse("mine").accepts(6)


def test_a_notebook_cannot_replace_a_built_in_family():
    def butterfly(width: int) -> sm.Network:
        return sm.Network.of(width, [])

    butterfly.__module__ = "__main__"
    with pytest.raises(SpecError, match="'butterfly' is already registered"):
        family("any")(butterfly)
    assert sm.parse("butterfly")(8) == sm.butterfly(8)


# Registration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refuses": lambda: None}, "refuses is called as .*width, block=block.*its signature is"),
        ({"refuses": lambda width: None}, "unexpected keyword argument 'block'"),  # noqa: ARG005
        ({"refuses": lambda width, block, depth: None}, "missing a required argument: 'depth'"),  # noqa: ARG005
        ({"refuses": "even"}, "refuses must be a function, .*, not 'even'"),
        ({"refuses": None}, "refuses must be a function, .*, not None"),
        ({"claims": lambda width: sm.families.Claims()}, "claims is called as"),  # noqa: ARG005
        ({"choices": {"blok": lambda width: (2,)}}, "no option 'blok'; did you mean block"),  # noqa: ARG005
        ({"choices": {"block": (2, 4)}}, "choices of block must be a function of the width, not"),
        ({"choices": ["block"]}, "choices must be a dict"),
    ],
)
def test_a_non_callable_rule_is_rejected_at_registration(options, message):
    before = sm.catalogue()
    with pytest.raises(SpecError, match=message):

        @sm.family("any", **options)
        def misregistered(width, block=2):
            return sm.block_diagonal(width, block)

    assert sm.catalogue() == before


@pytest.mark.parametrize("name", ["mirror", "reverse"])
def test_names_of_operations_are_reserved(name):
    def build(width):
        return sm.butterfly(width)

    build.__name__ = name
    with pytest.raises(SpecError, match=rf"family '{name}': in specs, {name}\(…\) is an operation"):
        family("any")(build)


@pytest.mark.parametrize("rule", [False, True, 3, ["no"]])
def test_a_rule_that_is_not_text_is_rejected(rule):
    @sm.family("any", lambda width: rule)  # noqa: ARG005
    def misruled(width):
        return sm.butterfly(width)

    try:
        for call in (lambda: misruled(8), lambda: sm.parse("misruled").accepts(8)):
            with pytest.raises(FamilyError, match=r"refuses returned .*, the rule .* or None"):
                call()
    finally:
        unregister("misruled")


# Aliases -------------------------------------------------------------------------------------


def spelled(name, options):
    """Return a spec."""
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})"


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_an_alias_is_a_name_of_its_family(alias):
    name, preset = ALIASES[alias]
    required = {"block": 4} if name in ("block_diagonal", "shuffle") else {}
    found = sm.parse(spelled(alias, required))
    assert found == sm.parse(spelled(name, preset | required))
    assert str(found).startswith(name)
    assert alias in next(known for known in sm.catalogue() if known.name == name).aliases


def test_an_alias_sets_options_that_a_spec_may_override():
    assert sm.parse("gsoft(block=2, depth=3)") == sm.parse("shuffle(depth=3, block=2)")


def test_the_gsoft_alias_has_the_switches_of_gsoft_files():
    theirs, ours = gsoft.network(64, 4), sm.network("gsoft(block=4)", 64)
    assert theirs == sm.Network(64, ours.stages[::-1])


def test_a_registered_family_takes_precedence_over_an_alias():
    try:

        @sm.family("any")
        def fft(width: int) -> sm.Network:
            """Join no wires."""
            return sm.Network(width, [])

        assert sm.parse("fft")(8).depth == 0
    finally:
        unregister("fft")
    assert sm.parse("fft")(8) == sm.butterfly(8)
