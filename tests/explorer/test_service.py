"""The service answers all questions from pages, including those about a user's own families."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.explorer import service as service_module
from structmat.explorer.answers import answer, records
from structmat.explorer.numbers import dimension_bounds
from structmat.explorer.service import NAMES, Service
from structmat.explorer.survey import candidates
from structmat.families import unregister
from tests.timeouts import PATIENCE


@pytest.fixture(scope="module")
def service():
    with Service(PATIENCE) as one:
        yield one


@contextlib.contextmanager
def own_family():
    @sm.family("even")
    def ends_meet(width):
        return sm.Network.of(width, [[[k, width - 1 - k] for k in range(width // 2)]])

    try:
        yield
    finally:
        unregister("ends_meet")


def surveyed(service, width, page=None):
    """All rows of a survey, asked for part by part, and the refusals of the last part."""
    rows, start = [], 0
    while start is not None:
        question = {"width": width, "start": start, "page": page}
        part = json.loads(json.dumps(service.answer("survey", question)))
        rows += part["rows"]
        assert part["next"] is None or part["next"] > start
        start = part["next"]
    return rows, part["refused"]


def test_a_survey_has_a_row_for_each_candidate(service):
    specs, refused = candidates(6)
    rows, reasons = surveyed(service, 6, "a page")
    assert [row["spec"] for row in rows] == specs
    assert reasons == refused
    assert surveyed(service, 6) == (rows, reasons)  # from the cache, including the times


def test_rows_that_fail_are_refused_with_a_reason(monkeypatch):
    monkeypatch.setattr(service_module, "_ROW", 0.0)
    with Service(PATIENCE) as service:
        rows, reasons = surveyed(service, 3)
    assert rows == []
    late = [one for one in reasons if "takes more than 0 seconds" in one["reason"]]
    assert len(late) == len(candidates(3)[0])


def test_questions_about_own_families_are_answered(service):
    with own_family():
        question = {"spec": "ends_meet", "width": 8}
        net = sm.parse("ends_meet")(8)
        assert service.answer("network", question) == answer(question)
        found = service.answer("dimension", question)
        assert found == sm.dimension(net).to_dict() | {"late": False}
        rows, _ = surveyed(service, 4)
        [row] = [row for row in rows if row["spec"] == "ends_meet"]
        assert (row["family"], row["kin"], row["parameters"]) == (
            "ends_meet", "your own families", 2,
        )  # fmt: skip


def test_a_late_dimension_is_answered_by_bounds():
    with Service(0.3) as service:
        service.worker("network")._seconds = PATIENCE
        found = service.answer("dimension", {"spec": "triangle", "width": 256})
    assert found == dimension_bounds(sm.families.triangle(256)) | {"late": True}
    assert (found["lower"], found["upper"]) == (255, 256 * 255 // 2)


def test_a_network_that_takes_too_long_is_refused():
    with Service(0.3) as service:
        found = service.answer("network", {"spec": "chordal_cycle", "width": 65_521})
    assert found["error"].startswith("chordal_cycle at width 65521: the answer takes more than")
    assert "choose a smaller width" in found["error"]


def test_the_atlas_is_answered(service):
    assert service.answer("atlas", {"width": 8}) == records({"width": 8})


@pytest.mark.parametrize(
    ("name", "question", "words"),
    [
        ("survey", {"width": 2**20}, "up to 65,536 wires"),
        ("survey", {"width": 8, "start": -1}, "start must be an integer"),
        ("survey", None, "a question is an object"),
        ("network", 5, "a question is an object"),
        ("dimension", [], "a question is an object"),
        ("rows", {"width": 8}, "the questions are network"),
        ("network", {"spec": "nothing", "width": 8}, "no family 'nothing'"),
        ("network", {"spec": "butterfly(block=9999)", "width": 8}, "numbers up to 1,024"),
    ],
)
def test_invalid_questions_are_refused(service, name, question, words):
    assert words in service.answer(name, question)["error"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["width", "spec", "stages", "network", "start"]), inner)
    ),
    max_leaves=6,
)


@given(st.sampled_from(NAMES), VALUES)
def test_any_question_has_an_answer(service, name, question):
    if name != "survey" or not isinstance(question, dict) or question.get("width") == 2**20:
        found = service.answer(name, question)
        assert isinstance(found, list | dict)


def test_a_stopped_service_computes_nothing():
    service = Service(PATIENCE)
    service.stop()
    assert service.answer("network", {"spec": "benes", "width": 8}) is None
    assert service.answer("dimension", {"spec": "benes", "width": 8}) is None
