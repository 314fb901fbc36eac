"""`structmat choose`: choose a topology for widths, a budget and a purpose."""

from __future__ import annotations

import argparse
from typing import Any

import structmat as sm
from structmat.cli.commands import command, print_json
from structmat.cli.console import show
from structmat.errors import StructmatError
from structmat.linalg.throughput import RATES
from structmat.search.choice.budgets import QUANTITIES
from structmat.search.choice.purposes import PURPOSES


def add(commands: Any) -> None:
    """Add the command."""
    parser = command(
        commands,
        "choose",
        _choose,
        "choose a topology for a width, a budget and a purpose",
        "choose --width 768 --purpose mix --budget depth=6",
    )
    parser.add_argument(
        "--width",
        type=int,
        nargs="+",
        required=True,
        metavar="N",
        help="one width, or the widths of several layers, for which one topology is chosen",
    )
    parser.add_argument(
        "--purpose",
        default="finetune",
        metavar="PURPOSE",
        help=f"{', '.join(PURPOSES)}, or an objective such as conditioning (default: finetune)",
    )
    parser.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="[QUANTITY=]LIMIT",
        help=f"the maximum of {', '.join(QUANTITIES)} (default: parameters); may be repeated",
    )
    parser.add_argument(
        "--largest",
        type=int,
        metavar="R",
        help="the largest radix (default: 16 for finetune and mix, 2 for fit and universal)",
    )
    parser.add_argument(
        "--rows", type=int, default=8, metavar="K", help="number of rows (default: 8)"
    )
    parser.add_argument(
        "--device",
        choices=tuple(RATES),
        default="cpu",
        help="the kind of machine for which time is modelled (default: cpu)",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure the time of the listed networks on this machine, and use it to order them",
    )


def _choose(options: argparse.Namespace) -> None:
    choice = sm.choose(
        options.width,
        purpose=options.purpose,
        budget=_budget(options.budget),
        largest=options.largest,
        rows=options.rows,
        device=options.device,
        measure=options.measure,
    )
    if options.json:
        print_json(choice.to_dict())
    else:
        show(choice)


def _budget(given: list[str]) -> dict[str, float] | None:
    limits: dict[str, float] = {}
    for text in given:
        name, _, number = text.replace("<=", "=").rpartition("=")
        name = name or "parameters"
        if name in limits:
            raise StructmatError(f"--budget {text}: {name} is limited twice; give one limit")
        try:
            limits[name] = float(number)
        except ValueError:
            raise StructmatError(
                f"--budget {text}: {number!r} is not a number; write 5000 or depth=3"
            ) from None
    return limits or None
