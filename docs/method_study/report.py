"""Tables of the method study, for its page: `python -m docs.method_study.report` prints them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from docs.method_study import decision
from docs.method_study.analysis import (
    bootstrap,
    compared,
    dunnett_quantile,
    mixed_model,
    random_effects,
    ranks,
)
from docs.method_study.differences import Array, estimated
from docs.method_study.json_lines import read
from docs.method_study.plan import BASELINE, FROZEN, METHODS, TASKS, tasks_of
from docs.method_study.runs import Run, capped, complete, diverged, outcomes_of, part
from docs.studies import markdown

PATH = Path(__file__).parents[1] / "results" / "method-study.jsonl"
BUDGETS = {"parameters": "equal parameters", "time": "equal time"}
SECONDARY = {  # title → field, factor
    "accuracy, points": ("test_accuracy", 100),
    "calibration error, points": ("test_ece", 100),
    "Brier score": ("test_brier", 1),
    "forgetting, nats": ("forgotten", 1),
}


def studied(runs: Sequence[Run], task: str, budget: str = "parameters") -> list[Run]:
    """Return the runs of a task with complete seeds, diverged ones as uniform prediction.

    A seed is complete if all methods have been run with it; only planned seeds count. The training
    time of the baseline defines equal time, so its runs are those at equal parameters; the frozen
    model has no others either.
    """
    found = part(runs, task=task, role="study", budget=budget)
    if budget == "time":
        equal = part(runs, task=task, role="study")
        found += [run for run in equal if run["method"] in (BASELINE, FROZEN)]
    about = TASKS[task]
    planned = [run for run in found if run["seed"] < about.seeds]
    return capped(complete(planned, about.methods), about.outcomes)


def seeds_of(runs: Sequence[Run], task: str, budget: str) -> int:
    """Return the number of complete seeds."""
    return len({run["seed"] for run in studied(runs, task, budget)})


def progress_table(runs: Sequence[Run]) -> str:
    """Return the numbers of planned and of complete seeds of each task."""
    rows = [
        [
            about.title,
            str(about.seeds),
            *(str(seeds_of(runs, task, b)) if task in tasks_of(b) else "—" for b in BUDGETS),
        ]
        for task, about in TASKS.items()
    ]
    return markdown(["task", "planned seeds", *BUDGETS.values()], rows)


def reportable(runs: Sequence[Run]) -> bool:
    """Return whether all planned seeds are complete, as required before results are reported."""
    return all(
        seeds_of(runs, task, b) == TASKS[task].seeds for b in BUDGETS for task in tasks_of(b)
    )


def losses(runs: Sequence[Run], task: str, budget: str = "parameters") -> dict[str, Array]:
    """Return the test losses of each adapter, (seeds, texts), or (seeds,) if only means exist."""
    own = studied(runs, task, budget)
    key = "items" if all(run.get("items") for run in own) else "test_loss"
    return outcomes_of(own, key, [name for name in TASKS[task].methods if name != FROZEN])


def tables(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the numbers of complete seeds and, if they are those planned, the results."""
    yield "Complete seeds:"
    yield progress_table(runs)
    if not reportable(runs):
        yield "*The results are reported when all planned seeds are complete.*"
        return
    outcomes = {b: {task: losses(runs, task, b) for task in tasks_of(b)} for b in BUDGETS}
    for budget, title in BUDGETS.items():
        yield f"### Means over the tasks, {title}"
        yield over_tasks_table(outcomes[budget])
    yield "### The default"
    yield default_table(outcomes["parameters"], outcomes["time"])
    for task, planned_task in TASKS.items():
        yield f"### Task: {planned_task.title}"
        yield methods_table(runs, task)
        for budget, title in BUDGETS.items():
            if task not in tasks_of(budget):
                continue
            yield f"Differences from {BASELINE} in test loss (nats), {title}:"
            yield comparison_table(outcomes[budget][task], task)
        yield f"Other differences from {BASELINE}, equal parameters:"
        yield secondary_table(runs, task)
        yield "How the weights changed, equal parameters:"
        yield change_table(runs, task)
    yield "### Runs that diverged"
    yield diverged_table(runs)


def signed(value: float, half: float, digits: int) -> str:
    """Return a difference with half the width of its interval.

    Examples
    --------
    >>> signed(-0.01234, 0.005, 3), signed(0.0, 0.1, 1)
    ('−0.012 ± 0.005', '+0.0 ± 0.1')
    """
    return f"{value:+.{digits}f} ± {half:.{digits}f}".replace("-", "−")


def probability(p: float) -> str:
    """Return a p value.

    Examples
    --------
    >>> probability(0.04321), probability(1e-5), probability(1.0)
    ('0.043', '< 0.001', '1.000')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def comparison_table(outcomes: Mapping[str, Array], task: str) -> str:
    """Return the comparisons with the baseline in one task, by both analyses and the bootstrap."""
    digits = places(TASKS[task].margin)
    found = compared(outcomes, BASELINE, TASKS[task].margin)
    mixed = mixed_model(outcomes, BASELINE)
    quantile = dunnett_quantile(len(found), mixed[found[0].method].degrees)
    drawn = bootstrap(outcomes, BASELINE, rng=np.random.default_rng(0))
    order = ranks(outcomes, rng=np.random.default_rng(0))
    rows = []
    for c in found:
        model, (low, high), rank = mixed[c.method], drawn[c.method], order[c.method]
        rows.append(
            [
                c.method,
                signed(c.estimate.value, c.estimate.half(), digits),
                f"± {c.half:.{digits}f}",
                probability(c.p),
                probability(c.equivalent),
                f"± {quantile * model.error:.{digits}f}",
                f"{low:+.{digits}f} to {high:+.{digits}f}".replace("-", "−"),
                f"{rank.low:g} to {rank.high:g}",
                c.verdict,
            ]
        )
    head = ["method", "difference, 95 %", "simultaneous", "p", "p of equivalence"]
    return markdown([*head, "mixed model", "bootstrap, 95 %", "rank", "conclusion"], rows)


def places(margin: float) -> int:
    """Return the number of decimals that show a tenth of the margin.

    Examples
    --------
    >>> places(0.05), places(0.01)
    (3, 3)
    """
    return max(1, 1 - math.floor(math.log10(margin)))


def over_tasks_table(outcomes: decision.Outcomes) -> str:
    """Return mean differences in points: over the tasks, and over a population of such tasks."""
    rows = []
    for c in decision.over_tasks(outcomes, METHODS, BASELINE):
        each = list(decision.by_task(outcomes, c.method, BASELINE).values())
        population = random_effects(each)
        rows.append(
            [
                c.method,
                *(signed(e.value, e.half(), 1) for e in each),
                signed(c.estimate.value, c.half, 1),
                probability(c.p),
                probability(c.equivalent),
                signed(population.value, population.high - population.value, 1),
                f"{population.spread:.1f}",
                c.verdict,
            ]
        )
    titles = [TASKS[task].title for task in outcomes]
    head = ["method", *titles, "mean, simultaneous", "p", "p of equivalence"]
    return markdown([*head, "tasks like these", "SD of tasks", "conclusion"], rows)


def default_table(parameters: decision.Outcomes, time: decision.Outcomes) -> str:
    """Return the candidates for the default with their conditions, and the decision."""
    found = decision.candidates(parameters, time)
    rows = [
        [
            c.name,
            f"{c.mean:+.1f}".replace("-", "−"),
            *("yes" if condition else "no" for condition in c[1:4]),
        ]
        for c in found
    ]
    head = [
        "candidate",
        "mean difference, points",
        "lower",
        "not worse at equal time",
        "nowhere worse",
    ]
    outcome = decision.decided(found)
    verb = "remains" if outcome == decision.DEFAULT else "becomes"
    return f"{markdown(head, rows)}\n\nBy the rule, the default {verb} **{outcome}**."


# One task -----------------------------------------------------------------------------------


def step_times(runs: Sequence[Run], task: str) -> dict[str, float]:
    """Return the time of a training step relative to the baseline: medians over the rounds."""
    timed = part(runs, task=task, role="timing", budget="time")
    rounds = {run["method"]: np.asarray(run["rounds"], dtype=float) for run in timed}
    return {name: float(np.median(own / rounds[BASELINE])) for name, own in rounds.items()}


def by_seed(own: Sequence[Run], name: str, key: str) -> dict[int, float]:
    """Return the outcomes of a method by seed, without the runs that have none.

    A run whose loss stopped being finite has no measure of forgetting.
    """
    mine = {run["seed"]: run.get(key) for run in own if run["method"] == name}
    return {seed: float(value) for seed, value in mine.items() if value is not None}


def shown(values: Sequence[float], factor: float, *, sign: bool = False) -> str:
    """Return a mean with half the width of its 95 % interval, or a dash if it has none.

    Examples
    --------
    >>> shown([0.1, 0.3], 1), shown([0.1, 0.3], 100, sign=True), shown([0.1], 1)
    ('0.200 ± 1.271', '+20.00 ± 127.06', '—')
    """
    if len(values) < 2:
        return "—"
    estimate = estimated(factor * np.asarray(values))
    text = signed(estimate.value, estimate.half(), 2 if factor > 1 else 3)
    return text if sign else text.removeprefix("+")


def methods_table(runs: Sequence[Run], task: str) -> str:
    """Return the parameters, the rate and the outcomes of each method at equal parameters."""
    own, times = studied(runs, task), step_times(runs, task)
    rows = []
    for name in TASKS[task].methods:
        first = next(run for run in own if run["method"] == name)
        rows.append(
            [
                name,
                f"{first['trained']:,}",
                f"{first['rate']:g}" if name != FROZEN else "—",
                shown(list(by_seed(own, name, "test_loss").values()), 1),
                *(
                    shown(list(by_seed(own, name, key).values()), factor)
                    for key, factor in SECONDARY.values()
                ),
                f"{times[name]:.2f}×" if name in times else "—",
            ]
        )
    titles = [title.replace("points", "%") for title in SECONDARY]
    return markdown(["method", "trained", "rate", "test loss", *titles, "time per step"], rows)


def secondary_table(runs: Sequence[Run], task: str) -> str:
    """Return paired differences in the other measures, each with a 95 % interval of its own."""
    own = studied(runs, task)
    rows = []
    for name in TASKS[task].methods:
        if name != BASELINE:
            cells = []
            for key, factor in SECONDARY.values():
                mine, base = by_seed(own, name, key), by_seed(own, BASELINE, key)
                gaps = [mine[seed] - base[seed] for seed in sorted(mine.keys() & base.keys())]
                cells.append(shown(gaps, factor, sign=True))
            rows.append([name, *cells])
    return markdown([f"method − {BASELINE}", *SECONDARY], rows)


CHANGES = {
    "relative change": lambda change: change["relative"],
    "effective rank": lambda change: change["effective_rank"],
    "singular values": lambda change: change["singular_values"],
    "energy": lambda change: abs(change["energy"] / change["energy_before"] - 1),
    "in leading directions": lambda change: change["top_inputs"],
}


def changes(own: Sequence[Run], name: str) -> dict[str, float]:
    """Return how a method changed the weights: means over the seeds and over the groups of layers.

    Runs with a loss that is not finite are left out.
    """
    found = [
        list(run["change"].values())
        for run in own
        if run["method"] == name and run.get("change") and not run.get("diverged")
    ]
    return {
        title: float(np.mean([[of(group) for group in groups] for groups in found]))
        for title, of in CHANGES.items()
    }


def change_table(runs: Sequence[Run], task: str) -> str:
    """Return how each adapter changed the weights."""
    own = part(runs, task=task, role="study")
    names = [name for name in TASKS[task].methods if name != FROZEN]
    rows = [[name, *(f"{value:.3g}" for value in changes(own, name).values())] for name in names]
    return markdown(["method", *CHANGES], rows)


def diverged_table(runs: Sequence[Run]) -> str:
    """Return the numbers of runs that diverged, or a line stating that there are none."""
    rows = []
    for task, planned in TASKS.items():
        for budget, title in BUDGETS.items():
            own = part(runs, task=task, role="study", budget=budget)
            for name in planned.methods:
                mine = [run for run in own if run["method"] == name]
                bad = sum(diverged(run, planned.outcomes) for run in mine)
                if bad:
                    rows.append([planned.title, title, name, f"{bad} of {len(mine)}"])
    return markdown(["task", "budget", "method", "runs"], rows) if rows else "No run diverged."


def main() -> None:
    """Print the tables."""
    for table in tables(read(PATH)):
        tqdm.write(f"{table}\n")


if __name__ == "__main__":
    main()
