"""Every registered family satisfies its contract, and the suite detects every violation."""

import subprocess
import sys

import numpy as np
import pytest

import structmat as sm
from structmat.errors import FamilyError, SpecError, StructmatError
from structmat.families import registry
from structmat.families.registry import unregister
from structmat.testing import check_family

NAMES = [entry.name for entry in sm.catalogue()]


@pytest.mark.parametrize("name", NAMES)
def test_every_family_satisfies_its_contract(name):
    assert check_family(name)


# Violations -----------------------------------------------------------------------------------


def even(width, **_):
    return None if width % 2 == 0 else "width must be even"


def always(answer):
    return lambda *_, **__: answer


@pytest.fixture
def registered():
    """Register a function as a family, and unregister it at the end."""
    names = []

    def register(build, *, refuses=even, **options):
        names.append(build.__name__)
        return sm.family("even", refuses, **options)(build)

    yield register
    for name in names:
        unregister(name)


def side_by_side(width):
    return sm.block_diagonal(width, 2)


def good(width: int) -> sm.Network:
    """Join each even wire to the next."""
    return side_by_side(width)


def test_a_valid_family_passes(registered):
    registered(good, claims=always(sm.families.Claims(depth=1)))
    assert check_family("good", range(1, 9)) == {2: 1, 4: 1, 6: 1, 8: 1}
    assert "good" in [entry.name for entry in sm.catalogue()]
    assert sm.parse("good")(6) == side_by_side(6)
    assert sm.compare("good", 6).rows[0]["parameters"] == 3


@pytest.mark.parametrize(
    ("family", "name"), [(good, "good"), (sm.parse("torus"), "torus"), (3, "benes")]
)
def test_check_family_accepts_only_names_and_specs(family, name):
    with pytest.raises(SpecError, match=rf'a spec, as in check_family\("{name}"\); @structmat'):
        check_family(family)


def test_a_single_width_instead_of_a_list_is_rejected():
    with pytest.raises(
        StructmatError, match=r"^widths=8: it must be a list or a range, such as \[8\]"
    ):
        check_family("benes", 8)


def test_a_custom_family_is_considered_by_the_search(registered):
    registered(late)
    assert [str(f) for f in sm.dense_networks(2, 2)].count("late") == 1


def one_wider(width: int) -> sm.Network:
    """Have one wire too many."""
    return sm.Network(width + 1)


def none_at_all(width: int) -> sm.Network:
    """Return something else."""
    return width


def without_a_sentence(width: int) -> sm.Network:
    """No full stop"""
    return side_by_side(width)


def drawn_anew(width: int) -> sm.Network:
    """Differ each time."""
    return sm.random(width, 2, 3)


def another_depth(width: int, depth: int = 2) -> sm.Network:
    """Have a stage too many."""
    return side_by_side(width).repeat(depth + 1)


def other_beginnings(width: int, depth: int = 2) -> sm.Network:
    """Draw other stages for each depth."""
    return sm.random(width, 2, depth, rng=depth)


def other_repeats(width: int, repeat: int = 1) -> sm.Network:
    """Repeat a stage once more than asked for."""
    return side_by_side(width).repeat(repeat + (repeat > 1))


def other_reverse(width: int, *, reverse: bool = False) -> sm.Network:
    """Repeat the stages instead of reversing them."""
    return side_by_side(width).repeat(2 if reverse else 1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (one_wider, "one_wider at width 2 must have that width, not 3"),
        (none_at_all, "none_at_all at width 2 must be a Network"),
        (without_a_sentence, "without_a_sentence: its docstring must begin with a sentence"),
        (drawn_anew, r"drawn_anew at width \d must be the same network each time"),
        (another_depth, r"another_depth at width 2 must begin with the stages of its shallower"),
        (other_beginnings, r"other_beginnings.* must begin with the stages of its shallower"),
        (other_repeats, r"other_repeats\(repeat=2\) at width 2 must repeat its stages"),
        (other_reverse, r"other_reverse\(reverse=True\) at width \d must reverse its stages"),
    ],
)
def test_invalid_networks_are_detected(registered, build, message):
    registered(build)
    with pytest.raises(AssertionError, match=f"contract violated: {message}"):
        check_family(build.__name__)


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        (sm.families.Claims(depth=2), "good at width 2 must have depth 2 as claimed, not 1"),
        (
            sm.families.Claims(parameters=2),
            "good at width 2 must have parameters 2 as claimed, not 1",
        ),
        (
            sm.families.Claims(dense=False),
            "good at width 2 must have dense False as claimed, not True",
        ),
        (
            sm.families.Claims(dense=True),
            "good at width 4 must have dense True as claimed, not False",
        ),
        (
            sm.families.Claims(dense_at=1),
            "good at width 4 must have dense True as claimed, not False",
        ),
        (
            sm.families.Claims(like="butterfly"),
            "good at width 4 must be isomorphic to butterfly as claimed",
        ),
    ],
)
def test_false_claims_are_detected(registered, claims, message):
    registered(good, claims=always(claims))
    with pytest.raises(AssertionError, match=f"contract violated: {message}"):
        check_family("good")


def late(width: int) -> sm.Network:
    """Be dense later than the first stage."""
    return sm.Network(width).then(side_by_side(width)).repeat(2)


def test_a_wrong_depth_is_detected(registered):
    registered(another_depth)
    with pytest.raises(AssertionError, match="at width 2 must have the requested depth"):
        check_family("another_depth(depth=1)")


def test_a_dense_depth_too_large_is_detected(registered):
    registered(late, claims=always(sm.families.Claims(dense_at=2)))
    with pytest.raises(
        AssertionError, match="must be dense after 2 stages as claimed, not after 1"
    ):
        check_family("late", [2])


def test_errors_without_valid_suggestions_are_detected(registered, monkeypatch):
    registered(good)
    monkeypatch.setattr("structmat.families.registry._remedy", always(""))
    with pytest.raises(AssertionError, match="must suggest a family that accepts it"):
        check_family("good", [3])
    monkeypatch.setattr(
        "structmat.families.registry._remedy", lambda width: f". benes({width}) serves any width"
    )
    with pytest.raises(AssertionError, match="must suggest one that accepts it"):
        check_family("good", [3])


@pytest.mark.parametrize(("silent", "unsaid"), [({-1, 1}, 2), ({-1}, 2), ({1}, 4)])
def test_missing_nearest_widths_are_detected(registered, monkeypatch, silent, unsaid):
    def first(widths, *arguments):
        return None if widths.step in silent else honest(widths, *arguments)

    honest = registry._first
    monkeypatch.setattr(registry, "_first", first)
    registered(good)
    with pytest.raises(AssertionError, match=f"must suggest the valid width {unsaid}"):
        check_family("good", [3])


def test_invalid_nearest_widths_are_detected(registered):
    def shifting(width: int) -> sm.Network:
        """Take a width only now and then."""
        return side_by_side(width)

    asked = np.zeros(99, dtype=int)

    def refuses(width):
        asked[width] += 1
        return None if width % 2 == 0 and asked[width] != 2 else "width must please"

    registered(shifting, refuses=refuses)
    with pytest.raises(AssertionError, match="must suggest valid widths, not"):
        check_family("shifting", [3, 5, 7, 9])


def test_the_error_for_a_failing_function_names_the_family(registered):
    """Rejects options that exclude each other."""

    def refuses(width, block):
        return f"{width // (block - 4)}"

    def unsure(width: int, block: int = 4) -> sm.Network:
        """Be at fault."""

    registered(unsure, refuses=refuses)
    with pytest.raises(FamilyError, match=r"unsure at width 6: its function fails \(ZeroDivision"):
        check_family("unsure", [6])


def test_a_family_without_valid_widths_is_detected(registered):
    registered(good, refuses=always("no width pleases"))
    with pytest.raises(AssertionError, match="good: one of the widths"):
        check_family("good")


def test_a_spec_is_checked_with_its_options():
    checked = check_family("shuffle(block=4, depth=3)", range(1, 33))
    assert checked == dict.fromkeys(range(4, 33, 4), 1)


# A family from another package ----------------------------------------------------------------

MODULE = '''
import structmat as sm

@sm.family("any from 2 on", lambda width: None if width > 1 else "width must be at least 2")
def plugged(width: int) -> sm.Network:
    """Join the first wire to the last."""
    return sm.Network.of(width, [[[0, width - 1]]])
'''


def installed(tmp_path, module, point="plugged_families"):
    (tmp_path / "plugged_families.py").write_text(module, encoding="utf-8")
    info = tmp_path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[structmat.families]\nours = {point}\n")
    return tmp_path


def run(path, *command):
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(path), "PATH": "", "PYTHONIOENCODING": "utf-8"},
    )


def test_an_installed_package_adds_its_families(tmp_path):
    path = installed(tmp_path, MODULE)
    done = run(path, "-m", "structmat", "list")
    assert "plugged()" in done.stdout, done.stderr
    done = run(path, "-m", "structmat", "compare", "plugged", "--width", "6")
    assert done.returncode == 0, done.stderr
    program = "from structmat.testing import check_family; print(check_family('plugged', [2, 3]))"
    assert run(path, "-c", program).stdout.strip() == "{2: 1, 3: 1}"
    program = "import structmat as sm; print(sm.parse('plugged')(4))"
    assert "parameters=1" in run(path, "-c", program).stdout


def test_the_error_for_a_package_that_fails_to_load_names_it(tmp_path):
    path = installed(tmp_path, MODULE, point="nothing_there")
    done = run(path, "-m", "structmat", "list")
    assert done.returncode == 2
    assert "entry point ours = nothing_there of the group structmat.families" in done.stderr
    assert "uninstall plugged" in done.stderr


def test_the_error_for_a_package_that_exits_names_it(tmp_path):
    done = run(installed(tmp_path, "raise SystemExit(0)"), "-m", "structmat", "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not load (SystemExit(0)); repair or uninstall plugged" in done.stderr
