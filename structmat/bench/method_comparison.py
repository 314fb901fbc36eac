"""structmat in PEFT's own comparison of methods: `python -m structmat.bench.method_comparison`.

The command writes the experiments of `structmat.bench.peft_experiments` into a clone of PEFT's
repository, runs them with PEFT's own program, and prints their results beside those of PEFT's
methods. PEFT's program reads the type of an adapter from its configuration, and would not know the
type STRUCTMAT; so `structmat.peft` is imported first, in the same process.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft.config import PeftConfig

import structmat
from structmat._util.files import read_json
from structmat._util.text_table import Table
from structmat.bench import peft_experiments as experiments
from structmat.bench.peft_experiments import EXPERIMENTS, METHOD, TASKS, Experiment
from structmat.errors import StructmatError, abbreviated, suggest
from structmat.peft import StructmatConfig

# Arguments: the modules to import, separated by commas; the program; its own arguments.
_RUN = """
import importlib, runpy, sys
for name in sys.argv.pop(1).split(","):
    importlib.import_module(name)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_CANCELLED = "cancelled_results"
_RESULTS = ("results", "temporary_results", _CANCELLED)  # the second if the branch is not `main`
_DEFAULTS = "default_training_params.json"
_OWN = {f.name for f in dataclasses.fields(StructmatConfig)} - {
    f.name for f in dataclasses.fields(PeftConfig)
}
_RECORDED = {
    "networks",
    "generator_scales",
    "fingerprints",
}  # which are set when layers are adapted
_COMPARED = sorted(_OWN - _RECORDED)  # the settings that determine a result


def run(
    experiment: Experiment, repository: Path, *, modules: Sequence[str] = (), again: bool = False
) -> dict[str, Any]:
    """Write and run an experiment, unless it has a result already, and return the result.

    Parameters
    ----------
    experiment : Experiment
    repository : Path
        A clone of PEFT's repository. Its own version of PEFT is used.
    modules : sequence of str
        Modules to import first, in addition to `structmat.peft`.
    again : bool
        Whether to run an experiment that has a result.

    Raises
    ------
    StructmatError
        If the program fails, or training was cancelled, for example because memory was exhausted.
    FileError
        If the clone does not contain the task.
    """
    folder = experiments.written(experiment, repository)
    task = folder.parents[2]
    found = None if again else result(experiment, repository)
    if found is not None:
        return found
    before = _states(experiment, task)
    path = os.pathsep.join(
        [
            str(repository.resolve() / "src"),
            str(Path(structmat.__file__).parents[1]),
            *filter(None, [os.environ.get("PYTHONPATH")]),
        ]
    )
    names = ",".join(["structmat.peft", *modules])
    program = ["run.py", "-v", "--clean", str(folder.relative_to(task))]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, names, *program],
        cwd=task,
        env={**os.environ, "PYTHONPATH": path},
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode:
        raise StructmatError(
            f"{experiment.name}: PEFT's program failed, for the reason above; it needs a GPU, and"
            f" the packages listed in {task / 'requirements.txt'}"
        )
    new = [path for path, state in _states(experiment, task).items() if before.get(path) != state]
    if not new:
        raise StructmatError(f"{experiment.name}: PEFT's program wrote no result; see its output")
    found = read_json(new[-1])
    if new[-1].parent.name == _CANCELLED:
        raise StructmatError(
            f"{experiment.name}: training was cancelled: {_entry(found, 'run_info', 'error_msg')}"
        )
    if (lost := lacking(experiment.task, found)) is not None:
        raise StructmatError(f"{experiment.name}: {new[-1]} lacks {lost}; see PEFT's output")
    return dict(found)


def result(experiment: Experiment, repository: Path) -> dict[str, Any] | None:
    """Return the newest result of an experiment, or None if there is none for these settings."""
    task = experiments.directory(experiment, repository).parents[2]
    training = {**(read_json(task / _DEFAULTS) or {}), **experiment.training}
    adapter = _compared(json.loads(json.dumps(experiment.config().to_dict())))
    files = [path for path in _states(experiment, task) if path.parent.name != _CANCELLED]
    for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True):
        found = read_json(path)
        if lacking(experiment.task, found) is not None:  # damaged, or of another version of PEFT
            continue
        used = _entry(found, "run_info", "train_config")
        config = _entry(found, "run_info", "peft_config")
        if not (isinstance(used, dict) and isinstance(config, dict)):
            continue
        same = {key: used.get(key) for key in training} == training
        if same and _compared(config) == adapter:
            return dict(found)
    return None


def published(task: str, repository: Path) -> dict[str, Any]:
    """Return the results of PEFT's methods that the repository contains, by name.

    A damaged file is None, and others may lack entries (see `lacking`).
    """
    folder = repository / "method_comparison" / TASKS[task].directory / "results"
    files = (path for path in sorted(folder.glob("*.json")) if "--" in path.stem)
    results = {path.stem.replace("--", "/", 1): read_json(path) for path in files}
    return {n: found for n, found in results.items() if not n.startswith(f"{METHOD}/")}


def lacking(task: str, found: Any) -> str | None:
    """Return the first number of the table that a result lacks, or None if it has all.

    Examples
    --------
    >>> lacking("text", {"train_info": {"metrics": []}})
    'train_info.metrics[-1]["test accuracy"]'
    """
    about = TASKS[task]
    for key in (about.measure, about.kept):
        if not _is_number(_entry(found, "train_info", "metrics", -1, key)):
            return f'train_info.metrics[-1]["{key}"]'
    for key in ("num_trainable_params", "train_time", "accelerator_memory_max"):
        if not _is_number(_entry(found, "train_info", key)):
            return f"train_info.{key}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _entry(found: Any, *place: str | int) -> Any:
    """Return an entry of nested JSON, or None if it is missing."""
    for key in place:
        try:
            found = found[key]
        except (LookupError, TypeError):
            return None
    return found


def table(task: str, results: dict[str, dict[str, Any]]) -> str:
    """Return results as a text table, in the order of the main result, best first."""
    about = TASKS[task]
    rows = []
    for name, found in sorted(results.items(), key=lambda pair: -_last(pair[1])[about.measure]):
        last, training = _last(found), found["train_info"]
        value = last[about.measure]
        error = ""
        if about.examples is not None:
            error = f" ± {math.sqrt(value * (1 - value) / about.examples):.3f}"
        rows.append(
            (
                name,
                f"{value:.3f}{error}",
                f"{last[about.kept]:.3f}",
                f"{training['num_trainable_params']:,}",
                f"{training['train_time']:,.0f}",
                f"{training['accelerator_memory_max'] / 2**30:.1f}",
            )
        )
    head = ("experiment", about.measure, about.kept, "parameters", "training, s", "memory, GiB")
    return str(Table(head, rows))


def _last(found: dict[str, Any]) -> dict[str, Any]:
    metrics: list[dict[str, Any]] = found["train_info"]["metrics"]
    return metrics[-1]


def _compared(config: dict[str, Any]) -> dict[str, Any]:
    kept = {key: config.get(key) for key in _COMPARED}
    targets = config.get("target_modules")
    return {**kept, "target_modules": sorted(targets) if isinstance(targets, list) else targets}


def _states(experiment: Experiment, task: Path) -> dict[Path, int]:
    """Return the result files of an experiment with their times; some names end with the time."""
    stem = f"{METHOD}--{experiment.name}"
    paths = (path for folder in _RESULTS for path in sorted((task / folder).glob(f"{stem}*.json")))
    rests = {path: path.stem.removeprefix(stem) for path in paths}
    return {
        path: path.stat().st_mtime_ns
        for path, rest in rests.items()
        if not rest or (rest.startswith("--") and rest[2:3].isdigit())
    }


def _named(names: Sequence[str], task: str) -> list[Experiment]:
    known = {experiment.name: experiment for experiment in EXPERIMENTS if experiment.task == task}
    for name in names:
        if name not in known:
            raise StructmatError(
                f"--experiment {abbreviated(name)}: no such experiment for the task"
                f" {task}{suggest(name, known)}"
            )
    return [known[name] for name in names or known]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return the exit code: 2 on errors, and 1 if an experiment failed.

    Examples
    --------
    >>> main(["--help"])
    Traceback (most recent call last):
    ...
    SystemExit: 0
    """
    parser = argparse.ArgumentParser(
        prog="python -m structmat.bench.method_comparison",
        description="Run structmat's experiments in PEFT's comparison of methods, on a GPU.",
    )
    parser.add_argument("repository", type=Path, help="a clone of PEFT's repository")
    parser.add_argument("--task", choices=TASKS, default="text", help="(default: %(default)s)")
    parser.add_argument(
        "--experiment",
        action="append",
        default=[],
        metavar="NAME",
        help="run only this one; may be repeated",
    )
    parser.add_argument("--write", action="store_true", help="write the files, but run nothing")
    parser.add_argument("--again", action="store_true", help="repeat experiments with results")
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module to import first; may be repeated",
    )
    options = parser.parse_args(arguments)
    failed = 0
    try:
        chosen = _named(options.experiment, options.task)
        for experiment in chosen:
            folder = experiments.written(experiment, options.repository)
            size = f"{experiment.parameters:,} parameters"
            sys.stdout.write(f"{folder}: {size}, {experiment.topology}\n")
        if options.write:
            return 0
        found = published(options.task, options.repository)
        lost = {name: lacking(options.task, one) for name, one in found.items()}
        for name in [name for name, entry in lost.items() if entry is not None]:
            del found[name]
            sys.stderr.write(f"{parser.prog}: {name} is not shown: it lacks {lost[name]}\n")
        for experiment in chosen:
            try:
                name = f"{METHOD}/{experiment.name}"
                found[name] = run(
                    experiment, options.repository, modules=options.modules, again=options.again
                )
            except StructmatError as error:  # the others may still succeed
                sys.stderr.write(f"{parser.prog}: {error}\n")
                failed += 1
    except StructmatError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    if found:
        sys.stdout.write(f"{table(options.task, found)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
