"""Keys that equivalent networks share, so that a search does not measure a network twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from structmat.analysis.isomorphism import isomorphism, mixed_keys
from structmat.networks.network import Network
from structmat.networks.stage import Stage

# Objectives that do not depend on the names of the wires, nor on a sample.
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
_ROUNDS = 4  # of refinement; more would distinguish few more networks


def are_invariant(names: Iterable[str]) -> bool:
    """Return whether objectives and requirements, given by their names, ignore the names of wires.

    Examples
    --------
    >>> are_invariant(["mixing", "parameters<=64"]), are_invariant(["fit_error"])
    (True, False)
    """
    return all(_subject(name) in INVARIANT for name in names)


def key(net: Network, *, relabelled: bool) -> str:
    """Return a key of a network that does not depend on the order of its switches.

    Parameters
    ----------
    net : Network
    relabelled : bool
        Whether networks that differ by a relabelling of the wires share the key. A few others may
        share it, too; `equivalent` decides.

    Examples
    --------
    >>> from structmat.families import butterfly, mixed_radix
    >>> other = mixed_radix(8, reverse=True)
    >>> key(butterfly(8), relabelled=True) == key(other, relabelled=True)
    True
    >>> key(butterfly(8), relabelled=False) == key(other, relabelled=False)
    False
    """
    if not relabelled or not net.is_straight:
        return _digest(repr(_canonical(net)))
    colour = np.zeros(net.width, dtype=np.uint64)
    for _ in range(_ROUNDS):
        own = mixed_keys(colour)
        colour = own.copy()
        for t, stage in enumerate(net):
            for bank in stage.banks:
                met = own[bank.reads].sum(axis=1, keepdims=True, dtype=np.uint64)
                meeting = mixed_keys(met ^ mixed_keys(np.array([t], dtype=np.uint64)))
                colour[bank.reads] += np.broadcast_to(meeting, bank.reads.shape)
    counts = net.width, net.depth, [sorted(_radices(stage)) for stage in net]
    return _digest(f"{counts} {np.sort(colour).tolist()}")


def equivalent(a: Network, b: Network, *, relabelled: bool) -> bool:
    """Return whether two networks of one key are equivalent.

    Examples
    --------
    >>> from structmat.families import butterfly, mixed_radix
    >>> equivalent(butterfly(8), mixed_radix(8, reverse=True), relabelled=True)
    True
    """
    if relabelled and a.is_straight and b.is_straight:
        return isomorphism(a, b) is not None
    return _canonical(a) == _canonical(b)


def _subject(name: str) -> str:
    """Return the objective that a requirement compares."""
    for sign in ("<=", ">=", "=="):
        name = name.partition(sign)[0]
    return name


def _radices(stage: Stage) -> list[tuple[int, int]]:
    return [(bank.radix, bank.count) for bank in stage.banks]


def _canonical(net: Network) -> tuple[object, ...]:
    """Return the switches of each stage in order, with the wires of each in order of reading."""
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
