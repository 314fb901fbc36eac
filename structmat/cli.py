"""The command line: list, show, compare, finetune."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import structmat as sm
from structmat.errors import StructmatError

if TYPE_CHECKING:
    from structmat.finetune.job import Settings
    from structmat.finetune.methods import Method
    from structmat.finetune.task import Task

# The widths of all-MiniLM-L6-v2, which `finetune` adapts; and the families that tell the story.
WIDTHS = (384, 1536)
FAMILIES = (
    "block_diagonal(block=16)",
    "butterfly(block=8, depth=2)",
    "butterfly(block=6)",
    "shuffle(block=4)",
    "mixed_radix(largest=4)",
    "monarch",
    "random(block=8, depth=2, rng=0)",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 2 for bad input, 130 when interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    options.command = given
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
    except StructmatError as error:
        print(f"structmat {options.name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"structmat {options.name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 141
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, as for any other bad input."""
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="structmat",
        description="Orthogonal matrices as networks of small rotations.",
        epilog="example: structmat compare",
    )
    parser.add_argument("--version", action="version", version=f"structmat {sm.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_list(commands)
    _add_show(commands)
    _add_compare(commands)
    _add_finetune(commands)
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example: structmat {example}",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run, name=name)
    return parser


# list ------------------------------------------------------------------------------------------


def _add_list(commands: Any) -> None:
    _command(commands, "list", _list, "list the families, their options and widths", "list")


def _list(options: argparse.Namespace) -> None:
    rows = [
        {
            "family": entry.name,
            "options": [_option(p) for p in entry.options.values()],
            "widths": entry.widths,
            "summary": entry.summary,
        }
        for entry in sm.catalogue()
    ]
    if options.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    for row in rows:
        print(f"{row['family']}({', '.join(row['options'])})")
        print(f"    widths: {row['widths']}")
        print(f"    {row['summary']}")


def _option(parameter: Any) -> str:
    bare = parameter.default is parameter.empty
    return parameter.name if bare else f"{parameter.name}={parameter.default!r}"


# show ------------------------------------------------------------------------------------------


def _add_show(commands: Any) -> None:
    parser = _command(
        commands,
        "show",
        _show,
        "report on one network and how it is multiplied",
        'show "butterfly(block=8, depth=2)" --width 64',
    )
    parser.add_argument("spec", metavar="SPEC", help="a family with options")
    parser.add_argument("--width", type=int, required=True, metavar="N")


def _show(options: argparse.Namespace) -> None:
    net = sm.parse(options.spec)(options.width)
    report, plan = sm.report(net), sm.schedule(net)
    if options.json:
        print(json.dumps(report.to_dict() | {"spec": options.spec}, indent=1, ensure_ascii=False))
        return
    print(report)
    print()
    print(plan.explain())


# compare ---------------------------------------------------------------------------------------


def _add_compare(commands: Any) -> None:
    parser = _command(
        commands,
        "compare",
        _compare,
        "compare networks: depth, parameters, free edges, density",
        'compare "butterfly(block=8, depth=2)" "shuffle(block=4)" --width 384 1536',
    )
    parser.add_argument(
        "specs",
        nargs="*",
        metavar="SPEC",
        help="families with options (default: those the demo finetunes with, and more)",
    )
    parser.add_argument(
        "--width",
        type=int,
        nargs="+",
        default=WIDTHS,
        metavar="N",
        help="(default: 384 1536, the widths of the demo's model)",
    )


def _compare(options: argparse.Namespace) -> None:
    families: dict[str, Any] = {spec: sm.parse(spec) for spec in options.specs or FAMILIES}
    if not options.specs:
        families |= {"torus, drawn by hand": _torus}
    table = sm.compare(families, options.width)
    if options.json:
        print(json.dumps(table.to_dict(), indent=1, ensure_ascii=False))
    else:
        print(table)


def _torus(width: int) -> sm.Network:
    from structmat.finetune.methods import torus

    return torus(width)


# finetune --------------------------------------------------------------------------------------


def _add_finetune(commands: Any) -> None:
    parser = _command(
        commands,
        "finetune",
        _finetune,
        "finetune a pretrained model by rotations and others, and report",
        "finetune --data reviews.csv --text review --label stars --topology 'shuffle(block=4)'",
    )
    data = parser.add_argument_group("model and data (default: all-MiniLM-L6-v2, docstrings)")
    data.add_argument("--model", metavar="DIR_OR_ID", help="a directory, or a name on the Hub")
    data.add_argument("--data", metavar="FILE.csv", help="with --text and --label")
    data.add_argument("--text", metavar="COLUMN")
    data.add_argument("--label", metavar="COLUMN")
    what = parser.add_argument_group("methods")
    what.add_argument(
        "--topology",
        action="append",
        default=[],
        metavar="SPEC",
        help="a family with options; may be given several times",
    )
    what.add_argument(
        "--compare",
        metavar="NAMES",
        help="also these, separated by commas: head, lora, peft-oft, oft, boft, dense-boft,"
        " shuffle, mixed-radix, random, torus (with --topology: head,lora)",
    )
    size = parser.add_argument_group("how long")
    much = size.add_mutually_exclusive_group()
    much.add_argument("--quick", action="store_true", help="few texts and methods: a minute or two")
    much.add_argument("--full", action="store_true", help="every method, three seeds")
    size.add_argument("--tune", action="store_true", help="search learning rates first")
    size.add_argument("--rate", type=float, help="learning rate for all (default: each its own)")
    for name, text in (
        ("seeds", "trainings of each method"),
        ("epochs", "times each text is seen"),
        ("batch", "texts a step"),
        ("max-length", "tokens of a text that are read"),
    ):
        size.add_argument(f"--{name}", type=int, metavar="N", help=text)
    parser.add_argument(
        "--output", type=Path, default=Path("structmat-finetune"), metavar="DIR", help="%(default)s"
    )


def _finetune(options: argparse.Namespace) -> None:
    # Read when torch loads. Threads that spin while they wait made training three times slower on
    # two cores that others used too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from structmat.finetune import job, report, tables
    from structmat.finetune.models import pretrained

    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    settings = _settings(options)
    source = pretrained(options.model)
    task = _task(options, say)
    say(f"model {source.name}; task {task.name}: {len(task.labels)} classes, {task.sizes}")
    command = report.command_line(options.command)
    try:
        found = job.run(task, source, settings, options.output, command=command, say=say)
    except KeyboardInterrupt:
        say(f"\nwhat is done is kept in {options.output}; the same command goes on from there")
        raise
    if not found:  # another process of a distributed run reports
        return
    if options.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    print(tables.plain(tables.HEADER, tables.rows(found)))
    print()
    print(f"report: {options.output / 'report.html'}")
    if found["best"]:
        print(f"best adapter (by validation): {found['best']['method']}; to load the results:\n")
        print(report.how_to_load(source, len(task.labels), options.output))


def _settings(options: argparse.Namespace) -> Settings:
    from structmat.finetune.job import Settings
    from structmat.finetune.training import Recipe

    given = {
        name: getattr(options, name)
        for name in ("epochs", "batch", "max_length")
        if getattr(options, name) is not None
    }
    defaults = {"epochs": 1, "evaluations": 2} if options.quick else {}
    seeds = options.seeds
    if seeds is None:
        seeds = 3 if options.full else 1
    return Settings(
        methods=_methods(options),
        seeds=seeds,
        recipe=Recipe(**defaults | given),
        rounds=2 if options.quick else 10 if options.full else 6,
        tune=options.tune,
    )


def _methods(options: argparse.Namespace) -> tuple[Method, ...]:
    from structmat.finetune import methods

    names: Sequence[str] = methods.STORY
    if options.compare is not None:
        names = [name.strip() for name in options.compare.split(",") if name.strip()]
    elif options.topology:
        names = ("head", "lora")
    elif options.full:
        names = tuple(methods.BY_NAME)
    elif options.quick:
        names = methods.FEW
    chosen = [methods.named(name) for name in names]
    chosen += [methods.rotation(spec) for spec in options.topology]
    unique = tuple(dict.fromkeys(chosen))
    if options.rate is not None:
        if not 0 < options.rate < float("inf"):
            raise StructmatError(f"rate {options.rate}: a learning rate is a positive number")
        return methods.with_rates(unique, {method.name: options.rate for method in unique})
    return unique


def _task(options: argparse.Namespace, say: Callable[[str], None]) -> Task:
    from structmat.finetune.corpus import docstring_task
    from structmat.finetune.csvdata import csv_task

    columns = (options.text, options.label)
    if options.data is None:
        if columns != (None, None):
            raise StructmatError("--text and --label name columns of --data FILE.csv; give it too")
        say("reading the docstrings of the installed libraries")
        task = docstring_task()
        if not options.full:  # two thirds of the training texts keep the default demo short
            task = task.first(train=1200, validation=240, test=900)
    elif None in columns:
        raise StructmatError("--data needs --text COLUMN and --label COLUMN")
    else:
        task = csv_task(options.data, text=options.text, label=options.label)
    return task.first(train=192, validation=60, test=120) if options.quick else task
