"""The numbering of the proposals of a search, and which of them are finished, running or lost.

Proposal n of a search is the same whoever makes it. Optuna numbers trials, not proposals: when the
process that runs a trial ends, its proposal is tried again, by a trial with a higher number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# User attributes of a trial.
AGAIN = "proposal_number"  # the number of a proposal that is tried again
PROPOSAL = "proposal"  # the network, its key, its source and its parent
ERROR = "error"  # why a trial failed
UNUSED = "unused"  # a trial that turned out to be unnecessary, or that the user interrupted
SAME = "same_as"  # the number of the proposal with an equivalent network

_ATTEMPTS = 3  # attempts after which a proposal that ends every process is given up
GIVEN_UP = f"{_ATTEMPTS} processes that measured the network ended without a result"

Attempts: TypeAlias = Sequence["FrozenTrial"]


def numbered(trials: Sequence[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """Return the trials of each proposal, by its number.

    Parameters
    ----------
    trials : sequence of FrozenTrial
        All trials of a study, in order.

    Examples
    --------
    >>> from optuna.trial import TrialState, create_trial
    >>> lost = create_trial(state=TrialState.FAIL)
    >>> again = create_trial(state=TrialState.WAITING, user_attrs={AGAIN: 0})
    >>> {number: len(tried) for number, tried in numbered([lost, lost, again]).items()}
    {0: 2, 1: 1}
    """
    found: dict[int, list[FrozenTrial]] = {}
    fresh = 0
    for trial in trials:
        number = trial.user_attrs.get(AGAIN)
        if number is None:
            number = fresh
            fresh += 1
        found.setdefault(number, []).append(trial)
    return found


def number_of(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """Return the number of the proposal of a trial, given all trials of the study.

    Examples
    --------
    >>> from optuna.trial import create_trial
    >>> trials = [create_trial(value=k, user_attrs={AGAIN: 0} if k == 1 else {}) for k in range(3)]
    >>> for number, trial in enumerate(trials):
    ...     trial.number = number
    >>> [number_of(trial, trials) for trial in trials]
    [0, 0, 1]
    """
    again = trial.user_attrs.get(AGAIN)
    if again is not None:
        return int(again)
    return sum(AGAIN not in one.user_attrs for one in trials[: trial.number])


def outcome(attempts: Attempts) -> FrozenTrial | None:
    """Return the attempt that finished a proposal, or the last if it is given up, else None."""
    for trial in attempts:
        failed = ERROR in trial.user_attrs and trial.state.is_finished()
        if failed or trial.state.name == "COMPLETE":
            return trial
    lost = [one for one in attempts if one.state.is_finished() and UNUSED not in one.user_attrs]
    return lost[-1] if len(lost) >= _ATTEMPTS else None


def is_lost(attempts: Attempts) -> bool:
    """Return whether a proposal must be tried again."""
    return outcome(attempts) is None and all(one.state.is_finished() for one in attempts)


def is_waiting(attempts: Attempts) -> bool:
    """Return whether a proposal waits for a process to try it again."""
    return outcome(attempts) is None and any(one.state.name == "WAITING" for one in attempts)


def is_needless(trial: FrozenTrial, attempts: Attempts) -> bool:
    """Return whether another attempt at the proposal of a running trial makes it unnecessary."""
    others = [one for one in attempts if one.number != trial.number]
    return outcome(others) is not None or any(
        one.state.name == "RUNNING" and one.number < trial.number for one in others
    )


def proposal_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """Return the stored network of a trial with its key, source and parent, or an empty mapping.

    Examples
    --------
    >>> from optuna.trial import create_trial
    >>> proposal_of(create_trial(value=1.0))
    {}
    """
    found: Mapping[str, Any] = trial.user_attrs.get(PROPOSAL, {})
    return found
