"""The trials of an Optuna study as the result of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from structmat.errors import FileError, abbreviated
from structmat.search.study import attempts
from structmat.search.study.result import Goal, SearchResult, Trial

if TYPE_CHECKING:
    import optuna

SETTINGS = "structmat"  # the user attribute of the study
VERSION = 1  # of the settings and of what is stored with each trial
_NO_SOURCE = "unknown"


def checked_settings(study: optuna.Study, where: str) -> dict[str, Any] | None:
    """Return the settings of a stored search, None if it has none.

    Raises
    ------
    FileError
        If they have another version.
    """
    found: dict[str, Any] | None = study.user_attrs.get(SETTINGS)
    if found is None:
        return None
    version = found.get("version")
    if version != VERSION:
        raise FileError(
            f"{where}: the search {study.study_name!r} has version {abbreviated(version)}; this"
            f" structmat reads version {VERSION}: use the one that started it, or another storage"
        )
    return found


def read(
    study: optuna.Study,
    trials: Sequence[optuna.trial.FrozenTrial],
    known: dict[int, Trial],
    *,
    interrupted: bool = False,
) -> SearchResult:
    """Return the result of a study; `known` caches the finished trials."""
    settings = study.user_attrs[SETTINGS]
    goals = tuple(Goal(*pair) for pair in settings["objectives"])
    book = attempts.numbered(trials)
    for number in sorted(book.keys() - known.keys()):
        if (done := attempts.outcome(book[number])) is not None:
            known[number] = _trial(number, done, goals, settings["width"])
    running = sum(one.state.name == "RUNNING" for one in trials)
    finished = tuple(known[number] for number in sorted(known))
    needs = tuple(settings["requirements"])
    return SearchResult(settings["width"], goals, needs, finished, running, interrupted)


def _trial(number: int, done: optuna.trial.FrozenTrial, goals: Sequence[Goal], width: int) -> Trial:
    about = attempts.proposal_of(done)
    violation = float(sum(max(0.0, one) for one in done.constraints.values()))
    if done.state.name != "COMPLETE":
        state, message = "failed", str(done.user_attrs.get(attempts.ERROR, attempts.GIVEN_UP))
    else:
        state, message = "infeasible" if violation else "feasible", ""
    pairs = zip(goals, done.values if state == "feasible" else (), strict=False)
    return Trial(
        number=number,
        state=state,
        width=width,
        topology=about.get("topology"),
        values={goal.name: value for goal, value in pairs},
        violation=violation,
        source=about.get("source", _NO_SOURCE),
        parent=about.get("parent"),
        same_as=done.user_attrs.get(attempts.SAME),
        message=message,
    )
