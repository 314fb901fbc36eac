"""Compute the sample size of the method study: `python -m docs.method_study.sample_size`.

From the runs of the pilot (docs/results/method-study-pilot.jsonl), the program estimates how much
paired differences vary between seeds and between test texts, and which difference in loss
corresponds to two points of accuracy. It prints, for each task, how many seeds, test texts and
steps are needed to detect such a difference with 90 % power at the level that remains for one
comparison after correction for all of them, and to show with 90 % power that two equal methods are
equivalent.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special
from tqdm import tqdm

from docs.method_study.analysis import mean_of_tasks
from docs.method_study.differences import Array, Components, Estimate, components
from docs.method_study.json_lines import read
from docs.method_study.plan import BASELINE, FROZEN, LEVEL, POINTS, TASKS
from docs.method_study.power import detectable, expected, power, seeds_needed
from docs.method_study.runs import Run, capped, complete, outcomes_of, part
from docs.studies import markdown
from structmat.errors import StructmatError

PATH = Path(__file__).parents[1] / "results" / "method-study-pilot.jsonl"
CONFIDENCE = 0.8  # that the mean square of the seeds is not larger than assumed
SEEDS = (5, 10, 20, 40)


def pooled(outcomes: Mapping[str, Array], baseline: str) -> tuple[Components, float]:
    """Return the mean variances of the differences from a baseline, and their degrees of freedom.

    Differences that share a baseline are correlated by 1/2, and estimates of their variances
    therefore by 1/4, so m of them are worth m / (1 + (m − 1)/4) independent ones.

    Examples
    --------
    >>> rows = {"LoRA": np.zeros(3), "OFT": np.array([1.0, 2.0, 3.0])}
    >>> pooled(rows, "LoRA")
    (Components(seed=1.0, text=0.0, rest=0.0), 2.0)
    """
    base = outcomes[baseline]
    found = [components(rows - base) for name, rows in outcomes.items() if name != baseline]
    if not found:
        raise StructmatError(f"no method besides {baseline}: a pilot needs two or more")
    worth = len(found) / (1 + (len(found) - 1) / 4)
    return Components(*np.mean(found, axis=0).tolist()), worth * (len(base) - 1)


def cautious(parts: Components, df: float, texts: float = math.inf) -> Components:
    """Return the variances with the mean square of the seeds at its upper confidence limit of 80 %.

    A pilot with few seeds determines this mean square poorly; with the estimate itself, the power
    would be less than planned in about half of all studies [1]_. The other variances are estimated
    from hundreds of texts.

    References
    ----------
    .. [1] R. H. Browne, "On the use of a pilot sample for sample size determination", Statistics in
       Medicine 14 (1995), 1933–1940.

    Examples
    --------
    >>> cautious(Components(1.0, 2.0, 3.0), 10)
    Components(seed=1.618..., text=2.0, rest=3.0)
    """
    within = parts.rest / texts  # contained in the mean square
    limit = (parts.seed + within) * df / float(special.chdtri(df, CONFIDENCE))
    return parts._replace(seed=limit - within)


class Scale(NamedTuple):
    """Losses and accuracies in a task: without adaptation, and with the best method.

    The best method of the pilot is the one with the lowest loss.
    """

    loss: tuple[float, float]
    accuracy: tuple[float, float] | None

    @property
    def gain(self) -> float:
        """The decrease in loss."""
        return self.loss[0] - self.loss[1]

    @property
    def fraction(self) -> float | None:
        """Two points as a fraction of the gain in accuracy, or None without accuracies.

        Examples
        --------
        >>> round(Scale((1.5, 0.5), (0.4, 0.8)).fraction, 12)
        0.05
        """
        return self.accuracy and POINTS / 100 / (self.accuracy[1] - self.accuracy[0])


def margins(scales: Mapping[str, Scale]) -> dict[str, float]:
    """Return for each task the difference in loss that corresponds to two points of accuracy.

    In a classification task, two points are a fraction of the best method's gain in accuracy
    over the frozen model; the margin is the same fraction of the decrease in loss. For a task
    without accuracies, the smallest of these fractions is used.

    Examples
    --------
    >>> margins({"a": Scale((1.5, 0.5), (0.4, 0.8)), "b": Scale((5.0, 4.0), None)})
    {'a': 0.05, 'b': 0.05}
    """
    known = [scale.fraction for scale in scales.values() if scale.fraction is not None]
    if not known or min(known) <= 0:
        raise StructmatError(
            "no task in which adaptation gains accuracy: two points cannot be expressed as a loss"
        )
    return {
        name: round((scale.fraction or min(known)) * scale.gain, 12)
        for name, scale in scales.items()
    }


# The runs of the pilot ----------------------------------------------------------------------


class Pilot(NamedTuple):
    """The pilot of a task: outcomes (seeds,) or (seeds, texts) of each method, and their scale."""

    outcomes: Mapping[str, Array]
    runs: Sequence[Run]
    scale: Scale

    @property
    def texts(self) -> float:
        """The number of test texts, infinite if the runs do not contain their losses."""
        shape = self.outcomes[BASELINE].shape
        return shape[1] if len(shape) > 1 else math.inf

    def parts(self) -> tuple[Components, float]:
        """Return the pooled variances of the differences, and their degrees of freedom."""
        return pooled(self.outcomes, BASELINE)

    def points(self, margin: float) -> Components:
        """Return cautious variances, in squared points."""
        unit = POINTS / margin
        return Components(*(unit**2 * part for part in cautious(*self.parts(), self.texts)))


def pilots(runs: Sequence[Run]) -> dict[str, Pilot]:
    """Return the pilot of each task that has one, limited to complete seeds.

    Raises
    ------
    StructmatError
        If the runs of a task do not include the baseline and the frozen model.
    """
    found = {}
    for task, planned in TASKS.items():
        own = part(runs, task=task, role="pilot")
        if not own:
            continue
        names = list(dict.fromkeys(run["method"] for run in own))
        own = capped(complete(own, names), planned.outcomes)
        for needed in (BASELINE, FROZEN):
            if needed not in names:
                raise StructmatError(f"no run of {needed} in the pilot of {task}: run the pilot")
        key = "items" if all(run.get("items") for run in own) else "test_loss"
        adapted = [name for name in names if name != FROZEN]
        loss, accuracy = (
            {name: float(rows.mean()) for name, rows in outcomes_of(own, measure, names).items()}
            for measure in ("test_loss", "test_accuracy")
        )
        best = min(adapted, key=loss.__getitem__)
        found[task] = Pilot(
            outcomes_of(own, key, adapted),
            [run for run in own if run["method"] != FROZEN],
            Scale(
                (loss[FROZEN], loss[best]),
                (accuracy[FROZEN], accuracy[best]) if planned.accuracy else None,
            ),
        )
    return found


class Shortened(NamedTuple):
    """The results of the pilot after some of its steps."""

    steps: int
    gain: float
    spread: float
    seeds: int | None


def by_steps(pilot: Pilot, margin: float, *, comparisons: int) -> list[Shortened]:
    """Return the gain of the best method, the spread between seeds and the seeds needed, by steps.

    The margin shrinks in proportion to the gain. Texts are taken as fixed, since curves contain
    only their means.
    """
    rows = []
    for k, entry in enumerate(pilot.runs[0]["curve"]):
        losses = outcomes_of(
            [{**run, "at": run["curve"][k]["test_loss"]} for run in pilot.runs],
            "at",
            list(pilot.outcomes),
        )
        gain = pilot.scale.loss[0] - min(float(rows.mean()) for rows in losses.values())
        parts, df = pooled(losses, BASELINE)
        needed = None
        if gain > 0:
            scaled = margin * gain / pilot.scale.gain
            assumed = cautious(parts, df)
            needed = seeds_needed(scaled, partial(expected, assumed), comparisons=comparisons)
        rows.append(Shortened(entry["step"], gain, math.sqrt(parts.seed), needed))
    return rows


# Tables -------------------------------------------------------------------------------------


def tables(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the tables of the sample size, for the page."""
    found = pilots(runs)
    if not found:
        yield "*The pilot has not been run.*"
        return
    margin = margins({task: pilot.scale for task, pilot in found.items()})
    yield scale_table(found, margin)
    yield variance_table(found)
    yield seeds_table(found, margin)
    if all(run.get("curve") for pilot in found.values() for run in pilot.runs):
        yield steps_table(found, margin)


def scale_table(found: Mapping[str, Pilot], margin: Mapping[str, float]) -> str:
    """Return the losses and accuracies without and with adaptation, and the margins."""
    rows = []
    for task, pilot in found.items():
        loss, accuracy, fraction = pilot.scale.loss, pilot.scale.accuracy, pilot.scale.fraction
        rows.append(
            [
                TASKS[task].title,
                *(f"{value:.3f}" for value in loss),
                *(f"{100 * value:.1f}" for value in accuracy or ()),
                *([] if accuracy else ["—", "—"]),
                f"{100 * fraction:.1f} %" if fraction else "—",
                f"{margin[task]:.4f}",
            ]
        )
    head = ["task", f"loss, {FROZEN}", "loss, best", f"accuracy, {FROZEN}, %", "accuracy, best, %"]
    return markdown([*head, "2 points relative to the gain", "margin"], rows)


def variance_table(found: Mapping[str, Pilot]) -> str:
    """Return the standard deviations of paired differences: seeds, texts and the residual."""
    rows = []
    for task, pilot in found.items():
        parts, df = pilot.parts()
        between = [math.sqrt(value) for value in parts]
        upper = math.sqrt(cautious(parts, df, pilot.texts).seed)
        texts = f"{pilot.texts:,}" if math.isfinite(pilot.texts) else "—"
        cells = [f"{value:.4f}" for value in (between[0], upper, *between[1:])]
        rows.append([TASKS[task].title, str(len(pilot.outcomes[BASELINE])), texts, *cells])
    head = ["task", "seeds", "texts", "SD between seeds", "its upper limit", "SD between texts"]
    return markdown([*head, "residual SD"], rows)


def seeds_table(found: Mapping[str, Pilot], margin: Mapping[str, float]) -> str:
    """Return the seeds needed, and the power and detectable difference for some numbers of seeds.

    Either the test items are the same in every repetition of the study, and its conclusions are
    limited to them, or they are a sample, of the pilot's size or four times as large. The last row
    is for means over the tasks, with samples of the pilot's size.
    """
    rows = []
    for task, pilot in found.items():
        parts, texts = pilot.points(margin[task]), pilot.texts
        cases = {"the same": partial(expected, fixed(parts, texts))}
        if math.isfinite(texts):
            cases |= {f"{n:,}": partial(expected, parts, texts=n) for n in (texts, 4 * texts)}
        for title, at in cases.items():
            rows.append([TASKS[task].title, title, *powers(at, TASKS[task].comparisons)])
    if len(found) > 1:
        cells = powers(expected_mean(found, margin), shared_comparisons(found))
        rows.append(["mean of the tasks", "as they are", *cells])
    head = ["task", "test items", "seeds needed", *(f"{seeds} seeds" for seeds in SEEDS)]
    return markdown(head, rows)


def expected_mean(
    found: Mapping[str, Pilot], margin: Mapping[str, float]
) -> Callable[[int], Estimate]:
    """Return the expected estimate of a mean over the tasks, in points, by the number of seeds."""

    def at(seeds: int) -> Estimate:
        return mean_of_tasks(
            [
                expected(pilot.points(margin[task]), seeds, pilot.texts)
                for task, pilot in found.items()
            ]
        )

    return at


def shared_comparisons(tasks: Iterable[str]) -> int:
    """Return the number of methods, besides the baseline, that all these tasks have."""
    shared = set.intersection(*(set(TASKS[task].methods) for task in tasks))
    return len(shared - {BASELINE, FROZEN})


def planned_seeds(found: Mapping[str, Pilot], margin: Mapping[str, float]) -> int | None:
    """Return the number of seeds that the mean over the tasks needs, rounded up to a multiple of 5.

    The number is None if 1,000 seeds are not enough.
    """
    many = shared_comparisons(found)
    needed = seeds_needed(POINTS, expected_mean(found, margin), comparisons=many)
    return needed and 5 * math.ceil(needed / 5)


def powers(at: Callable[[int], Estimate], comparisons: int) -> list[str]:
    """Return the seeds needed for two points, then power and detectable points for `SEEDS`."""
    level = LEVEL / comparisons
    cells = [needed_text(seeds_needed(POINTS, at, comparisons=comparisons))]
    for estimate in map(at, SEEDS):
        chance, least = power(POINTS, estimate, level), detectable(estimate, level)
        cells.append(f"{100 * chance:.0f} %, {least:.1f}")
    return cells


def fixed(parts: Components, texts: float) -> Components:
    """Return the variance between seeds of the mean over fixed texts.

    Examples
    --------
    >>> fixed(Components(1.0, 2.0, 30.0), 10)
    Components(seed=4.0, text=0.0, rest=0.0)
    """
    return Components(parts.seed + parts.rest / texts)


def needed_text(seeds: int | None) -> str:
    """Return a number of seeds as text."""
    return "more than 1,000" if seeds is None else str(seeds)


def steps_table(found: Mapping[str, Pilot], margin: Mapping[str, float]) -> str:
    """Return the gain, the spread and the seeds needed after parts of the training."""
    rows = []
    for task, pilot in found.items():
        many = TASKS[task].comparisons
        for row in by_steps(pilot, margin[task], comparisons=many):
            cost = "—" if row.seeds is None else f"{row.seeds * row.steps:,}"
            rows.append(
                [
                    TASKS[task].title,
                    str(row.steps),
                    f"{row.gain:.3f}",
                    f"{row.spread:.4f}",
                    needed_text(row.seeds),
                    cost,
                ]
            )
    head = ["task", "steps", "largest gain", "SD between seeds", "seeds needed"]
    return markdown([*head, "steps of all seeds"], rows)


def main() -> None:
    """Print the tables."""
    for table in tables(read(PATH)):
        tqdm.write(f"{table}\n")
    if found := pilots(read(PATH)):
        margin = margins({task: pilot.scale for task, pilot in found.items()})
        tqdm.write(f"planned seeds: {planned_seeds(found, margin)}")


if __name__ == "__main__":
    main()
