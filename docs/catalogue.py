"""Generate the reference page of all families: text, numbers and drawings."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

import structmat as sm
from structmat import viz
from structmat.errors import StructmatError
from structmat.families import Entry
from structmat.testing.members import tried
from structmat.viz import network_drawing

# The order of the files with families; a file that is not listed here comes last.
KINS = (
    "butterflies",
    "shuffles",
    "multistage",
    "mixing_networks",
    "meshes",
    "affine_spaces",
    "gossip_protocols",
    "graph_families",
    "products",
    "expanders",
    "random_networks",
)
DRAWN = (8, 9, 6, 12, 16, *range(10, 17), 7, 5, 4, 3, 2)  # widths of drawings, the best first
TELLING = {"mixed_radix": 12, "monarch": 12, "clos": 12, "deal": 7}  # widths unlike powers of two
COUNTED = (64, 60, 48, 72, 80, 81, *range(63, 1, -1))  # widths of the table's examples
LONGEST = 60  # maximum number of characters of a call in a table
DEEPEST = 9  # maximum number of stages in a drawing

SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)


def page(pictures: Path, shown: str) -> Iterator[str]:
    """Yield the parts of the page; draw into `pictures`, which the page links as `shown`."""
    kins = [(kin, list(members)) for kin, members in itertools.groupby(_ordered(), key=_kin)]
    yield "\n".join(_table(known for _, members in kins for known in members))
    pictures.mkdir(parents=True, exist_ok=True)
    drawn = set()
    for kin, members in kins:
        about = inspect.getdoc(inspect.getmodule(members[0].build)) or ""
        yield f"## {kin.capitalize().replace('_', ' ')}\n\n{about}"
        for known in members:
            yield from _described(known)
            first = [TELLING[known.name]] if known.name in TELLING else []
            chosen = _member(known, [*first, *DRAWN], deepest=DEEPEST)
            if chosen is not None:
                path, call = _picture(*chosen, pictures), _called(*chosen)
                drawn.add(path)
                head = f"{{figure}} {shown}/{path.name}\n:alt: The grid graph of {call}."
                yield f"```{head}\n\n`{call}`\n```"
    for path in set(pictures.iterdir()) - drawn:  # drawings that are out of date
        path.unlink()


def _ordered() -> list[Entry]:
    def place(known: Entry) -> tuple[int, str, int]:
        kin = _kin(known)
        line = inspect.unwrap(known.build).__code__.co_firstlineno
        return KINS.index(kin) if kin in KINS else len(KINS), kin, line

    return sorted(sm.catalogue(), key=place)


def _kin(known: Entry) -> str:
    return known.build.__module__.rpartition(".")[2]


# The table ------------------------------------------------------------------------------------


def _table(entries: Iterable[Entry]) -> Iterator[str]:
    yield "| family | widths | for example | parameters | stages | dense after |"
    yield "|---|---|---|--:|--:|--:|"
    for known in entries:
        cells = [f"[{known.name}](#family-{known.name})", known.widths]
        chosen = _member(known, COUNTED)
        if chosen is None:
            cells += ["–"] * 4
        else:
            rule, width = chosen
            net = rule(width)
            dense = sm.report(net).dense_depth
            cells += [f"`{_called(rule, width)}`", f"{net.parameters:,}", f"{net.depth:,}"]
            cells.append("–" if dense is None else f"{dense:,}")
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _called(rule: sm.Family, width: int) -> str:
    """Return the Python call that constructs a network."""
    options = "".join(f", {key}={value!r}" for key, value in rule.options)
    return f"{rule.name}({width}{options})"


def _member(
    known: Entry, widths: Iterable[int], *, deepest: int | None = None
) -> tuple[sm.Family, int] | None:
    """Return a typical network of the family, at the first width that has one."""
    best: tuple[int, sm.Family, int] | None = None
    for width in widths:
        for rule in tried(known, width, DEEPEST):
            net = _built(rule, width)
            if net is not None:
                faults = _faults(net, deepest) + 8 * (len(_called(rule, width)) > LONGEST)
                if best is None or faults < best[0]:
                    best = faults, rule, width
        if best is not None and best[0] <= 1:  # a family may never be dense
            break
    return None if best is None else best[1:]


def _built(rule: sm.Family, width: int) -> sm.Network | None:
    try:
        return rule(width) if rule.accepts(width) else None
    except StructmatError:  # options that exclude each other
        return None


def _faults(net: sm.Network, deepest: int | None) -> int:
    """Return how atypical of its family a network is."""
    one_switch = any(bank.radix == net.width for bank in net.banks)
    too_deep = deepest is not None and net.depth > deepest
    return 4 * one_switch + 2 * too_deep + (not sm.is_dense(net))


# One family -----------------------------------------------------------------------------------


def _described(known: Entry) -> Iterator[str]:
    yield f"(family-{known.name})=\n### {known.name}"
    parameters = [
        parameter.replace(annotation=parameter.empty)
        for parameter in known.signature.parameters.values()
    ]
    call = f"{known.name}{inspect.Signature(parameters)}"
    also = f" Specs may call it {' or '.join(known.aliases)}." if known.aliases else ""
    yield f"`{call}` takes widths: {known.widths}.{_reference(known)}{also}"
    yield f"```{{eval-rst}}\n{_text(known)}\n```"


def _reference(known: Entry) -> str:
    if getattr(sm.families, known.name, None) is not known.build:
        return ""
    home = "structmat" if known.name in sm.__all__ else "structmat.families"
    return f" Its options: {{py:func}}`{home}.{known.name}`."


def _text(known: Entry) -> str:
    """Return the sentences and the sources of a docstring, as reStructuredText."""
    head, *sections = SECTION.split(inspect.getdoc(known.build) or known.name)
    named = dict(zip(sections[::2], sections[1::2], strict=True))
    text = head.strip()
    if "References" in named:
        sources = re.sub(r"^\.\. \[\w+\] *", "", named["References"].strip(), flags=re.MULTILINE)
        text += "\n\n*Source:* " + inspect.cleandoc(sources)
    return re.sub(r" ?\[\w+\]_", "", text).replace("|", r"\|")


def _picture(rule: sm.Family, width: int, folder: Path) -> Path:
    """Draw a network, unless the file exists already; return the file."""
    net = rule(width)
    drawing = "".join(
        Path(module).read_text("utf-8") for module in (network_drawing.__file__, __file__)
    )
    key = hashlib.sha256(f"{net.to_json()} {mpl.__version__} {drawing}".encode()).hexdigest()
    path = folder / f"{rule.name}-{key[:8]}.svg"
    if not path.exists():
        size = (min(1.1 + 1.5 * net.depth, 7.4), 0.9 + 0.28 * width)  # as wide as the page's text
        figure = Figure(figsize=size, layout="constrained")
        viz.grid(net, ax=figure.add_subplot())
        viz.save(figure, path)
    return path
