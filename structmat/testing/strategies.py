"""Hypothesis strategies for networks, families and blocks."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from structmat.errors import StructmatError, checked_integer, require
from structmat.linalg.blocks import Array, identity_blocks, random_blocks
from structmat.linalg.factors import matrix_of
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage
from structmat.testing.members import Case, any_case, built, cases

if TYPE_CHECKING:
    import networkx as nx

try:
    from hypothesis import strategies as st
except ModuleNotFoundError:
    require("hypothesis", "testing")  # the error names the extra that installs hypothesis
    raise


_IDLE = [st.integers(0, 0)] * 30  # about as many draws as three small stages take


def networks(
    *, max_width: int = 12, max_depth: int = 4, wired: bool | None = None
) -> st.SearchStrategy[Network]:
    """Draw networks of every form: mixed radices, idle wires, several banks, and every family.

    They shrink towards few wires, few stages, small switches, and wires in ascending order.

    Parameters
    ----------
    max_width, max_depth : int
        The maximum number of wires and stages.
    wired : bool, optional
        True for networks that are not straight, False for straight ones, which finetuning requires;
        by default both.

    Raises
    ------
    StructmatError
        If no network satisfies the bounds.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(networks(max_width=6))
    ... def test_inverse_of_inverse(net):
    ...     assert net.inverse().inverse() == net
    >>> test_inverse_of_inverse()
    """
    width = checked_integer(max_width, "max_width", 2 if wired else 1)
    depth = checked_integer(max_depth, "max_depth", 1 if wired else 0)

    def members() -> st.SearchStrategy[Network]:
        small = _built(width, depth, wired=wired)
        # Hypothesis regards fewer draws as simpler; unused draws make these as complex as stages.
        padded = st.tuples(st.sampled_from(small), *_IDLE) if small else st.nothing()
        return padded.map(lambda parts: parts[0])

    # Members are built when the first is drawn, not where a test is defined.
    return st.one_of(_drawn(width, depth, wired=wired), st.deferred(members))


def families(*, max_width: int = 32, max_depth: int = 8) -> st.SearchStrategy[Case]:
    """Draw a registered family, as a spec with valid options, and a width that it accepts.

    The options that are varied are those with common names (block, depth, radices, largest,
    reverse, rng, repeat, degree) and those for which the family registers choices; a family that
    requires another option is omitted.

    Parameters
    ----------
    max_width, max_depth : int
        The maximum number of wires and stages of the network.

    Raises
    ------
    StructmatError
        If no family satisfies the bounds.

    Examples
    --------
    >>> from hypothesis import find
    >>> family, width = find(families(), lambda case: case[0].name == "shuffle")
    >>> print(family, width)
    shuffle(block=2) 2
    """
    width = checked_integer(max_width, "max_width", 1)
    depth = checked_integer(max_depth, "max_depth", 0)
    if not any_case(width, depth):
        raise StructmatError(
            f"max_width={width}, max_depth={max_depth}: no family has such a network; raise one"
        )
    return st.deferred(lambda: _sampled(cases(width, depth)))  # listed when the first is drawn


def seeds() -> st.SearchStrategy[int]:
    """Draw seeds for random generators.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(seeds(), lambda seed: True)
    0
    """
    return st.integers(0, 2**32 - 1)


def blocks_for(
    net: Network, dtype: npt.DTypeLike = float, *, special: bool = True
) -> st.SearchStrategy[list[Array]]:
    """Draw orthogonal (or unitary) blocks of a network: the identity, or independent Haar blocks.

    Parameters
    ----------
    net : Network
    dtype, special
        As for `structmat.random_blocks`.

    Examples
    --------
    >>> from hypothesis import find
    >>> net = Network.of(2, [[[0, 1]]])
    >>> find(blocks_for(net), lambda blocks: True)[0].tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    haar = seeds().map(lambda seed: random_blocks(net, seed, dtype, special=special))
    return st.one_of(st.builds(identity_blocks, st.just(net), st.just(dtype)), haar)


def stages(*, max_width: int = 12, straight: bool = False) -> st.SearchStrategy[Stage]:
    """Draw single stages: mixed radices, idle wires, moved wires, or none of these.

    Parameters
    ----------
    max_width : int
    straight : bool
        Whether every switch writes the wires that it reads.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(stages(), lambda stage: stage.parameters > 0)
    Stage(width=2, 1×2)
    """
    return _stage(checked_integer(max_width, "max_width", 1), straight=straight)


def layers(
    *, max_width: int = 6, max_depth: int = 3
) -> st.SearchStrategy[nx.DiGraph[tuple[int, int]]]:
    """Draw layered grid graphs for `structmat.from_layers`, orthogonal or not.

    Some are networks, some are networks with a few edges removed, and some have arbitrary edges.

    Parameters
    ----------
    max_width, max_depth : int

    Examples
    --------
    >>> from hypothesis import find
    >>> drawn = find(layers(), lambda graph: graph.number_of_edges() > 0)
    >>> sorted(drawn.edges)
    [((0, 0), (1, 0))]
    """
    width, depth = (
        checked_integer(max_width, "max_width", 1),
        checked_integer(max_depth, "max_depth", 1),
    )
    whole_ones = _drawn(width, depth, wired=None).map(lambda net: net.to_networkx())
    return st.one_of(_edges(width, depth), whole_ones, _thinned(whole_ones))


def targets(net: Network, *, special: bool = False) -> st.SearchStrategy[Array]:
    """Draw targets for fitting: permutations, matrices of the network, and Haar matrices.

    They shrink towards the identity.

    Parameters
    ----------
    net : Network
    special : bool
        Whether to draw rotations only.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(targets(Network.of(2, [[[0, 1]]])), lambda target: True).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    # The permutation is drawn even if unused, so that dense matrices take more draws.
    permuted = st.permutations(range(net.width)).map(lambda p: np.eye(net.width)[p])
    members = blocks_for(net, special=special).map(lambda blocks: matrix_of(net, blocks))
    one_switch = Network.of(net.width, [[list(range(net.width))]] if net.width > 1 else [])
    haar = blocks_for(one_switch, special=special).map(lambda blocks: matrix_of(one_switch, blocks))
    others = st.one_of(st.none(), members, haar)
    drawn = st.tuples(permuted, others).map(lambda two: two[0] if two[1] is None else two[1])
    return drawn.map(_rotation) if special else drawn


def _rotation(matrix: Array) -> Array:
    """Return the matrix, with its first row negated if its determinant is −1."""
    if np.linalg.det(matrix) < 0:
        matrix = matrix * np.where(np.arange(len(matrix)) == 0, -1.0, 1.0)[:, None]
    return matrix


# Generation of networks -----------------------------------------------------------------------


@st.composite
def _drawn(draw: st.DrawFn, max_width: int, max_depth: int, *, wired: bool | None) -> Network:
    # Draw the sizes of all switches first, then the number of wires in no switch, and the orders of
    # the wires last: sizes determine the width, so shrinking them makes the network smaller.
    one = st.lists(st.integers(1, max_width), max_size=max_width)
    sizes = draw(st.lists(one, min_size=1 if wired else 0, max_size=max_depth))
    sizes = [_fitting(row, max_width) for row in sizes]
    least = max([sum(row) for row in sizes] + [2 if wired else 1])
    width = least + draw(st.integers(0, max_width - least))
    last = len(sizes) - 1 if wired else None  # crosses two wires if no other stage does
    stages = [
        _wired(draw, width, row, straight=wired is False, crossed=t == last)
        for t, row in enumerate(sizes)
    ]
    return Network(width, stages)


@st.composite
def _stage(draw: st.DrawFn, max_width: int, *, straight: bool) -> Stage:
    # Draw the sizes first: they determine the width, so shrinking them makes the stage narrower.
    sizes = draw(st.lists(st.integers(1, max_width), min_size=1, max_size=max_width))
    sizes = _fitting(sizes, max_width)
    return _wired(draw, sum(sizes), sizes, straight=straight)


def _fitting(sizes: list[int], width: int) -> list[int]:
    """Return the sizes in order, truncated to fit into the width."""
    totals = itertools.accumulate(sizes)
    return [size for size, total in zip(sizes, totals, strict=True) if total <= width]


def _wired(
    draw: st.DrawFn, width: int, sizes: list[int], *, straight: bool, crossed: bool = False
) -> Stage:
    wirings = st.permutations(range(width))
    reads = draw(wirings) if draw(st.booleans()) else list(range(width))
    writes = reads if straight or not draw(st.booleans()) else draw(wirings)
    if crossed and writes == reads:
        writes = [reads[1], reads[0], *reads[2:]]
    return _cut(width, reads, writes, sizes)


def _cut(width: int, reads: list[int], writes: list[int], sizes: list[int]) -> Stage:
    """Cut both orders into switches of these sizes; size 1 and the rest are wires in no switch."""
    banks: list[Bank] = []
    bare: list[int] = []
    first = 0
    for size, run in itertools.groupby(sizes):
        rows = []
        for _ in run:
            cut = range(first, min(first + size, width))
            first = cut.stop
            if len(cut) == size > 1:
                rows.append(cut)
            else:
                bare += cut
        if rows:
            banks.append(Bank(*([[side[k] for k in c] for c in rows] for side in (reads, writes))))
    bare += range(first, width)
    return Stage(width, banks, [[reads[k], writes[k]] for k in bare] or None)


@st.composite
def _edges(draw: st.DrawFn, max_width: int, max_depth: int) -> nx.DiGraph[tuple[int, int]]:
    """Draw arbitrary edges between neighbouring columns of a complete grid."""
    width, depth = draw(st.integers(1, max_width)), draw(st.integers(1, max_depth))
    graph = Network(width, [Stage(width)] * depth).to_networkx()
    graph.clear_edges()
    wires = st.integers(0, width - 1)
    drawn = draw(st.sets(st.tuples(st.integers(0, depth - 1), wires, wires)))
    graph.add_edges_from(((t, j), (t + 1, i)) for t, j, i in sorted(drawn))
    return graph


@st.composite
def _thinned(
    draw: st.DrawFn, graphs: st.SearchStrategy[nx.DiGraph[tuple[int, int]]]
) -> nx.DiGraph[tuple[int, int]]:
    graph = draw(graphs)
    edges = sorted(graph.edges)
    if edges:
        graph.remove_edges_from(draw(st.sets(st.sampled_from(edges), max_size=3)))
    return graph


@lru_cache(maxsize=64)
def _built(width: int, depth: int, *, wired: bool | None) -> list[Network]:
    """Return networks built by families, the simplest first, because examples shrink to it."""
    return sorted(
        (net for net in built(width, depth) if wired is None or net.is_straight is not wired),
        key=lambda net: (net.width, net.depth, net.parameters, net.to_json()),
    )


def _sampled(members: dict[str, list[Case]]) -> st.SearchStrategy[Case]:
    # Draw the name first, because some families have far more options than others. The family with
    # the most cases comes first: examples shrink to it, and it has small networks.
    names = st.sampled_from(sorted(members, key=lambda name: (-len(members[name]), name)))
    return names.flatmap(lambda name: st.sampled_from(members[name]))
