"""Application of a schedule tile by tile, so that intermediate results stay in the cache.

A rotation must read and write each vector once; everything in between should stay in the cache. The
activations are therefore divided into tiles of a few vectors. A tile is transposed, so that each
vector is a column (a permutation of wires then copies whole rows, and a bank is one batched
product); all steps are applied in scratch buffers, and the result is transposed back. No
intermediate results are saved for the backward pass, which applies the stages to each tile again.

This is a backend (`structmat.nn.ops.execution_plan`) for every device, network and dtype; it does
not support autograd. The reference implementation is `structmat.nn.ops.reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from structmat.linalg.schedule import Gather, Product, Segment, Step
from structmat.networks.network import Network
from structmat.nn.ops.reference import Steps

FUSES_STAGES = False

# Bytes of one scratch buffer: several fit in the L2 cache of a core.
_BUFFER = 700_000
_EIGHT = 8
_FEW = 8  # number of vectors up to which launching an operation takes longer than running it
_WHOLE = 1 << 28  # bytes of a buffer on devices where launching operations is slow

prepared = Steps.of


def available(device: torch.device) -> bool:  # noqa: ARG001 (as for other backends)
    """Return True: these functions run on every device."""
    return True


def supports(net: Network, dtype: torch.dtype, blocks: torch.dtype) -> bool:  # noqa: ARG001
    """Return True: these functions support every network and dtype."""
    return True


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
    order = steps.adjoint if adjoint else steps.forward
    if adjoint:
        blocks = _adjoints(blocks)
    if 0 < tokens <= _FEW and steps.regular and x.dtype == blocks[0].dtype:
        y = _few(order, blocks, x)
        return y if out is None else out.copy_(y)
    size = tile(width, tokens, blocks[0].dtype, x.device, steps.largest)
    scratch = _scratch(width, size, blocks[0])
    if out is None:
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for start in range(0, tokens, size):
        rows = slice(start, start + size)
        y, used = _loaded(order, blocks, x[rows], scratch, 0)
        for step, after in _pairs(order):
            if _is_read_transposed(step, after):
                y = _transposed(step, y)
            else:
                y = _stepped(step, blocks, y, scratch(used, y.shape[-1]))
                used = 1 - used
        _store(out[rows], y)
    return out


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
    """Write the gradient for the vectors, and accumulate the gradients for the blocks.

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
    size = tile(width, tokens, blocks[0].dtype, x.device, steps.largest)
    scratch = _scratch(width, size, blocks[0])
    for start in range(0, tokens, size):
        rows = slice(start, start + size)
        inputs, (used, free) = _inputs(order, there, x[rows], scratch)
        g, _ = _loaded(opposite, blocks, grad[rows], scratch, free)
        for step, after in _pairs(opposite):
            if _is_read_transposed(step, after):
                g = _transposed(step, g)
                continue
            if isinstance(step, Product):
                y = inputs.pop()
                for s in step.segments:
                    left, right = _part(g, s), _part(y, s)
                    if adjoint:  # the gradient for the block, not for its adjoint
                        left, right = right, left
                    add = sums[s.bank]
                    torch.baddbmm(add, left, right.mH, out=add)
                if not inputs and grad_x is None:
                    break
            g = _stepped(step, back, g, scratch(used, g.shape[-1]))
            used, free = free, used
        if grad_x is not None:
            _store(grad_x[rows], g)


def zeros_like(blocks: Sequence[Tensor]) -> list[Tensor]:
    """Return contiguous zeros in the shapes of blocks, in which to accumulate gradients."""
    return [torch.zeros(b.shape, dtype=b.dtype, device=b.device) for b in blocks]


def tile(width: int, tokens: int, dtype: torch.dtype, device: torch.device, radix: int = 1) -> int:
    """Return the number of vectors in a tile, given the largest radix of the network.

    On a CPU, a tile fills part of the L2 cache, and the length of its rows is an odd multiple of
    eight: rows whose stride is a power of two would map to the same few cache sets. A tile has at
    least as many vectors as the largest switch has wires, because every tile reads all blocks,
    which would otherwise take longer than reading the vectors.

    Examples
    --------
    >>> tile(4096, 2048, torch.float32, torch.device("cpu"))
    40
    """
    row = width * dtype.itemsize
    if device.type != "cpu":
        return max(1, min(tokens, _WHOLE // row))
    fit, least = max(1, _BUFFER // (row * _EIGHT)), -(-radix // _EIGHT)
    eights = max(fit - (fit + 1) % 2, least + (least + 1) % 2)  # odd numbers
    return max(1, min(tokens, eights * _EIGHT))


Scratch = Callable[[int, int], Tensor]  # buffer k for t vectors, (width, t)


def _scratch(width: int, most: int, like: Tensor) -> Scratch:
    """Provide a function that returns scratch buffers, allocated on first use."""
    made: list[Tensor] = []

    def buffer(k: int, t: int) -> Tensor:
        while len(made) <= k:
            made.append(like.new_empty(width * most))
        return made[k][: width * t].view(width, t)

    return buffer


def _few(steps: Sequence[Step], blocks: Sequence[Tensor], x: Tensor) -> Tensor:
    """Apply all steps to a few vectors, in as few calls as possible, which dominate the time."""
    t = len(x)
    y = x.reshape(-1) if t == 1 else x.T.contiguous()  # permuting a 1-D tensor is faster
    shape = y.shape
    for step in steps:
        if isinstance(step, Gather):
            y = y.index_select(0, step.index)
        else:
            s = step.segments[0]
            y = torch.bmm(blocks[s.bank], y.view(s.count, s.radix, t)).view(shape)
    return y.view(1, -1) if t == 1 else y.T.contiguous()


def _adjoints(blocks: Sequence[Tensor]) -> list[Tensor]:
    return [block.mH.resolve_conj() for block in blocks]


def _pairs(steps: Sequence[Step]) -> zip[tuple[Step, Step | None]]:
    """Return each step with its successor."""
    return zip(steps, (*steps[1:], None), strict=True)


def _is_read_transposed(step: Step, after: Step | None) -> bool:
    """Return whether a step is a matrix transpose that the next product can read as a view."""
    return (
        isinstance(step, Gather)
        and step.view is not None
        and isinstance(after, Product)
        and [(s.radix, s.count) for s in after.segments] == [step.view[0]]
    )


def _transposed(step: Step, y: Tensor) -> Tensor:
    """Return a view (count, radix, t) of wires (width, t) that form a radix×count matrix."""
    assert isinstance(step, Gather)
    assert step.view is not None
    return y.view(*step.view[0], y.shape[1]).transpose(0, 1)


def _part(y: Tensor, segment: Segment) -> Tensor:
    """Return the wires of a segment, (count, radix, t), as a view of wires (width, t)."""
    if y.ndim == 3:
        return y
    return y[segment.start : segment.end].view(segment.count, segment.radix, y.shape[1])


def _inputs(
    steps: Sequence[Step], blocks: Sequence[Tensor], x: Tensor, scratch: Scratch
) -> tuple[list[Tensor], tuple[int, int]]:
    """Return the input of each product, in order, and the indices of two unused buffers."""
    y, used = _loaded(steps, blocks, x, scratch, 0)
    holds = used - 1  # the buffer of y, if any
    free = -1  # a buffer numbered below `used` whose content is no longer needed
    products = sum(isinstance(step, Product) for step in steps)
    kept: list[Tensor] = []
    for step, after in _pairs(steps):
        if _is_read_transposed(step, after):
            y = _transposed(step, y)
            continue
        if isinstance(step, Product):
            kept.append(y)
            if len(kept) == products:
                break
        if free >= 0:
            k, free = free, -1
        else:
            k, used = used, used + 1
        y = _stepped(step, blocks, y, scratch(k, y.shape[-1]))
        if isinstance(step, Gather):
            free = holds
        holds = k
    return kept, (used, used + 1 if free < 0 else free)


def _loaded(
    steps: Sequence[Step], blocks: Sequence[Tensor], x: Tensor, scratch: Scratch, k: int
) -> tuple[Tensor, int]:
    """Return vectors (t, width) transposed to (width, t), and the next free buffer.

    If the first step is a product with one segment, and the vectors have the dtype of the blocks
    and contiguous rows, the product reads a view; otherwise the vectors are copied to buffer k.
    """
    first = steps[0]
    regular = isinstance(first, Product) and len(first.segments) == 1
    if regular and x.dtype == blocks[0].dtype and x.stride(1) == 1:
        return x.T, k
    buffer = scratch(k, len(x))
    buffer[None].copy_(x.T)
    return buffer, k + 1


def _stepped(step: Step, blocks: Sequence[Tensor], y: Tensor, out: Tensor) -> Tensor:
    """Apply a step to wires y (width, t), writing to the buffer `out`."""
    if isinstance(step, Gather):
        return torch.index_select(y, 0, step.index, out=out)
    for s in step.segments:
        torch.bmm(blocks[s.bank], _part(y, s), out=_part(out, s))
    if s.end < len(out):
        out[s.end :].copy_(y[s.end :])
    return out


def _store(out: Tensor, y: Tensor) -> None:
    """Write wires (width, t) to vectors (t, width).

    A third axis is added because torch copies a transposed matrix in one thread only.
    """
    out[None].copy_(y.T)
