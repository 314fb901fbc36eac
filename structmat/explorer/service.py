"""The answers to all questions of a page, computed in separate processes with time limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from structmat.errors import StructmatError, abbreviated, checked_integer
from structmat.explorer.answers import records, refusal
from structmat.explorer.families_offered import COMPOSED
from structmat.explorer.numbers import dimension_bounds
from structmat.explorer.python_code import is_ours
from structmat.explorer.queries import asked, checked_wires, named, question_of
from structmat.explorer.survey import candidates, origin
from structmat.explorer.worker import Late, Worker, computed
from structmat.families.registry import entry

NAMES = ("network", "dimension", "atlas", "survey")
SECONDS = 30.0  # the time limit of a dimension, or of building a network
_ROW = 20.0  # the time limit of a row of a survey
_PART = 0.7  # the time after which the rows computed so far are returned

JSON = dict[str, Any]


class Service:
    """Answers the questions of pages, for a server or a widget.

    Networks, dimensions and the rows of surveys are each computed in a process of their own. Only
    networks of a user's own families, which other processes do not know, are built in this one.

    Parameters
    ----------
    seconds : float
        The time limit of an answer.

    Examples
    --------
    >>> with Service() as service:
    ...     service.answer("network", {"spec": "benes", "width": 8})["depth"]
    5
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._is_stopped = False
        self._workers = {"network": Worker(seconds)}
        self._surveys: dict[int, tuple[list[str], list[JSON], list[JSON]]] = {}

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Terminate all processes."""
        with self._lock:
            self._is_stopped = True
        for worker in self._workers.values():
            worker.stop()

    def worker(self, name: str) -> Worker:
        """Return the worker for a kind of question."""
        with self._lock:
            if name not in self._workers:
                self._workers[name] = Worker(_ROW if name == "row" else self._seconds)
                if self._is_stopped:
                    self._workers[name].stop()
            return self._workers[name]

    def answer(self, name: str, question: Any) -> Any:
        """Return the answer to a question, or a refusal if there is none.

        Parameters
        ----------
        name : {"network", "dimension", "atlas", "survey"}
        question : JSON value

        Returns
        -------
        JSON value
            See `structmat.explorer.answers`.
        """
        answers: Mapping[str, Callable[[Any], Any]] = {
            "network": self._network,
            "dimension": self._dimension,
            "atlas": records,
            "survey": self._survey,
        }
        try:
            if name not in NAMES:
                raise StructmatError(f"{abbreviated(name)}: the questions are {', '.join(NAMES)}")
            return answers[name](question)
        except StructmatError as error:
            return refusal(question, error)

    def _network(self, question: Any) -> Any:
        if _is_own(question):
            return computed("network", question)
        try:
            return self.worker("network").answer("network", _only(question))
        except Late as error:
            raise StructmatError(
                f"{_named(question)}: {error}; choose a smaller width, or use Python, where there"
                " is no time limit"
            ) from None

    def _dimension(self, question: Any) -> Any:
        given = question_of(asked(question).network) if _is_own(question) else _only(question)
        try:
            return self.worker("dimension").answer("dimension", given, _page(question))
        except Late:
            return dimension_bounds(asked(question).network) | {"late": True}

    def _survey(self, question: Any) -> Any:
        if not isinstance(question, Mapping):
            raise StructmatError(f"{abbreviated(question)}: a question is an object with a width")
        width = checked_wires(question.get("width"))
        start = checked_integer(question.get("start", 0), "start")
        with self._lock:
            known = self._surveys.get(width)
        if known is None:
            known = (*candidates(width), [])
            with self._lock:
                known = self._surveys.setdefault(width, known)
        specs, refused, rows = known
        until = time.monotonic() + _PART
        while len(rows) < len(specs):
            at = len(rows)
            if at > start and time.monotonic() > until:
                break
            found = self._row(specs[at], width, _page(question))
            if found is None:
                return None
            with self._lock:  # another page may have asked for the same row
                if len(rows) == at:
                    rows.append(found)
        shown = rows[start:]
        return {
            "rows": [row for row in shown if "reason" not in row],
            "next": len(rows) if len(rows) < len(specs) else None,
            "refused": [*refused, *(row for row in rows if "reason" in row)],
        }

    def _row(self, spec: str, width: int, page: str | None) -> JSON | None:
        question: JSON = {"spec": spec, "width": width}
        rule = named(spec)
        about = origin(question, rule)
        try:
            if _is_own(question):
                question = question_of(asked(question).network) | about
            found: Any = self.worker("row").answer("row", question, page)
        except StructmatError as error:
            found = {"error": str(error)}
        if found is not None and "error" in found:
            family = about["family"] or COMPOSED
            return {"family": family, "reason": f"{spec}: {found['error']}"}
        return None if found is None else dict(found)


def _only(question: Any) -> Any:
    """Return a question without the page that asks it."""
    if not isinstance(question, Mapping):
        return question
    return {key: value for key, value in question.items() if key != "page"}


def _page(question: Any) -> str | None:
    page = question.get("page") if isinstance(question, Mapping) else None
    return None if page is None else str(page)


def _named(question: Any) -> str:
    if not isinstance(question, Mapping):
        return abbreviated(question)
    return f"{question.get('spec', 'the network')} at width {abbreviated(question.get('width'))}"


def _is_own(question: Any) -> bool:
    """Return whether a question names a family of the user's, which only this process knows."""
    if not isinstance(question, Mapping) or "spec" not in question:
        return False
    if "stages" in question or "network" in question:
        return False
    return not all(is_ours(entry(family.name)) for family in named(question["spec"]).families)
