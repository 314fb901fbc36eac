"""The rotation as a custom torch operator with a gradient, for autograd and the compiler.

`structmat::rotate` takes vectors, the blocks of a network and the key of its plans. For the
backward pass, it saves only the vectors and the blocks, no intermediate results. Given the weight
of a frozen linear layer, it also computes that layer's outputs, so that the rotated vectors need
not be saved, nor be in memory all at once. The plan is selected when the operator runs
(`structmat.nn.ops.plan_selection`), so a compiled graph is valid for any number of vectors. Second
derivatives, forward-mode derivatives, transforms of `torch.func` and batched gradients use the
reference implementation, which consists of torch's own operations. Autocast has no effect on any of
these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from structmat.networks.network import Network
from structmat.nn import torch_internals
from structmat.nn.ops import huge_pages, plan_cache, plan_selection, reference
from structmat.nn.ops.backends import tiled
from structmat.nn.ops.cost_model import rotates_weight
from structmat.nn.ops.execution_plan import ExecutionPlan, backend_for
from structmat.nn.ops.plan_cache import PlanCache
from structmat.nn.precision import product, without_autocast

# Bytes of rotated vectors buffered between the rotation and a linear layer: enough for the layer's
# matrix product to run at full speed.
_BETWEEN = 1 << 24


def rotated(
    cache: PlanCache,
    blocks: Sequence[Tensor],
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    adjoint: bool = False,
    plan: str = "auto",
) -> Tensor:
    """Return R x, or Rᴴ x, for each vector along the last axis of x, or a linear layer's output.

    Parameters
    ----------
    cache : PlanCache
    blocks : one (n, r, r) tensor for each bank, all of one dtype; at least one
        A bank of equal blocks may be given as one block (1, r, r).
    x : (..., width), in the dtype of the blocks or a less precise one; complex if they are
    weight : (outputs, width) in the dtype of x, optional
        The weight of a linear layer that follows. Its gradient is not computed.
    bias : (outputs,), optional
        The bias of that layer. Its gradient is not computed.
    adjoint : bool
        Apply the transposed (for complex blocks, conjugate transposed) matrix.
    plan : {"auto", "measure"}
        Whether the fusion of stages is selected by the cost model or by timing.

    Returns
    -------
    (..., width) or (..., outputs) of the dtype of x, contiguous
    """
    if torch_internals.transformed() or torch_internals.exporting():
        return plain(cache, blocks, x, weight, bias, adjoint=adjoint)
    layer = (t for t in (weight, bias) if t is not None)
    if torch.is_grad_enabled() or not torch_internals.eager(x, *blocks, *layer):
        return _rotate(x, list(blocks), weight, bias, cache.key, plan, adjoint)
    return _run(cache, x, blocks, weight, bias, plan, adjoint=adjoint)


def plain(
    cache: PlanCache,
    blocks: Sequence[Tensor],
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    adjoint: bool,
) -> Tensor:
    """Return `rotated` by the reference implementation, which torch differentiates."""
    dtype = blocks[0].dtype if blocks else x.dtype
    steps = plan_cache.steps_of(cache.key, x.device)
    y = reference.apply(steps, blocks, x.to(dtype), adjoint=adjoint).to(x.dtype)
    if weight is None:
        return y
    if torch_internals.recorded():  # recorded graphs are differentiated without autocast
        with without_autocast(x.device.type):
            return functional.linear(y, weight, bias)
    flat, transposed = reference.flattened(y), weight.T
    if bias is not None:  # as an additional input, so that the sum is rounded once
        flat = torch.cat([flat, flat.new_ones(len(flat), 1)], dim=1)
        transposed = torch.cat([transposed, bias[None]])
    return product(flat[None], transposed[None]).view(*y.shape[:-1], len(weight))


def banks(net: Network, blocks: Sequence[Tensor]) -> list[Tensor]:
    """Return one (n, r, r) tensor for each bank; blocks given once become views of stride 0.

    Examples
    --------
    >>> net = Network.of(4, [[[0, 1], [2, 3]]])
    >>> banks(net, [torch.eye(2)[None]])[0].shape
    torch.Size([2, 2, 2])
    """
    return [
        block if torch_internals.sizes(block)[0] == bank.count else block.expand(bank.count, -1, -1)
        for bank, block in zip(net.banks, blocks, strict=True)
    ]


def _plain_gradients(
    cache: PlanCache,
    grad: Tensor,
    x: Tensor,
    blocks: Sequence[Tensor],
    weight: Tensor | None,
    adjoint: bool,  # noqa: FBT001 (the order of the operator)
    of_x: bool,  # noqa: FBT001
    of_blocks: bool,  # noqa: FBT001
) -> list[Tensor]:
    """Return `_gradients` by operations that torch can differentiate and batch."""

    def made(*given: Tensor) -> Tensor:
        vectors = given[0] if of_x else x
        return plain(cache, given[of_x:] if of_blocks else blocks, vectors, weight, adjoint=adjoint)

    pull = torch.func.vjp(made, *[x] * of_x, *(blocks if of_blocks else ()))[1]
    found = list(pull(grad))
    return found if of_x else [x.new_empty(0), *found]


@torch.library.custom_op("structmat::rotate", mutates_args=())
def _rotate(
    x: Tensor,
    blocks: list[Tensor],
    weight: Tensor | None,
    bias: Tensor | None,
    key: str,
    plan: str,
    adjoint: bool,  # noqa: FBT001 (an operator takes no keywords)
) -> Tensor:
    with without_autocast(x.device.type):
        made = _run(plan_cache.found(key), x, blocks, weight, bias, plan, adjoint=adjoint)
    return torch_internals.not_a_view(made)


def _run(
    cache: PlanCache,
    x: Tensor,
    blocks: Sequence[Tensor],
    weight: Tensor | None,
    bias: Tensor | None,
    plan: str,
    *,
    adjoint: bool,
) -> Tensor:
    flat, blocks = x.reshape(-1, x.shape[-1]), banks(cache.network, blocks)
    if weight is None:
        selected, fused = _selected(cache, flat, blocks, plan)
        return selected.apply(fused, flat, adjoint=adjoint).view(x.shape)
    shape = *x.shape[:-1], len(weight)
    if _rotates_weight(cache, flat, blocks, weight):
        selected, fused = _selected(cache, weight, blocks, plan)
        rotated_weight = selected.apply(fused, weight, adjoint=not adjoint)
        return functional.linear(flat, rotated_weight, bias).view(shape)
    selected, fused = _selected(cache, flat, blocks, plan)
    if flat.numel() * flat.dtype.itemsize <= _BETWEEN:
        y = selected.apply(fused, flat, adjoint=adjoint)
        return functional.linear(y, weight, bias).view(shape)
    out = huge_pages.empty((len(flat), len(weight)), x)
    for rows, between in _chunks(flat):
        y = selected.apply(fused, flat[rows], between, adjoint=adjoint)
        if bias is None:
            torch.mm(y, weight.T, out=out[rows])
        else:
            torch.addmm(bias, y, weight.T, out=out[rows])
    return out.view(shape)


@_rotate.register_fake
def _(x: Tensor, blocks: list[Tensor], weight: Tensor | None, *_: Any) -> Tensor:  # noqa: ARG001
    return x.new_empty(x.shape if weight is None else (*x.shape[:-1], weight.shape[0]))


@torch.library.custom_op("structmat::rotate_gradients", mutates_args=())
def _gradients(
    grad: Tensor,
    x: Tensor,
    blocks: list[Tensor],
    weight: Tensor | None,
    key: str,
    plan: str,
    adjoint: bool,  # noqa: FBT001
    of_x: bool,  # noqa: FBT001
    of_blocks: bool,  # noqa: FBT001
) -> list[Tensor]:
    """Return the gradient for x, empty if not required, and any required gradients of blocks."""
    cache = plan_cache.found(key)
    given, blocks = blocks, banks(cache.network, blocks)
    flat, grads = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    sums: list[Tensor] | None = None
    with without_autocast(x.device.type):
        if weight is not None and _rotates_weight(cache, flat, blocks, weight):
            selected, fused = _selected(cache, weight, blocks, plan)
            rotated_weight = selected.apply(fused, weight, adjoint=not adjoint)
            grad_x = grads @ rotated_weight if of_x else None
            if of_blocks:
                sums = tiled.zeros_like(fused)
                of_weight = torch.mm(grads.T, flat, out=rotated_weight)
                selected.gradients(
                    fused, weight, of_weight, adjoint=not adjoint, grad_x=None, sums=sums
                )
        else:
            selected, fused = _selected(cache, flat, blocks, plan)
            grad_x = huge_pages.empty(tuple(flat.shape), x) if of_x else None
            sums = tiled.zeros_like(fused) if of_blocks else None
            for rows, between in _chunks(flat) if weight is not None else [(slice(None), grads)]:
                if weight is not None:
                    torch.mm(grads[rows], weight, out=between)
                part = None if grad_x is None else grad_x[rows]
                selected.gradients(
                    fused, flat[rows], between, adjoint=adjoint, grad_x=part, sums=sums
                )
        made = [x.new_empty(0) if grad_x is None else grad_x.view(x.shape)]
        if sums is None:
            return made
        of_each = selected.gradients_of_blocks(blocks, sums)
        return made + [g.sum_to_size(b.shape) for g, b in zip(of_each, given, strict=True)]


@_gradients.register_fake
def _(grad: Tensor, x: Tensor, blocks: list[Tensor], *rest: Any) -> list[Tensor]:  # noqa: ARG001
    *_, of_x, of_blocks = rest
    made = [x.new_empty(x.shape if of_x else 0)]
    return made + [b.new_empty(b.shape) for b in blocks if of_blocks]


def _chunks(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of vectors (tokens, width), each with a buffer of its size; buffers overlap."""
    tokens, width = x.shape
    most = max(1, min(tokens, _BETWEEN // (width * x.dtype.itemsize)))
    between = x.new_empty(most, width)
    for start in range(0, tokens, most):
        yield slice(start, start + most), between[: tokens - start]


def _rotates_weight(cache: PlanCache, x: Tensor, blocks: Sequence[Tensor], weight: Tensor) -> bool:
    """Return whether to rotate the weight instead of x, which must not reduce the precision."""
    dtype = blocks[0].dtype
    if not weight.dtype == x.dtype == dtype:
        return False
    backend = backend_for(cache.network, x.device, dtype, dtype)
    return rotates_weight(
        cache.network,
        len(x),
        len(weight),
        itemsize=dtype.itemsize,
        device=plan_selection.rates_of(backend, x.device),
    )


def _selected(
    cache: PlanCache, x: Tensor, blocks: Sequence[Tensor], plan: str
) -> tuple[ExecutionPlan, list[Tensor]]:
    """Return the selected plan for vectors (tokens, width), and its fused blocks."""
    ends = plan_selection.selected(
        cache, len(x), blocks[0].dtype, x.device, vectors=x.dtype, measure=plan == "measure"
    )
    selected = cache.plan(ends, x.device)
    return selected, selected.fuse(blocks)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    x, blocks, weight, _, key, plan, adjoint = inputs
    needed = weight is not None or any(b.requires_grad for b in blocks)
    ctx.save_for_backward(x if needed else None, weight, *blocks)
    ctx.cache = plan_cache.found(key)  # keeps the cache alive as long as the graph
    ctx.how = plan, adjoint


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, *blocks = ctx.saved_tensors
    x = grad if x is None else x  # for fixed blocks, only the shape matters
    plan, adjoint = ctx.how
    wanted = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1])
    if torch_internals.transformed():
        made = _plain_gradients(ctx.cache, grad, x, blocks, weight, adjoint, *wanted)
    else:
        made = _gradients(grad, x, blocks, weight, ctx.cache.key, plan, adjoint, *wanted)
    of_x, *of_blocks = made
    of_each = of_blocks if wanted[1] else [None] * len(blocks)
    return of_x if wanted[0] else None, of_each, None, None, None, None, None


_rotate.register_autograd(_backward, setup_context=_keep)


def _keep_all(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    grad, x, blocks, weight, key, _, *how = inputs
    ctx.save_for_backward(grad, x, weight, *blocks)
    ctx.cache = plan_cache.found(key)
    ctx.how = how


def _backward_again(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    """Return second derivatives, by differentiating the reference implementation twice."""
    grad, x, weight, *blocks = ctx.saved_tensors
    _, of_x, _ = ctx.how

    def first(grad: Tensor, x: Tensor, *blocks: Tensor) -> tuple[Tensor, ...]:
        made = _plain_gradients(ctx.cache, grad, x, blocks, weight, *ctx.how)
        return tuple(made if of_x else made[1:])

    pull = torch.func.vjp(first, grad, x, *blocks)[1]
    of_grad, of_vectors, *of_each = pull(tuple(grads if of_x else grads[1:]))
    return of_grad, of_vectors, of_each, None, None, None, None, None, None


_gradients.register_autograd(_backward_again, setup_context=_keep_all)


# Batching rules for callers that bypass `rotated`: the elements of a batch are processed one by
# one.


def _one_by_one(
    op: Callable[..., Any], info: Any, in_dims: tuple[Any, ...], *given: Any
) -> tuple[Any, Any]:
    """Apply an operator to each element of a batch and stack the results, as vmap's rule."""
    made = [
        op(*(_of_batch(value, dim, k) for value, dim in zip(given, in_dims, strict=True)))
        for k in range(info.batch_size)
    ]
    if isinstance(made[0], Tensor):
        return torch.stack(made), 0
    return [torch.stack(parts) for parts in zip(*made, strict=True)], [0] * len(made[0])


def _of_batch(value: Any, dim: Any, k: int) -> Any:
    if isinstance(value, list):
        return [_of_batch(each, of_each, k) for each, of_each in zip(value, dim, strict=True)]
    return value if dim is None else value.select(dim, k)


_rotate.register_vmap(partial(_one_by_one, _rotate))
_gradients.register_vmap(partial(_one_by_one, _gradients))


@torch.library.impl("structmat::rotate_gradients", "Batched")
def _(
    grad: Tensor,
    x: Tensor,
    blocks: list[Tensor],
    weight: Tensor | None,
    key: str,
    plan: str,  # noqa: ARG001
    *how: bool,
) -> list[Tensor]:
    """Use the reference implementation under torch's older vmap, which `is_grads_batched` uses."""
    return _plain_gradients(plan_cache.found(key), grad, x, blocks, weight, *how)
