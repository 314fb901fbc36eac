"""The trials of an Optuna study as the result of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from structmat.search.study import ledger
from structmat.search.study.result import Goal, SearchResult, Trial

if TYPE_CHECKING:
    import optuna

SETTINGS = "structmat"  # the user attribute of the study
_NO_SOURCE = "unknown"


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
    book = ledger.numbered(trials)
    for number in sorted(book.keys() - known.keys()):
        if (done := ledger.outcome(book[number])) is not None:
            known[number] = _trial(number, done, goals, settings["width"])
    running = sum(one.state.name == "RUNNING" for one in trials)
    finished = tuple(known[number] for number in sorted(known))
    needs = tuple(settings["requirements"])
    return SearchResult(settings["width"], goals, needs, finished, running, interrupted)


def _trial(number: int, done: optuna.trial.FrozenTrial, goals: Sequence[Goal], width: int) -> Trial:
    about = ledger.proposal_of(done)
    violation = float(sum(max(0.0, one) for one in done.constraints.values()))
    if done.state.name != "COMPLETE":
        state, message = "failed", str(done.user_attrs.get(ledger.ERROR, ledger.GIVEN_UP))
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
        same_as=done.user_attrs.get(ledger.SAME),
        message=message,
    )
