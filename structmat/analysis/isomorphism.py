"""Isomorphism of networks up to a relabelling of their wires, by colour refinement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import scipy

from structmat.errors import WiringError, abbreviated
from structmat.families.resolution import checked
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Stage

Keys: TypeAlias = npt.NDArray[np.uint64]
Pairs: TypeAlias = tuple[Index, Index]


class Ends(NamedTuple):
    """New indices for the wires at both ends of a network.

    Attributes
    ----------
    inputs, outputs : (width,) int64
        Wire i before the first stage becomes wire `inputs[i]`, and wire i after the last stage
        becomes wire `outputs[i]`.
    """

    inputs: Index
    outputs: Index


@overload
def isomorphism(a: Network, b: Network, *, ends: Literal[False] = False) -> Index | None: ...
@overload
def isomorphism(a: Network, b: Network, *, ends: Literal[True]) -> Ends | None: ...
@overload
def isomorphism(a: Network, b: Network, *, ends: bool) -> Index | Ends | None: ...
def isomorphism(a: Network, b: Network, *, ends: bool = False) -> Index | Ends | None:
    """Return a relabelling of the wires that maps the switches of `a` to those of `b`, or None.

    The order of the stages matters; the order of switches within a stage and of wires within a
    switch does not. There are two notions of isomorphism:

    - By default, all stages have the same relabelling, `places`. The networks must be straight, and
      `a.relabel(places)` and `b` agree in every stage. The matrices are equal up to one permutation
      of the coordinates, P R Pᵀ, so results for one network hold for the other. A network that is
      not straight is rejected, because the correspondence between the wires that a switch reads and
      those that it writes depends on the order in which they are listed.
    - With `ends`, each column of the grid graph (`Network.to_networkx`) may be relabelled
      separately, so the networks need not be straight. A switch may also permute its wires, which
      makes no difference if blocks may have either determinant. The matrices are equal up to a
      permutation of the inputs and one of the outputs: moving entry (i, j) to
      (`outputs[i]`, `inputs[j]`) maps every matrix of `a` to a matrix of `b`. In this sense omega,
      baseline and butterfly are the same network. A single relabelling is a special case of this;
      the converse is false.

    The colour of each wire is refined by the colours of the wires with which it shares a switch in
    each stage, until nothing changes. The wires that are still undetermined split into independent
    parts. In each part, one wire is individualised and matched with every candidate in turn. The
    first candidate succeeds if automorphisms exchange the candidates, as in butterflies and related
    networks. Without symmetries, as many candidates may be tried as there are wires, and parts that
    differ but are not distinguished by refinement can take exponentially many steps. A returned
    relabelling has been verified. Colours are compared by 64-bit keys; a result of None could be
    wrong if two keys collide, which has a probability of about n²·2⁻⁶⁴ per round for n wires,
    counted in all columns with `ends`.

    Parameters
    ----------
    a, b : Network
    ends : bool
        Whether each column may be relabelled separately. The relabellings of the inputs and of the
        outputs are then returned.

    Returns
    -------
    (width,) int64, Ends, or None
        `places`, such that wire i of `a` is wire `places[i]` of `b`; with `ends`, the new indices
        of the inputs and outputs.

    Raises
    ------
    StructmatError
        If an argument is not a network.
    WiringError
        If a network is not straight and `ends` is False.

    References
    ----------
    B. D. McKay and A. Piperno, Practical graph isomorphism II, 2014.

    Examples
    --------
    >>> from structmat.families import butterfly, mixed_radix, omega
    >>> isomorphism(butterfly(8), mixed_radix(8, reverse=True))
    array([0, 4, 2, 6, 1, 5, 3, 7])
    >>> isomorphism(butterfly(8), butterfly(8, depth=2)) is None
    True
    >>> isomorphism(omega(4), butterfly(4), ends=True)
    Ends(inputs=array([0, 2, 1, 3]), outputs=array([0, 2, 1, 3]))
    """
    a, b = checked(a, "isomorphism"), checked(b, "isomorphism")
    for net in (a, b):
        if not (net.is_straight or ends):
            raise WiringError(
                f"{abbreviated(net)} is not straight, so a single relabelling would depend on the"
                " order in which its switches list their wires; relabel each column separately"
                " (ends=True), or compare straightened().network"
            )
    if (a.width, a.depth) != (b.width, b.depth):
        return None
    column = np.repeat(np.arange(a.depth + 1 if ends else 1), a.width)
    met = _incidence(_groups(a, ends=ends), _groups(b, ends=ends), len(column))
    side = np.repeat([0, 1], len(column))
    found = _matched(met, side, _ranked(met, side, np.tile(column, 2)))
    if found is None:
        return None
    places = np.empty(len(column), dtype=np.int64)
    places[found[0]] = (found[1] - len(column)) % a.width
    columns = list(places.reshape(-1, a.width))
    if not ends:
        columns *= a.depth + 1
    moved = [stage.rewired(*columns[t : t + 2]) for t, stage in enumerate(a)]
    if not all(map(np.array_equal, map(_leaders, moved), map(_leaders, b))):
        return None
    return Ends(columns[0], columns[-1]) if ends else places


def _leaders(stage: Stage) -> Index:
    """Return, for each wire before and then after the stage, the first wire read by its switch.

    Wires in no switch are distinguished by negative numbers. Equal grid graphs have equal results.
    """
    leaders = np.empty((2, stage.width), dtype=np.int64)
    source, target = stage.passing
    leaders[0, source] = leaders[1, target] = -1 - source  # unlike a switch of radix 1
    for bank in stage.banks:
        leaders[0, bank.reads] = leaders[1, bank.writes] = bank.reads.min(axis=1, keepdims=True)
    return leaders


def _groups(net: Network, *, ends: bool) -> Iterator[tuple[int, Index]]:
    """Yield stages and rows of points that an isomorphism keeps together.

    The points are the wires, and a switch joins a group of them. With `ends`, wire w in column t is
    point t·width + w, and a switch, or a wire in no switch, joins the points that it reads and
    those that it writes.
    """
    for t, stage in enumerate(net):
        before, after = t * net.width, (t + 1) * net.width
        for bank in stage.banks:
            if ends:
                yield t, np.concatenate([bank.reads + before, bank.writes + after], axis=1)
            else:
                yield t, bank.reads
        if ends:
            source, target = stage.passing
            # Another stage number distinguishes these wires from switches of radix 1.
            yield net.depth + t, np.stack([source + before, target + after], axis=1)


class _Incidence(NamedTuple):
    """Incidence of points and switches: entry k puts a point into a switch of a stage."""

    point: Index
    switch: Index
    stage: Index

    def where(self, kept: npt.NDArray[np.bool_] | Index) -> _Incidence:
        """Return a subset of the entries, with the switches renumbered."""
        switch = np.unique(self.switch[kept], return_inverse=True)[1]
        return _Incidence(self.point[kept], switch, self.stage[kept])

    @property
    def switches(self) -> int:
        """The number of switches."""
        return int(self.switch.max(initial=-1)) + 1


def _incidence(
    a: Iterable[tuple[int, Index]], b: Iterable[tuple[int, Index]], count: int
) -> _Incidence:
    """Return the joint incidence of both networks; the `count` points of `a` come first."""
    points, switches, stages = ([np.zeros(0, dtype=np.int64)] for _ in range(3))
    known = 0
    for shift, groups in ((0, a), (count, b)):
        for t, rows in groups:
            points.append(rows.ravel() + shift)
            switches.append(np.repeat(np.arange(known, known + len(rows)), rows.shape[1]))
            stages.append(np.full(rows.size, t))
            known += len(rows)
    return _Incidence(*map(np.concatenate, (points, switches, stages)))


def _ranked(met: _Incidence, side: Index, colour: Index) -> Index:
    """Split colours by ranking the points that have the same colour and exactly the same switches.

    These points are interchangeable, so an isomorphism can be required to preserve their ranks.
    """
    key = mixed_keys(2 * colour + side)
    np.add.at(key, met.point, mixed_keys(met.switch + 2 * len(side)))
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    rank = np.empty_like(side)
    rank[order] = np.arange(len(side)) - np.searchsorted(ordered, ordered)
    return rank * (int(colour.max()) + 1) + colour


def _matched(met: _Incidence, side: Index, colour: Index) -> Pairs | None:
    """Match the points of side 0 with those of side 1, preserving colours and switches.

    The points of side 0 are numbered before those of side 1. Returns the points of side 0 in some
    order and their partners in the same order, or None.
    """
    refined = _refined(met, side, colour)
    if refined is None:
        return None
    met = met.where(_open(met, refined))
    part = _parts(met, len(side))
    kind, alike = _kinds(part, refined)
    if not _balanced(kind[part], side):
        return None
    # Parts of one kind in which no two points share a colour are matched by their colours.
    order = np.lexsort([refined, part, kind[part]])
    order = order[~alike[part[order]]]
    pairs = [(order[side[order] == 0], order[side[order] == 1])]
    partners: dict[int, list[_Part]] = {}
    rest = _cut(met, part, refined, alike)
    for piece in rest:
        if side[piece.points[0]] == 1:
            partners.setdefault(int(kind[part[piece.points[0]]]), []).append(piece)
    for piece in rest:
        if side[piece.points[0]] == 1:
            continue
        candidates = partners[int(kind[part[piece.points[0]]])]
        for k, other in enumerate(
            candidates
        ):  # the first match will do, because isomorphism is transitive
            found = _exchanged(piece, other)
            if found is not None:
                pairs.append(found)
                del candidates[k]
                break
        else:
            return None
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


class _Part(NamedTuple):
    """Points connected by undetermined switches: their colours, and the entries of the switches."""

    points: Index
    colour: Index
    met: _Incidence


def _cut(met: _Incidence, part: Index, colour: Index, wanted: npt.NDArray[np.bool_]) -> list[_Part]:
    """Return the wanted parts."""
    points = np.argsort(part, kind="stable")
    entries = np.argsort(part[met.point], kind="stable")
    cuts = np.arange(len(wanted) + 1)
    first = np.searchsorted(part[points], cuts)
    entry = np.searchsorted(part[met.point[entries]], cuts)
    pieces = []
    for p in np.flatnonzero(wanted).tolist():
        mine = points[first[p] : first[p + 1]]
        inside = entries[entry[p] : entry[p + 1]]
        pieces.append(_Part(mine, colour[mine], met.where(inside)))
    return pieces


def _exchanged(one: _Part, other: _Part) -> Pairs | None:
    """Match two parts: a point of the most frequent colour with each candidate, then the rest."""
    points = np.concatenate([one.points, other.points])
    colour = np.concatenate([one.colour, other.colour])
    side = np.repeat([0, 1], [len(one.points), len(other.points)])
    met = _Incidence(
        np.searchsorted(points, np.concatenate([one.met.point, other.met.point])),
        np.concatenate([one.met.switch, other.met.switch + one.met.switches]),
        np.concatenate([one.met.stage, other.met.stage]),
    )
    commonest = np.flatnonzero(colour == np.bincount(colour).argmax())
    for candidate in commonest[side[commonest] == 1]:
        told_apart = colour.copy()
        told_apart[[commonest[0], candidate]] = colour.max() + 1
        found = _matched(met, side, told_apart)
        if found is not None:
            return points[found[0]], points[found[1]]
    return None


def _refined(met: _Incidence, side: Index, colour: Index) -> Index | None:
    """Refine colours until points of one colour share switches with the same colours in each stage.

    Returns None if the two sides become different.
    """
    stage = mixed_keys(met.stage)
    keys: npt.NDArray[np.integer] = colour
    colours = 0
    while True:
        known, colour = np.unique(keys, return_inverse=True)
        if not _balanced(colour, side):
            return None
        if len(known) <= colours:
            return colour
        colours = len(known)
        own = mixed_keys(colour)
        meeting = np.zeros(met.switches, dtype=np.uint64)
        np.add.at(meeting, met.switch, own[met.point])
        keys = mixed_keys(own)
        np.add.at(keys, met.point, mixed_keys(meeting[met.switch] ^ stage))


def mixed_keys(values: npt.NDArray[np.integer]) -> Keys:
    """Return a pseudorandom 64-bit key for each value: the finaliser of splitmix64.

    Examples
    --------
    >>> mixed_keys(np.array([1, 2])).tolist()
    [10451216379200822465, 10905525725756348110]
    """
    keys: Keys = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _balanced(value: Index, side: Index) -> bool:
    """Return whether every value occurs equally often on side 0 and on side 1."""
    counts = np.bincount(2 * value + side, minlength=2 * int(value.max()) + 2)
    return np.array_equal(counts[::2], counts[1::2])


def _open(met: _Incidence, colour: Index) -> npt.NDArray[np.bool_]:
    """Return which entries belong to switches that some matching of colours does not preserve.

    A switch that contains all points of its colours (on its side) is preserved by every matching of
    colours.
    """
    colours = int(colour.max()) + 1
    _, pair, times = np.unique(
        met.switch * colours + colour[met.point], return_inverse=True, return_counts=True
    )
    some = 2 * times[pair] < np.bincount(colour)[colour[met.point]]
    is_open = np.zeros(met.switches, dtype=bool)
    is_open[met.switch[some]] = True
    return is_open[met.switch]


def _parts(met: _Incidence, points: int) -> Index:
    """Return the index of the connected part of each point."""
    size = points + met.switches
    ones = np.ones(len(met.point), dtype=bool)
    links = scipy.sparse.coo_array((ones, (met.point, points + met.switch)), shape=(size, size))
    _, part = scipy.sparse.csgraph.connected_components(links, directed=False)
    return np.unique(part[:points], return_inverse=True)[1]


def _kinds(part: Index, colour: Index) -> tuple[Index, npt.NDArray[np.bool_]]:
    """Return, for each part, a number for its multiset of colours, and whether two are equal."""
    keys = np.zeros(int(part.max()) + 1, dtype=np.uint64)
    np.add.at(keys, part, mixed_keys(colour))
    kind = np.unique(keys, return_inverse=True)[1]
    different = np.unique(np.stack([part, colour]), axis=1)[0]
    return kind, np.bincount(part) != np.bincount(different)
