"""The comparison reports unexpected results and stale differences."""

import pytest

from tests.peft_suite.comparing import Difference, Result, compare, listed, reference_of, summary

PASSED, FAILED, SKIPPED = (Result(outcome, "why") for outcome in ("passed", "failed", "skipped"))


@pytest.mark.parametrize("ours", [FAILED, SKIPPED])
def test_a_case_that_only_the_reference_passes_is_unexpected(ours):
    found = compare({"test_a.py::t[1]": PASSED}, {"test_a.py::t[1~exp]": ours}, [])
    assert found.unexpected == [("test_a.py::t[1~exp]", ours)]
    assert not found.passed
    assert "UNEXPECTED: test_a.py::t[1~exp]" in summary(found, {"test_a.py::t[1]": PASSED})


@pytest.mark.parametrize(
    ("reference", "ours"), [(PASSED, PASSED), (FAILED, FAILED), (SKIPPED, FAILED), (FAILED, PASSED)]
)
def test_every_other_outcome_is_expected(reference, ours):
    found = compare({"test_a.py::t[1]": reference}, {"test_a.py::t[1~exp]": ours}, [])
    assert found.passed
    assert found.counts == {"test_a.py": {(reference.outcome, ours.outcome): 1}}


def test_a_case_without_a_reference_must_pass():
    assert not compare({}, {"test_a.py::t[1~exp]": FAILED}, []).passed


def test_running_no_tests_is_a_failure():
    assert not compare({}, {}, []).passed


def test_differences_explain_failures_and_are_stale_without_one():
    known = Difference("test_a.py::t[1~*]", "another meaning")
    stale = Difference("test_a.py::gone", "it was so once")
    reference = {"test_a.py::t[1]": PASSED}
    ours = {"test_a.py::t[1~exp]": FAILED, "test_a.py::t[1~givens]": PASSED}
    found = compare(reference, ours, [known])
    assert found.passed
    assert found.used == {known: 1}
    assert "intended difference, 1 cases: test_a.py::t[1~*]: another" in summary(found, reference)
    found = compare(reference, ours, [known, stale])
    assert found.stale == [stale]
    assert not found.passed
    assert "STALE: no test needs 'test_a.py::gone'" in summary(found, reference)


def test_differences_caused_by_rounding_need_not_occur():
    rounding = Difference("test_a.py::t*", "at the edge", sometimes=True)
    assert compare({}, {"test_a.py::t": PASSED}, [rounding]).passed
    assert compare({}, {"test_a.py::t": FAILED}, [rounding]).passed


def test_only_a_star_is_a_wildcard():
    assert Difference("a.py::t[1~*]", "").fits("a.py::t[1~exp-True]")
    assert not Difference("a.py::t[1~*]", "").fits("a.py::t1~exp]")
    assert not Difference("a.py::t", "").fits("a.py::t2")


def test_reference_of_removes_our_configuration_from_the_name():
    assert reference_of("a.py::t[3-MLP 1-OFTConfig~exp_both-dtype0]") == (
        "a.py::t[3-MLP 1-OFTConfig-dtype0]"
    )


def test_every_listed_difference_has_a_reason():
    found = listed()
    assert all(difference.reason.strip() for difference in found)
    assert len({difference.tests for difference in found}) == len(found)
