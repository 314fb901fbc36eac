"""The finetuning job: search learning rates, train, time, select the best run, write results."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from structmat._util.files import make_directory, new_directory, read_json, write_json, write_text
from structmat._util.progress import Steps, bar
from structmat.analysis.generator_scale import STEP
from structmat.bench.machine import versions
from structmat.errors import StructmatError, require
from structmat.finetune import learning_rates, step_times
from structmat.finetune import record as results
from structmat.finetune.methods import Method, Settings, trainable, with_rates
from structmat.finetune.models import Pretrained, is_main_process, processes, quiet, widths
from structmat.finetune.report import before_training
from structmat.finetune.report.html_report import how_to_load, report_html
from structmat.finetune.report.sentences import headline
from structmat.finetune.task import Task
from structmat.finetune.training import logits, train

_RESULTS = ("results.json", "report.html", "best-adapter", "merged-model")
_COMPARED = 128  # number of test texts on which merged and unmerged outputs are compared


def run(
    task: Task,
    source: Pretrained,
    settings: Settings,
    output: Path,
    *,
    command: str = "",
    say: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Finetune the model with every method, and write the results to a directory.

    Each finished training run is saved immediately under `runs`; after an interruption, a repeated
    call resumes from there.

    Parameters
    ----------
    task : Task
    source : Pretrained
    settings : Settings
    output : Path
        The directory for `results.json`, `report.html`, and, if a rotation was trained,
        `best-adapter` and `merged-model`.
    command : str
        The command, for the record.
    say : callable
        Called with lines that report progress.

    Returns
    -------
    dict
        The contents of `results.json`; empty except in the main process.

    Raises
    ------
    StructmatError
        If the model does not support texts of `max_length` tokens, or a topology does not support a
        width of the model.
    DivergedError
        If the loss of a training run is no longer finite.
    """
    networks, longest = _checked(task, source, settings)
    is_main = is_main_process()
    say = say if is_main else lambda _: None
    truncated = _truncation(task, source, settings, longest)
    if truncated is not None:
        task = replace(task, notes=(*task.notes, truncated))
        say(truncated)
    runs = make_directory(output / "runs")
    warned = before_training.warnings(settings.hyperparameters, task, processes=processes())
    job = _Job(task, source, settings, output, runs, command, is_main=is_main, warned=warned)
    say(
        before_training.plan_line(
            settings.hyperparameters,
            task,
            len(settings.methods) * settings.seeds,
            processes=processes(),
        )
    )
    for warning in warned:
        say(f"warning: {warning}")
    methods, tuning = settings.methods, None
    if settings.rate is not None:
        methods = with_rates(methods, {method.name: settings.rate for method in methods})
    if settings.tune:
        tuning = _tuned(job, say)
        methods = with_rates(methods, learning_rates.rates(tuning))
        say(f"learning rates: {output / 'tuning.json'}")
    records = _trained(job, methods, tuning, say)
    if not is_main:
        return {}
    seconds = _timed(job, methods)
    found = _summary(job, methods, records, seconds, tuning=tuning, complete=True)
    found["networks"] = networks
    found["headline"] = headline(found)
    best = results.best(records, methods)
    if best is not None:
        found["best"] = {key: best[key] for key in ("method", "seed", "validation", "test")}
        _write_best(job, runs / best["adapter"])
    write_json(output / "results.json", found)
    lines = how_to_load(source, len(task.labels), output) if best else ""
    write_text(output / "report.html", report_html(found, methods, lines))
    shutil.rmtree(runs)
    return found


def finished(output: Path) -> Path | None:
    """Return a result in a directory that a run would replace, or None if there is none.

    The results of an interrupted run are not counted, because a run resumes from them.

    Examples
    --------
    >>> finished(Path("no such directory")) is None
    True
    """
    partial = read_json(output / "results.json")
    if isinstance(partial, dict) and partial.get("complete") is False:
        return None
    return next((output / name for name in _RESULTS if (output / name).exists()), None)


def _checked(
    task: Task, source: Pretrained, settings: Settings
) -> tuple[list[dict[str, Any]], int | None]:
    """Check the settings before any work starts.

    Return the networks at the model's widths, and the largest number of tokens that it supports.
    """
    classifier = source.classifier(task.labels)
    most = getattr(classifier.model.config, "max_position_embeddings", None)
    length = settings.hyperparameters.max_length
    if most is not None and length > most:
        raise StructmatError(f"max_length={length}: this model supports at most {most} tokens")
    return results.networks(settings.methods, widths(classifier)), most


def _truncation(
    task: Task, source: Pretrained, settings: Settings, longest: int | None
) -> str | None:
    """Return a note on the number of truncated texts, or None if no text is truncated."""
    most = settings.hyperparameters.max_length
    texts = [example.text for part in (task.train, task.validation, task.test) for example in part]
    tokenizer = source.tokenizer()
    with quiet():  # a tokenizer warns about texts that are too long for the model
        lengths = [len(row) for row in tokenizer(texts)["input_ids"]]
    return before_training.truncation(lengths, most, longest)


@dataclass(frozen=True)
class _Job:
    task: Task
    source: Pretrained
    settings: Settings
    output: Path
    runs: Path
    command: str
    is_main: bool
    warned: Sequence[str]

    def key(self, *more: object) -> str:
        """Return a hash of the task, model, format, library versions and the given values."""
        where = (self.source.name, self.source.place)
        used = (results.VERSION, versions(results.LIBRARIES))
        parts = (self.task.fingerprint, where, used, *more)
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]

    def progress(self, what: str, total: int, *, done: int = 0) -> AbstractContextManager[Steps]:
        """Show a progress bar that counts steps and estimates the remaining time."""
        return bar(what, total, unit="step", done=done, shown=self.is_main)


def _tuned(job: _Job, say: Callable[[str], object]) -> dict[str, Any]:
    methods = job.settings.methods
    classes = len(job.task.labels)
    texts = max(classes, min(learning_rates.TEXTS, len(job.task.train)))
    part = job.task.first(train=texts, validation=len(job.task.validation), test=classes)
    path = job.output / "tuning.json"
    search = asdict(learning_rates.HYPERPARAMETERS), learning_rates.GRID, STEP
    key = job.key(part.fingerprint, *search)
    about = results.circumstances(part, job.source, job.command)
    record = learning_rates.record_at(path, key=key, about=about)
    if path.exists() and not record["methods"]:
        say(f"{path}: this search used other texts or versions, so it is started again")
    each = learning_rates.HYPERPARAMETERS.steps(len(part.train), processes=processes())
    total = len(methods) * len(learning_rates.GRID) * each
    with job.progress("search", total, done=learning_rates.trials(record) * each) as counter:
        return learning_rates.search(
            methods,
            job.source,
            part,
            path,
            record,
            on_step=counter.update,
            on_trial=lambda method, rate: counter.describe(f"{method.name}, rate {rate:g}"),
        )


def _summary(
    job: _Job,
    methods: Sequence[Method],
    records: Sequence[dict[str, Any]],
    seconds: dict[str, list[float]],
    *,
    tuning: dict[str, Any] | None,
    complete: bool,
) -> dict[str, Any]:
    return results.summary(
        job.task,
        job.source,
        job.settings,
        methods,
        records,
        seconds,
        command=job.command,
        complete=complete,
        warned=job.warned,
        tuning=tuning,
    )


def _trained(
    job: _Job,
    methods: Sequence[Method],
    tuning: dict[str, Any] | None,
    say: Callable[[str], object],
) -> list[dict[str, Any]]:
    tokenizer = job.source.tokenizer()
    settings = job.settings
    plan = [(method, seed) for seed in range(settings.seeds) for method in methods]
    done = {(m.name, s): _finished(job, m, s, say) for m, s in plan}  # read before any training
    steps = settings.hyperparameters.steps(len(job.task.train), processes=processes())
    records: list[dict[str, Any]] = []
    with job.progress("training", len(plan) * steps) as counter:
        for method, seed in plan:
            counter.describe(f"{method.name}, seed {seed}")
            record = done[method.name, seed]
            if record is None:
                record = _run(job, method, seed, tokenizer, on_step=counter.update)
                say(f"{method.name}, seed {seed}: trained in {record['seconds']:.0f} s")
            else:
                counter.update(steps)
                say(f"{method.name}, seed {seed}: already finished, read from {job.runs}")
            records.append(record)
            if job.is_main:
                partial = _summary(job, methods, records, {}, tuning=tuning, complete=False)
                write_json(job.output / "results.json", partial)
    return records


def _finished(
    job: _Job, method: Method, seed: int, say: Callable[[str], object]
) -> dict[str, Any] | None:
    """Return the record of a finished run, or None if it must be trained (again)."""
    path = job.runs / f"{method.name}-{seed}.json"
    if not path.exists():
        return None
    record = read_json(path)
    if isinstance(record, dict) and record.get("key") == _run_key(job, method, seed):
        return record
    say(f"{path}: this run used other settings, texts or versions, so it is not reused")
    return None


def _run_key(job: _Job, method: Method, seed: int) -> str:
    return job.key(
        asdict(job.settings.hyperparameters),
        results.described(method),
        method.rate,
        method.generator_scaling,
        STEP,
        seed,
    )


def _run(
    job: _Job, method: Method, seed: int, tokenizer: Any, *, on_step: Callable[[], object]
) -> dict[str, Any]:
    hyperparameters = job.settings.hyperparameters
    model = method.prepare(job.source.classifier(job.task.labels, seed=seed))
    count = trainable(model)
    trained = train(
        model,
        tokenizer,
        training=job.task.train,
        validation=job.task.validation,
        test=job.task.test,
        hyperparameters=hyperparameters,
        rate=method.rate,
        seed=seed,
        on_step=on_step,
    )
    record: dict[str, Any] = {
        "key": _run_key(job, method, seed),
        "method": method.name,
        "seed": seed,
        "rate": method.rate,
        "trainable": count,
        "validation": trained.validation,
        "test": _accuracy(trained.predictions, job.task),
        "predictions": list(trained.predictions),
        "seconds": round(trained.seconds, 2),
        "orthogonality_error": method.orthogonality_error(trained.model),
        "merge_difference": None,
        "loss": trained.history.loss,
        "accuracy": trained.history.accuracy,
    }
    if method.kind != "head":
        texts = [example.text for example in job.task.test[:_COMPARED]]
        outputs = [
            logits(each, tokenizer, texts, max_length=hyperparameters.max_length)
            for each in (trained.model, method.merged(trained.model))
        ]
        record["merge_difference"] = float(np.abs(outputs[0] - outputs[1]).max())
    if job.is_main:
        if method.kind == "rotation":
            record["adapter"] = f"{method.name}-{seed}"
            with new_directory(job.runs / record["adapter"]) as directory:
                require("structmat.adapters", "adapters").save_adapter(trained.model, directory)
        write_json(job.runs / f"{method.name}-{seed}.json", record)
    return record


def _accuracy(predictions: Sequence[int], task: Task) -> float:
    right = sum(p == label for p, (_, label) in zip(predictions, task.test, strict=True))
    return right / len(task.test)


def _timed(job: _Job, methods: Sequence[Method]) -> dict[str, list[float]]:
    rounds = job.settings.rounds
    with job.progress("timing", (rounds + 1) * len(methods)) as counter:
        return step_times.seconds_a_step(
            methods,
            job.source,
            job.task,
            hyperparameters=job.settings.hyperparameters,
            rounds=rounds,
            on_step=counter.update,
        )


def _write_best(job: _Job, adapter: Path) -> None:
    """Write the best adapter, and the merged model in the format that `from_pretrained` reads."""
    with new_directory(job.output / "best-adapter") as directory:
        for file in _files(adapter):
            shutil.copy(file, directory / file.name)
    ours = require("structmat.adapters", "adapters")
    with new_directory(job.output / "merged-model") as directory:
        model = ours.load_adapter(job.source.classifier(job.task.labels).model, adapter)
        ours.merge(model, unload=True).save_pretrained(directory)
        job.source.tokenizer().save_pretrained(directory)


def _files(directory: Path) -> Iterable[Path]:
    return sorted(path for path in directory.iterdir() if path.is_file())
