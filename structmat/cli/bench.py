"""`structmat bench`: benchmark adapters, or rotations alone, on this machine for given shapes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from structmat.cli.commands import command, print_json, say
from structmat.cli.console import show
from structmat.cli.output_files import add_force, check_target
from structmat.errors import SpecError, StructmatError, abbreviated, suggest
from structmat.families.resolution import Fixed, rule

if TYPE_CHECKING:
    from structmat.bench.candidates import Candidate
    from structmat.bench.measurements import Benchmark, Row
    from structmat.finetune.methods import Method

SPECS = ("butterfly(block=8, depth=4)", "mixed_radix(largest=16)")  # BOFT's, and a dense network

_WIDTHS, _TOKENS = (1024,), (1024,)
_REFERENCES = {"LoRA": "LoRA", "frozen": "the frozen layer", "copy": "a copy of the vectors"}
# The methods of the demo that `--against` accepts for a whole model.
_OF_MODELS = {"frozen": "head", "lora": "lora", "oft": "peft-oft"}


def add(commands: Any) -> None:
    """Add the command."""
    parser = command(
        commands,
        "bench",
        _bench,
        "benchmark adapters: networks, LoRA, OFT, BOFT, HRA, RoAd, PSOFT, a dense rotation",
        'bench "monarch" "mixed_radix(largest=16)" --width 512 --against lora,oft --seconds 1',
    )
    parser.add_argument(
        "specs",
        nargs="*",
        metavar="SPEC",
        help="families with options, compositions of them, and network files (default:"
        f" {' and '.join(SPECS)})",
    )
    layer = parser.add_argument_group("one linear layer")
    layer.add_argument(
        "--width", type=int, nargs="+", metavar="N", help="inputs of the layer (default: 1024)"
    )
    layer.add_argument(
        "--outputs", type=int, metavar="N", help="outputs of the layer (default: same as inputs)"
    )
    layer.add_argument(
        "--tokens", type=int, nargs="+", metavar="N", help="tokens per batch (default: 1024)"
    )
    layer.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="dtype of the layer (default: float32)"
    )
    layer.add_argument(
        "--rotation",
        action="store_true",
        default=None,
        help="time only the forward pass of the rotation, without the layer",
    )
    parser.add_argument(
        "--model",
        nargs="?",
        const="",
        metavar="DIR_OR_ID",
        help="time training steps of a whole model instead: a directory, a name on the Hub, or by"
        " default all-MiniLM-L6-v2; place this option after the specs",
    )
    parser.add_argument(
        "--against",
        metavar="NAMES",
        help="methods to compare with, separated by commas: frozen, lora, oft, boft, hra, road,"
        " psoft, lazylinop, dense, parametrization; for a rotation alone: copy, lora, lazylinop,"
        " dense; for a model: frozen, lora, oft (default: all that are installed)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds to measure each setting; at least three rounds are run (default: 10)",
    )
    parser.add_argument(
        "--warmup",
        type=int,
        default=1,
        metavar="N",
        help="number of warm-up rounds, which fill caches and are not recorded (default: 1)",
    )
    parser.add_argument(
        "--busy", action="store_true", help="measure while another program occupies one core"
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE.svg|.png", help="also plot the ratios of the times"
    )
    add_force(parser)


def _bench(options: argparse.Namespace) -> None:
    names = _names(options)
    if options.save is not None:
        check_target(options.save, force=options.force)
        other = "copy" if options.rotation else "frozen"
        if names is not None and not {other, "lora"} & set(names):
            raise StructmatError(
                f"--save plots ratios to LoRA or to {_REFERENCES[other]}; add lora or {other} to"
                " --against"
            )
    if not 0 <= options.seconds < float("inf"):
        raise StructmatError(f"--seconds {options.seconds}: it must be a finite number ≥ 0")
    if options.warmup < 0:
        raise StructmatError(f"--warmup {options.warmup}: it must be an integer ≥ 0")
    given = shlex.join(["structmat", *options.command])
    found = _layers(options, given) if options.model is None else _model(options, given)
    if all(row.refused is not None for row in found.rows):
        raise StructmatError(f"nothing was measured: {_reasons(found.rows)}")
    if options.json:
        print_json(found.to_dict())
    else:
        show(found)
    # Last, so that the measurements are printed even if the rest fails.
    if options.save is not None:
        _draw(found, options.save)
        if not options.json:
            show("", f"picture: {options.save}")
    given_names = {_name(rule(text)) for text in options.specs or SPECS}
    networks = [row for row in found.rows if row.name in given_names]
    if all(row.refused is not None for row in networks):
        raise StructmatError(f"no network was measured: {_reasons(networks)}")


def _names(options: argparse.Namespace) -> list[str] | None:
    if options.against is None:
        return None
    return [name.strip() for name in options.against.split(",") if name.strip()]


def _name(topology: Callable[[int], Any]) -> str:
    """Return the name of a network in the results: the path of its file, or its spec."""
    return topology.source if isinstance(topology, Fixed) else str(topology)


def _reasons(rows: Iterable[Row]) -> str:
    """Return each distinct reason for missing numbers, with the candidates to which it applies."""
    who: dict[str | None, dict[str, None]] = {}
    for row in rows:
        who.setdefault(row.refused, {})[row.label] = None
    return "; ".join(f"{', '.join(labels)}: {reason}" for reason, labels in who.items())


# One layer -----------------------------------------------------------------------------------


def _layers(options: argparse.Namespace, given: str) -> Benchmark:
    from structmat.bench.layer_benchmark import measure

    if options.rotation and options.outputs is not None:
        raise StructmatError("--outputs applies to a layer; omit it with --rotation")
    candidates, notes = _candidates(options)
    return measure(
        candidates,
        widths=options.width or _WIDTHS,
        outputs=options.outputs,
        tokens=options.tokens or _TOKENS,
        dtype=options.dtype or "float32",
        seconds=options.seconds,
        warmup=options.warmup,
        alone=bool(options.rotation),
        busy=options.busy,
        command=given,
        notes=notes,
    )


def _candidates(options: argparse.Namespace) -> tuple[list[Candidate], list[str]]:
    """Return the distinct candidates, and notes on those that are not installed."""
    from structmat.bench.candidates import AGAINST, ALONE, alone, named, topology

    names, among = _names(options), ALONE if options.rotation else AGAINST
    notes = []
    if names is None:
        selected = [candidate for candidate in among.values() if not candidate.missing]
        notes = [f"{c.label}: {c.extra} is not installed" for c in among.values() if c.missing]
    else:
        selected = [named(name, among) for name in names]
    given = [topology(spec) for spec in options.specs or SPECS]
    selected += [alone(candidate) for candidate in given] if options.rotation else given
    return list({candidate.name: candidate for candidate in selected}.values()), notes


# A whole model -------------------------------------------------------------------------------


def _model(options: argparse.Namespace, given: str) -> Benchmark:
    from structmat.finetune.docstring_task import docstring_task
    from structmat.finetune.hyperparameters import Hyperparameters
    from structmat.finetune.models import pretrained
    from structmat.finetune.step_times import measure_model

    for name in ("width", "outputs", "tokens", "dtype", "rotation"):
        if getattr(options, name) is not None:
            raise StructmatError(f"--{name} applies to a single layer; omit it with --model")
    methods = _methods(options)
    source = pretrained(options.model or None)
    source.check(say)
    hyperparameters = Hyperparameters()
    task = docstring_task()
    return measure_model(
        methods,
        source,
        task,
        hyperparameters=hyperparameters,
        seconds=options.seconds,
        warmup=options.warmup,
        busy=options.busy,
        command=given,
    )


def _methods(options: argparse.Namespace) -> list[Method]:
    from structmat.finetune.methods import ROTATION_RATE, Method, named

    names = _names(options)
    for name in names or ():
        if name not in _OF_MODELS:
            raise SpecError(
                f"unknown candidate {abbreviated(name)} for a model{suggest(name, _OF_MODELS)}"
            )
    selected = [named(_OF_MODELS[name]) for name in (_OF_MODELS if names is None else names)]
    for text in options.specs or SPECS:
        found = rule(text)
        name = _name(found)
        topology = found if isinstance(found, Fixed) else name
        selected.append(Method(name, name, "rotation", ROTATION_RATE, topology))
    return list({method.name: method for method in selected}.values())


def _draw(found: Benchmark, path: Path) -> None:
    from structmat import viz

    timed = "training step" if any(row.step for row in found.rows) else "forward pass"
    reference = _REFERENCES[found.reference]
    label = f"time of a {timed}, relative to {reference}"
    viz.save(viz.bars(found.bars(), x=label, mark=1), path)
