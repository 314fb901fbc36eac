"""`structmat list`: list the families, or the dense networks of a given width."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from typing import Any

import structmat as sm
from structmat._util.text_table import Paragraph, Table
from structmat.cli.commands import command, print_json
from structmat.cli.console import show
from structmat.errors import StructmatError
from structmat.search.choice.ranking import choose
from structmat.search.dense_networks import Member, dense_members

_BUILT = 2**22  # maximum of width × stages for building a network only to describe it
_LONGEST = 60  # maximum length of a name in a table

Row = dict[str, Any]


def add(commands: Any) -> None:
    """Add the command."""
    parser = command(
        commands,
        "list",
        _list,
        "list the families, or the dense networks of a width",
        "list --width 11008 --budget 500000",
    )
    parser.add_argument("--width", type=int, metavar="N", help="list the dense networks of N wires")
    parser.add_argument(
        "--budget",
        type=int,
        metavar="P",
        help="list only networks with at most P parameters (default: N(N−1)/2)",
    )
    parser.add_argument(
        "--all", action="store_true", help="list every dense network, not only the best"
    )


def _list(options: argparse.Namespace) -> None:
    if options.width is not None:
        _list_dense(options)
    elif options.budget is not None or options.all:
        raise StructmatError("--budget and --all select networks of --width N, which is missing")
    else:
        _list_families(options)


# The families ----------------------------------------------------------------------------------


def _list_families(options: argparse.Namespace) -> None:
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
        print_json(rows)
        return
    for row in rows:
        print(f"{row['family']}({', '.join(row['options'])})")
        print(f"    widths: {row['widths']}")
        print(f"    {row['summary']}")


def _option(parameter: inspect.Parameter) -> str:
    bare = parameter.default is parameter.empty
    return parameter.name if bare else f"{parameter.name}={parameter.default!r}"


# The dense networks of one width ---------------------------------------------------------------


def _list_dense(options: argparse.Namespace) -> None:
    width, budget = options.width, options.budget
    found = dense_members(width, budget)
    if not found and not options.json:
        fewest = dense_members(width)[0]
        raise StructmatError(
            f"budget {budget:,}: no network of width {width:,} is dense within it; the minimum is"
            f" {fewest.parameters:,} parameters, attained by {fewest.family}"
        )
    named = {member.family.name for member in found}
    missing = [entry.name for entry in sm.catalogue() if entry.name not in named]
    recommended = _recommended(width, budget)
    best = found if options.all or options.json else list(_best(found))
    shown = [member for member in found if member in best or str(member.family) in recommended]
    rows = [_row(member, width, recommended) for member in shown]
    if options.json:
        print_json({"width": width, "budget": budget, "networks": rows, "without": missing})
        return
    show(Table(_HEADER, [_cells(row) for row in rows]), "")
    if recommended:
        _say(
            f"Recommended for finetuning: {recommended[0]}, marked by *. `structmat choose --width"
            f" {width}` gives the reasons, and chooses for other purposes."
        )
    if len(shown) < len(found):
        _say(
            f"{len(shown)} of {len(found)} dense networks: the recommended one, and those with the"
            " fewest parameters in their family, or fewer stages than all rows above. --all lists"
            " the others."
        )
    if any(len(row["network"]) > _LONGEST for row in rows):
        _say("Names that end in … are abbreviated; --json prints them in full.")
    if missing:
        limit = "" if budget is None else f" within {budget:,} parameters"
        _say(
            f"Not listed: {', '.join(missing)}. They do not accept width {width:,}, are not dense"
            f"{limit}, are one switch that joins all wires, or could be checked only by"
            " building them."
        )


def _recommended(width: int, budget: int | None) -> tuple[str, ...]:
    """Return the spec recommended for finetuning, and others of its network; () if none fits."""
    try:
        chosen = choose(width, budget=budget, rows=1).best
    except StructmatError:
        return ()
    return chosen.spec, *chosen.also


_HEADER = ("network", "parameters", "stages", "dense after", "largest switch", "wiring")


def _best(found: list[Member]) -> Iterator[Member]:
    """Yield the cheapest network of each family, and any with fewer stages than all before it."""
    seen: set[str] = set()
    fewest = float("inf")
    for member in found:
        if member.family.name not in seen or member.depth < fewest:
            yield member
        seen.add(member.family.name)
        fewest = min(fewest, member.depth)


def _row(member: Member, width: int, recommended: tuple[str, ...]) -> Row:
    """Return the properties of a network, including those of its switches unless it is huge."""
    row: Row = {
        "network": str(member.family),
        "family": member.family.name,
        "parameters": member.parameters,
        "depth": member.depth,
        "dense_at": member.dense_at,
        "largest_switch": None,
        "straight": None,
        "recommended": str(member.family) in recommended,
    }
    if member.depth * width <= _BUILT:
        net = member.family(width)
        row["largest_switch"] = max(bank.radix for bank in net.banks)
        row["straight"] = net.is_straight
    return row


def _cells(row: Row) -> list[str]:
    name = row["network"]
    numbers = (row[key] for key in ("parameters", "depth", "dense_at", "largest_switch"))
    shown = ["–" if number is None else f"{number:,}" for number in numbers]
    wiring = {None: "–", True: "straight", False: "wired"}
    mark = " *" if row["recommended"] else ""
    return [
        (name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…") + mark,
        *shown,
        wiring[row["straight"]],
    ]


def _say(text: str) -> None:
    show(Paragraph(text))
