"""`structmat completion`: shell completion of commands, options and specs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structmat as sm
from structmat.cli.commands import command, print_json
from structmat.errors import require

SHELLS = ("bash", "zsh", "fish", "tcsh")
# Arguments that are completed with names of families.
_SPECS = {"specs", "spec", "topology", "family", "start"}


def add(commands: Any, make_parser: Callable[[], argparse.ArgumentParser]) -> None:
    """Add the command; `make_parser` makes the parser of the complete command line."""
    parser = command(
        commands,
        "completion",
        lambda options: _complete(options, make_parser()),
        "print a script that makes the shell complete commands, options and families",
        "completion bash",
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell for which to print the script")


def _complete(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    shtab = require("shtab", "completion")
    families = [entry.name for entry in sm.catalogue()]
    for action in _actions(parser):
        if action.dest in _SPECS:
            action.choices = families
        elif action.type is Path or any(word in str(action.metavar) for word in ("FILE", "DIR")):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    script = shtab.complete(parser, options.shell)
    if options.shell == "zsh":  # shtab lets zsh complete only the first of several arguments
        script = script.replace('"(*)::', '"*:')
    if options.json:
        print_json({"shell": options.shell, "script": script})
    else:
        print(script)


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments of a parser and of its commands."""
    found: list[argparse.Action] = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found += _actions(inner)
    return found
