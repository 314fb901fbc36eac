"""The search for networks by Optuna, in any number of processes that share a storage."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from structmat import errors
from structmat._util.progress import bar
from structmat.errors import (
    ObjectiveError,
    StructmatError,
    checked_field,
    checked_integer,
    checked_width,
)
from structmat.search.objectives import objective, requirements
from structmat.search.study import storage as storages
from structmat.search.study.proposals import SOURCES
from structmat.search.study.result import SearchResult
from structmat.search.study.settings import (
    check_budget,
    check_options,
    checked_space,
    joined,
    settings_of,
    several,
)
from structmat.search.study.stored_trials import checked_settings, read
from structmat.search.study.work import Work


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
    satisfied, the objectives. Based on the earlier trials, Optuna chooses the source of a network,
    the family and its options, and the size of a free network; edits are applied to the best
    networks so far. A network that is equivalent to an earlier one is not measured again. If an
    objective fails or does not return a finite number, its trial is marked as failed, and the
    search continues.

    With a storage, any number of processes on any number of machines can work on one search, join
    it and leave it: each calls this function with the same arguments. A process that is killed
    loses only the trial that it was running, which another process tries again. If all processes
    have ended, calling the function again continues the search where it stopped.

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
        The families of which networks are proposed: a name stands for the family with any options;
        a spec fixes its options, except for a depth, a number of repetitions or a seed that it does
        not give. By default all families.
    start : sequence of topologies
        The networks of the first trials.
    sampler : {"tpe", "nsga2", "random"}, optional
        The Optuna sampler; by default "tpe" for one objective, and "nsga2" for several. With
        "random", proposals depend only on the seed and their number, not on earlier trials.
    field : {"real", "complex"}
        Whether the blocks are orthogonal or unitary.
    target : array or Rotation, optional
        The matrix, or matrices, that "fit_error" approximates.
    rng : int
        The seed. With one process and objectives that are functions of the network, it determines
        the result, even if the search was interrupted and continued.
    timeout : float, optional
        The number of seconds after which this process starts no further trial.
    progress : bool
        Whether to show a progress bar, on a terminal or in a notebook.

    Returns
    -------
    SearchResult
        All finished trials of the search, also after a KeyboardInterrupt.

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
    goals = tuple(objective(one, **options) for one in several(objectives))
    needs = requirements(several(require), **options)
    check_options(goals, sampler, timeout)
    check_budget(size, needs, field)
    space = checked_space(size, needs, proposals, families, start)
    chosen = sampler or ("tpe" if len(goals) == 1 else "nsga2")
    settings = settings_of(space, goals, needs, options, chosen)
    with _quietly(), storages.reported(storage):
        study = joined(storages.opened(storage), name, storage, settings)
        work = Work(study, space, goals, needs, chosen, rng, shared=storage is not None)
        with bar("search", total, unit="trial", shown=progress) as steps:
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
        if checked_settings(study, where) is None:
            raise StructmatError(f"{where}: the study {name!r} was not made by structmat search")
        return read(study, study.get_trials(deepcopy=False), {})


def _listed(names: Sequence[str]) -> str:
    return f"; it contains {', '.join(map(repr, names))}" if names else "; the storage is empty"


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence Optuna's log and its warnings about experimental features."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            yield
    finally:
        optuna.logging.set_verbosity(before)
