"""Topologies as the atlas stores them: a spec, the first switches of its network, or a network."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from structmat.errors import FileError, abbreviated
from structmat.families import Claims, parse
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage


@dataclass(frozen=True)
class Topology:
    """The network of a record: a spec, the first switches of its network, or a stored network.

    Parameters
    ----------
    width : int
    spec : str, optional
    switches : int, optional
        Keep only this many switches of the spec's network, in order.
    stored : str, optional
        The JSON text of a network that has no spec.

    Examples
    --------
    >>> Topology(5, "brickwall", 3).network
    Network(width=5, depth=2, parameters=3)
    >>> print(Topology(5, "brickwall", 3))
    the first 3 switches of brickwall
    """

    width: int
    spec: str | None = None
    switches: int | None = None
    stored: str | None = None

    @classmethod
    def read(cls, width: int, value: Any) -> Topology:
        """Return the topology from its value in the data file.

        Raises
        ------
        FileError
            If the value has another form.
        """
        if isinstance(value, str):
            return cls(width, value)
        if isinstance(value, Mapping) and set(value) == {"spec", "switches"}:
            spec, switches = value["spec"], value["switches"]
            if isinstance(spec, str) and type(switches) is int and switches > 0:
                return cls(width, spec, switches)
        elif isinstance(value, Mapping) and "stages" in value:
            return cls(width, stored=json.dumps(value))
        raise FileError(
            f"topology {abbreviated(value)}: it must be a spec, a spec with a number of switches,"
            " or a network"
        )

    def written(self) -> Any:
        """Return the value for the data file."""
        if self.stored is not None:
            return json.loads(self.stored)
        return (
            self.spec if self.switches is None else {"spec": self.spec, "switches": self.switches}
        )

    def __str__(self) -> str:
        if self.stored is not None:
            return "a stored network"
        part = "" if self.switches is None else f"the first {self.switches:,} switches of "
        return f"{part}{self.spec}"

    @functools.cached_property
    def network(self) -> Network:
        """The network itself."""
        if self.stored is not None:
            net = Network.from_json(self.stored)
            if net.width != self.width:
                raise FileError(f"a stored network of width {net.width}, not {self.width}")
            return net
        net = parse(str(self.spec))(self.width)
        return net if self.switches is None else leading(net, self.switches)

    @functools.cached_property
    def claims(self) -> Claims:
        """The claims of the family about the network; empty for a part of it."""
        if self.spec is None or self.switches is not None:
            return Claims()
        return parse(self.spec).claims(self.width)

    @functools.cached_property
    def name(self) -> str:
        """The name of the family, or an empty string."""
        return "" if self.spec is None else str(getattr(parse(self.spec), "name", ""))

    @functools.cached_property
    def radix(self) -> int:
        """The largest radix."""
        return max((bank.radix for bank in self.network.banks), default=1)


def leading(net: Network, switches: int) -> Network:
    """Return the network of the first switches of a straight network.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> leading(butterfly(8), 6)
    Network(width=8, depth=2, parameters=6)
    """
    left, stages = switches, []
    for stage in net.stages:
        banks = []
        for bank in stage.banks:
            if left:
                banks.append(Bank(bank.reads[:left], bank.writes[:left]))
                left -= banks[-1].count
        if banks:
            stages.append(Stage(net.width, banks))
    return Network(net.width, stages)
