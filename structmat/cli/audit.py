"""`structmat audit`: which properties of the pretrained model a finetuned model preserves."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from structmat._util.files import write_text
from structmat.cli.commands import command, print_json
from structmat.cli.console import show
from structmat.cli.output_files import add_force, check_target
from structmat.errors import FileError


def add(commands: Any) -> None:
    """Add the command."""
    parser = command(
        commands,
        "audit",
        _audit,
        "measure what rotations preserve: orthogonality, singular values, angles, energy",
        "audit my-adapter --model my-model --html audit.html",
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="MODEL_OR_ADAPTER",
        help="an adapter in any format that convert reads, or a finetuned model",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR|FILE",
        help="the pretrained model, as safetensors; without it only the rotations are measured",
    )
    parser.add_argument(
        "--most",
        type=int,
        default=1024,
        metavar="N",
        help="maximum number of neurons per layer that are compared pairwise (default: 1024)",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write an HTML report")
    add_force(parser)


def _audit(options: argparse.Namespace) -> None:
    page: Path | None = options.html
    if page is not None:
        check_target(page, (), option="--html", force=options.force)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # must be set before torch is loaded
    from structmat.audit import audit

    found = audit(options.source, model=options.model, most=options.most, progress=True)
    if options.json:
        print_json(found.to_dict())
    else:
        show(found)
    if page is None:
        return
    try:
        write_text(page, found.to_html())
    except OSError as error:
        raise FileError(f"--html {page}: cannot be written ({error.strerror})") from None
    if not options.json:
        show("", f"page: {page}")
