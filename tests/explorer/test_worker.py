"""Workers compute one answer at a time, and can be interrupted."""

from __future__ import annotations

import sys
import threading

import pytest

import structmat as sm
from structmat.errors import StructmatError
from structmat.explorer import worker as worker_module
from structmat.explorer.answers import answer, dimension_answer
from structmat.explorer.worker import Late, Worker, computed
from tests.timeouts import PATIENCE

SLOW = {"spec": "triangle", "width": 256}  # 32,640 dimensions
QUICK = {"spec": "butterfly", "width": 8}


def asking(worker, question, page, answers):
    """A thread that requests a dimension, once the computation has started."""

    def ask():
        answers.append(worker.answer("dimension", question, page))

    thread = threading.Thread(target=ask)
    thread.start()
    while not worker.is_busy:
        assert thread.is_alive()
    return thread


def test_answers_equal_the_results_of_the_functions():
    with Worker(PATIENCE) as worker:
        assert worker.answer("network", QUICK) == answer(QUICK)
        assert worker.answer("dimension", QUICK) == dimension_answer(QUICK)
        wrong = {"spec": "benes", "width": 12}
        assert worker.answer("network", wrong) == computed("network", wrong)
        with pytest.raises(StructmatError, match="nearest") as caught:
            sm.benes(12)
        assert worker.answer("row", wrong)["error"] == str(caught.value)


def test_a_newer_request_from_a_page_cancels_the_older_one():
    answers = []
    with Worker(PATIENCE) as worker:
        older = asking(worker, SLOW, "a page", answers)
        assert worker.answer("dimension", QUICK, "a page") == dimension_answer(QUICK)
        older.join(PATIENCE)
        assert answers == [None]
        assert not worker.is_busy


def test_a_cached_answer_cancels_the_older_request():
    answers = []
    with Worker(PATIENCE) as worker:
        known = worker.answer("dimension", QUICK)
        older = asking(worker, SLOW, "a page", answers)
        assert worker.answer("dimension", QUICK, "a page") == known
        older.join(PATIENCE)
    assert answers == [None]


def test_requests_without_a_page_and_from_other_pages_are_all_answered():
    answers, slow = [], {"spec": "clos", "width": 48}
    with Worker(PATIENCE) as worker:
        one = asking(worker, slow, None, answers)
        found = [worker.answer("dimension", QUICK, page) for page in ("other", None)]
        one.join(PATIENCE)
    assert [one["value"] for one in found] == [12, 12]
    assert [found["value"] for found in answers] == [sm.dimension(sm.parse("clos")(48)).value]


def test_a_queued_request_is_replaced_by_a_newer_one_of_its_page():
    answers = []
    with Worker(PATIENCE) as worker:
        known = worker.answer("dimension", QUICK)
        other = asking(worker, SLOW, "other", [])
        slow = SLOW | {"width": 255}
        waits = threading.Thread(
            target=lambda: answers.append(worker.answer("dimension", slow, "one"))
        )
        waits.start()
        while "one" not in worker._newest:
            assert waits.is_alive()
        assert worker.answer("dimension", QUICK, "one") == known
        assert worker.answer("dimension", QUICK, "other") == known
        for thread in (other, waits):
            thread.join(PATIENCE)
    assert answers == [None]


def test_a_request_during_the_answer_to_an_older_one_is_answered(monkeypatch):
    said, newer, answers = worker_module._said, [], []
    smaller = QUICK | {"width": 4}

    def late(process, line):
        found = said(process, line)
        if not newer:
            ask = lambda: answers.append(worker.answer("dimension", QUICK, "a page"))  # noqa: E731
            newer.append(threading.Thread(target=ask))
            newer[0].start()
            process.wait(PATIENCE)  # terminated for the newer question
        return found

    monkeypatch.setattr(worker_module, "_said", late)
    with Worker(PATIENCE) as worker:
        found = worker.answer("dimension", smaller, "a page")
        newer[0].join(PATIENCE)
    assert found == dimension_answer(smaller)
    assert answers == [dimension_answer(QUICK)]


def test_a_time_limit_ends_an_answer_and_the_next_is_computed():
    with Worker(0.3) as worker:
        with pytest.raises(Late, match=r"more than 0\.3 seconds"):
            worker.answer("dimension", SLOW)
        worker._seconds = PATIENCE
        assert worker.answer("dimension", QUICK)["value"] == 12


def test_a_terminated_process_causes_an_error_and_is_replaced():
    errors = []

    def ask():
        with pytest.raises(StructmatError, match="its process was terminated") as caught:
            worker.answer("dimension", SLOW)
        errors.append(caught.value)

    with Worker(PATIENCE) as worker:
        thread = threading.Thread(target=ask)
        thread.start()
        while not worker.is_busy:
            assert thread.is_alive()
        worker._process.kill()
        thread.join(PATIENCE)
        assert len(errors) == 1
        assert worker.answer("dimension", QUICK)["value"] == 12


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no limit on memory")
def test_memory_is_limited():
    huge = {"spec": "mixed_radix", "width": 65_521}  # a prime: 2·10⁹ pairs of wires in one switch
    with Worker(PATIENCE) as worker:
        found = worker.answer("dimension", huge)
        if "error" in found:
            assert "not enough memory" in found["error"]
        else:
            assert found["upper"] == 65_521 * 65_520 // 2
        assert worker.answer("dimension", QUICK)["value"] == 12
