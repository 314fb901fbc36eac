"""The reference implementation: the gathers and block products of a schedule on torch tensors.

The activations are transposed once, so that each vector is a column: then a permutation of wires
copies whole rows, and a bank is one batched product. Each step is an operation that torch can
differentiate, in forward and reverse mode and to any order. The fast implementation in
`structmat.nn.ops.operator` is tested against this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from structmat.linalg.schedule import Gather, Product, schedule
from structmat.networks.network import Network
from structmat.nn import modes
from structmat.nn.precision import conjugate_transposed, product


@dataclass(frozen=True, eq=False)
class Plan:
    """A schedule with its index arrays as tensors on one device.

    `indices` contains, for each step, the (index, inverse) of a gather, or None for a step that
    needs no index array.
    """

    width: int
    steps: tuple[Gather | Product, ...]
    indices: tuple[tuple[Tensor, Tensor] | None, ...]


def plan_for(net: Network, device: torch.device) -> Plan:
    """Return the plan of a network on a device."""

    def indices(step: Gather | Product) -> tuple[Tensor, Tensor] | None:
        if isinstance(step, Product) or step.view is not None:
            return None
        return (
            torch.tensor(step.index, device=device),
            torch.tensor(step.inverse, device=device),
        )

    steps = schedule(net).steps
    return Plan(net.width, steps, tuple(indices(step) for step in steps))


def rotate(plan: Plan, blocks: Sequence[Tensor], x: Tensor, *, adjoint: bool = False) -> Tensor:
    """Return R x, or Rᴴ x, for each vector along the last axis of x.

    Parameters
    ----------
    plan : Plan
    blocks : one (n, r, r) tensor for each bank, of the dtype of x
    x : (..., width)
    adjoint : bool
        Apply the transposed (for complex blocks, conjugate transposed) matrix.

    Returns
    -------
    (..., width)
    """
    y = x.reshape(-1, plan.width).T
    steps = list(zip(plan.steps, plan.indices, strict=True))
    if adjoint:
        steps.reverse()
        blocks = [conjugate_transposed(b) for b in blocks]
    for step, pair in steps:
        if isinstance(step, Product):
            y = _multiply(plan.width, step, blocks, y)
        elif pair is not None:
            y = _permuted(y, *(pair[::-1] if adjoint else pair))
        else:
            y = _transpose(step, y, adjoint=adjoint)
    return y.T.reshape(x.shape)


def _multiply(width: int, step: Product, blocks: Sequence[Tensor], y: Tensor) -> Tensor:
    sizes = [s.count * s.radix for s in step.segments]
    passing = width - sum(sizes)
    runs = y.split([*sizes, passing]) if passing or len(sizes) > 1 else (y,)
    parts = []
    for s, run in zip(step.segments, runs, strict=False):  # idle wires have no segment
        made = product(blocks[s.bank], run.reshape(s.count, s.radix, -1))
        parts.append(made.reshape(run.shape))
    parts.extend(runs[len(parts) :])
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _transpose(step: Gather, y: Tensor, *, adjoint: bool) -> Tensor:
    assert step.view is not None
    shape, axes = step.view
    if adjoint:
        shape = tuple(shape[axis] for axis in axes)
        axes = tuple(sorted(range(len(axes)), key=axes.__getitem__))
    seen = y.reshape(*shape, y.shape[1]).permute(*axes, len(axes))
    return seen.reshape(y.shape)


def _permuted(y: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    if modes.recorded() or modes.refuses_functions():
        return y.index_select(0, index)
    made: Tensor = _Permute.apply(y, index, inverse)
    return made


class _Permute(torch.autograd.Function):
    """A permutation of rows whose gradient is a gather, not a scatter as that of indexing."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, index: Tensor, inverse: Tensor) -> Tensor:  # noqa: ARG004 (for backward)
        return y.index_select(0, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG004
        _, index, inverse = inputs
        ctx.save_for_backward(index, inverse)
        ctx.save_for_forward(index, inverse)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        index, inverse = ctx.saved_tensors
        return _permuted(grads[0], inverse, index), None, None

    @staticmethod
    def jvp(ctx: Any, *given: Tensor) -> Tensor:
        index, inverse = ctx.saved_tensors
        return _permuted(given[0], index, inverse)
