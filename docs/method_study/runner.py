"""Run the study of finetuning methods: `python -m docs.method_study.runner`.

The results are appended to docs/results/method-study.jsonl, one line of JSON a run. The program may
be interrupted at any time; the same command resumes it. Several processes share the work,
whether started by `--workers`, by hand, or by `accelerate launch -m docs.method_study.runner`: each
takes a run that no other has taken. `--pilot` makes the smaller runs on which the power analysis
rests, and `--quick` takes seconds and checks that everything works.

The rate of a method is selected for each task by the mean validation loss over the tuning seeds,
from a grid that is the same for all methods. If the best rate of any method is at an end of the
grid, all methods try one further rate beyond it; the grid is extended only once. Tuning runs are
not evaluated on test data. The study of a task begins when the rates of all its methods are known.
All methods then use the same seeds; a seed determines the initial head (and for the digits, the
pretrained model), the batches and their order, and dropout. Runs at equal time use the rates that
were selected at equal numbers of parameters, and are evaluated on test data only.

**The fields of a run.** All losses are means in nats, per text or per predicted token. A field is
null where a task has no such measure or the number is not finite.

- `task`: "digits", "language", "docstrings" or "errors"; `method`: a key of `methods.METHODS`.
- `role`: "tuning", "study", "pilot" or "timing"; `budget`: "parameters" or "time", for runs at
  equal numbers of parameters and steps, or at equal training time. Timing has the budget "time".
- `seed`: tuning seeds start at 1000, pilot seeds at 2000, and those of the study at 0.
- `rate`: the learning rate of the adapter, which the schedule multiplies by at most 1 (see
  `single_run.train`); `steps`: the number of training steps.
- `setting`: the rank, block or topology for the layers "attention", "up" and "down".
- `trained`, `budgeted`: the number of parameters of the adapter, and the budget of the task, which
  a method meets within 5 % where it can.
- `valid_loss`, `valid_accuracy`: on validation data, at the end; absent from runs at equal time.
- `test_loss` (the primary measure), `test_accuracy`, `test_brier` (the sum of squared errors of all
  probabilities) and `test_ece` (expected calibration error, 15 bins with equal numbers of
  predictions), at the end; absent from tuning runs. Accuracy and calibration are those of the next
  token for "language".
- `old_loss_before`, `old_loss`, `forgotten`: the loss on the task of pretraining, before and after,
  and the increase; `old_accuracy_before`, `old_accuracy`: the accuracy. Absent from tuning runs,
  runs at equal time and runs that diverged.
  The task of pretraining is to recognise the digits 0 to 4, to predict tokens of held-out files of
  the pretraining packages, or to find the rest of a docstring among others from its beginning.
- `curve`: for the pilot, a list with `step`, `valid_loss`, `valid_accuracy`, `test_loss` and
  `test_accuracy` at a quarter and a half of the steps and at the end. The rate is that of the whole
  run, so the values before the end are not those of shorter runs.
- `items`: the test loss of each image, text or window, in an order that is the same for all runs of
  a task; absent from tuning runs.
- `change`: how the adapted weights W changed, as means over the layers of "attention", "up" and
  "down", each with `relative` (Frobenius norm of ΔW relative to W), `spectral` (the same for the
  spectral norm), `effective_rank` of ΔW (exponential of the entropy of its normalised singular
  values), `top_inputs` and `top_outputs` (the shares of ‖ΔW‖² in the spaces of the first tenth of
  W's right and left singular vectors), `singular_values` (the relative change of W's singular
  values), and `energy_before` and `energy` (mean of 1/distance between the normalised rows of W,
  the hyperspherical energy of neurons). Absent from the same runs as `forgotten`.
- `step_seconds`: the median time of a step within this run, which depends on what else the machine
  was doing; `seconds`, `cpu_seconds`: the elapsed time and the processor time of the whole run with
  evaluation.
- `diverged`: whether the training loss stopped being finite, a matrix could not be inverted, or a
  loss at the end is not finite.
- `sizes`: a key of the data and the model of the task and of the versions of libraries; runs with
  another key, or with a `setting` that is no longer that of the method, are ignored.

A timing has `task`, `method`, `role`, `budget`, `setting`, `sizes` and `rounds`, the seconds of a
training step in each round; rounds are interleaved between the methods of a task.
"""

import argparse
import contextlib
import hashlib
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import filelock
import torch
from tqdm import tqdm

from docs.method_study import tasks
from docs.method_study.corpus import folder
from docs.method_study.json_lines import Row, append, read
from docs.method_study.methods import BASELINE, HEAD_ONLY, METHODS, of_task
from docs.method_study.plan import tasks_of
from docs.method_study.single_run import Run, key, perform, timed
from structmat._util.files import make_directory
from structmat.bench.interleaved import relative

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FURTHER = (1e-4, 3e-1)  # tried if the best rate of some method is the lowest or the highest
FIRST = {"study": 0, "tuning": 1000, "pilot": 2000}  # the first seed of each role
BUDGETS = ("parameters", "time")

Role = Literal["study", "pilot"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs to make.

    Parameters
    ----------
    tasks, methods : tuple of str
        Methods that a task does not have are left out there.
    budgets : tuple of str
        "parameters", "time" or both.
    role : "study" or "pilot"
    seeds, tuning : int
        The numbers of seeds with the selected rate, and of seeds for its selection.
    rates : tuple of float
    further : tuple of float
        Rates below and above these, to be tried when a best rate is at an end; or none.
    rounds : int
        The number of rounds of timing, if "time" is among the budgets.
    quick : bool
        Whether to use small data and models.
    """

    tasks: tuple[str, ...] = tasks.NAMES
    methods: tuple[str, ...] = ()
    budgets: tuple[str, ...] = BUDGETS
    role: Role = "study"
    seeds: int = 10
    tuning: int = 2
    rates: tuple[float, ...] = RATES
    further: tuple[float, ...] = FURTHER
    rounds: int = 20
    quick: bool = False

    def chosen(self, task: str) -> list[str]:
        """Return the methods of a task."""
        return [name for name in of_task(task) if not self.methods or name in self.methods]

    def timed(self, task: str) -> list[str]:
        """Return the methods whose steps are timed: the baseline, and all that train an adapter."""
        names = dict.fromkeys([BASELINE, *self.chosen(task)])
        return [name for name in names if name != HEAD_ONLY]


PILOT = Plan(
    methods=(BASELINE, "OFT", "BOFT(2, 8)", "mixing network", HEAD_ONLY),
    budgets=("parameters",),
    role="pilot",
    seeds=4,
    tuning=1,
    rates=(3e-3, 1e-2, 3e-2),
    further=(),
)
QUICK = Plan(
    tasks=("digits", "language"),
    methods=(BASELINE, "mixing network", HEAD_ONLY),
    seeds=2,
    tuning=1,
    rates=(1e-3, 1e-2),
    further=(),
    rounds=1,
    quick=True,
)


# Runs left to do ------------------------------------------------------------------------------


def pending(plan: Plan, rows: Sequence[Row]) -> Iterator[Run]:
    """Yield the runs that can be made now: those whose rate and number of steps are known."""
    done = {Run.of(row) for row in rows if row["role"] != "timing"}
    found = [run for task in plan.tasks for run in _known(plan, task, rows) if run not in done]
    yield from sorted(found, key=lambda run: (run.role != "tuning", run.budget, run.seed))


def timing(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """Return the tasks whose methods have yet to be timed."""
    if "time" not in plan.budgets:
        return []
    timed_methods = {(r["task"], r["method"]) for r in rows if r["role"] == "timing"}
    return [
        task
        for task in plan.tasks
        if task in tasks_of("time")
        and not {(task, name) for name in plan.timed(task)} <= timed_methods
    ]


def expected(plan: Plan, rows: Sequence[Row] = ()) -> int:
    """Return the number of runs of a plan, as far as it is known, without timing."""
    total = 0
    for task in plan.tasks:
        total += sum(map(len, tuning(plan, task, rows).values()))
        for budget in plan.budgets:
            total += plan.seeds * len(_studied(plan, task, budget))
    return total


def tuning(plan: Plan, task: str, rows: Sequence[Row]) -> dict[str, list[Run]]:
    """Return the tuning runs of each method of a task; none if there is only one rate.

    Once all methods have tried all rates of the grid, it is extended, for all methods, beyond each
    end at which some method has its best rate.
    """
    steps = tasks.task(task, quick=plan.quick).steps

    def with_rates(rates: Sequence[float]) -> dict[str, list[Run]]:
        seeds = range(FIRST["tuning"], FIRST["tuning"] + plan.tuning)
        return {
            name: [
                Run(task, name, "tuning", "parameters", rate, seed, steps)
                for seed in seeds
                for rate in rates
            ]
            for name in plan.chosen(task)
            if name != HEAD_ONLY
        }

    if len(plan.rates) == 1:
        return {}
    tried = with_rates(plan.rates)
    losses = valid_losses(rows)
    best = {best_rate(runs, losses) for runs in tried.values()}
    if not plan.further or None in best:
        return tried
    ends = zip(plan.further, (min(plan.rates), max(plan.rates)), strict=True)
    return with_rates([*plan.rates, *(rate for rate, end in ends if end in best)])


def selected(plan: Plan, task: str, rows: Sequence[Row]) -> dict[str, float]:
    """Return the rates of the methods of a task; none before all tuning runs of the task."""
    losses = valid_losses(rows)
    rates = {HEAD_ONLY: 0.0}
    if len(plan.rates) == 1:
        return dict.fromkeys(plan.chosen(task), plan.rates[0]) | rates
    for name, runs in tuning(plan, task, rows).items():
        rate = best_rate(runs, losses)
        if rate is None:
            return {}
        rates[name] = rate
    return rates


def _studied(plan: Plan, task: str, budget: str) -> list[str]:
    """Return the methods to run; at equal time, neither the baseline nor the frozen model."""
    if task not in tasks_of(budget):
        return []
    left_out = (BASELINE, HEAD_ONLY) if budget == "time" else ()
    return [name for name in plan.chosen(task) if name not in left_out]


def _known(plan: Plan, task: str, rows: Sequence[Row]) -> Iterator[Run]:
    for runs in tuning(plan, task, rows).values():
        yield from runs
    rates = selected(plan, task, rows)
    seeds = range(FIRST[plan.role], FIRST[plan.role] + plan.seeds)
    for budget in plan.budgets if rates else ():
        for name in _studied(plan, task, budget):
            steps = steps_of(plan, task, name, budget, rows)
            if steps is not None:
                for seed in seeds:
                    yield Run(task, name, plan.role, budget, rates[name], seed, steps)


def steps_of(plan: Plan, task: str, name: str, budget: str, rows: Sequence[Row]) -> int | None:
    """Return the number of steps of a method, or None if it has yet to be timed.

    At equal training time, it is the baseline's number of steps, divided by the time per step
    relative to the baseline.
    """
    steps = tasks.task(task, quick=plan.quick).steps
    if budget == "parameters":
        return steps
    seconds = {
        row["method"]: row["rounds"]
        for row in rows
        if row["role"] == "timing" and row["task"] == task
    }
    if not {BASELINE, name} <= set(seconds):
        return None
    return max(1, round(steps / relative(seconds, BASELINE)[name]))


def valid_losses(rows: Sequence[Row]) -> dict[Run, float | None]:
    """Return the validation losses of the tuning runs, None where one diverged."""
    return {Run.of(row): row["valid_loss"] for row in rows if row["role"] == "tuning"}


def best_rate(tried: Sequence[Run], losses: Mapping[Run, float | None]) -> float | None:
    """Return the rate with the lowest mean validation loss, or None if a run is missing.

    Rates at which a run diverged are excluded, unless a run diverged at every rate; of equally good
    rates, the smallest is selected.
    """
    if not set(tried) <= losses.keys():
        return None

    def merit(rate: float) -> tuple[float, float]:
        found = [losses[run] for run in tried if run.rate == rate]
        finite = [loss for loss in found if loss is not None]
        return (statistics.fmean(finite) if len(finite) == len(found) else math.inf, rate)

    return min({run.rate for run in tried}, key=merit)


# Working --------------------------------------------------------------------------------------


def work(plan: Plan, path: Path) -> None:
    """Make the runs of a plan that the record does not contain, sharing them with other processes.

    A process holds a run's lock while it makes the run. The operating system releases the lock if
    the process ends, so an interrupted run is made again, by another process or later.
    """
    chosen = {name: tasks.task(name, quick=plan.quick) for name in plan.tasks}
    keys = {name: key(task) for name, task in chosen.items()}

    def current() -> list[Row]:
        return [
            row
            for row in read(path)
            if row["sizes"] == keys.get(row["task"])
            and list(row["setting"].values()) == list(METHODS[row["method"]].values[row["task"]])
        ]

    with tqdm(unit="run", disable=None) as bar:
        while True:
            rows = current()
            bar.total = expected(plan, rows)
            bar.update(_finished(plan, rows) - bar.n)
            clocks, runs = timing(plan, rows), list(pending(plan, rows))
            if not clocks and not runs:
                return
            # Checked again with the lock held, since another process may just have finished it.
            for clock in clocks:
                with _claimed(path, f"timing {clock}") as held:
                    if held and clock in timing(plan, current()):
                        append(path, timed(chosen[clock], plan.timed(clock), rounds=plan.rounds))
                        break
            else:
                for run in runs:
                    with _claimed(path, repr(run)) as held:
                        if held and run in set(pending(plan, current())):
                            append(path, [perform(chosen[run.task], run)])
                            break
                else:
                    time.sleep(1.0)  # other processes are making all of them


def _finished(plan: Plan, rows: Sequence[Row]) -> int:
    made = {Run.of(row) for row in rows if row["role"] != "timing"}
    return len({run for task in plan.tasks for run in _known(plan, task, rows)} & made)


@contextlib.contextmanager
def _claimed(path: Path, name: str) -> Iterator[bool]:
    """Yield whether this process holds the lock of this name, or another process does."""
    claims = make_directory(folder() / "claims")
    digest = hashlib.sha256(f"{path.resolve()} {name}".encode()).hexdigest()[:24]
    lock = filelock.FileLock(claims / f"{digest}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


# The command ------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the runs that the record does not contain yet; return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    plan = _plan(options)
    name = "method-study-pilot.jsonl" if options.pilot else "method-study.jsonl"
    if options.output is None and options.quick:
        raise SystemExit("--quick needs --output, because its results are not part of the study")
    path = (options.output or RESULTS / name).resolve()
    make_directory(path.parent)
    torch.set_num_threads(1)
    command = [sys.executable, "-m", "docs.method_study.runner", *given]
    alone = ["--workers", "1", "--output", str(path)]
    helpers = [subprocess.Popen([*command, *alone], cwd=ROOT) for _ in range(options.workers - 1)]
    try:
        work(plan, path)
        return max((helper.wait() for helper in helpers), default=0)
    except KeyboardInterrupt:
        tqdm.write("interrupted; the same command resumes", file=sys.stderr)
        return 130
    finally:
        for helper in helpers:  # they may lose a run each, which is made again later
            helper.terminate()
            helper.wait()


def _plan(options: argparse.Namespace) -> Plan:
    start = QUICK if options.quick else PILOT if options.pilot else Plan()
    changes = {
        "tasks": options.task,
        "methods": options.methods,
        "budgets": options.budget,
        "rates": options.rates,
        "seeds": options.seeds,
        "tuning": options.tuning,
    }
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in changes.items()
        if value is not None
    }
    return Plan(**{**vars(start), **given})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m docs.method_study.runner",
        description="Run the study of finetuning methods, or what is left of it.",
    )
    every = [method for task in tasks.NAMES for method in of_task(task)]
    parser.add_argument("--task", nargs="+", choices=tasks.NAMES, help="(default: all)")
    parser.add_argument("--methods", nargs="+", choices=list(dict.fromkeys(every)), metavar="NAME")
    parser.add_argument("--budget", nargs="+", choices=BUDGETS, help="(default: both)")
    parser.add_argument("--seeds", type=int, help="seeds at the selected rate")
    parser.add_argument("--tuning", type=int, help="seeds for the selection of the rate")
    parser.add_argument("--rates", type=float, nargs="+", help="the rates to select from")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with one thread")
    parser.add_argument("--pilot", action="store_true", help="the runs for the power analysis")
    parser.add_argument("--quick", action="store_true", help="small data, as a smoke test")
    parser.add_argument("--output", type=Path, help="(default: in docs/results)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
