"""The decision rule of the study: which network `structmat.choose` recommends afterwards.

The rule was fixed before the study ran. It is a function of the outcomes alone.
"""

from collections.abc import Mapping
from typing import NamedTuple

from docs.method_study.analysis import Comparison, family, mean_of_tasks
from docs.method_study.differences import Array, Estimate, estimated
from docs.method_study.plan import CANDIDATES, DEFAULT, LEVEL, POINTS, TASKS

Outcomes = Mapping[str, Mapping[str, Array]]  # task → method → (seeds,) or (seeds, texts)


def in_points(differences: Array, task: str) -> Estimate:
    """Estimate a difference in loss, converted to the corresponding difference in accuracy.

    The unit is the percentage point, and the sign is that of the loss: a loss higher by the task's
    margin corresponds to +2 points.
    """
    return estimated(differences * (POINTS / TASKS[task].margin))


def by_task(outcomes: Outcomes, name: str, baseline: str) -> dict[str, Estimate]:
    """Return the difference of a method from a baseline in each task, in points."""
    return {task: in_points(rows[name] - rows[baseline], task) for task, rows in outcomes.items()}


def over_tasks(outcomes: Outcomes, names: tuple[str, ...], baseline: str) -> list[Comparison]:
    """Compare methods with a baseline by the means of their differences over the tasks, in points.

    Methods that a task does not have are left out.
    """
    shared = [
        name
        for name in names
        if name != baseline and all(name in rows for rows in outcomes.values())
    ]
    means = [mean_of_tasks(list(by_task(outcomes, name, baseline).values())) for name in shared]
    return family(shared, means, POINTS)


class Candidate(NamedTuple):
    """A candidate for the default, and whether it meets each condition for replacing it."""

    name: str
    lower: bool
    equal_time: bool
    nowhere_worse: bool
    mean: float

    @property
    def qualifies(self) -> bool:
        """Whether all three conditions hold."""
        return self.lower and self.equal_time and self.nowhere_worse


def candidates(parameters: Outcomes, time: Outcomes) -> list[Candidate]:
    """Return the candidates, from their outcomes at equal parameters and at equal time.

    - `lower`: at equal parameters, the mean over the tasks is significantly lower than that of the
      default, by Holm's procedure over the candidates, and not shown to be within the margin.
    - `equal_time`: at equal time, the mean is not significantly higher.
    - `nowhere_worse`: at equal parameters, there is no task in which the candidate's 95 % interval,
      uncorrected for the number of candidates, lies above the margin.
    """
    timed = {c.method: c for c in over_tasks(time, CANDIDATES, DEFAULT)}
    found = []
    for comparison in over_tasks(parameters, CANDIDATES, DEFAULT):
        name = comparison.method
        alone = by_task(parameters, name, DEFAULT).values()
        slower = timed[name].p < LEVEL and timed[name].estimate.value > 0
        found.append(
            Candidate(
                name,
                lower=comparison.verdict == "lower",
                equal_time=not slower,
                nowhere_worse=all(e.value - e.half() <= POINTS for e in alone),
                mean=comparison.estimate.value,
            )
        )
    return found


def decided(found: list[Candidate]) -> str:
    """Return the qualifying candidate with the lowest mean, or `DEFAULT` if none qualifies.

    Examples
    --------
    >>> no = Candidate("shuffle", True, False, True, mean=-3.0)
    >>> yes = Candidate("mixed radix", True, True, True, mean=-2.5)
    >>> decided([no, yes]), decided([no])
    ('mixed radix', 'mixing network')
    """
    fit = [candidate for candidate in found if candidate.qualifies]
    return min(fit, key=lambda candidate: candidate.mean).name if fit else DEFAULT
