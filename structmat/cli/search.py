"""`structmat search`: search for networks, in any number of processes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from structmat.cli.commands import command, print_json, say
from structmat.cli.console import show
from structmat.cli.output_files import add_force, check_target
from structmat.cli.user_families import loaded_function, loaded_functions
from structmat.errors import FileError, StructmatError, suggest
from structmat.search.objectives import OBJECTIVES, Objective, objective
from structmat.search.study.engine import search, stored
from structmat.search.study.proposals import SOURCES
from structmat.search.study.result import SearchResult
from structmat.search.study.settings import SAMPLERS

_DIRECTIONS = ("minimize", "maximize")


def add(commands: Any) -> None:
    """Add the command."""
    parser = command(
        commands,
        "search",
        _search,
        "search for networks by objectives and requirements",
        "search --width 8 --objective parameters --require dense --trials 200"
        " --storage search.journal",
    )
    parser.set_defaults(loads_functions=True)
    parser.add_argument("--width", type=int, metavar="N", help="number of wires")
    parser.add_argument(
        "--objective",
        action="append",
        default=[],
        metavar="NAME",
        help="what to optimise; may be repeated, for a Pareto front:"
        f" {', '.join(OBJECTIVES)}, or a function from a file given with --load, which is"
        " minimised",
    )
    for direction in _DIRECTIONS:
        parser.add_argument(
            f"--{direction}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"like --objective, but {direction[:-2]}ised",
        )
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="CONDITION",
        help='dense, universal, a comparison such as "mixing<=0.01", or a function from a file'
        " given with --load; may be repeated",
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=100,
        metavar="N",
        help="total number of finished trials, including those of other processes and of earlier"
        " runs with the same storage (default: 100)",
    )
    parser.add_argument(
        "--storage",
        metavar="FILE|URL",
        help="a journal file, or a database such as postgresql://user@host/database, which any"
        " number of processes can share (default: memory)",
    )
    parser.add_argument(
        "--name", default="search", help="name of the search within its storage (default: search)"
    )
    parser.add_argument(
        "--propose",
        action="append",
        default=[],
        metavar="SOURCE",
        help=f"where networks come from: {', '.join(SOURCES)}, or a function from a file given with"
        f" --load; may be repeated (default: {', '.join(SOURCES)})",
    )
    parser.add_argument(
        "--family",
        action="append",
        metavar="SPEC",
        help="propose networks of this family only; may be repeated (default: all families)",
    )
    parser.add_argument(
        "--start",
        action="append",
        default=[],
        metavar="SPEC",
        help="a family with options, or a network file, to try first; may be repeated",
    )
    parser.add_argument(
        "--sampler",
        choices=SAMPLERS,
        help="the Optuna sampler (default: tpe for one objective, nsga2 for several)",
    )
    parser.add_argument(
        "--field",
        choices=("real", "complex"),
        default="real",
        help="orthogonal blocks, or unitary ones (default: real)",
    )
    parser.add_argument(
        "--target",
        type=Path,
        metavar="FILE.npy",
        help="the matrix that fit_error approximates",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the proposals (default: 0)"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="start no further trial after S seconds"
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="run no trial; only show the trials in the storage, even while other processes run",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.svg|.png",
        help="save a picture of the Pareto front, or of the progress for one objective",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE.json",
        help="save the best network, which all commands accept",
    )
    add_force(parser)


def _search(options: argparse.Namespace) -> None:
    if options.plot is not None:
        check_target(options.plot, option="--plot", force=options.force)
    if options.save is not None:
        check_target(options.save, (".json",), "the suffix must be .json", force=options.force)
    found = _shown(options) if options.show else _found(options)
    if options.save is not None:
        found.save(options.save)
    if options.plot is not None:
        from structmat import viz

        viz.save(found.plot(), options.plot)
    if options.json:
        print_json(found.to_dict())
    else:
        show(found)
        for what, path in (("network", options.save), ("picture", options.plot)):
            if path is not None:
                print(f"{what}: {path}")
    if found.interrupted:
        if options.storage is not None:
            say("the trials are stored; repeat the command to continue the search")
        raise KeyboardInterrupt


def _shown(options: argparse.Namespace) -> SearchResult:
    if options.storage is None:
        raise StructmatError("--show reads a storage; give --storage FILE or URL, too")
    return stored(options.storage, options.name)


def _found(options: argparse.Namespace) -> SearchResult:
    for option, value in (
        ("--width N", options.width),
        ("--objective NAME", options.objective or options.minimize or options.maximize),
    ):
        if not value:
            raise StructmatError(
                f"{option} is missing; to continue a stored search, repeat all its options, and to"
                " show it, add --show"
            )
    named: list[Any] = [_named(name, OBJECTIVES, options.modules) for name in options.objective]
    for direction in _DIRECTIONS:
        named += [_directed(name, direction, options) for name in getattr(options, direction)]
    return search(
        options.width,
        named,
        require=[_named(text, (), options.modules) for text in options.require],
        trials=options.trials,
        storage=options.storage,
        name=options.name,
        proposals=[_named(name, SOURCES, options.modules) for name in options.propose] or SOURCES,
        families=options.family,
        start=options.start,
        sampler=options.sampler,
        field=options.field,
        target=None if options.target is None else _target(options.target),
        rng=options.seed,
        timeout=options.timeout,
    )


def _named(name: str, known: Any, modules: Sequence[str]) -> str | Callable[..., Any]:
    """Return a function of a loaded file, or the name if it is known or no such function exists."""
    if name in known:
        return name
    if (function := loaded_function(name, modules)) is not None:
        return function
    if known is OBJECTIVES and name.isidentifier() and name not in OBJECTIVES:
        own = (one for module in modules for one in loaded_functions(module))
        fallback = (
            f"the choices are {', '.join(OBJECTIVES)}, and functions of a file given with --load"
        )
        raise StructmatError(
            f"objective {name!r}: unknown{suggest(name, [*OBJECTIVES, *own], fallback)}"
        )
    return name


def _directed(name: str, direction: str, options: argparse.Namespace) -> Objective:
    given = _named(name, OBJECTIVES, options.modules)
    target = None if options.target is None else _target(options.target)
    return objective(
        given, direction=direction, field=options.field, target=target, rng=options.seed
    )


def _target(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FileError(f"--target {path}: not a matrix saved by numpy.save ({error})") from None
