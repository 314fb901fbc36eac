"""Execution plans: how a network with fused stages is run on a device, and by which backend.

A backend is a module with the functions of `Backend`. It runs the schedule of a network on certain
devices, for certain networks and dtypes. A new backend must be listed in `BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from structmat.linalg.fused_stages import fused
from structmat.linalg.schedule import Product, Schedule, Segment, schedule
from structmat.networks import permutation
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.nn.ops.backends import compiled, tiled, triton
from structmat.nn.ops.reference import Steps


class Backend(Protocol):
    """The interface of a module that runs schedules; its functions are documented in `tiled`."""

    FUSES_STAGES: bool  # whether it expects unfused stages, and fuses them in registers itself

    def available(self, device: torch.device) -> bool:
        """Return whether the backend runs on a device."""

    def supports(self, net: Network, dtype: torch.dtype, blocks: torch.dtype) -> bool:
        """Return whether the backend supports a network and the dtypes of vectors and blocks."""

    def prepared(self, plan: Schedule, device: torch.device) -> Any:
        """Convert a schedule to the form that the other functions expect, on a device."""

    def apply(
        self,
        steps: Any,
        blocks: Sequence[Tensor],
        x: Tensor,
        out: Tensor | None = None,
        *,
        adjoint: bool = False,
    ) -> Tensor:
        """Compute R x, or Rᴴ x, for vectors (tokens, width), into `out` if given."""

    def gradients(
        self,
        steps: Any,
        blocks: Sequence[Tensor],
        x: Tensor,
        grad: Tensor,
        *,
        adjoint: bool = False,
        grad_x: Tensor | None,
        sums: Sequence[Tensor] | None,
    ) -> None:
        """Write the gradient for the vectors, and accumulate the gradients for the blocks."""


BACKENDS: tuple[Backend, ...] = (triton, compiled, tiled)  # the first that supports a call runs it


def backend_for(
    net: Network, device: torch.device, dtype: torch.dtype, blocks: torch.dtype
) -> Backend:
    """Return the backend that runs a network on a device, for dtypes of vectors and blocks."""
    return next(b for b in BACKENDS if b.available(device) and b.supports(net, dtype, blocks))


@dataclass(frozen=True, eq=False)
class Run:
    """The run of stages that one fused stage replaces.

    The blocks of the fused stage result from applying the run to unit vectors: because the switches
    of a stage share no wire, one vector yields one column of every block.

    Attributes
    ----------
    banks : int
        The number of banks of the given network in these stages.
    segments : tuple of Segment
        The segments of the product with the fused blocks.
    steps : Steps or None
        The steps of these stages, for wires in the order of that product; None for a single stage,
        whose blocks are used unchanged.
    """

    banks: int
    segments: tuple[Segment, ...]
    steps: Steps | None

    def parts(self, columns: Tensor) -> Iterator[Tensor]:
        """Return views (n, c, c) of columns (c, width) as blocks, one for each segment."""
        for s in self.segments:
            part = columns[: s.radix, s.start : s.end].unflatten(1, (s.count, s.radix))
            yield part.permute(1, 2, 0)

    def zeros(self, like: Tensor) -> Tensor:
        """Return columns (c, width) of zeros."""
        assert self.steps is not None
        return like.new_zeros(max(s.radix for s in self.segments), self.steps.width)

    def units(self, like: Tensor) -> Tensor:
        """Return the unit vectors (c, width): vector k is 1 at the k-th wire of each switch."""
        made = self.zeros(like)
        for part in self.parts(made):
            part.diagonal(dim1=1, dim2=2).fill_(1)
        return made


@dataclass(frozen=True, eq=False)
class ExecutionPlan:
    """How a network is run on one device.

    Attributes
    ----------
    network : Network
        The network with fused stages.
    runs : tuple of Run
        The run that each stage of this network replaces.
    backends : tuple
        The backends that run on the device, each with its prepared schedule.
    """

    network: Network
    runs: tuple[Run, ...]
    backends: tuple[tuple[Backend, Any], ...]
    _selected: dict[tuple[torch.dtype, torch.dtype], tuple[Backend, Any]] = field(
        default_factory=dict, init=False
    )

    def apply(
        self,
        blocks: Sequence[Tensor],
        x: Tensor,
        out: Tensor | None = None,
        *,
        adjoint: bool = False,
    ) -> Tensor:
        """Return R x, or Rᴴ x, for vectors (tokens, width) and the fused blocks."""
        backend, steps = self._backend(blocks, x)
        return backend.apply(steps, blocks, x, out, adjoint=adjoint)

    def gradients(
        self,
        blocks: Sequence[Tensor],
        x: Tensor,
        grad: Tensor,
        *,
        adjoint: bool = False,
        grad_x: Tensor | None,
        sums: Sequence[Tensor] | None,
    ) -> None:
        """Write the gradient for the vectors, and accumulate the gradients of fused blocks."""
        backend, steps = self._backend(blocks, x)
        backend.gradients(steps, blocks, x, grad, adjoint=adjoint, grad_x=grad_x, sums=sums)

    def fixed(
        self, blocks: Sequence[Tensor], dtype: torch.dtype, *, adjoint: bool
    ) -> Callable[[Tensor], Tensor]:
        """Prepare a function that applies fixed blocks to a few vectors with compiled kernels."""
        steps = next(steps for backend, steps in self.backends if backend is compiled)
        return compiled.fixed(steps, blocks, dtype, adjoint=adjoint)

    def _backend(self, blocks: Sequence[Tensor], x: Tensor) -> tuple[Backend, Any]:
        dtypes = x.dtype, blocks[0].dtype
        if dtypes not in self._selected:
            self._selected[dtypes] = next(
                pair for pair in self.backends if pair[0].supports(self.network, *dtypes)
            )
        return self._selected[dtypes]

    def fuse(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """Return the blocks of the fused network, given those of the original one."""
        made: list[Tensor] = []
        for run, own in self._by_run(blocks):
            if run.steps is None or not own:
                made += own
                continue
            columns = tiled.apply(run.steps, own, run.units(own[0]))
            made += [part.contiguous() for part in run.parts(columns)]
        return made

    def gradients_of_blocks(
        self, blocks: Sequence[Tensor], fused_gradients: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the gradients of the original blocks, given the gradients of `fuse(blocks)`."""
        made: list[Tensor] = []
        rest = iter(fused_gradients)
        for run, own in self._by_run(blocks):
            if run.steps is None or not own:
                made += [next(rest) for _ in own]
                continue
            columns, sums = run.zeros(own[0]), tiled.zeros_like(own)
            for part in run.parts(columns):
                part.copy_(next(rest))
            tiled.gradients(run.steps, own, run.units(own[0]), columns, grad_x=None, sums=sums)
            made += sums
        return made

    def _by_run(self, blocks: Sequence[Tensor]) -> Iterator[tuple[Run, list[Tensor]]]:
        first = 0
        for run in self.runs:
            yield run, list(blocks[first : first + run.banks])
            first += run.banks


def execution_plan(
    net: Network, ends: tuple[int, ...], backends: Sequence[Backend], device: torch.device
) -> ExecutionPlan:
    """Return the plan that fuses the runs of stages with these ends, for backends on a device."""
    coarse = fused(net, ends)
    plan = schedule(coarse.network)
    wires = permutation.identity(net.width)  # at each position of the schedule
    products: dict[int, tuple[tuple[Segment, ...], Index]] = {}
    for step in plan.steps:
        if isinstance(step, Product):
            products[step.stage] = step.segments, wires
        else:
            wires = wires[step.index]
    runs = []
    for k, own in enumerate(coarse.runs):
        segments, order = products.get(k, ((), wires))
        steps = None
        if own.depth > 1:  # renames wires to their positions in the order of the product
            steps = Steps.of(schedule(own.relabel(permutation.inverse(order))), device)
        runs.append(Run(len(own.banks), segments, steps))
    return ExecutionPlan(
        coarse.network,
        tuple(runs),
        tuple(
            (backend, backend.prepared(plan, device))
            for backend in backends
            if backend.supports(coarse.network, torch.float32, torch.float32)
        ),
    )
