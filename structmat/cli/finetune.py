"""`structmat finetune`: adapt a pretrained model with networks, and write a report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from structmat._util.text_table import Paragraph, Table, counted
from structmat.cli.commands import command, print_json, say
from structmat.cli.console import show
from structmat.cli.output_files import add_force, check_consent
from structmat.errors import StructmatError
from structmat.finetune.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from structmat.finetune.methods import Method, Settings
    from structmat.finetune.task import Task

_SEEDS, _FULL_SEEDS = 1, 3
_QUICK = {"batch": 8, "evaluations": 2}


def add(commands: Any) -> None:
    """Add the command."""
    parser = command(
        commands,
        "finetune",
        _finetune,
        "finetune a pretrained model with rotations and other methods, and report the results",
        "finetune --data reviews.csv --text review --label stars --topology 'shuffle(block=4)'",
    )
    data = parser.add_argument_group("model and data (default: all-MiniLM-L6-v2, docstrings)")
    data.add_argument("--model", metavar="DIR_OR_ID", help="a directory, or a name on the Hub")
    data.add_argument("--data", metavar="FILE.csv", help="requires --text and --label")
    data.add_argument("--text", metavar="COLUMN", help="the column that contains the texts")
    data.add_argument("--label", metavar="COLUMN", help="the column that contains the labels")
    data.add_argument(
        "--keep-duplicates",
        action="store_true",
        help="use near-duplicate texts, all of a group in the same part (default: drop them)",
    )
    what = parser.add_argument_group("methods")
    what.add_argument(
        "--topology",
        action="append",
        default=[],
        metavar="SPEC",
        help='a family with options, a composition such as "butterfly(block=8) * 2", or a network'
        " file; may be repeated",
    )
    what.add_argument(
        "--compare",
        metavar="NAMES",
        help="other methods, separated by commas: head, lora, peft-oft, oft, boft, dense-boft,"
        " shuffle, mixed-radix, random, torus, dora, hra, ruler (default with --topology:"
        " head,lora)",
    )
    size = parser.add_argument_group("size of the experiment")
    much = size.add_mutually_exclusive_group()
    much.add_argument(
        "--quick",
        action="store_true",
        help="use fewer texts and methods, which takes a minute or two",
    )
    much.add_argument(
        "--full", action="store_true", help="run the first ten methods above, with three seeds"
    )
    rates = size.add_mutually_exclusive_group()
    rates.add_argument("--tune", action="store_true", help="search for learning rates first")
    rates.add_argument(
        "--rate", type=float, help="learning rate for all methods (default: one per method)"
    )
    for name, text in (
        ("seeds", f"training runs per method (default: {_SEEDS}, with --full {_FULL_SEEDS})"),
        ("epochs", f"number of epochs (default: {Hyperparameters.epochs})"),
        (
            "batch",
            f"texts per step (default: {Hyperparameters.batch}, with --quick {_QUICK['batch']})",
        ),
        (
            "max-length",
            f"maximum number of tokens per text (default: {Hyperparameters.max_length})",
        ),
    ):
        size.add_argument(f"--{name}", type=int, metavar="N", help=text)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("structmat-finetune"),
        metavar="DIR",
        help="output directory (default: %(default)s)",
    )
    add_force(parser)


def _finetune(options: argparse.Namespace) -> None:
    from structmat.finetune import job
    from structmat.finetune.models import pretrained
    from structmat.finetune.report import before_training, html_report, result_tables, sentences

    settings = _settings(options)
    _check_data(options)
    present = job.finished(options.output)
    if present is not None:
        check_consent(f"--output {present}", force=options.force)
    source = pretrained(options.model)
    source.check(say)
    task = _task(options)
    say(f"model {source.name}; task {task.name}")
    say(before_training.class_table(before_training.classes(task)))
    given = html_report.command_line(options.command)
    try:
        found = job.run(task, source, settings, options.output, command=given, say=say)
    except KeyboardInterrupt:
        say(f"\n{_saved(options.output)}")
        raise
    if not found:  # in a distributed run, another process writes the report
        return
    if options.json:
        print_json(found)
        return
    show(Table(*result_tables.results(found)), "")
    more = [sentences.uncertainty(found), sentences.rates_line(found)]
    show(*map(Paragraph, (*found["headline"], *more, sentences.agreement_line(found))))
    show("", f"report: {options.output / 'report.html'}")
    if found["best"]:
        print(f"best adapter (by validation): {found['best']['method']}; to load it:\n")
        print(html_report.how_to_load(source, len(task.labels), options.output))


def _saved(output: Path) -> str:
    """Describe the work that an interrupted command has saved in its output directory."""
    runs = len(list((output / "runs").glob("*.json")))
    found = [counted(runs, "finished training run")] if runs else []
    if (output / "tuning.json").exists():
        found.insert(0, "the search for learning rates")
    if not found:
        return f"no training run has finished, so nothing is saved in {output}"
    return f"saved in {output}: {' and '.join(found)}; the same command resumes from there"


def _settings(options: argparse.Namespace) -> Settings:
    from structmat.finetune.methods import Settings

    given = {
        name: getattr(options, name)
        for name in ("epochs", "batch", "max_length")
        if getattr(options, name) is not None
    }
    defaults = _QUICK if options.quick else {}
    seeds = options.seeds
    if seeds is None:
        seeds = _FULL_SEEDS if options.full else _SEEDS
    return Settings(
        methods=_methods(options),
        seeds=seeds,
        hyperparameters=Hyperparameters(**defaults | given),
        rounds=2 if options.quick else 10 if options.full else 6,
        tune=options.tune,
        rate=options.rate,
    )


def _methods(options: argparse.Namespace) -> tuple[Method, ...]:
    from structmat.finetune import methods

    names: Sequence[str] = methods.STORY
    if options.compare is not None:
        names = [name.strip() for name in options.compare.split(",") if name.strip()]
    elif options.topology:
        names = ("head", "lora")
    elif options.full:
        names = [method.name for method in methods.METHODS]
    elif options.quick:
        names = methods.FEW
    selected = [methods.named(name) for name in names]
    selected += [methods.rotation(spec) for spec in options.topology]
    return tuple(dict.fromkeys(selected))


def _check_data(options: argparse.Namespace) -> None:
    columns = (options.text, options.label)
    if options.data is None and columns != (None, None):
        raise StructmatError("--text and --label name columns of --data FILE.csv, which is missing")
    if options.data is not None and None in columns:
        raise StructmatError("--data needs --text COLUMN and --label COLUMN")
    if options.data is None and options.keep_duplicates:
        raise StructmatError("--keep-duplicates applies to --data FILE.csv, which is missing")


def _task(options: argparse.Namespace) -> Task:
    from structmat.finetune import record
    from structmat.finetune.csv_task import csv_task
    from structmat.finetune.docstring_task import docstring_task
    from structmat.finetune.report import before_training

    if options.data is None:
        say("reading the docstrings of the installed libraries")
        task = docstring_task()
        if not options.full:  # the default demo uses two thirds of the training texts, to be short
            task = task.first(train=1200, validation=240, test=900)
    else:
        task = csv_task(
            options.data,
            text=options.text,
            label=options.label,
            keep_duplicates=options.keep_duplicates,
        )
        for line in before_training.selection_lines(options.data, record.selection(task)):
            say(line)
    if not options.quick:
        return task
    few = task.first(train=192, validation=60, test=120)
    used, given = (sum(each.sizes.values()) for each in (few, task))
    if used < given:
        say(f"--quick: {used:,} of {given:,} texts are used")
    return few
