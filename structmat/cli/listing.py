"""`structmat list`: the families, and the dense networks of a width to choose from."""

from __future__ import annotations

import argparse
import inspect
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

import structmat as sm
from structmat.cli.parsing import command, print_json
from structmat.errors import StructmatError
from structmat.finetune.tables import plain
from structmat.reachability import first_dense

_BUILT = 2**22  # wires times stages of a network that is built only to look at it
_HEARD = 2**14  # wires of one whose density is looked for though its family promises nothing

Row = dict[str, Any]


def add(commands: Any) -> None:
    """Declare the command."""
    parser = command(
        commands,
        "list",
        _list,
        "list the families; with --width the dense networks to choose from",
        "list --width 11008 --budget 500000",
    )
    parser.add_argument("--width", type=int, metavar="N", help="list the dense networks of N wires")
    parser.add_argument(
        "--budget", type=int, metavar="P", help="with at most P parameters (default: N(N−1)/2)"
    )
    parser.add_argument("--all", action="store_true", help="every dense network, not only the best")


def _list(options: argparse.Namespace) -> None:
    if options.width is not None:
        _list_dense(options)
    elif options.budget is not None or options.all:
        raise StructmatError("--budget and --all choose among the networks of --width N; give it")
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
    found = sm.dense_networks(width, budget)
    if not found and not options.json:
        fewest = _row(sm.dense_networks(width)[0], width)
        raise StructmatError(
            f"budget {budget:,}: no network of width {width:,} is dense within it; the fewest"
            f" parameters are {fewest['parameters']:,}, of {fewest['network']}"
        )
    rows = [_row(rule, width) for rule in found]
    missing = sorted({entry.name for entry in sm.catalogue()} - {rule.name for rule in found})
    if options.json:
        print_json({"width": width, "budget": budget, "networks": rows, "without": missing})
        return
    shown = rows if options.all else list(_best(rows))
    print(plain(_HEADER, [_cells(row) for row in shown]))
    print()
    if len(shown) < len(rows):
        _say(
            f"{len(shown)} of {len(rows)} dense networks: those with the fewest parameters of"
            " their family, or with fewer stages than all above. --all lists the others."
        )
    if missing:
        limit = "" if budget is None else f" within {budget:,} parameters"
        _say(f"Not of width {width:,}, or not dense{limit}: {', '.join(missing)}.")


_HEADER = ("network", "parameters", "stages", "dense after", "largest switch", "wiring")


def _best(rows: list[Row]) -> Iterator[Row]:
    """Yield the cheapest network of each family, and any with fewer stages than all before."""
    seen: set[str] = set()
    fewest = float("inf")
    for row in rows:
        if row["family"] not in seen or row["depth"] < fewest:
            yield row
        seen.add(row["family"])
        fewest = min(fewest, row["depth"])


def _row(rule: sm.Family, width: int) -> Row:
    """Return what is known of a network: what its family promises, and more if it is not huge."""
    claims = rule.promised(width)
    row: Row = {
        "network": str(rule),
        "family": rule.name,
        "parameters": claims.parameters,
        "depth": claims.depth,
        "dense_at": claims.dense_at,
        "largest_switch": None,
        "straight": None,
    }
    if claims.depth is not None and claims.depth * width > _BUILT:
        return row
    net = rule(width)
    if claims.dense_at is None and width <= _HEARD:
        row["dense_at"] = first_dense(net)
    return row | {
        "parameters": net.parameters,
        "depth": net.depth,
        "largest_switch": max(bank.radix for bank in net.banks),
        "straight": net.is_straight,
    }


def _cells(row: Row) -> list[str]:
    numbers = (row[key] for key in ("parameters", "depth", "dense_at", "largest_switch"))
    shown = ["–" if number is None else f"{number:,}" for number in numbers]
    wiring = {None: "–", True: "straight", False: "wired"}
    return [row["network"], *shown, wiring[row["straight"]]]


def _say(text: str) -> None:
    print(textwrap.fill(text, shutil.get_terminal_size().columns))
