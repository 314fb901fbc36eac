"""`structmat explore`: choose, draw and examine networks in the browser."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Any

from structmat._util.text_table import counted
from structmat.cli.commands import command, print_json
from structmat.cli.output_files import add_force, check_target
from structmat.errors import FileError, StructmatError
from structmat.explorer.saved_networks import SPECS, WIDTHS, precomputed
from structmat.families.resolution import is_path

_ENDINGS = (".html", ".htm")


def add(commands: Any) -> None:
    """Add the command."""
    parser = command(
        commands,
        "explore",
        _explore,
        "choose or draw networks in the browser",
        'explore "shuffle(block=4)" --width 16 64 --save shuffle.html',
    )
    parser.add_argument(
        "specs",
        nargs="*",
        metavar="SPEC",
        help="the family or file shown first; with --save, the families to save (default: at least"
        " one of each kind)",
    )
    parser.add_argument(
        "--width",
        type=int,
        nargs="+",
        metavar="N",
        help="the width shown first (default: 16); with --save, the widths to save"
        f" (default: {' '.join(map(str, WIDTHS))})",
    )
    serve = parser.add_argument_group("serving the page (to this machine only, until Ctrl-C)")
    serve.add_argument(
        "--port", type=int, default=0, metavar="P", help="port (default: any free port)"
    )
    serve.add_argument("--no-open", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE.html",
        help="write the page as a single file with precomputed results, which works offline and"
        " without a server, and exit",
    )
    add_force(parser)


def _explore(options: argparse.Namespace) -> None:
    if options.save is None:
        _serve(options)
    else:
        _save(options)


def _serve(options: argparse.Namespace) -> None:
    from structmat.explorer.exploring import opening
    from structmat.explorer.queries import asked
    from structmat.explorer.server import Server

    if len(options.specs) > 1 or len(options.width or ()) > 1:
        raise StructmatError(
            "only one network is shown first: give one SPEC and one --width, or use --save"
            " FILE.html for a page with several"
        )
    first = opening(*(options.specs or [None]), *(options.width or ()))
    asked(first)
    with Server(options.port, first, options.load) as server:
        if options.json:
            print_json({"address": server.address})
        else:
            print(f"The explorer is at {server.address} until Ctrl-C.")
        sys.stdout.flush()  # another program may be waiting for the address
        if (
            not options.no_open
        ):  # in a thread, because a browser in the terminal would block the server
            threading.Thread(target=webbrowser.open, args=[server.address], daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):  # the documented way to stop
            server.serve_forever()


def _save(options: argparse.Namespace) -> None:
    from structmat._util.files import write_text
    from structmat.explorer.html import page

    path: Path = options.save
    check_target(path, _ENDINGS, "the suffix must be .html", force=options.force)
    saved = [spec for spec in options.specs if is_path(spec)]
    if saved:
        raise StructmatError(f"{saved[0]}: --save accepts only families; omit it for a file")
    found = precomputed(options.specs or SPECS, options.width or WIDTHS, progress=not options.json)
    try:
        write_text(path, page(saved=found, load=options.load))
    except OSError as error:
        raise FileError(f"--save {path}: cannot be written ({error.strerror})") from None
    networks = [{"spec": one["spec"], "width": one["width"]} for one in found.networks]
    if options.json:
        print_json({"saved": str(path), "networks": networks})
        return
    widths = sorted({one["width"] for one in networks})
    sizes = f"{'width' if len(widths) == 1 else 'widths'} {', '.join(map(str, widths))}"
    print(f"{path}: {counted(len(networks), 'network')} of {sizes}, and any network drawn by hand")
