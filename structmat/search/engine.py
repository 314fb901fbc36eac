"""The search for networks by Optuna, in any number of processes that share a storage."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from structmat import errors
from structmat._util.progress import bar
from structmat.errors import (
    ObjectiveError,
    StructmatError,
    abbreviated,
    checked_field,
    checked_integer,
    checked_width,
    suggest,
)
from structmat.families.resolution import is_graph
from structmat.search import ledger
from structmat.search import storage as storages
from structmat.search.duplicates import are_invariant, equivalent, key
from structmat.search.objectives import Objective, Requirement, objective, requirements
from structmat.search.proposals import (
    SOURCES,
    Elite,
    Proposal,
    Space,
    check_sources,
    limits,
    network_of,
    proposal,
)
from structmat.search.result import Goal, SearchResult, Trial
from structmat.search.workers import Watch, working

if TYPE_CHECKING:
    import optuna

    from structmat.networks.network import Network

_ELITES = 16  # earlier networks that are edited
_CHEAP = 1  # the cost up to which requirements are measured before a network is proposed
_PAUSES = (0.01, 1.0)  # seconds between looks at the storage, doubled from the first to the last
_PATIENCE = 10.0  # seconds to wait for the proposals of earlier trials
_SETTINGS = "structmat"  # the user attribute of the study
_SAMPLERS = ("tpe", "nsga2", "random")
_UNIVERSAL = {"real": lambda width: width * (width - 1) // 2, "complex": lambda width: width**2}


def search(
    width: int,
    objectives: Any,
    *,
    require: Any = (),
    trials: int = 100,
    storage: str | os.PathLike[str] | None = None,
    name: str = "search",
    proposals: Any = SOURCES,
    families: Iterable[Any] | None = None,
    start: Iterable[Any] = (),
    sampler: str | None = None,
    field: str = "real",
    target: Any = None,
    rng: int = 0,
    timeout: float | None = None,
    progress: bool = True,
) -> SearchResult:
    """Search for networks of a width that are good by one or more objectives.

    Each trial proposes a network, measures the requirements, the cheap ones first, and, if they are
    satisfied, the objectives. Optuna chooses among families and their options and the sizes of free
    networks, from what the earlier trials measured; the others are edits of the best networks so
    far. A network that is equivalent to an earlier one is not measured again. An objective that
    fails or returns no finite number marks its trial as failed, and the search goes on.

    With a storage, any number of processes on any number of machines can work on one search, join
    it and leave it: each calls this function with the same arguments. A process that is killed
    loses only the trial that it was running, which another one tries again. If the processes and
    the search have ended, a repeated call continues the search where it stopped.

    Parameters
    ----------
    width : int
        At least 2.
    objectives : str, callable, Objective, or several
        Names such as "parameters" or "mixing" (see `structmat.search.objectives.OBJECTIVES`), or
        functions from a network to a number, which is minimised; an Objective has a direction.
    require : str, callable, Requirement, or several
        "dense", "universal", comparisons such as "mixing<=0.01", or functions from a network to
        bool. "radix<=2" and "depth<=4" also limit the networks that are proposed.
    trials : int
        The total number of finished trials of the search, including those of earlier calls and of
        other processes.
    storage : str or path, optional
        The path of a journal file, or the URL of a database, such as
        "postgresql://user@host/database". By default, the search is kept in memory.
    name : str
        The name of the search within its storage.
    proposals : str, callable, or several
        Where networks come from: "families", "free" (random stages), "edits" (of the best networks
        so far), or functions of (width, rng, best), which return a topology; `rng` is a numpy
        Generator, and `best` is a list of networks, the best first.
    families : sequence of specs or families, optional
        The families of which networks are proposed: a name stands for all values of its options, a
        spec for itself. By default all families.
    start : sequence of topologies
        The networks of the first trials.
    sampler : {"tpe", "nsga2", "random"}, optional
        The sampler of Optuna; by default "tpe" for one objective, and "nsga2" for several. With
        "random", proposals do not depend on earlier trials, only on the seed and their number.
    field : {"real", "complex"}
        Whether the blocks are orthogonal or unitary.
    target : array or Rotation, optional
        What "fit_error" approximates.
    rng : int
        The seed. With one process and objectives that are functions of the network, it determines
        the result, also of a search that was interrupted and continued.
    timeout : float, optional
        The number of seconds after which this process starts no further trial.
    progress : bool
        Whether to show a progress bar, on a terminal only.

    Returns
    -------
    SearchResult
        All trials of the search. After a KeyboardInterrupt, those that finished.

    Raises
    ------
    StructmatError
        If an argument is invalid, differs from that of the search in the storage, or no network can
        satisfy the requirements.
    ObjectiveError
        If every trial failed.
    FileError
        If the storage cannot be read or written; finished trials are kept.
    MissingExtraError
        If Optuna, or the driver of the database, is not installed.

    References
    ----------
    T. Akiba et al., Optuna: a next-generation hyperparameter optimization framework, 2019.
    J. Bergstra et al., Algorithms for hyper-parameter optimization, 2011 (TPE).
    K. Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, 2002.

    Examples
    --------
    >>> found = search(8, "parameters", require="dense", trials=40, proposals="families")
    >>> found.best.values
    {'parameters': 12.0}
    >>> found.best.network.report().dense
    True
    """
    errors.require("optuna", "search")
    size = checked_width(checked_integer(width, "width", 2))
    total = checked_integer(trials, "trials", 1)
    checked_field(field)
    options: dict[str, Any] = {
        "field": field,
        "target": target,
        "rng": checked_integer(rng, "rng"),
    }
    goals = tuple(objective(one, **options) for one in _several(objectives))
    needs = requirements(_several(require), **options)
    _check(goals, sampler, timeout)
    _check_budget(size, needs, field)
    space = _space(size, needs, proposals, families, start)
    chosen = sampler or ("tpe" if len(goals) == 1 else "nsga2")
    settings = _settings(space, goals, needs, options, chosen)
    with _quietly(), storages.reported(storage):
        study = _joined(storages.opened(storage), name, storage, settings)
        work = _Work(study, space, goals, needs, chosen, rng, shared=storage is not None)
        shown = progress and sys.stderr.isatty()
        with bar("search", total, unit="trial", shown=shown) as steps:
            interrupted = work.run(total, timeout, steps)
        result = work.result(interrupted=interrupted)
    if result.trials and all(trial.state == "failed" for trial in result.trials):
        count = len(result.trials)
        raise ObjectiveError(
            f"all {count} trials failed, the first with: {result.trials[0].message}"
        )
    return result


def stored(storage: str | os.PathLike[str], name: str = "search") -> SearchResult:
    """Return the trials of a search that a storage holds, also while other processes run it.

    Parameters
    ----------
    storage : str or path
        The path of a journal file, or the URL of a database.
    name : str

    Raises
    ------
    StructmatError
        If the storage has no such search.
    FileError
        If the storage cannot be read.
    MissingExtraError
        If Optuna, or the driver of the database, is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     options = {"storage": f"{folder}/search.journal", "trials": 5, "progress": False}
    ...     found = search(8, "depth", require="dense", families=["butterfly"], **options)
    ...     stored(f"{folder}/search.journal") == found
    True
    """
    optuna = errors.require("optuna", "search")
    with _quietly(), storages.reported(storage):
        opened = storages.opened(storage, create=False)
        studies = [one.study_name for one in optuna.get_all_study_summaries(opened)]
        where = storages.named(storage)
        if name not in studies:
            raise StructmatError(f"{where}: there is no search {name!r}{_listed(studies)}")
        study = optuna.load_study(study_name=name, storage=opened)
        if _SETTINGS not in study.user_attrs:
            raise StructmatError(f"{where}: the study {name!r} was not made by structmat search")
        return _result(study, study.get_trials(deepcopy=False), {})


class _Work:
    """What this process does for a search.

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
        from structmat.search.seeded_sampler import SeededSampler

        self._study = study
        self._study.sampler = SeededSampler(sampler, seed)
        self._space = space
        self._goals = goals
        self._needs = needs
        self._adaptive = sampler != "random"
        self._seed = seed
        self._shared = shared
        self._watch = Watch()
        self._relabelled = are_invariant([*map(str, goals), *map(str, needs)])
        self._known: dict[int, Trial] = {}

    def run(self, total: int, timeout: float | None, steps: Any) -> bool:
        """Work until so many trials are finished; return whether the user interrupted it."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = _PAUSES[0]
        try:
            while end is None or time.monotonic() < end:
                book = ledger.numbered(self._trials())
                finished = sum(ledger.outcome(tried) is not None for tried in book.values())
                if steps is not None:
                    steps.update(min(finished, total) - steps.n)
                if all(ledger.outcome(book.get(n, ())) is not None for n in range(total)):
                    return False
                self._release(book, total)
                if len(book) < total or any(ledger.is_waiting(book[n]) for n in range(total)):
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
        return _result(self._study, self._trials(), self._known, interrupted=interrupted)

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _release(self, book: dict[int, list[optuna.trial.FrozenTrial]], total: int) -> None:
        """Have the proposals of processes that ended tried again."""
        from optuna.trial import TrialState, create_trial

        for number, tried in book.items():
            if number >= total or ledger.outcome(tried) is not None:
                continue
            running = [one for one in tried if one.state == TrialState.RUNNING]
            for one in running:
                if self._watch.has_lost(one, self._study.study_name):
                    self._give_up(one.number)
            if not running and ledger.is_lost(tried):
                again = {ledger.AGAIN: number}
                self._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=again))

    def _give_up(self, number: int) -> None:
        """Mark a trial as failed without an error, unless it has finished."""
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
                number = ledger.number_of(trials[trial.number], trials)
                tried = ledger.numbered(trials)[number]
                if number >= total or ledger.is_needless(trials[trial.number], tried):
                    trial.set_user_attr(ledger.UNUSED, True)  # noqa: FBT003 (Optuna's signature)
                    self._give_up(trial.number)
                    return
                self._measure(trial, number, trials)
        except BaseException:
            # The proposal is tried again, by this process or another one. If the storage fails,
            # the trial remains in it as running, until another process finds that this one ended.
            with suppress(Exception):  # the first error is the one to report
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
            about = {"topology": made.topology, "key": mark}
            about |= {"source": made.source, "parent": made.parent}
            trial.set_user_attr(ledger.PROPOSAL, about)
            earlier = self._earlier(trial.number, mark, made.network)
            if earlier is not None:
                same = ledger.number_of(earlier, self._trials())
                trial.set_user_attr(ledger.SAME, same)
                violations, values = earlier.constraints, list(earlier.values)
            else:
                violations, values = self._values(made.network)
            for need, violation in violations.items():
                trial.set_constraint(need, violation)
            self._study.tell(trial, values)
        except (ObjectiveError, StructmatError) as error:
            if isinstance(error, storages.FileError):
                raise
            trial.set_user_attr(ledger.ERROR, str(error))
            self._give_up(trial.number)
        except UpdateFinishedTrialError:
            return  # this process was taken for one that ended, and the trial is run again

    def _proposed(
        self, trial: optuna.Trial, number: int, trials: Sequence[optuna.trial.FrozenTrial]
    ) -> Proposal:
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, number]))
        elites = self._elites(trials, rng) if self._adaptive else []
        keys = {ledger.proposal_of(one).get("key") for one in trials} if self._adaptive else set()
        return proposal(self._space, trial, number, rng, elites, partial(self._unsuitable, keys))

    def _unsuitable(self, keys: set[Any], net: Network) -> float:
        """Return 0 if a network is new and satisfies the cheap requirements, or by how much not."""
        cheap = sum(need.violation(net) for need in self._needs if need.cost <= _CHEAP)
        if cheap > 0:
            return cheap
        return float(key(net, relabelled=self._relabelled) in keys) * sys.float_info.min

    def _elites(
        self, trials: Sequence[optuna.trial.FrozenTrial], rng: np.random.Generator
    ) -> list[Elite]:
        """Return the networks to edit: the front, or those with the best values, newest first."""
        found = _result(self._study, trials, self._known)
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
                about = ledger.proposal_of(one)
                if one.number == number or about.get("key", mark) != mark:
                    continue
                state = one.state.name
                if state == "COMPLETE" and ledger.SAME not in one.user_attrs:
                    if self._is_equivalent(about, net):
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


# Results ---------------------------------------------------------------------------------------


def _result(
    study: optuna.Study,
    trials: Sequence[optuna.trial.FrozenTrial],
    known: dict[int, Trial],
    *,
    interrupted: bool = False,
) -> SearchResult:
    """Return the result of a study; `known` keeps the finished trials."""
    settings = study.user_attrs[_SETTINGS]
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
    violation = sum(max(0.0, one) for one in done.constraints.values())
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


_NO_SOURCE = "unknown"


# The settings of a search ----------------------------------------------------------------------


def _space(
    width: int, needs: Iterable[Requirement], proposals: Any, families: Any, start: Any
) -> Space:
    sources = check_sources(proposals)
    largest, deepest = limits(width, map(str, needs))
    listed = None if families is None else tuple(str(one) for one in _several(families))
    if listed == ():
        sources = tuple(source for source in sources if source != "families")
    space = Space(width, listed, tuple(_several(start)), sources, largest, deepest)
    if not sources or ("families" in sources and not space.variants):
        raise StructmatError(
            f"families={abbreviated(listed)}: none has a network of width {width}; give others, or"
            ' proposals=["free", "edits"]'
        )
    _ = space.started  # raises the errors of the given networks now
    return space


def _settings(
    space: Space,
    goals: Sequence[Objective],
    needs: Sequence[Requirement],
    options: dict[str, Any],
    sampler: str,
) -> dict[str, Any]:
    """Return what all processes of a search must agree on, as values for JSON."""
    families = sorted(space.variants) if "families" in space.sources else []
    return {
        "version": 1,
        "width": space.width,
        "objectives": [[goal.name, goal.direction] for goal in goals],
        "requirements": [str(need) for need in needs],
        "field": options["field"],
        "target": _digest(options["target"]),
        "proposals": [getattr(source, "__name__", str(source)) for source in space.sources],
        "families": families,
        "start": [made.spec or _digest(made.topology) for made in space.started],
        "sampler": sampler,
        "rng": options["rng"],
    }


def _digest(value: Any) -> str | None:
    if value is None:
        return None
    data = value.encode() if isinstance(value, str) else _matrix(value).tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def _matrix(target: Any) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(target.matrix() if hasattr(target, "matrix") else target)


def _joined(
    storage: optuna.storages.BaseStorage, name: str, given: Any, settings: dict[str, Any]
) -> optuna.Study:
    """Create the study, or join that of this name; check that its settings are the same."""
    import optuna

    directions = [direction for _, direction in settings["objectives"]]
    study = optuna.create_study(
        storage=storage, study_name=name, directions=directions, load_if_exists=True
    )
    found = study.user_attrs.get(_SETTINGS)
    if found is None:
        if study.get_trials(deepcopy=False):
            raise StructmatError(
                f"{storages.named(given)}: the study {name!r} was not made by structmat search;"
                " give another name"
            )
        study.set_user_attr(_SETTINGS, settings)
        found = study.user_attrs[_SETTINGS]
    for setting, value in settings.items():
        if found.get(setting) != value:
            raise StructmatError(
                f"{storages.named(given)}: the search {name!r} was started with"
                f" {setting}={abbreviated(found.get(setting))}, not {abbreviated(value)}; give the"
                " same options, or another storage or name"
            )
    return study


def _check(goals: Sequence[Objective], sampler: str | None, timeout: float | None) -> None:
    names = [goal.name for goal in goals]
    if not names:
        raise ObjectiveError('objectives is empty: give at least one, such as "parameters"')
    if len(set(names)) < len(names):
        raise ObjectiveError(f"objectives {', '.join(names)}: each must have its own name")
    if sampler is not None and sampler not in _SAMPLERS:
        raise StructmatError(f"sampler={abbreviated(sampler)}{suggest(str(sampler), _SAMPLERS)}")
    if timeout is not None and not timeout >= 0:
        raise StructmatError(f"timeout={abbreviated(timeout)}: it must be a number of seconds ≥ 0")


def _check_budget(width: int, needs: Iterable[Requirement], field: str) -> None:
    """Raise an error if the parameters allowed are fewer than the other requirements need."""
    from structmat.families import parse

    names = [str(need) for need in needs]
    least: dict[str, tuple[int, str]] = {}
    if "dense" in names and field == "real":
        fewest = parse("gossip").claims(width).parameters
        least["dense"] = fewest or 0, ", which gossip has"
    if "universal" in names:
        least["universal"] = _UNIVERSAL[field](width), ", the dimension of the group"
    for name in names:
        subject, _, limit = name.partition("<=")
        for need, (fewest, why) in least.items():
            if subject == "parameters" and limit and float(limit) < fewest:
                raise StructmatError(
                    f"{name}: a {need} network of width {width:,} has at least {fewest:,}"
                    f" parameters{why}; allow so many"
                )


def _several(given: Any) -> list[Any]:
    """Return the elements of a list or iterator, or a single value as a list."""
    single = isinstance(given, str | os.PathLike) or hasattr(given, "width") or is_graph(given)
    return list(given) if isinstance(given, Iterable) and not single else [given]


def _listed(names: Sequence[str]) -> str:
    return f"; it has {', '.join(map(repr, names))}" if names else "; it is empty"


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the log of Optuna and its warnings about experimental features."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            yield
    finally:
        optuna.logging.set_verbosity(before)
