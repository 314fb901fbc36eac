"""The command line: list, show, compare, explore, bench, finetune, convert, audit, completion."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import structmat as sm
from structmat.cli import (
    auditing,
    benching,
    comparing,
    completing,
    converting,
    exploring,
    finetuning,
    listing,
    showing,
)
from structmat.cli.loading import load
from structmat.cli.parsing import Parser
from structmat.errors import StructmatError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 2 for bad input, 130 when interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    options.command = given
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        for source in options.load:
            load(source)
        run(options)
    except StructmatError as error:
        print(f"structmat {options.name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except UnicodeEncodeError as error:  # of a terminal or pipe that is not UTF-8
        mark = ascii(error.object[error.start])
        print(
            f"structmat {options.name}: {sys.stdout.encoding} cannot print {mark};"
            " set the environment variable PYTHONIOENCODING=utf-8",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"structmat {options.name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 141
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="structmat",
        description="Orthogonal matrices as networks of small rotations.",
        epilog="example: structmat compare",
    )
    parser.add_argument("--version", action="version", version=f"structmat {sm.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    parts = (
        listing,
        showing,
        comparing,
        exploring,
        benching,
        finetuning,
        converting,
        auditing,
    )
    for part in parts:
        part.add(commands)
    completing.add(commands, _parser)
    return parser
