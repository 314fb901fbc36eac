"""Optuna samplers whose random numbers depend only on a seed and the number of the proposal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from structmat.search.study.attempts import number_of

SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = MappingProxyType(
    {
        "tpe": lambda seed: TPESampler(seed=seed),
        "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=24),
        "random": lambda seed: RandomSampler(seed=seed),
    }
)


class SeededSampler(BaseSampler):
    """A sampler that is created anew for each trial, with a seed of its own.

    A sampler with a single seed would repeat its numbers after an interruption. With a seed for
    each trial, a search that is continued proposes what an uninterrupted one would have proposed,
    and the random sampler makes the same proposals for any number of processes.

    Parameters
    ----------
    name : str
        A key of `SAMPLERS`.
    seed : int
    """

    def __init__(self, name: str, seed: int) -> None:
        self._make = SAMPLERS[name]
        self._seed = seed
        self._sampler = self._make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial."""
        number = number_of(trial, study.get_trials(deepcopy=False))
        source = np.random.SeedSequence([self._seed, number, 1])
        self._sampler = self._make(int(source.generate_state(1)[0]))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are sampled together."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample the parameters that are sampled together."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Sample another parameter."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the sampler record the outcome of a trial."""
        self._sampler.after_trial(study, trial, state, values)
