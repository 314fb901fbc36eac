"""`structmat compare`: compare networks in a table."""

from __future__ import annotations

import argparse
from typing import Any

import structmat as sm
from structmat.cli.commands import add_field, command, print_json
from structmat.cli.console import show
from structmat.families.resolution import Fixed, rule
from structmat.search.choice.ranking import DEFAULT

# The widths of all-MiniLM-L6-v2, which `finetune` adapts; the recommended family, and others.
WIDTHS = (384, 1536)
FAMILIES = (
    DEFAULT,
    "block_diagonal(block=16)",
    "butterfly(block=8, depth=2)",
    "butterfly(block=6)",
    "shuffle(block=4)",
    "mixed_radix(largest=4)",
    "monarch",
    "random(block=8, depth=2, rng=0)",
)


def add(commands: Any) -> None:
    """Add the command."""
    parser = command(
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
        help="families with options, compositions of them, and network files (default: the families"
        " of the demo, and a few others)",
    )
    parser.add_argument(
        "--width",
        type=int,
        nargs="+",
        metavar="N",
        help="widths (default: those of the network files, else 384 and 1536, as in the demo)",
    )
    add_field(parser)
    parser.add_argument(
        "--full",
        action="store_true",
        help="also show the dimension, the mixing, the fewest outputs that an input reaches, and"
        " the concentration of energy, which take longer; bounds replace the dimension where it"
        " requires a rank above about 6,000",
    )


def _compare(options: argparse.Namespace) -> None:
    families: dict[str, Any] = {spec: rule(spec) for spec in options.specs or FAMILIES}
    saved = {one.network.width for one in families.values() if isinstance(one, Fixed)}
    if not options.specs:
        families |= {"torus, drawn by hand": _torus}
    widths = options.width or sorted(saved) or WIDTHS
    table = sm.compare(families, widths, field=options.field, full=options.full)
    if options.json:
        print_json(table.to_dict())
    else:
        show(table)
    if table.missing:
        raise KeyboardInterrupt


def _torus(width: int) -> sm.Network:
    from structmat.finetune.methods import torus

    return torus(width)
