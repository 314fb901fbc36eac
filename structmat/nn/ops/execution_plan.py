"""Execution plans on a device: the steps of a network with fused stages, and how to fuse blocks.

A `Program` belongs to a network and has a key that is the same in every process, by which the torch
operator looks it up. The operator creates the tensors when a device is first used, never while a
graph is traced.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import RLock
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from structmat.analysis import gauge
from structmat.errors import StructmatError
from structmat.linalg.fusion import merged
from structmat.linalg.schedule import schedule
from structmat.networks.network import Network
from structmat.nn import modes
from structmat.nn.ops import tiled, triton
from structmat.nn.ops.reference import Plan, plan_for
from structmat.nn.ops.tiled import Steps

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Group:
    """The run of stages that one fused stage replaces.

    Attributes
    ----------
    banks : int
        The number of banks of the original network in these stages.
    steps : Steps or None
        The steps of these stages; None for a single stage, whose blocks are used unchanged.
    places : Tensor
        (width,) int64: the position of each wire in its fused switch.
    reads : tuple of Tensor
        (n, c) int64: the wires of the switches of each fused bank.
    """

    banks: int
    steps: Steps | None
    places: Tensor
    reads: tuple[Tensor, ...]

    @property
    def probes(self) -> Tensor:
        """(c, width) bool, where vector k is 1 at the k-th wire of each fused switch.

        The switches of a stage share no wire, so one vector yields a column of all their blocks.
        """
        widest = max(reads.shape[1] for reads in self.reads)
        return torch.arange(widest, device=self.places.device)[:, None] == self.places


@dataclass(frozen=True, eq=False)
class Tape:
    """A network with fused stages on one device.

    Attributes
    ----------
    steps : Steps
        The steps of the fused network.
    groups : tuple of Group
        One for each stage of the fused network.
    kernels : structmat.nn.ops.triton.Program or None
        The program of the Triton kernels, if they can run.
    """

    steps: Steps
    groups: tuple[Group, ...]
    kernels: triton.Program | None

    def apply(
        self, blocks: Sequence[Tensor], x: Tensor, out: Tensor | None = None, *, adjoint: bool
    ) -> Tensor:
        """Return R x, or Rᴴ x, for vectors (tokens, width) and the fused blocks."""
        kernels = self._usable_kernels(blocks, x)
        if kernels is not None:
            y = triton.forward(kernels, blocks, x, adjoint=adjoint)
            return y if out is None else out.copy_(y)
        return tiled.apply(self.steps, blocks, x, out, adjoint=adjoint)

    def gradients(
        self,
        blocks: Sequence[Tensor],
        x: Tensor,
        grad: Tensor,
        *,
        adjoint: bool,
        grad_x: Tensor | None,
        sums: Sequence[Tensor] | None,
    ) -> None:
        """Write the gradient of `apply` for the vectors, and accumulate those of fused blocks."""
        kernels = self._usable_kernels(blocks, x)
        if kernels is None:
            tiled.gradients(self.steps, blocks, x, grad, adjoint=adjoint, grad_x=grad_x, sums=sums)
            return
        if sums is None:
            if grad_x is not None:
                self.apply(blocks, grad.to(x.dtype), grad_x, adjoint=not adjoint)
            return
        of_x, of_blocks = triton.backward(kernels, blocks, x, grad.to(x.dtype), adjoint=adjoint)
        if grad_x is not None:
            grad_x.copy_(of_x)
        for total, part in zip(sums, of_blocks, strict=True):
            total.add_(part)

    def _usable_kernels(self, blocks: Sequence[Tensor], x: Tensor) -> triton.Program | None:
        """Return the program of the Triton kernels if they support these dtypes."""
        supported = x.dtype in triton.DTYPES and all(b.dtype == torch.float32 for b in blocks)
        return self.kernels if supported else None

    def merge(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """Return the blocks of the fused network: (n, c, c) for each of its banks."""
        made: list[Tensor] = []
        for group, own in self._grouped(blocks):
            if group.steps is None or not own:
                made += own
                continue
            columns = tiled.apply(group.steps, own, group.probes.to(own[0].dtype))
            made += [
                columns[: reads.shape[1], reads].permute(1, 2, 0).contiguous()
                for reads in group.reads
            ]
        return made

    def unmerge(self, blocks: Sequence[Tensor], grads: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients of the blocks, given those of `merge(blocks)`."""
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
            tiled.gradients(group.steps, own, probes, columns, grad_x=None, sums=sums)
            made += sums
        return made

    def _grouped(self, blocks: Sequence[Tensor]) -> list[tuple[Group, list[Tensor]]]:
        found, first = [], 0
        for group in self.groups:
            found.append((group, list(blocks[first : first + group.banks])))
            first += group.banks
        return found


class Program:
    """A network and its compiled tapes, cached by device and by fusion of stages.

    Parameters
    ----------
    network : Network

    Attributes
    ----------
    network : Network
    key : str
        A digest of the wiring.
    chosen : dict
        The ends of the fused runs of stages of selected plans, by cache key; maintained by
        `structmat.nn.ops.autotune`.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.key = _key(network)
        self.chosen: dict[tuple[Any, ...], tuple[int, ...]] = {}
        self._made: dict[Hashable, Any] = {}

    def tape(self, ends: tuple[int, ...], device: torch.device) -> Tape:
        """Return the tape in which the runs of stages with these ends are fused."""
        takes = triton.available(device)
        return self._kept(
            ("tape", ends, device, takes),
            lambda: _tape(self.network, ends, device, kernels=takes),
        )

    def plain(self, device: torch.device) -> Plan:
        """Return the plan of the reference implementation."""
        return self._kept(("plain", device), lambda: plan_for(self.network, device))

    def places(self, device: torch.device, *, unitary: bool) -> tuple[Tensor | None, ...]:
        """Return, for each bank, the indices of the generators that `reduced` keeps.

        They are None for a bank that keeps all of its generators.
        """
        kept = kept_generators(self.network, unitary=unitary)
        return self._kept(
            ("places", device, unitary),
            lambda: tuple(
                None if k.all() else torch.tensor(np.flatnonzero(k), device=device) for k in kept
            ),
        )

    def _kept(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return the value cached under a key, or compute it; cache it in eager mode only."""
        if not modes.eager():
            with modes.untraced():
                return make()
        if key not in self._made:
            with torch.inference_mode(mode=False):  # later calls may need gradients
                self._made[key] = make()
        found: _T = self._made[key]
        return found


@lru_cache(maxsize=64)  # a model has many layers of a few widths
def kept_generators(net: Network, *, unitary: bool) -> tuple[npt.NDArray[np.bool_], ...]:
    """Return, for each bank, which generators `structmat.reduced` keeps, (n, g)."""
    return gauge.reduced(net, unitary=unitary).kept


_F = TypeVar("_F", bound=Callable[..., Any])


def _constant(function: _F) -> _F:
    """Make torch.compile treat results as constants, without tracing into the function.

    This is `torch.compiler.assume_constant_result`, which would import the compiler.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@_constant
def plan_of(key: str, device: torch.device) -> Plan:
    """Return the plan of the reference implementation for a program."""
    return found(key).plain(device)


@_constant
def places_of(key: str, device: torch.device, *, unitary: bool) -> tuple[Tensor | None, ...]:
    """Return `Program.places` of a program."""
    return found(key).places(device, unitary=unitary)


def _tape(net: Network, ends: tuple[int, ...], device: torch.device, *, kernels: bool) -> Tape:
    coarse = merged(net, ends)
    groups = []
    for stage, group in zip(coarse.network.stages, coarse.groups, strict=False):
        places = np.zeros(net.width, dtype=np.int64)
        for bank in stage.banks:
            places[bank.reads] = np.arange(bank.radix)
        groups.append(
            Group(
                len(group.banks),
                Steps.of(schedule(group), device) if group.depth > 1 else None,
                torch.tensor(places, device=device),
                tuple(torch.tensor(bank.reads, device=device) for bank in stage.banks),
            )
        )
    takes = kernels and triton.supports(coarse.network, torch.float32)
    return Tape(
        Steps.of(schedule(coarse.network), device),
        tuple(groups),
        triton.program(coarse.network, device) if takes else None,
    )


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
_LOCK = RLock()  # two programs for one key would have different lifetimes


def _unlock() -> None:
    """Replace the lock in a forked process, where no thread is left to release the old one."""
    global _LOCK
    _LOCK = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@lru_cache(maxsize=64)  # a model has many layers of a few widths
def program_for(net: Network) -> Program:
    """Return the program of a network, which `found` can look up as long as it is referenced."""
    made = Program(net)
    with _LOCK:
        return _ALIVE.setdefault(made.key, made)


def found(key: str) -> Program:
    """Return the program with this key.

    Raises
    ------
    StructmatError
        If no such program exists in this process.
    """
    program = _ALIVE.get(key)
    if program is None:
        raise StructmatError(
            f"program {key}: no layer with its network exists in this process; create one with"
            " Orthogonal(network) first"
        )
    return program
