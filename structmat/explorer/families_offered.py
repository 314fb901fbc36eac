"""The families that the page offers: their groups and options, and a working example of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from structmat.explorer.python_code import is_ours
from structmat.families import Entry, Family, catalogue
from structmat.families.variants import accepts

Description = dict[str, Any]

_KIN: Mapping[str, str] = {  # the headings of groups, by the module of a family
    "butterflies": "butterflies",
    "shuffles": "shuffles",
    "multistage": "multistage networks",
    "meshes": "meshes",
    "affine_spaces": "affine spaces",
    "mixing_networks": "mixing networks",
    "gossip_protocols": "gossip protocols",
    "products": "product graphs",
    "graph_families": "Cayley and de Bruijn graphs",
    "expanders": "expanders",
    "random_networks": "random networks",
}
_OWN = "your own families"
COMPOSED = "compositions"

EXAMPLES: Mapping[str, tuple[str, int]] = {
    "block_diagonal": ("block_diagonal(block=4)", 16),
    "butterfly": ("butterfly(block=4)", 16),
    "mixed_radix": ("mixed_radix", 12),
    "monarch": ("monarch", 16),
    "deal": ("deal(block=3)", 12),
    "kautz": ("kautz(block=2)", 12),
    "shuffle": ("shuffle(block=4)", 16),
    "baseline": ("baseline", 16),
    "benes": ("benes", 8),
    "clos": ("clos", 16),
    "omega": ("omega", 16),
    "waksman": ("waksman", 13),
    "brickwall": ("brickwall", 12),
    "round_robin": ("round_robin", 12),
    "ruler": ("ruler", 16),
    "triangle": ("triangle", 8),
    "affine": ("affine", 16),
    "mixing_network": ("mixing_network(block=4)", 16),
    "gossip": ("gossip", 13),
    "knodel": ("knodel", 12),
    "hamming": ("hamming(radices=(3, 4))", 12),
    "hypercube": ("hypercube", 16),
    "product": ("product(graphs=('cycle', 'path'), sides=(4, 3))", 12),
    "torus": ("torus", 16),
    "cayley_graph": ("cayley_graph(generators=((1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2)))", 24),
    "circulant": ("circulant", 16),
    "de_bruijn": ("de_bruijn", 16),
    "chordal_cycle": ("chordal_cycle", 13),
    "margulis": ("margulis", 16),
    "ramanujan": ("ramanujan(rng=0)", 32),
    "random_regular": ("random_regular(degree=3, rng=0)", 16),
    "random": ("random(block=4, depth=2, rng=0)", 16),
}
COMPOSITIONS: Mapping[str, int] = {  # examples of operations on families, with a width
    "butterfly * 2": 16,
    "mirror(omega)": 16,
    "shuffle(block=4) @ butterfly": 16,
    "benes[:4]": 16,
}


def kin(known: Entry) -> str:
    """Return the heading of the group of a family.

    Examples
    --------
    >>> [kin(known) for known in catalogue() if known.name == "torus"]
    ['product graphs']
    """
    return _KIN[known.build.__module__.rpartition(".")[2]] if is_ours(known) else _OWN


def offered() -> list[Description]:
    """Return the description of every family for the form, group by group.

    Examples
    --------
    >>> [butterfly] = [family for family in offered() if family["name"] == "butterfly"]
    >>> butterfly["kin"], butterfly["example"]
    ('butterflies', {'spec': 'butterfly(block=4)', 'width': 16})
    >>> butterfly["options"][0]
    {'name': 'block', 'default': '2', 'needed': False, 'hint': 'Wires per switch, even.'}
    """
    return [
        {
            "name": known.name,
            "kin": kin(known),
            "widths": known.widths,
            "summary": known.summary,
            "own": not is_ours(known),
            "options": [_option(known, name) for name in known.options],
            "example": example(known),
        }
        for known in ordered()
    ]


def ordered() -> list[Entry]:
    """Return all families, group by group.

    Examples
    --------
    >>> [known.name for known in ordered()][:2]
    ['block_diagonal', 'butterfly']
    """
    order = [*_KIN.values(), _OWN]
    return sorted(catalogue(), key=lambda known: order.index(kin(known)))


def example(known: Entry) -> Description | None:
    """Return the question about an example of a family.

    The example of a user's family has default options and the smallest width above 1 that the
    family accepts; it is None if the family needs an option, or accepts no width from 2 to 64.

    Examples
    --------
    >>> [example(known) for known in catalogue() if known.name == "benes"]
    [{'spec': 'benes', 'width': 8}]
    """
    if is_ours(known):
        spec, width = EXAMPLES[known.name]
        return {"spec": spec, "width": width}
    if any(option.default is option.empty for option in known.options.values()):
        return None
    rule = Family(known.name)
    width = next((width for width in range(2, 65) if accepts(rule, width)), 0)
    return {"spec": str(rule), "width": width} if width else None


def _option(known: Entry, name: str) -> Description:
    default = known.options[name].default
    needed = default is known.options[name].empty
    seeded = (
        name == "rng"
    )  # without a seed, the numbers and the code would describe different networks
    return {
        "name": name,
        "default": "" if needed else "0" if seeded else repr(default),
        "needed": needed,
        "hint": _hint(known.build.__doc__ or "", name),
    }


def _hint(text: str, name: str) -> str:
    """Return the description of a parameter in a numpydoc docstring."""
    lines = [line.strip() for line in text.splitlines()]
    start = next((k for k, line in enumerate(lines) if line.startswith(f"{name} : ")), None)
    if start is None:
        return ""
    said: list[str] = []
    for line in lines[start + 1 :]:
        if not line or " : " in line:
            break
        said.append(line)
    return " ".join(said)
