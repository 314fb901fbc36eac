"""`structmat show`: draw a network, report on it, and save a plot."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structmat as sm
from structmat.cli.commands import add_field, command, print_json
from structmat.cli.console import show
from structmat.cli.output_files import add_force, check_target
from structmat.errors import StructmatError, abbreviated
from structmat.families import Claims, Rule
from structmat.families.resolution import Builder, Fixed, network, rule

_GRID = 64  # maximum width at which the grid graph is drawn wire by wire; more wires are bundled
_PATTERN = 4096  # maximum width of a sparsity pattern that is drawn in a few seconds
_PANELS = 64  # maximum number of stages whose patterns are legible
_EDGES = 2 * 10**7  # maximum number of free entries of the factors that are drawn in seconds
_WIRES = 2 * 10**7  # maximum of width × stages for building in seconds
_PAIRS = 10**11  # maximum of width² × stages for computing the density in 15 seconds


def add(commands: Any) -> None:
    """Add the command."""
    parser = command(
        commands,
        "show",
        _show,
        "draw a network, report on it, and describe its schedule",
        'show "butterfly(block=8, depth=2) * 2" --width 64',
    )
    parser.add_argument(
        "spec",
        metavar="SPEC",
        help='a family with options, a composition such as "benes @ butterfly", a network file'
        " written by Network.to_json, or a graph in GraphML",
    )
    parser.add_argument(
        "--width",
        type=int,
        metavar="N",
        help="number of wires, required for a family or composition; width × stages at most"
        f" {_WIRES:,}, and width² × stages at most {_PAIRS:,} unless the network is known not to be"
        " dense",
    )
    add_field(parser)
    parser.add_argument(
        "--full",
        action="store_true",
        help="also show dimension, mixing, the fewest outputs that an input reaches, concentration"
        " of energy, lower bounds, sensitivity and, up to width 64, fourth moment, conditioning"
        " and spectrum",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE.svg|.png",
        help="also save a plot: the grid graph or, for more than"
        f" {_GRID} and up to {_PATTERN:,} wires without --inputs, the sparsity patterns",
    )
    parser.add_argument(
        "--inputs",
        type=_wires,
        metavar="I,J,…",
        help="show which wires these inputs influence, in colour, in the saved plot",
    )
    add_force(parser)


def _wires(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{abbreviated(text)}: give wires as in 0,3") from None


def _show(options: argparse.Namespace) -> None:
    if options.inputs is not None and options.save is None:
        raise StructmatError("--inputs applies to a plot; give --save FILE.svg, too")
    if options.save is not None:
        check_target(options.save, force=options.force)
    net = _built(rule(options.spec), options.width)
    if options.save is not None:
        _draw(net, options.inputs, options.save)
    report, plan = sm.report(net, field=options.field), sm.schedule(net)
    if options.full:
        report.complete()
    if options.json:
        print_json(report.to_dict() | {"spec": options.spec, "schedule": plan.to_dict()})
        return
    show(sm.diagram(net), "", report, "", plan.explain())
    if options.save is not None:
        show("", f"picture: {options.save}")


def _built(found: Builder, width: int | None) -> sm.Network:
    """Build a network, or raise an error if it is so large that showing it would take minutes."""
    if isinstance(found, Fixed):
        net = network(found.network, width)
        claims = Claims(parameters=net.parameters)
        _check_size(found.source, net.width, net.depth, claims)
        return net
    if not isinstance(found, Rule) or width is None:
        raise StructmatError(f"{found}: a family has a network for each width; give --width N")
    claims = found.claims(width)
    if claims.depth is not None:
        _check_size(found, width, claims.depth, claims)
    net = found(width)
    _check_size(found, width, net.depth, claims)
    return net


def _check_size(what: object, width: int, depth: int, claims: Claims) -> None:
    dense = claims.dense is not False
    if depth * width <= _WIRES and (not dense or depth * width**2 <= _PAIRS):
        return
    known = "" if claims.parameters is None else f" and {claims.parameters:,} parameters"
    most = f"width × stages up to {_WIRES:,}"
    if dense:
        most += f" and width² × stages up to {_PAIRS:,}"
    raise StructmatError(
        f"{what} of width {width:,} has {depth:,} stages{known}: show accepts {most}; use a"
        " narrower network of the family"
    )


def _draw(net: sm.Network, inputs: Sequence[int] | None, path: Path) -> None:
    from structmat import viz

    free = net.nonzeros
    if free > _EDGES:
        raise StructmatError(
            f"width {net.width:,} and {net.depth:,} stages: a plot shows up to {_EDGES:,} free"
            f" entries of the factors, not {free:,}; use a narrower network of the family"
        )
    small = net.width <= _PATTERN and net.depth <= _PANELS
    patterns = inputs is None and net.width > _GRID and small
    viz.save(viz.sparsity(net) if patterns else viz.grid(net, inputs=inputs), path)
