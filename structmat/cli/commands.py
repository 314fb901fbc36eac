"""Shared parts of the commands: parsers and output."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from structmat.cli.console import complain, is_unicode


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, as is done for all other bad input."""

    def error(self, message: str) -> NoReturn:
        """Print the error, and the command that prints help."""
        complain(self.prog, f"{message}; see {self.prog} --help")
        raise SystemExit(2)


class HelpFormatter(argparse.HelpFormatter):
    """A help formatter that keeps the example on one line, so that it can be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example:") else super()._fill_text(text, width, indent)


def command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str, example: str
) -> argparse.ArgumentParser:
    """Add a command with the common options, and return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example: structmat {example}",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--load",
        action="append",
        default=[],
        metavar="FILE.py|MODULE",
        help="first run this file or import this module, which registers user-defined families",
    )
    parser.set_defaults(run=run, name=name)
    return parser


def add_field(parser: argparse.ArgumentParser) -> None:
    """Add the option that selects orthogonal or unitary blocks."""
    parser.add_argument(
        "--field",
        choices=("real", "complex"),
        default="real",
        help="orthogonal blocks, or unitary ones, with r² parameters each (default: real)",
    )


def say(line: str) -> None:
    """Print a line of progress to stderr, separate from the results."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=not is_unicode(sys.stdout)))
