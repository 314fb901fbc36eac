"""What a network is compiled to: steps on a device, and how blocks are multiplied out before.

A `Program` belongs to a network and has a key that says the same in every process; under it the
torch operator finds the program again. Tensors are made when a device is first used, by the
operator, and never while a graph is traced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from structmat.errors import StructmatError
from structmat.merging import merged
from structmat.network import Network
from structmat.nn import tiled
from structmat.nn.rotate import Plan, plan_for
from structmat.nn.tiled import Steps
from structmat.scheduling import schedule


@dataclass(frozen=True, eq=False)
class Group:
    """The stages that a merged one replaces.

    Attributes
    ----------
    banks : int
        How many banks of the given network these stages have.
    steps : Steps or None
        Of these stages; None for a single stage, whose blocks are used as they are.
    places : Tensor
        (width,) int64: the place of each wire in its merged switch.
    reads : tuple of Tensor
        (n, c) int64, the wires of the switches of each merged bank.
    """

    banks: int
    steps: Steps | None
    places: Tensor
    reads: tuple[Tensor, ...]

    @property
    def probes(self) -> Tensor:
        """(c, width) bool: vector k has 1 at the k-th wire of each merged switch.

        As the switches of a stage share no wire, one vector shows a column of all their blocks.
        """
        widest = max(reads.shape[1] for reads in self.reads)
        return torch.arange(widest, device=self.places.device)[:, None] == self.places


@dataclass(frozen=True, eq=False)
class Tape:
    """A network with runs of stages merged, on one device."""

    steps: Steps
    groups: tuple[Group, ...]

    def merge(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """Return the blocks of the merged network: (n, c, c) for each of its banks."""
        made: list[Tensor] = []
        for group, own in self._grouped(blocks):
            if group.steps is None or not own:
                made += own
                continue
            columns = tiled.apply(group.steps.forward, own, group.probes.to(own[0].dtype))
            made += [
                columns[: reads.shape[1], reads].permute(1, 2, 0).contiguous()
                for reads in group.reads
            ]
        return made

    def unmerge(self, blocks: Sequence[Tensor], grads: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients of the blocks from those of `merge(blocks)`."""
        made: list[Tensor] = []
        rest = iter(grads)
        for group, own in self._grouped(blocks):
            if group.steps is None or not own:
                made += [next(rest) for _ in own]
                continue
            probes = group.probes.to(own[0].dtype)
            columns = torch.zeros_like(probes)
            for reads in group.reads:
                columns[: reads.shape[1], reads] = next(rest).permute(2, 0, 1)
            sums = tiled.zeros_like(own)
            steps = group.steps
            tiled.gradients(
                steps.forward, steps.adjoint, own, probes, columns, grad_x=None, sums=sums
            )
            made += sums
        return made

    def _grouped(self, blocks: Sequence[Tensor]) -> list[tuple[Group, list[Tensor]]]:
        found, first = [], 0
        for group in self.groups:
            found.append((group, list(blocks[first : first + group.banks])))
            first += group.banks
        return found


class Program:
    """A network, and what was made of it for each device and each way to merge its stages.

    Parameters
    ----------
    network : Network

    Attributes
    ----------
    network : Network
    key : str
        A digest of the wiring.
    chosen : dict
        Where merged runs of stages end, by what was asked; `structmat.nn.tuning` fills it.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.key = _key(network)
        self.chosen: dict[tuple[Any, ...], tuple[int, ...]] = {}
        self._tapes: dict[tuple[tuple[int, ...], torch.device], Tape] = {}
        self._plain: dict[torch.device, Plan] = {}

    def tape(self, ends: tuple[int, ...], device: torch.device) -> Tape:
        """Return the tape that merges runs of stages with these ends."""
        found = self._tapes.get((ends, device))
        if found is None:
            with torch.inference_mode(mode=False):  # kept for later calls, which may train
                found = self._tapes[ends, device] = _tape(self.network, ends, device)
        return found

    def plain(self, device: torch.device) -> Plan:
        """Return the plan of the plain path."""
        found = self._plain.get(device)
        if found is None:
            with torch.inference_mode(mode=False):
                found = plan_for(self.network, device)
            pairs = [pair for pair in found.indices if pair is not None]
            if not any(isinstance(index, FakeTensor) for pair in pairs for index in pair):
                self._plain[device] = found
        return found


def _tape(net: Network, ends: tuple[int, ...], device: torch.device) -> Tape:
    coarse = merged(net, ends)
    groups = []
    for stage, group in zip(coarse.network.stages, coarse.groups, strict=False):
        places = torch.zeros(net.width, dtype=torch.int64)
        reads = []
        for bank in stage.banks:
            reads.append(torch.tensor(bank.reads))
            places[reads[-1]] = torch.arange(bank.radix)
        groups.append(
            Group(
                len(group.banks),
                Steps.of(schedule(group), device) if group.depth > 1 else None,
                places.to(device),
                tuple(wires.to(device) for wires in reads),
            )
        )
    return Tape(Steps.of(schedule(coarse.network), device), tuple(groups))


def _key(net: Network) -> str:
    """Return a digest of the wiring, the same in every process."""
    digest = hashlib.sha256(f"{net.width}".encode())
    for stage in net.stages:
        digest.update(b"stage")
        for bank in stage.banks:
            digest.update(f"bank {bank.radix}".encode())
            digest.update(bank.reads.tobytes())
            digest.update(bank.writes.tobytes())
        for wires in stage.passing:
            digest.update(wires.tobytes())
    return digest.hexdigest()[:32]


_ALIVE: WeakValueDictionary[str, Program] = WeakValueDictionary()


@lru_cache(maxsize=64)  # a model has many layers of a few widths
def program_for(net: Network) -> Program:
    """Return the program of a network, and let `found` find it while somebody holds it."""
    program = _ALIVE.get(_key(net))
    if program is None:
        program = Program(net)
        _ALIVE[program.key] = program
    return program


def found(key: str) -> Program:
    """Return the program with this key.

    Raises
    ------
    StructmatError
        When nobody in this process holds one.
    """
    program = _ALIVE.get(key)
    if program is None:
        raise StructmatError(
            f"program {key}: no layer of its network is alive in this process; make one with"
            " Orthogonal(network) first"
        )
    return program
