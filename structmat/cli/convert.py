"""`structmat convert`: convert adapters between file formats, or merge them into the model."""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path
from typing import Any

from structmat.cli.commands import command, print_json
from structmat.cli.console import show
from structmat.cli.output_files import add_force, check_consent
from structmat.errors import BaseModelWarning

TARGETS = (
    *("structmat", "peft", "peft-boft", "peft-oft"),
    *("kohya", "comfyui", "lycoris", "gsoft", "lora", "merged"),
)
COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
CONVENTIONS = ("kohya", "lycoris", "comfyui", "onetrainer", "peft")


def add(commands: Any) -> None:
    """Add the command."""
    parser = command(
        commands,
        "convert",
        _convert,
        "convert an adapter between structmat, PEFT, diffusers, LyCORIS, sd-scripts, ComfyUI and"
        " other programs, approximate it by LoRA, or merge it into the model",
        "convert my-adapter my-lora --to lora --rank 32 --model my-model",
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="IN",
        help="a directory saved by structmat, PEFT or diffusers (structmat, BOFT, OFT, HRA, PSOFT,"
        " RoAd), or a safetensors file from LyCORIS, sd-scripts, OneTrainer, ComfyUI, diffusers or"
        " GSOFT",
    )
    parser.add_argument(
        "target",
        type=Path,
        metavar="OUT",
        help="a new directory; for kohya, comfyui, lycoris, gsoft, --prefix, or merging into a"
        " single-file model, a new .safetensors file",
    )
    parser.add_argument(
        "--to", choices=TARGETS, default="structmat", help="output format (default: structmat)"
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR|FILE",
        help="the pretrained model, as safetensors, or the diffusers pipeline that contains it:"
        " required for lora and merged, and if IN lacks the shapes or names of the layers",
    )
    parser.add_argument(
        "--rank", type=int, metavar="R", help="rank of LoRA; the approximation error is reported"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="T",
        help="select the rank of each LoRA layer: the smallest with which the error relative to the"
        " change in the weight (Frobenius norm) is at most T, such as 0.01; with --rank, at most R",
    )
    parser.add_argument(
        "--svd",
        choices=("exact", "randomised"),
        default="exact",
        help="how the singular vectors for LoRA are computed; randomised is faster for wide layers"
        " and low ranks, and slightly less accurate (default: exact)",
    )
    parser.add_argument(
        "--prefix",
        metavar="NAME",
        help="write LoRA as one file instead of a PEFT directory, with layers named NAME.…: unet or"
        " transformer for diffusers",
    )
    parser.add_argument(
        "--component",
        choices=COMPONENTS,
        help="the model of an image pipeline: selects one if IN adapts several, and determines the"
        " names of layers for kohya, comfyui and lycoris",
    )
    parser.add_argument(
        "--convention",
        choices=CONVENTIONS,
        help="the program whose formula applies, if IN does not specify it",
    )
    parser.add_argument(
        "--nearest",
        action="store_true",
        help="replace blocks that are not orthogonal, such as the default blocks of OFT in PEFT,"
        " with the nearest rotations",
    )
    add_force(parser)


def _convert(options: argparse.Namespace) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # must be set before torch is loaded
    from structmat.convert import convert
    from structmat.convert.conversion import is_present

    exists = is_present(options.target)
    if exists:
        check_consent(f"{options.target}", force=options.force)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BaseModelWarning)  # it is also among the notes
        done = convert(
            options.source,
            options.target,
            to=options.to,
            model=options.model,
            rank=options.rank,
            tolerance=options.tolerance,
            svd=options.svd,
            prefix=options.prefix,
            component=options.component,
            convention=options.convention,
            nearest=options.nearest,
            replace=exists,
            progress=True,
        )
    if options.json:
        print_json(done.to_dict())
    else:
        show(done)
