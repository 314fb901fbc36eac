"""`structmat atlas`: the best known topologies, with proved bounds; compute and improve them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from structmat._util.files import write_text
from structmat._util.progress import bar
from structmat._util.text_table import Table, counted
from structmat.cli.commands import command, print_json, say
from structmat.cli.console import show
from structmat.cli.output_files import add_force, check_target
from structmat.errors import StructmatError
from structmat.families.resolution import Fixed, rule
from structmat.search.atlas.best_known import best_known, is_better
from structmat.search.atlas.lookup import Atlas, selected, summary
from structmat.search.atlas.questions import BLOCKS, QUESTIONS
from structmat.search.atlas.record_file import HOLDERS, PATH, Record, locked, read, write
from structmat.search.atlas.stored_topology import Topology
from structmat.search.atlas.verification import mismatch, submitted, with_records


def add(commands: Any) -> None:
    """Add the command."""
    parser = command(
        commands,
        "atlas",
        _atlas,
        "show the best known topology for each width, block size and purpose, with proved bounds",
        "atlas --width 64 --block 4",
    )
    parser.add_argument("--width", type=int, metavar="N", help="only records of this width")
    parser.add_argument(
        "--block",
        type=int,
        metavar="B",
        help=f"only records of this largest radix: {', '.join(map(str, BLOCKS))}",
    )
    parser.add_argument(
        "--purpose", metavar="NAME", help=f"only records of this purpose: {', '.join(QUESTIONS)}"
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE.json",
        help="save the network of the best selected record, for commands that take a network",
    )
    task = parser.add_mutually_exclusive_group()
    task.add_argument(
        "--recompute",
        action="store_true",
        help="compute the selected records again from their networks, and report differences; with"
        " --write, also search all families again, and write the records",
    )
    task.add_argument(
        "--submit",
        metavar="TOPOLOGY",
        help="measure a network, such as the best of a search, and list the records that it"
        " improves; with --write, replace them",
    )
    parser.add_argument(
        "--holder",
        choices=HOLDERS,
        default="search",
        help="where a submitted network comes from (default: search)",
    )
    parser.add_argument("--write", action="store_true", help="write the results into the data file")
    parser.add_argument(
        "--file",
        type=Path,
        default=PATH,
        metavar="FILE.json",
        help="the data file to read and write (default: that of the package)",
    )
    add_force(parser)


def _atlas(options: argparse.Namespace) -> None:
    if options.write and not (options.recompute or options.submit):
        raise StructmatError("--write: nothing to write; give --recompute or --submit, too")
    if options.save is not None:
        check_target(options.save, (".json",), "the suffix must be .json", force=options.force)
    wanted = (options.width, options.block, options.purpose)
    selected((), *wanted)  # raises an error for names and numbers that the atlas does not have
    if options.submit:
        _submit(options)
        return
    new = options.recompute and options.write and not options.file.exists()
    records = () if new else read(options.file)
    if options.recompute and options.write:
        _rebuild(records, wanted, options)
    elif options.recompute:
        _check(selected(records, *wanted), options)
    else:
        _show(records, Atlas(selected(records, *wanted)), options)


def _show(records: Sequence[Record], table: Atlas, options: argparse.Namespace) -> None:
    if options.save is not None:
        net = table.best().network
        write_text(options.save, net.to_json() + "\n")
    if options.json:
        print_json(table.to_dict())
    elif len(table) < len(records):
        show(table)
        for title in dict.fromkeys(f"{r.purpose}: {r.question.title}" for r in table):
            print(title)
    else:
        rows = summary(records)
        head = ("purpose", "records", "met", "open", "impossible", "the record has")
        cells = [[f"{value}" for value in row.values()] for row in rows]
        show(Table(head, cells, left=(0, 5)))
        print(
            f"\n{counted(len(records), 'record')}. A record that meets its proved bound cannot be"
            " improved.\n--width, --block and --purpose select records."
        )


def _check(records: Sequence[Record], options: argparse.Namespace) -> None:
    found = []
    with bar("atlas", len(records), unit="record", shown=True) as steps:
        for record in records:
            difference = mismatch(record)
            if difference is not None:
                found.append(difference)
            steps.update()
    if options.json:
        wrong = [
            difference.record.to_dict() | {"reason": difference.reason} for difference in found
        ]
        print_json({"records": len(records), "mismatches": wrong})
    if found:
        lines = "; ".join(map(str, found))
        raise StructmatError(f"{counted(len(found), 'record')} of {len(records):,} differ: {lines}")
    if not options.json:
        print(f"{counted(len(records), 'record')} computed again: no difference.")


def _rebuild(
    records: Sequence[Record], wanted: tuple[Any, ...], options: argparse.Namespace
) -> None:
    """Find the best networks of all families again; keep records that are better and correct."""
    width, block, purpose = wanted
    places = [
        (name, size, radix)
        for size in sorted({w for p in QUESTIONS.values() for w in p.widths})
        for name, asked in QUESTIONS.items()
        for radix in BLOCKS
        if size in asked.widths
        and width in (None, size)
        and block in (None, radix)
        and purpose in (None, name)
    ]
    merged = {record.place: record for record in records}
    changed = 0
    with bar("atlas", len(places), unit="record", shown=True) as steps:
        for number, place in enumerate(places):
            record, before = best_known(*place), merged.get(place)
            if before is not None and not is_better(record, before) and mismatch(before) is None:
                record = before
            if record.value is None and record.reason is None:
                raise StructmatError(f"{' '.join(map(str, place))}: no family serves this purpose")
            changed += record != before
            merged[place] = record
            steps.update()
            if number + 1 == len(places) or places[number + 1][1] != place[1]:
                write(merged.values(), options.file)  # after each width, so that nothing is lost
    said = f"{counted(len(places), 'record')} computed, {changed:,} changed: {options.file}"
    if options.json:
        print_json({"records": len(places), "changed": changed, "file": str(options.file)})
    else:
        print(said)


def _submit(options: argparse.Namespace) -> None:
    given = rule(options.submit)
    if isinstance(given, Fixed):
        topology: Any = given.network
        if options.width not in (None, topology.width):
            raise StructmatError(f"--width {options.width}: the network has {topology.width} wires")
    elif options.width is None:
        raise StructmatError(f"{given}: a family has a network for each width; give --width N")
    else:
        topology = Topology(options.width, str(given))
    with locked(options.file) if options.write else nullcontext():
        records = read(options.file)
        better = submitted(records, topology, holder=options.holder)
        if options.write and better:
            write(with_records(records, better), options.file)
            say(f"written: {options.file}")
    if options.json:
        print_json({"improved": [record.to_dict() for record in better]})
    elif better:
        show(Atlas(tuple(better)))
    else:
        print("No record is improved.")
