"""Proper edge colourings with the maximum degree of the graph as number of colours, or one more."""

from __future__ import annotations

import random
from typing import TypeAlias

import numpy as np

from structmat.networks.permutation import Index

Edge: TypeAlias = tuple[int, int]

_TRIES = 100  # recolourings for each edge of the last colour


def edge_colouring(width: int, edges: list[Edge]) -> list[list[Edge]]:
    """Return the edges of each colour, a matching, in wire order.

    Edges (i, j), i < j, are coloured in order of increasing stride j − i, with Δ colours if the
    graph is bipartite and with Δ or Δ + 1 otherwise, where Δ is the maximum degree. A complete
    graph is coloured as a round-robin tournament.

    Examples
    --------
    >>> edge_colouring(4, [(0, 1), (1, 2), (2, 3), (0, 3)])
    [[(0, 1), (2, 3)], [(0, 3), (1, 2)]]
    """
    if len(edges) == width * (width - 1) // 2:
        return [[(i, j) for i, j in pairs.tolist()] for pairs in rounds(width) if len(pairs)]
    degree = [0] * width
    for edge in edges:
        for node in edge:
            degree[node] += 1
    most = max(degree)
    colouring = _Colouring(width)
    for u, v in sorted(edges, key=lambda edge: (edge[1] - edge[0], edge[0])):
        colouring.add(u, v, most)
    classes = colouring.classes(most + 1)
    if classes[most] and colouring.spare(most, classes[most]):
        classes = colouring.classes(most)
    return [pairs for pairs in classes if pairs]


def rounds(width: int) -> list[Index]:
    """Return the rounds of a round-robin tournament: width − 1 of them, or width if odd.

    By the circle method, players i and j meet in round i + j, modulo the number of rounds. If the
    width is even, the last player meets the one that would otherwise meet itself.

    Returns
    -------
    list of (n, 2) integers
        The pairs (i, j), i < j, in order of i.

    Examples
    --------
    >>> [pairs.tolist() for pairs in rounds(4)]
    [[[0, 3], [1, 2]], [[0, 1], [2, 3]], [[0, 2], [1, 3]]]
    """
    number = width - 1 + width % 2
    here = np.arange(number, dtype=np.int64)
    met = []
    for t in range(number):
        there = (t - here) % number
        if width % 2 == 0:
            there[there == here] = width - 1
        met.append(np.stack([here, there], axis=1)[here < there])
    return met


class _Colouring:
    """A proper colouring to which edges are added one by one, recolouring others if necessary."""

    def __init__(self, width: int) -> None:
        self.along: list[dict[int, int]] = [{} for _ in range(width)]  # colour → neighbour
        self.lowest = [0] * width  # the first free colour at each node

    def classes(self, palette: int) -> list[list[Edge]]:
        """Return the edges of each colour, in order."""
        classes: list[list[Edge]] = [[] for _ in range(palette)]
        for u, neighbours in enumerate(self.along):
            for colour, v in neighbours.items():
                if u < v:
                    classes[colour].append((u, v))
        return classes

    def add(self, u: int, v: int, most: int) -> None:
        """Colour the edge uv, if possible with the first `most` colours, else with one more.

        Neither node may have `most` coloured edges yet. A bipartite graph never needs the fan: the
        alternating path from v reaches the side of u only along the colour that is missing at u.
        """
        a, b = self.lowest[u], self.lowest[v]
        for colour in range(max(a, b), most):
            if colour not in self.along[u] and colour not in self.along[v]:
                self.set(u, v, colour)
                return
        path = self.path(v, a, b)
        if path[-1] != u:
            self.flip(path, a, b)
            self.set(u, v, a)
        elif not (self.fan(u, v, most) or self.fan(v, u, most)):
            self.fan(u, v, most + 1)  # more colours than any degree, so that it always succeeds

    def fan(self, u: int, v: int, palette: int) -> bool:
        """Colour uv by a Vizing fan of edges at u; return False, without changes, if this fails.

        The fan is rotated: each of its edges takes a colour that is free at its outer end and
        passes its own colour to the edge before it. This fails if no colour of the palette is free
        at an outer end.
        """
        ends, free = [v], [self.lowest[v]]  # the edge to ends[k + 1] has the colour free[k]
        place = {v: 0}
        while True:
            if free[-1] >= palette:
                return False
            following = self.along[u].get(free[-1])
            if following is None:  # free at u too
                return self.rotate_fan(u, ends, free)
            if following in place:
                break
            place[following] = len(ends)
            ends.append(following)
            free.append(self.lowest[following])
        # The colour d is missing at two ends, and c at u. Of the paths in c and d from these two
        # ends, only one can end at u: exchange c and d along the other.
        c, d = self.lowest[u], free[-1]
        last = place[following] - 1
        path = self.path(ends[last], c, d)
        if path[-1] == u:
            last = len(ends) - 1
            path = self.path(ends[last], c, d)
        self.flip(path, c, d)
        return self.rotate_fan(u, ends[: last + 1], [*free[:last], c])

    def spare(self, last: int, edges: list[Edge]) -> bool:
        """Recolour the edges of the last colour; return False, with changes, if this seems to fail.

        If the alternating path from v returns to u, edge uv takes a colour from another edge at v,
        which is then the uncoloured edge and has other colours missing at its ends: the uncoloured
        edge walks through the graph. If one colour fewer suffices, a few steps are nearly always
        enough. The walk is pseudorandom but reproducible.
        """
        source = random.Random(0)
        for edge in edges:
            self.clear(*edge, last)
        for u, v in edges:
            for _ in range(_TRIES):
                a, b = (source.choice(self.lacking(node, last)) for node in (u, v))
                path = self.path(v, a, b)
                if path[-1] != u:
                    self.flip(path, a, b)
                    self.set(u, v, a)
                    break
                following = path[1]
                self.clear(v, following, a)
                self.set(u, v, a)
                u, v = source.sample((following, v), 2)
                a, c = source.choice(self.lacking(u, last)), source.choice(sorted(self.along[u]))
                path = self.path(u, c, a)
                if path[-1] != v:
                    self.flip(path, c, a)
            else:
                return False
        return True

    def lacking(self, node: int, palette: int) -> list[int]:
        """Return the colours of the palette that are free at a node."""
        return [colour for colour in range(palette) if colour not in self.along[node]]

    def rotate_fan(self, u: int, ends: list[int], colours: list[int]) -> bool:
        """Assign these colours to the edges at u; all but the last are taken from the next edge."""
        for end, colour in zip(ends[1:], colours[:-1], strict=True):
            self.clear(u, end, colour)
        for end, colour in zip(ends, colours, strict=True):
            self.set(u, end, colour)
        return True

    def path(self, start: int, colour: int, other: int) -> list[int]:
        """Follow the two colours alternately, from a node where the other one is missing."""
        nodes = [start]
        while (following := self.along[nodes[-1]].get(colour)) is not None:
            nodes.append(following)
            colour, other = other, colour
        return nodes

    def flip(self, path: list[int], colour: int, other: int) -> None:
        """Exchange the two colours along a whole path."""
        for x in path:
            along = self.along[x]
            one, two = along.pop(colour, None), along.pop(other, None)
            if one is not None:
                along[other] = one
            if two is not None:
                along[colour] = two
        for x in (path[0], path[-1]):  # the free colours of the other nodes do not change
            self.lowest[x] = min(self.lowest[x], colour, other)
            self.rise(x)

    def set(self, u: int, v: int, colour: int) -> None:
        for x, y in ((u, v), (v, u)):
            self.along[x][colour] = y
            self.rise(x)

    def rise(self, x: int) -> None:
        """Increase the lowest colour of a node to one that is free."""
        while self.lowest[x] in self.along[x]:
            self.lowest[x] += 1

    def clear(self, u: int, v: int, colour: int) -> None:
        for x in (u, v):
            del self.along[x][colour]
            self.lowest[x] = min(self.lowest[x], colour)
