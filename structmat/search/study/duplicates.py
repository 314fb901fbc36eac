"""Keys that equivalent networks share, so that a search does not measure a network twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from structmat.analysis.isomorphism import isomorphism, mixed_keys
from structmat.networks.network import Network
from structmat.networks.stage import Stage
from structmat.search.objectives import Objective, Requirement

# Objectives that depend neither on the labels of the wires nor on random samples.
INVARIANT = frozenset(
    {
        "parameters",
        "depth",
        "nonzeros",
        "radix",
        "error_tolerance",
        "density",
        "mixing",
        "concentration",
        "dimension",
        "fourth_moment",
        "dense",
        "universal",
    }
)
_ROUNDS = 4  # rounds of refinement; further rounds would distinguish few more networks
_WIDEST = 64  # the maximum width at which networks are compared up to a relabelling


def are_invariant(measures: Iterable[Objective | Requirement]) -> bool:
    """Return whether objectives and requirements do not depend on the labels of the wires.

    User functions are assumed to depend on them.

    Examples
    --------
    >>> from structmat.search.objectives import objective, requirement
    >>> are_invariant([objective("mixing"), requirement("parameters<=64")])
    True
    >>> are_invariant([objective("conditioning")]), are_invariant([objective(len)])
    (False, False)
    """
    return all(_subject(one.name) in INVARIANT and _is_ours(one.function) for one in measures)


def key(net: Network, *, relabelled: bool) -> str:
    """Return a key of a network that does not depend on the order of its switches.

    Parameters
    ----------
    net : Network
    relabelled : bool
        Whether straight networks of at most 64 wires share the key if they differ by a relabelling
        of the wires. A few others may share it, too; `equivalent` decides.

    Examples
    --------
    >>> from structmat.families import butterfly, mixed_radix
    >>> other = mixed_radix(8, reverse=True)
    >>> key(butterfly(8), relabelled=True) == key(other, relabelled=True)
    True
    >>> key(butterfly(8), relabelled=False) == key(other, relabelled=False)
    False
    """
    if not relabelled or not _is_comparable(net):
        return _digest(repr(_canonical(net)))
    # Row i refines the colours of the wires after wire i has been distinguished from the others.
    # Without this, all wires of a network of full stages would have the same colour.
    colour = np.eye(net.width, dtype=np.uint64)
    for _ in range(_ROUNDS):
        own = mixed_keys(colour)
        colour = own.copy()
        for t, stage in enumerate(net):
            mark = mixed_keys(np.array([t]))
            for bank in stage.banks:
                met = own[:, bank.reads].sum(axis=2, keepdims=True, dtype=np.uint64)
                colour[:, bank.reads] += mixed_keys(met ^ mark)
    rows = np.sort(mixed_keys(colour).sum(axis=1, dtype=np.uint64))
    counts = net.width, net.depth, [sorted(_radices(stage)) for stage in net]
    return _digest(f"{counts} {rows.tolist()}")


def equivalent(a: Network, b: Network, *, relabelled: bool) -> bool:
    """Return whether two networks with the same key are equivalent.

    Examples
    --------
    >>> from structmat.families import butterfly, mixed_radix
    >>> equivalent(butterfly(8), mixed_radix(8, reverse=True), relabelled=True)
    True
    """
    if relabelled and _is_comparable(a) and _is_comparable(b):
        return isomorphism(a, b) is not None
    return _canonical(a) == _canonical(b)


def _is_comparable(net: Network) -> bool:
    return net.is_straight and net.width <= _WIDEST


def _is_ours(function: Callable[..., object]) -> bool:
    return str(getattr(function, "func", function).__module__).startswith("structmat.")


def _subject(name: str) -> str:
    """Return the objective that a requirement compares."""
    for sign in ("<=", ">=", "=="):
        name = name.partition(sign)[0]
    return name


def _radices(stage: Stage) -> list[tuple[int, int]]:
    return [(bank.radix, bank.count) for bank in stage.banks]


def _canonical(net: Network) -> tuple[object, ...]:
    """Return the switches of each stage, and the wires of each switch, in ascending order."""
    return (
        net.width,
        *(
            (
                sorted(
                    tuple(sorted(zip(reads, writes, strict=True)))
                    for bank in stage.banks
                    for reads, writes in zip(bank.reads.tolist(), bank.writes.tolist(), strict=True)
                ),
                sorted(map(tuple, stage.moves.tolist())),
            )
            for stage in net
        ),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
