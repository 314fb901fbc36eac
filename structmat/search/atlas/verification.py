"""The verification of records from their networks, and the records that a network improves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from structmat.errors import StructmatError
from structmat.families.resolution import network
from structmat.networks.network import Network
from structmat.search.atlas.best_known import is_better, measured
from structmat.search.atlas.lookup import selected
from structmat.search.atlas.record_file import Record
from structmat.search.atlas.stored_topology import Topology

_LONGEST = 20_000  # characters of the JSON text of a network without a spec
_CLOSE = 1e-6  # relative difference allowed between a measured value and its interval


# Computing again --------------------------------------------------------------------------------


class Mismatch(NamedTuple):
    """A record that differs from what is computed.

    Attributes
    ----------
    record : Record
        The record as stored.
    reason : str
    """

    record: Record
    reason: str

    def __str__(self) -> str:
        where = f"{self.record.purpose}, width {self.record.width}, block {self.record.block}"
        return f"{where}: {self.reason}"


def mismatch(record: Record) -> Mismatch | None:
    """Return the difference between a record and what is computed from its network, or None.

    Examples
    --------
    >>> from structmat.search.atlas.lookup import atlas
    >>> record = atlas(16, 2, "mixing").best()
    >>> mismatch(record) is None
    True
    >>> print(mismatch(replace(record, value=33)))
    mixing, width 16, block 2: the value is 32, not 33
    """
    if record.topology is None:
        obstacle = record.question.obstacle(record.width, record.block)
        return None if obstacle else Mismatch(record, "networks exist for this purpose")
    try:
        again = measured(record.topology, record.purpose, record.block)
    except StructmatError as error:
        return Mismatch(record, str(error))
    if again is None:
        return Mismatch(record, f"{record.topology} does not serve the purpose")
    for name in ("value", "parameters", "depth", "evidence"):
        old, new = getattr(record, name), getattr(again, name)
        if old != new and not (name == "value" and _is_close(record, again)):
            return Mismatch(record, f"the {name} is {new}, not {old}")
    return None


def _is_close(record: Record, again: Record) -> bool:
    """Return whether two measurements agree: other processors round differently."""
    if record.interval is None or record.value is None or again.value is None:
        return False
    low, high = record.interval
    return low * (1 - _CLOSE) <= again.value <= high * (1 + _CLOSE)


# Records from elsewhere -------------------------------------------------------------------------


def submitted(records: Sequence[Record], topology: Any, *, holder: str = "search") -> list[Record]:
    """Return the records that a network improves, with the network as the new holder.

    Every purpose and every block size that admits the radices of the network are measured, except
    errors of fits and conditioning at widths where the atlas has none.

    Parameters
    ----------
    records : sequence of Record
        The records of the atlas.
    topology : Network, graph, or path
        A network of a width of the atlas, for example one that `structmat search` has saved; or a
        Topology, for a spec.
    holder : str
        "search", "construction" or "family".

    Raises
    ------
    StructmatError
        If the width is not in the atlas, or the network is too large to store without a spec.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> from structmat.search.atlas.record_file import packaged
    >>> submitted(packaged(), butterfly(8).repeat(2))
    []
    """
    given = topology if isinstance(topology, Topology) else _stored(network(topology))
    found = []
    for record in selected(records, given.width):
        if record.block < given.radix or _key_of_size(given, record) > record.key:
            continue
        again = measured(given, record.purpose, record.block)
        if again is not None and is_better(again, record):
            found.append(replace(again, holder=holder))
    return found


def _key_of_size(topology: Topology, record: Record) -> tuple[float, int, int]:
    """Return the key that a network would have if it served the purpose, or a lower bound on it."""
    net = topology.network
    counts = {"parameters": net.parameters, "depth": net.depth}
    value = counts.get(record.question.quantity, -math.inf)
    return value, net.parameters, net.depth


def _stored(net: Network) -> Topology:
    text = json.dumps(json.loads(net.to_json()), separators=(",", ":"))
    if len(text) > _LONGEST:
        raise StructmatError(
            f"a network of {len(text):,} characters as JSON: the atlas stores up to {_LONGEST:,};"
            " give the spec of a family instead"
        )
    return Topology(net.width, stored=text)


def with_records(records: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """Return records with some replaced by others for the same purpose, width and block.

    Examples
    --------
    >>> with_records([Record("dense", 2, 2, 1)], [Record("dense", 2, 2, 1, 1, 1)])[0].depth
    1
    """
    return list({record.place: record for record in (*records, *new)}.values())
