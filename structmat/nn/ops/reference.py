"""The reference implementation: the gathers and block products of a schedule on torch tensors.

The activations are transposed once, so that each vector is a column: a permutation of wires then
copies whole rows, and a bank is one batched product. Each step is an operation that torch can
differentiate, in forward and reverse mode and to any order. The fast implementations, from which
`structmat.nn.ops.execution_plan` chooses, are tested against this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from structmat.linalg.schedule import Gather, Product, Schedule, Step
from structmat.nn.precision import conjugate_transposed, product


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a schedule in both directions, with their index arrays as tensors on a device.

    Attributes
    ----------
    width : int
    forward, adjoint : tuple of Step
    """

    width: int
    forward: tuple[Step, ...]
    adjoint: tuple[Step, ...]

    @classmethod
    def of(cls, plan: Schedule, device: torch.device, *, views: bool = False) -> Steps:
        """Return the steps of a schedule on a device.

        With `views`, the index arrays of gathers that are views are not moved, since they are not
        used.
        """

        def on_device(step: Step) -> Step:
            if isinstance(step, Product) or (views and step.view is not None):
                return step
            return step.on(lambda index: torch.tensor(index, device=device))

        forward = tuple(map(on_device, plan.steps))
        adjoint = tuple(s.T if isinstance(s, Gather) else s for s in reversed(forward))
        return cls(plan.network.width, forward, adjoint)

    @cached_property
    def largest(self) -> int:
        """The largest radix of a switch."""
        products = (step for step in self.forward if isinstance(step, Product))
        return max((s.radix for step in products for s in step.segments), default=1)

    @cached_property
    def regular(self) -> bool:
        """Whether each product consists of a single bank that contains all wires."""
        return all(
            isinstance(step, Gather) or [s.end - s.start for s in step.segments] == [self.width]
            for step in self.forward
        )


def apply(steps: Steps, blocks: Sequence[Tensor], x: Tensor, *, adjoint: bool = False) -> Tensor:
    """Return R x, or Rᴴ x, for each vector along the last axis of x.

    Parameters
    ----------
    steps : Steps
    blocks : one (n, r, r) tensor for each bank, of the dtype of x
    x : (..., width)
    adjoint : bool
        Apply the transposed (for complex blocks, conjugate transposed) matrix.

    Returns
    -------
    (..., width)
    """
    y = flattened(x).T
    if adjoint:
        blocks = [conjugate_transposed(b) for b in blocks]
    for step in steps.adjoint if adjoint else steps.forward:
        if isinstance(step, Product):
            y = _multiplied(steps.width, step, blocks, y)
        elif step.view is None:
            y = y.index_select(0, step.index)
        else:
            shape, axes = step.view
            seen = y.reshape(*shape, y.shape[1]).permute(*axes, len(axes))
            y = seen.reshape(y.shape)
    return y.T.reshape(x.shape)


def flattened(x: Tensor) -> Tensor:
    """Return vectors (..., width) as rows (n, width).

    Unlike `reshape(-1, width)`, this also works for the elements of an empty batch in `torch.vmap`.

    Examples
    --------
    >>> flattened(torch.ones(3)).shape, flattened(torch.ones(2, 0, 3)).shape
    (torch.Size([1, 3]), torch.Size([0, 3]))
    """
    return x[None].flatten(0, -2)


def _multiplied(width: int, step: Product, blocks: Sequence[Tensor], y: Tensor) -> Tensor:
    # The compiler knows the fields of a segment, but not its property `end`.
    sizes = [s.count * s.radix for s in step.segments]
    passing = width - sum(sizes)
    runs = y.split([*sizes, passing]) if passing or len(sizes) > 1 else (y,)
    parts = []
    for s, run in zip(step.segments, runs, strict=False):  # idle wires have no segment
        block = blocks[s.bank].expand(s.count, -1, -1)  # a bank of equal blocks may be given once
        made = product(block, run.unflatten(0, (s.count, s.radix)))
        parts.append(made.reshape(run.shape))
    parts.extend(runs[len(parts) :])
    return parts[0] if len(parts) == 1 else torch.cat(parts)
