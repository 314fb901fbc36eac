"""The networks that the report draws: small ones with the structure of those in the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from structmat import parse
from structmat._util.text_table import counted
from structmat.analysis.reachability import is_dense, reach
from structmat.finetune.methods import Topology
from structmat.networks.network import Network

_SMALL = (24, 32, 16, 36, 48, 64)  # widths at which every wire is drawn, in order of preference
_SHARE = 0.5  # maximum share of the wires that an input influences, if the drawing is not dense


class Structure(NamedTuple):
    """The structure that a drawing must show: the radices of each stage, and density."""

    radices: tuple[tuple[int, ...], ...]
    dense: bool


def structure(net: Network) -> Structure:
    """Return the structure of a network.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> structure(butterfly(32, block=8, depth=2)) == structure(butterfly(384, block=8, depth=2))
    True
    """
    radices = (tuple(sorted({bank.radix for bank in stage.banks})) for stage in net.stages)
    return Structure(tuple(radices), is_dense(net))


def drawn(topology: Topology, widths: Sequence[int]) -> Network:
    """Return the network to draw for a topology that is used at given widths.

    This is a small network if, at a small width, the topology has the same structure as at the
    first of the given widths and, where it is not dense, the drawing shows this clearly. Otherwise,
    it is the network of that first width.

    Examples
    --------
    >>> drawn("butterfly(block=8, depth=2)", [384, 1536]).width  # not dense at either width
    32
    >>> drawn("shuffle(block=4)", [384]).width  # 5 stages; fewer at small widths
    384
    """
    build = parse(topology) if isinstance(topology, str) else topology
    wanted = structure(build(widths[0]))
    for width in _SMALL:
        try:
            net = build(width)
        except ValueError:  # a StructmatError, or an error of a user's function
            continue
        same = net.width < widths[0] and structure(net) == wanted
        if same and (wanted.dense or _shows_gaps(net)):
            return net
    return build(widths[0])


def caption(label: str, net: Network, used: Sequence[Network]) -> str:
    """Return the caption of a drawing, which states the widths drawn and used.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> net, used = (butterfly(width, block=8, depth=2) for width in (32, 384))
    >>> print(caption("BOFT", net, [used]))
    BOFT: drawn at width 32 (2 stages, not dense), used at width 384 (2 stages, not dense)
    """
    groups: dict[str, list[str]] = {}
    for each in used:
        groups.setdefault(_described(each), []).append(f"{each.width:,}")
    uses = [
        f"{'widths' if len(widths) > 1 else 'width'} {' and '.join(widths)} ({text})"
        for text, widths in groups.items()
    ]
    return f"{label}: drawn at width {net.width} ({_described(net)}), used at {' and '.join(uses)}"


def _described(net: Network) -> str:
    return f"{counted(net.depth, 'stage')}, {'dense' if is_dense(net) else 'not dense'}"


def _shows_gaps(net: Network) -> bool:
    """Return whether a drawing of a network that is not dense shows it clearly."""
    return bool(reach(net).mean(axis=0).max() <= _SHARE)
