"""The steps of a program applied tile by tile, so that intermediate results stay in the cache.

A rotation must read and write each vector once; everything in between should stay in the cache. The
activations are therefore divided into tiles of a few vectors. A tile is transposed, so that each
vector is a column (then a permutation of wires copies whole rows, and a bank is one batched
product), goes through all steps in scratch buffers, and is transposed back. No intermediate results
are saved for the backward pass, which applies the stages to each tile again.

These functions do not support autograd; `structmat.nn.ops.operator` registers them with it. The
reference implementation is `structmat.nn.ops.reference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from structmat.linalg.schedule import Gather, Product, Schedule, Segment

# Bytes of one scratch buffer: several fit in the L2 cache of a core.
_BUFFER = 700_000
_EIGHT = 8
_FEW = 8  # number of vectors up to which launching an operation takes longer than computing it
_WHOLE = 1 << 28  # bytes of a buffer on devices where launching operations is slow


@dataclass(frozen=True, eq=False)
class Move:
    """A permutation of the wires: row i of the result is row `index[i]`."""

    index: Tensor
    inverse: Tensor


@dataclass(frozen=True, eq=False)
class Multiply:
    """The product of blocks and consecutive runs of wires; wires from `passing` on are copied.

    With `transposed` = (p, q), the wires are first viewed as the transpose of a p×q matrix.
    """

    segments: tuple[Segment, ...]
    passing: int
    transposed: tuple[int, int] | None = None

    def part(self, y: Tensor, segment: Segment) -> Tensor:
        """Return the wires of a segment: y (width, t) → (count, radix, t), a view."""
        if self.transposed is not None:
            return y.unflatten(0, self.transposed).transpose(0, 1)
        end = segment.start + segment.count * segment.radix
        return y[segment.start : end].unflatten(0, (segment.count, segment.radix))


Step = Move | Multiply


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a schedule on a device, in both directions.

    Attributes
    ----------
    width : int
    forward, adjoint : tuple of Step
    single : tuple of Step
        The forward steps without views if every product consists of one bank of all wires,
        otherwise empty.
    """

    width: int
    forward: tuple[Step, ...]
    adjoint: tuple[Step, ...]
    single: tuple[Step, ...]

    @classmethod
    def of(cls, plan: Schedule, device: torch.device) -> Steps:
        """Return the steps of a schedule, with their index arrays on a device."""
        ahead: list[tuple[Step, tuple[int, int] | None]] = []
        back: list[tuple[Step, tuple[int, int] | None]] = []
        for step in plan.steps:
            if isinstance(step, Gather):
                index, inverse = (
                    torch.tensor(p, device=device) for p in (step.index, step.inverse)
                )
                flat = step.view[0] if step.view is not None and len(step.view[0]) == 2 else None
                ahead.append((Move(index, inverse), None if flat is None else (flat[0], flat[1])))
                back.append((Move(inverse, index), None if flat is None else (flat[1], flat[0])))
            else:
                product = _product(step)
                ahead.append((product, None))
                back.append((product, None))
        width = plan.network.width
        single = all(
            isinstance(step, Gather) or [s.count * s.radix for s in step.segments] == [width]
            for step in plan.steps
        )
        plain = tuple(step for step, _ in ahead) if single else ()
        return cls(width, _folded(ahead), _folded(back[::-1]), plain)


def _product(step: Product) -> Multiply:
    last = step.segments[-1]
    return Multiply(step.segments, last.start + last.count * last.radix)


def _folded(steps: list[tuple[Step, tuple[int, int] | None]]) -> tuple[Step, ...]:
    """Return the steps with each matrix transpose folded into the product that reads it."""
    folded: list[Step] = []
    pending: tuple[Step, tuple[int, int]] | None = None
    for step, shape in steps:
        if pending is not None:
            move, (p, q) = pending
            pending = None
            if isinstance(step, Multiply) and [(s.count, s.radix) for s in step.segments] == [
                (q, p)
            ]:
                folded.append(Multiply(step.segments, step.passing, (p, q)))
                continue
            folded.append(move)
        if shape is not None:
            pending = step, shape
        else:
            folded.append(step)
    if pending is not None:
        folded.append(pending[0])
    return tuple(folded)


def tile(width: int, tokens: int, dtype: torch.dtype, device: torch.device) -> int:
    """Return the number of vectors in a tile.

    On a CPU, a tile fills part of the L2 cache, and its rows have a length that is an odd multiple
    of eight: rows whose stride is a power of two would map to the same few cache sets.

    Examples
    --------
    >>> tile(4096, 2048, torch.float32, torch.device("cpu"))
    40
    """
    row = width * dtype.itemsize
    if device.type != "cpu":
        return max(1, min(tokens, _WHOLE // row))
    eights = max(1, _BUFFER // (row * _EIGHT))
    return max(1, min(tokens, (eights - (eights + 1) % 2) * _EIGHT))


class _Scratch:
    """Scratch buffers of shape (width, t), allocated on first use."""

    def __init__(self, width: int, most: int, dtype: torch.dtype, device: torch.device) -> None:
        self._made: list[Tensor] = []
        self._width = width
        self._most = most
        self._dtype = dtype
        self._device = device

    def get(self, k: int, t: int) -> Tensor:
        while len(self._made) <= k:
            size = self._width * self._most
            self._made.append(torch.empty(size, dtype=self._dtype, device=self._device))
        return self._made[k][: self._width * t].view(self._width, t)


def apply(
    steps: Steps,
    blocks: Sequence[Tensor],
    x: Tensor,
    out: Tensor | None = None,
    *,
    adjoint: bool = False,
) -> Tensor:
    """Apply all steps, or all adjoint steps, to the vectors.

    Parameters
    ----------
    steps : Steps
    blocks : one (n, r, r) tensor for each bank
    x : (tokens, width), in the dtype of the blocks or a less precise one
    out : (tokens, width), optional
        The tensor to write the result to.
    adjoint : bool
        Apply the transposed (for complex blocks, conjugate transposed) matrix.

    Returns
    -------
    (tokens, width) in the dtype of x, contiguous unless `out` is not
    """
    tokens, width = x.shape
    if 0 < tokens <= _FEW and steps.single and not adjoint and x.dtype == blocks[0].dtype:
        y = _few(steps.single, blocks, x)
        return y if out is None else out.copy_(y)
    size = tile(width, tokens, blocks[0].dtype, x.device)
    scratch = _Scratch(width, size, blocks[0].dtype, x.device)
    order = steps.adjoint if adjoint else steps.forward
    if adjoint:
        blocks = _adjoints(blocks)
    if out is None:
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for start in range(0, tokens, size):
        rows = slice(start, start + size)
        y, used = _loaded(order, x[rows], scratch, 0)
        for step in order:
            y = _stepped(step, blocks, y, scratch.get(used, y.shape[1]))
            used = 1 - used
        _store(out[rows], y)
    return out


def _few(steps: Sequence[Step], blocks: Sequence[Tensor], x: Tensor) -> Tensor:
    """Apply all steps to a few vectors, with as few calls as possible, which dominate the time."""
    t = len(x)
    y = x.reshape(-1) if t == 1 else x.T.contiguous()  # permuting a 1-D tensor is faster
    shape = y.shape
    for step in steps:
        if isinstance(step, Move):
            y = y.index_select(0, step.index)
        else:
            s = step.segments[0]
            y = torch.bmm(blocks[s.bank], y.view(s.count, s.radix, t)).view(shape)
    return y.view(1, -1) if t == 1 else y.T.contiguous()


def gradients(
    steps: Steps,
    blocks: Sequence[Tensor],
    x: Tensor,
    grad: Tensor,
    *,
    adjoint: bool = False,
    grad_x: Tensor | None,
    sums: Sequence[Tensor] | None,
) -> None:
    """Write the gradient of `apply` for the vectors, and accumulate those for the blocks.

    Parameters
    ----------
    steps, blocks, x, adjoint : as for `apply`
    grad : (tokens, width), the gradient for the result
    grad_x : (tokens, width) in the dtype of x, or None if not required
    sums : list of (n, r, r) in the dtype of the blocks, contiguous, or None
    """
    if sums is None:
        if grad_x is not None:
            apply(steps, blocks, grad.to(x.dtype), grad_x, adjoint=not adjoint)
        return
    order, opposite = steps.forward, steps.adjoint
    there, back = blocks, _adjoints(blocks)
    if adjoint:
        order, opposite, there, back = opposite, order, back, there
    tokens, width = x.shape
    size = tile(width, tokens, blocks[0].dtype, x.device)
    scratch = _Scratch(width, size, blocks[0].dtype, x.device)
    for start in range(0, tokens, size):
        rows = slice(start, start + size)
        kept, (used, free) = _inputs(order, there, x[rows], scratch)
        g, _ = _loaded(opposite, grad[rows], scratch, free)
        for step in opposite:
            if isinstance(step, Multiply):
                reads, y = kept.pop()
                for s in step.segments:
                    left, right = step.part(g, s), reads.part(y, s)
                    if adjoint:  # the gradient for the block, not for its adjoint
                        left, right = right, left
                    add = sums[s.bank]
                    torch.baddbmm(add, left, right.mH, out=add)
                if not kept and grad_x is None:
                    break
            g = _stepped(step, back, g, scratch.get(used, g.shape[1]))
            used, free = free, used
        if grad_x is not None:
            _store(grad_x[rows], g)


def _adjoints(blocks: Sequence[Tensor]) -> list[Tensor]:
    return [block.mH.resolve_conj() for block in blocks]


def zeros_like(blocks: Sequence[Tensor]) -> list[Tensor]:
    """Return contiguous zeros of the shapes of blocks, to accumulate gradients in."""
    return [torch.zeros(b.shape, dtype=b.dtype, device=b.device) for b in blocks]


def _inputs(
    steps: Sequence[Step], blocks: Sequence[Tensor], x: Tensor, scratch: _Scratch
) -> tuple[list[tuple[Multiply, Tensor]], tuple[int, int]]:
    """Return the input of each product, in order, and the indices of two unused buffers."""
    y, used = _loaded(steps, x, scratch, 0)
    holds = used - 1  # the buffer of y, if any
    free = -1  # a buffer before `used` whose content is no longer needed
    products = sum(isinstance(step, Multiply) for step in steps)
    kept: list[tuple[Multiply, Tensor]] = []
    for step in steps:
        if isinstance(step, Multiply):
            kept.append((step, y))
            if len(kept) == products:
                break
        if free >= 0:
            k, free = free, -1
        else:
            k, used = used, used + 1
        y = _stepped(step, blocks, y, scratch.get(k, y.shape[1]))
        if isinstance(step, Move):
            free = holds
        holds = k
    return kept, (used, used + 1 if free < 0 else free)


def _loaded(steps: Sequence[Step], x: Tensor, scratch: _Scratch, k: int) -> tuple[Tensor, int]:
    """Return vectors (t, width) transposed to (width, t), and the next free buffer.

    If the first step is a product over all wires, it reads a view; otherwise the vectors are copied
    to buffer k.
    """
    buffer = scratch.get(k, 0)
    if x.dtype == buffer.dtype and x.stride(1) == 1:
        first = steps[0]
        if isinstance(first, Multiply) and len(first.segments) == 1 and not first.transposed:
            return x.T, k
    buffer = scratch.get(k, len(x))
    buffer[None].copy_(x.T)
    return buffer, k + 1


def _stepped(step: Step, blocks: Sequence[Tensor], y: Tensor, out: Tensor) -> Tensor:
    """Apply a step to wires y (width, t), writing to the buffer `out`."""
    if isinstance(step, Move):
        return torch.index_select(y, 0, step.index, out=out)
    for s in step.segments:
        end = s.start + s.count * s.radix
        result = out[s.start : end].view(s.count, s.radix, -1)
        torch.bmm(blocks[s.bank], step.part(y, s), out=result)
    if step.passing < len(y):
        out[step.passing :].copy_(y[step.passing :])
    return out


def _store(out: Tensor, y: Tensor) -> None:
    """Write wires (width, t) to vectors (t, width).

    A third axis is added because torch copies a transposed matrix in one thread only.
    """
    out[None].copy_(y.T)
