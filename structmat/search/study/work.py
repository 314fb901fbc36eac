"""The work of one process in a search: it proposes networks, measures them, and records them."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from structmat._util.progress import Steps
from structmat.errors import FileError, StructmatError
from structmat.search.objectives import Objective, Requirement
from structmat.search.study import attempts
from structmat.search.study.duplicates import are_invariant, equivalent, key
from structmat.search.study.liveness import Watch, working
from structmat.search.study.proposals import Elite, Proposal, Space, network_of, proposal
from structmat.search.study.result import SearchResult, Trial
from structmat.search.study.stored_trials import read

if TYPE_CHECKING:
    import optuna

    from structmat.networks.network import Network

_ELITES = 16  # the best earlier networks, of which edits are proposed
_CHEAP = 1  # the cost up to which requirements are measured before a network is proposed
_PAUSES = (0.01, 1.0)  # seconds between polls of the storage, doubled from the first to the last
_PATIENCE = 10.0  # seconds to wait for the proposals of earlier trials


class Work:
    """The work of this process in a search.

    Parameters
    ----------
    study : optuna.Study
    space : Space
    goals, needs : tuples of Objective and Requirement
    sampler : str
    seed : int
    shared : bool
        Whether other processes can take part.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        goals: Sequence[Objective],
        needs: Sequence[Requirement],
        sampler: str,
        seed: int,
        *,
        shared: bool,
    ) -> None:
        from structmat.search.study.seeded_sampler import SeededSampler

        self._study = study
        self._study.sampler = SeededSampler(sampler, seed)
        self._space = space
        self._goals = goals
        self._needs = needs
        self._adaptive = sampler != "random"
        self._seed = seed
        self._shared = shared
        self._watch = Watch()
        self._relabelled = are_invariant([*goals, *needs])
        self._known: dict[int, Trial] = {}

    def run(self, total: int, timeout: float | None, steps: Steps) -> bool:
        """Work until `total` trials are finished; return whether the user interrupted the work."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = _PAUSES[0]
        try:
            while end is None or time.monotonic() < end:
                book = attempts.numbered(self._trials())
                finished = sum(attempts.outcome(tried) is not None for tried in book.values())
                steps.update(min(finished, total) - steps.n)
                if all(attempts.outcome(book.get(n, ())) is not None for n in range(total)):
                    return False
                self._release(book, total)
                if len(book) < total or any(attempts.is_waiting(book[n]) for n in range(total)):
                    self._try(total)
                    pause = _PAUSES[0]
                else:  # other processes are running the last trials
                    time.sleep(pause)
                    pause = min(2 * pause, _PAUSES[1])
        except KeyboardInterrupt:
            return True
        return False

    def result(self, *, interrupted: bool) -> SearchResult:
        """Return the trials of all processes."""
        return read(self._study, self._trials(), self._known, interrupted=interrupted)

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _release(self, book: dict[int, list[optuna.trial.FrozenTrial]], total: int) -> None:
        """Queue the proposals of processes that have ended, so that they are tried again."""
        from optuna.trial import TrialState, create_trial

        for number, tried in book.items():
            if number >= total or attempts.outcome(tried) is not None:
                continue
            running = [one for one in tried if one.state == TrialState.RUNNING]
            for one in running:
                if self._watch.has_lost(one, self._study.study_name):
                    self._give_up(one.number)
            if not running and attempts.is_lost(tried):
                again = {attempts.AGAIN: number}
                self._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=again))

    def _give_up(self, number: int) -> None:
        """Mark a trial as failed, unless it has already finished."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self._study.tell(number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):  # another process was faster
            return

    def _try(self, total: int) -> None:
        """Run one trial."""
        trial = self._study.ask()
        signed: AbstractContextManager[None] = working(trial) if self._shared else nullcontext()
        try:
            with signed:
                trials = self._trials()
                number = attempts.number_of(trials[trial.number], trials)
                tried = attempts.numbered(trials)[number]
                if number >= total or attempts.is_needless(trials[trial.number], tried):
                    trial.set_user_attr(attempts.UNUSED, True)  # noqa: FBT003 (Optuna's signature)
                    self._give_up(trial.number)
                    return
                self._measure(trial, number, trials)
        except BaseException as error:
            # The proposal is tried again, by this process or another one. If the storage fails,
            # the trial remains in it as running, until another process finds that this one ended.
            with suppress(Exception):  # the first error is the one to report
                if isinstance(error, KeyboardInterrupt):  # not caused by the network
                    trial.set_user_attr(attempts.UNUSED, True)  # noqa: FBT003 (Optuna's signature)
                self._give_up(trial.number)
            raise

    def _measure(
        self, trial: optuna.Trial, number: int, trials: Sequence[optuna.trial.FrozenTrial]
    ) -> None:
        """Propose a network, measure it, and record the values."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            made = self._proposed(trial, number, trials)
            mark = key(made.network, relabelled=self._relabelled)
            about: dict[str, Any] = {"topology": made.topology, "key": mark}
            about |= {"source": made.source, "parent": made.parent}
            trial.set_user_attr(attempts.PROPOSAL, about)
            earlier = self._earlier(trial.number, mark, made.network)
            if earlier is not None:
                same = attempts.number_of(earlier, self._trials())
                trial.set_user_attr(attempts.SAME, same)
                violations, values = earlier.constraints, list(earlier.values)
            else:
                violations, values = self._values(made.network)
            for need, violation in violations.items():
                trial.set_constraint(need, violation)
            self._study.tell(trial, values)
        except StructmatError as error:
            if isinstance(error, FileError):
                raise
            trial.set_user_attr(attempts.ERROR, str(error))
            self._give_up(trial.number)
        except UpdateFinishedTrialError:
            return  # this process was thought to have ended, and the trial is run again

    def _proposed(
        self, trial: optuna.Trial, number: int, trials: Sequence[optuna.trial.FrozenTrial]
    ) -> Proposal:
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, number]))
        elites = self._elites(trials, rng) if self._adaptive else []
        keys = {attempts.proposal_of(one).get("key") for one in trials} if self._adaptive else set()
        return proposal(self._space, trial, number, rng, elites, partial(self._unsuitable, keys))

    def _unsuitable(self, keys: set[Any], net: Network) -> float:
        """Return 0 if a network is new and satisfies the cheap requirements, else the violation.

        The violation of a network that is only not new is the smallest positive number.
        """
        cheap = sum(need.violation(net) for need in self._needs if need.cost <= _CHEAP)
        if cheap > 0:
            return cheap
        return float(key(net, relabelled=self._relabelled) in keys) * sys.float_info.min

    def _elites(
        self, trials: Sequence[optuna.trial.FrozenTrial], rng: np.random.Generator
    ) -> list[Elite]:
        """Return the networks to edit: the front, or those with the best values, newest first."""
        found = read(self._study, trials, self._known)
        if len(self._goals) > 1 and found.front:
            best = [found.front[k] for k in rng.permutation(len(found.front))]
        else:
            name, sign = str(self._goals[0]), found.goals[0].sign
            best = sorted(found.ranking, key=lambda one: (sign * one.values[name], -one.number))
        if not best:
            near = [one for one in found.trials if one.state == "infeasible"]
            best = sorted(near, key=lambda one: (one.violation, -one.number))
        return [Elite(one.number, str(one.topology)) for one in best[:_ELITES]]

    def _earlier(self, number: int, mark: str, net: Network) -> optuna.trial.FrozenTrial | None:
        """Return a finished trial of an equivalent network; wait for one that is running.

        A trial waits only for trials with lower numbers, so no two wait for each other. It also
        waits until these have recorded their proposals.
        """
        start, pause = time.monotonic(), _PAUSES[0]
        while True:
            waiting = False
            for one in self._trials():
                about = attempts.proposal_of(one)
                if one.number == number or about.get("key", mark) != mark:
                    continue
                state = one.state.name
                if state == "COMPLETE" and attempts.SAME not in one.user_attrs:
                    if about and self._is_equivalent(about, net):
                        return one
                elif state == "RUNNING" and one.number < number:
                    if self._watch.has_lost(one, self._study.study_name):
                        continue
                    waiting |= (
                        self._is_equivalent(about, net)
                        if about
                        else time.monotonic() - start < _PATIENCE
                    )
            if not waiting:
                return None
            time.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    def _is_equivalent(self, about: Any, net: Network) -> bool:
        other = network_of(about["topology"], net.width)
        return equivalent(other, net, relabelled=self._relabelled)

    def _values(self, net: Network) -> tuple[dict[str, float], list[float]]:
        """Return the violations of the requirements and, if there are none, the objectives."""
        violations: dict[str, float] = {}
        for _, several in groupby(self._needs, key=attrgetter("cost")):
            if any(violations.values()):
                break
            violations |= {str(need): need.violation(net) for need in several}
        if any(violations.values()):
            rest = {str(need): 1.0 for need in self._needs if str(need) not in violations}
            worst = {"minimize": float("inf"), "maximize": float("-inf")}
            return violations | rest, [worst[goal.direction] for goal in self._goals]
        measured = {
            str(goal): goal.measure(net) for goal in sorted(self._goals, key=attrgetter("cost"))
        }
        return violations, [measured[str(goal)] for goal in self._goals]
