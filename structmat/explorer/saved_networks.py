"""The networks of a saved page, with precomputed answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from structmat._util.progress import bar
from structmat.errors import SpecError
from structmat.explorer.answers import answer, dimension_answer, records
from structmat.explorer.queries import named
from structmat.explorer.survey import row

# All families, some with block sizes and depths that show the effect of these options.
SPECS = (
    "block_diagonal(block=4)",
    "butterfly",
    "butterfly(block=4)",
    "butterfly(block=4, depth=2)",
    "butterfly * 2",
    "shuffle(block=2)",
    "shuffle(block=4)",
    "shuffle(block=4, depth=1)",
    "mixed_radix",
    "mixed_radix(largest=4)",
    "monarch",
    "affine",
    "deal(block=3)",
    "mixing_network(block=4)",
    "kautz(block=2)",
    "random(block=2, depth=4, rng=0)",
    "random(block=4, depth=2, rng=0)",
    "omega",
    "baseline",
    "benes",
    "waksman",
    "clos",
    "brickwall",
    "triangle",
    "round_robin",
    "ruler",
    "knodel",
    "gossip",
    "hypercube",
    "torus",
    "circulant",
    "de_bruijn",
    "random_regular(degree=3, rng=0)",
    "ramanujan",
    "margulis",
    "chordal_cycle",
    "hamming(radices=(3, 4))",
    "product(graphs=('cycle', 'path'), sides=(4, 3))",
    "cayley_graph(generators=((1, 0, 2), (0, 2, 1)))",
    "mirror(omega)",
    "shuffle(block=4) @ butterfly",
)
WIDTHS = (6, 8, 12, 13, 16, 32)
JSON = dict[str, Any]


class Saved(NamedTuple):
    """The answers in a saved page.

    Attributes
    ----------
    networks : list of dict
        The results of `answer`, with the dimension under the key "dimension".
    atlas : mapping from a width to a list of dict
        The results of `records`.
    survey : mapping from a width to a list of dict
        The rows of a survey of these networks, so that each can be opened.
    """

    networks: list[JSON]
    atlas: dict[int, list[JSON]]
    survey: dict[int, list[JSON]]


def precomputed(
    specs: Sequence[str] = SPECS, widths: Sequence[int] = WIDTHS, *, progress: bool = False
) -> Saved:
    """Return the answers for each family at the widths that it accepts, without duplicates.

    Parameters
    ----------
    specs : sequence of str
    widths : sequence of int
    progress : bool
        Whether to show a progress bar, if tqdm is installed.

    Returns
    -------
    Saved
        The networks family by family.

    Raises
    ------
    StructmatError
        If a spec or width cannot be explored, or if no family accepts any of the widths.

    Examples
    --------
    >>> [found["width"] for found in precomputed(["benes"], [8, 12, 16]).networks]
    [8, 16]
    """
    networks: list[JSON] = []
    survey: dict[int, list[JSON]] = {}
    families = dict.fromkeys(named(spec) for spec in specs)
    pairs = [(family, width) for family in families for width in dict.fromkeys(widths)]
    with bar("explore", len(pairs), unit="network", shown=progress) as steps:
        for family, width in pairs:
            question = {"spec": str(family), "width": width}
            if family.accepts(width):
                networks.append(answer(question) | {"dimension": dimension_answer(question)})
                survey.setdefault(width, []).append(row(question))
            if steps is not None:
                steps.update()
    if not networks:
        raise SpecError(
            f"no network to save: none of {', '.join(specs)} accepts a width of"
            f" {', '.join(map(str, widths))}; see structmat list"
        )
    atlas = {width: records({"width": width}) for width in sorted(survey)}
    return Saved(networks, atlas, survey)
