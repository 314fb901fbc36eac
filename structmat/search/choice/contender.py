"""One topology at all widths for which it is considered, and what is known about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from structmat.analysis.dimension import dimension
from structmat.analysis.mixing import mixing
from structmat.families import Family, Rule
from structmat.families.number_theory import prime_factors
from structmat.linalg.throughput import FLOAT32, modelled_seconds
from structmat.networks.network import Network
from structmat.search.dense_networks import Member

NEAR = 0.2  # `mixing` of at most this is nearly exact
TOKENS = 2048  # vectors for which time and memory are modelled
BUILT = 2**22  # maximum of width × stages of a network that is built
_ROUNDING = 1e-12  # values of `mixing` below this are 0
_OPTIMIZER = 4  # numbers that Adam keeps for a parameter: value, gradient and two moments
# Families with 2×2 switches, and with so many stages that wide networks are not built.
_PAIRS = ("brickwall", "round_robin", "ruler", "triangle")

FULL = "it has the dimension of SO(d)"  # which does not prove that it represents every rotation
_RANKED = 1000  # parameters up to which the dimension is computed as a rank

# Families that represent every rotation with their default number of stages, with the reason.
ONTO: Mapping[str, str] = {
    "brickwall": "Clements et al. decompose any rotation with it",
    "ruler": "recursive cosine–sine decomposition",
    "triangle": "Reck et al. decompose any rotation with it",
}


class Contender:
    """A dense topology at one or more widths, whose properties are computed when first needed.

    Parameters
    ----------
    rule : Rule
    members : mapping from a width to a Member
    layers : mapping from a width to a number of layers
    device : str
        As for `structmat.linalg.throughput.modelled_seconds`.
    limit : int, optional
        The largest radix that the purpose allows.
    """

    def __init__(
        self,
        rule: Rule,
        members: Mapping[int, Member],
        layers: Mapping[int, int],
        *,
        device: str = "cpu",
        limit: int | None = None,
    ) -> None:
        self.rule = rule
        self.members = members
        self.layers = layers
        self.device = device
        self.limit = limit
        self.also: list[str] = []  # other topologies with the same networks

    def is_equal(self, other: Contender) -> bool:
        """Return whether another topology has the same networks, both being small."""
        return self.is_small and other.is_small and self.networks == other.networks

    @property
    def parameters(self) -> int:
        """The parameters of all layers."""
        return sum(self.layers[d] * member.parameters for d, member in self.members.items())

    @property
    def depth(self) -> int:
        """The number of stages, at the width with the most."""
        return max(member.depth for member in self.members.values())

    @cached_property
    def time(self) -> float:
        """The modelled seconds of all layers for 2,048 vectors."""
        return math.fsum(
            self.layers[d] * _seconds(d, member.depth, _nonzeros(d, member), self.device)
            for d, member in self.members.items()
        )

    @property
    def relative_time(self) -> float:
        """The modelled time relative to that of a dense matrix in each layer."""
        dense = (count * _seconds(d, 1, d * d, self.device) for d, count in self.layers.items())
        return self.time / math.fsum(dense)

    @property
    def memory(self) -> int:
        """The bytes for training with Adam, of parameters, blocks, and the input of each stage."""
        return FLOAT32 * sum(
            self.layers[d]
            * (_OPTIMIZER * member.parameters + _nonzeros(d, member) + TOKENS * d * member.depth)
            for d, member in self.members.items()
        )

    @property
    def is_small(self) -> bool:
        """Whether the networks are small enough to be built."""
        return all(width * member.depth <= BUILT for width, member in self.members.items())

    @cached_property
    def networks(self) -> dict[int, Network]:
        """The network of each width."""
        return {width: self.rule(width) for width in self.members}

    @cached_property
    def largest(self) -> float:
        """The largest radix; infinite if it is not known without building a huge network."""
        if not self.is_small:
            return 2 if self._is_of_pairs else math.inf
        return max(bank.radix for net in self.networks.values() for bank in net.banks)

    @property
    def _is_of_pairs(self) -> bool:
        return all(family.name in _PAIRS for family in self.rule.families)

    @cached_property
    def is_straight(self) -> bool:
        """Whether identity blocks give the identity matrix; False for networks not built."""
        if not self.is_small:
            return self._is_of_pairs
        return all(net.is_straight for net in self.networks.values())

    @property
    def may_be_exact(self) -> bool:
        """Whether switches of at most `limit` wires can mix exactly at all widths.

        Averages over fewer wires than a prime factor of the width never add up to 1/width.
        """
        return self.limit is None or all(prime_factors(d)[-1] <= self.limit for d in self.layers)

    @cached_property
    def is_exact(self) -> bool:
        """Whether mixing is proved to be exact, because all paths are unique.

        If each stage has switches of one radix on all wires, the number of paths from an input is
        the product of the radices. If that is the width and the network is dense, there is one path
        to each output, and every output receives the same share of the energy on average. Further
        stages do not change that.
        """
        return self.is_small and all(
            _has_unique_paths(net) or _has_unique_paths(net[: self.members[d].dense_at or 0])
            for d, net in self.networks.items()
        )

    @cached_property
    def mixing(self) -> float:
        """The value of `structmat.mixing`, the largest over all widths."""
        if self.is_exact:
            return 0.0
        if not self.is_small:
            return math.inf
        found = max(map(mixing, self.networks.values()))
        return 0.0 if found < _ROUNDING else found

    @property
    def mixing_class(self) -> int:
        """0 for exact mixing, 1 if it is nearly exact (at most 0.2), else 2."""
        return 0 if self.mixing == 0 else 1 + (self.mixing > NEAR)

    @cached_property
    def dimension(self) -> int:
        """An upper bound on the dimension, summed over the layers.

        A rotation of wires that are joined by switches of two consecutive stages can be moved from
        one stage to the other, so it counts once.
        """
        if not self.is_small:
            return min(self.parameters, self.group)
        return sum(
            count * min(math.comb(d, 2), self.members[d].parameters - _shared(self.networks[d]))
            for d, count in self.layers.items()
        )

    @property
    def group(self) -> int:
        """The dimension of the rotation group of each width, summed over the layers."""
        return sum(count * math.comb(d, 2) for d, count in self.layers.items())

    @property
    def proof(self) -> str | None:
        """Why the topology is known to represent every rotation; None if it is not known to."""
        if self.parameters < self.group:
            return None
        if all(member.depth == 1 for member in self.members.values()):
            return "one switch on all wires"
        return ONTO.get(self.rule.name) if isinstance(self.rule, Family) else None

    @cached_property
    def universality(self) -> str | None:
        """Why the topology represents every rotation, or has the dimension of all; else None."""
        if self.proof or self.parameters < self.group:
            return self.proof
        full = self.is_small and self.dimension == self.group  # an upper bound, which is fast
        return FULL if full and all(map(_is_full, self.networks.values())) else None


def _nonzeros(width: int, member: Member) -> int:
    """Return the non-zeros of all stages: r² = 2·r(r−1)/2 + r a switch, and 1 an idle wire."""
    return 2 * member.parameters + member.depth * width


def _seconds(width: int, depth: int, nonzeros: int, device: str) -> float:
    return modelled_seconds(width, depth, nonzeros, tokens=TOKENS, device=device)


def _has_unique_paths(net: Network) -> bool:
    """Return whether a dense network has one path from each input to each output."""
    radices = [{bank.radix for bank in stage.banks} for stage in net.stages]
    busy = all(len(sizes) == 1 for sizes in radices) and not any(s.idle.size for s in net.stages)
    return busy and math.prod(min(sizes) for sizes in radices) == net.width


def _shared(net: Network) -> int:
    """Return the number of pairs of wires that switches of two consecutive stages join."""
    total = 0
    for before, after in zip(net.stages, net.stages[1:], strict=False):
        labels = np.full((2, net.width), -1)
        for row, stage in enumerate((before, after)):
            first = 0
            for bank in stage.banks:
                wires = bank.writes if row == 0 else bank.reads
                labels[row][wires] = first + np.arange(bank.count)[:, None]
                first += bank.count
        both = labels[:, (labels >= 0).all(axis=0)]
        _, counts = np.unique(both[0] * net.width + both[1], return_counts=True)
        total += int((counts * (counts - 1) // 2).sum())
    return total


def _is_full(net: Network) -> bool:
    return dimension(net, largest=_RANKED).lower == math.comb(net.width, 2)
