"""The command line, one module a command; `structmat --help` lists them."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence

import structmat as sm
from structmat._util.text_location import of_error
from structmat.cli import (
    atlas,
    audit,
    bench,
    catalogue,
    choose,
    compare,
    completion,
    convert,
    explore,
    finetune,
    search,
    show,
)
from structmat.cli.commands import Parser, say
from structmat.cli.console import complain, every_character
from structmat.cli.other_libraries import quiet
from structmat.cli.user_families import load
from structmat.errors import StructmatError

_UNWRITABLE = (errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EBADF)  # disk and device errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 2 for bad input, 1 if the output cannot be written.

    The exit code is 130 after an interruption, and 141 if the reader of a pipe closes it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    if not given:
        with every_character():
            parser.print_help(sys.stderr)
        return 2
    name = "structmat"
    try:
        with every_character(), quiet(say):
            options, unknown = parser.parse_known_args(given)
            options.command = given
            name = f"structmat {options.name}"
            if unknown:
                raise StructmatError(
                    f"unrecognized arguments: {' '.join(unknown)}; see {name} --help"
                )
            run: Callable[[argparse.Namespace], None] = options.run
            functions = getattr(options, "loads_functions", False)
            options.modules = [load(source, functions=functions) for source in options.load]
            run(options)
            print(end="", flush=True)  # raises write errors here instead of at Python's exit
    except StructmatError as error:
        complain(name, _located(error))
        return 2
    except KeyboardInterrupt:
        complain(name, "interrupted")
        return 130
    except BrokenPipeError:
        _discard_output()
        return 141
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _discard_output()
        complain(name, f"cannot write ({error.strerror})")
        return 1
    return 0


def _located(error: StructmatError) -> str:
    """Return the message, with the line of the user's file that failed, if there is one."""
    message, where = str(error), of_error(error)
    return message if where in message else f"{message}; {where}"


def _discard_output() -> None:
    """Discard the remaining output, because Python would otherwise fail again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, sys.stdout.fileno())
    except OSError:  # a stream that is not a file
        pass
    finally:
        os.close(null)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="structmat",
        description="Orthogonal matrices as networks of small rotations.",
        epilog="example: structmat compare",
    )
    parser.add_argument("--version", action="version", version=f"structmat {sm.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    parts = (
        catalogue,
        show,
        compare,
        choose,
        search,
        atlas,
        explore,
        bench,
        finetune,
        convert,
        audit,
    )
    for part in parts:
        part.add(commands)
    completion.add(commands, _parser)
    return parser
