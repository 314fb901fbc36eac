"""The rotation as a torch custom operator with a gradient, as seen by autograd and the compiler.

`structmat::rotate` takes vectors, the blocks of a network and the key of its program. It saves only
the vectors and the blocks for the backward pass, no intermediate results of stages. Given the
weight of a frozen linear layer, it also computes that layer's outputs, so that the rotated vectors
need not be saved, or even all be in memory at once. The plan is selected when the operator runs
(`structmat.nn.ops.autotune`), so that a compiled graph is valid for any number of vectors. Second
derivatives, forward-mode derivatives, transforms of `torch.func` and batched gradients use the
reference implementation, which consists of torch's own operations. Autocast has no effect on any of
this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from structmat.nn import modes
from structmat.nn.ops import autotune, execution_plan, tiled
from structmat.nn.ops.cost_model import turns_weight
from structmat.nn.ops.reference import rotate
from structmat.nn.precision import product, without_autocast

# Bytes of rotated vectors buffered between the rotation and a linear layer: enough for the matrix
# product of the layer to run at full speed.
_BETWEEN = 1 << 24


def rotated(
    program: execution_plan.Program,
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
    program : Program
    blocks : one (n, r, r) tensor for each bank, all of one dtype; at least one
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
    if modes.transformed() or modes.exporting():
        return plain(program, blocks, x, weight, bias, adjoint=adjoint)
    layer = (t for t in (weight, bias) if t is not None)
    if torch.is_grad_enabled() or not modes.eager(x, *blocks, *layer):
        return _rotate(x, list(blocks), weight, bias, program.key, plan, adjoint)
    return _run(program, x, blocks, weight, bias, plan, adjoint=adjoint)


def plain(
    program: execution_plan.Program,
    blocks: Sequence[Tensor],
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    adjoint: bool,
) -> Tensor:
    """Return the same as `rotated` by the reference implementation, which torch differentiates."""
    dtype = blocks[0].dtype if blocks else x.dtype
    steps = execution_plan.plan_of(program.key, x.device)
    y = rotate(steps, blocks, x.to(dtype), adjoint=adjoint).to(x.dtype)
    if weight is None:
        return y
    if modes.recorded():  # a recorded graph is differentiated without autocast
        with without_autocast(x.device.type):
            return functional.linear(y, weight, bias)
    flat, transposed = y.reshape(-1, y.shape[-1]), weight.T
    if bias is not None:  # as an additional input, so that the sum is rounded once
        flat = torch.cat([flat, flat.new_ones(len(flat), 1)], dim=1)
        transposed = torch.cat([transposed, bias[None]])
    return product(flat[None], transposed[None]).view(*y.shape[:-1], len(weight))


def _plain_gradients(
    program: execution_plan.Program,
    grad: Tensor,
    x: Tensor,
    blocks: Sequence[Tensor],
    weight: Tensor | None,
    *,
    adjoint: bool,
    of_x: bool,
    of_blocks: bool,
) -> list[Tensor]:
    """Return the same as `_gradients` by operations that torch can differentiate and batch."""

    def made(*given: Tensor) -> Tensor:
        vectors = given[0] if of_x else x
        return plain(
            program, given[of_x:] if of_blocks else blocks, vectors, weight, adjoint=adjoint
        )

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
        made = _run(execution_plan.found(key), x, blocks, weight, bias, plan, adjoint=adjoint)
    # The same memory, but not a view: torch raises an error when a view returned by an operator is
    # modified in place, as some models do with the output of a layer.
    return torch.ops.aten._unsafe_view(made, made.shape)


def _run(
    program: execution_plan.Program,
    x: Tensor,
    blocks: Sequence[Tensor],
    weight: Tensor | None,
    bias: Tensor | None,
    plan: str,
    *,
    adjoint: bool,
) -> Tensor:
    flat = x.reshape(-1, x.shape[-1])
    if weight is None:
        tape, merged = _merged(program, flat, blocks, plan)
        return tape.apply(merged, flat, adjoint=adjoint).view(x.shape)
    shape = *x.shape[:-1], len(weight)
    if _rotates_weight(program, flat, blocks, weight):
        tape, merged = _merged(program, weight, blocks, plan)
        rotated_weight = tape.apply(merged, weight, adjoint=not adjoint)
        return functional.linear(flat, rotated_weight, bias).view(shape)
    tape, merged = _merged(program, flat, blocks, plan)
    if flat.numel() * flat.dtype.itemsize <= _BETWEEN:
        return functional.linear(tape.apply(merged, flat, adjoint=adjoint), weight, bias).view(
            shape
        )
    out = x.new_empty(len(flat), len(weight))
    for rows, between in _chunks(flat):
        y = tape.apply(merged, flat[rows], between, adjoint=adjoint)
        if bias is None:
            torch.mm(y, weight.T, out=out[rows])
        else:
            torch.addmm(bias, y, weight.T, out=out[rows])
    return out.view(shape)


@_rotate.register_fake
def _(
    x: Tensor,
    blocks: list[Tensor],  # noqa: ARG001
    weight: Tensor | None,
    bias: Tensor | None,  # noqa: ARG001
    key: str,  # noqa: ARG001
    plan: str,  # noqa: ARG001
    adjoint: bool,  # noqa: ARG001, FBT001
) -> Tensor:
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
    """Return the gradient for x, empty if not required, and those for the blocks, if required."""
    with without_autocast(x.device.type):
        return _run_back(
            execution_plan.found(key), grad, x, blocks, weight, plan, (adjoint, of_x, of_blocks)
        )


def _run_back(
    program: execution_plan.Program,
    grad: Tensor,
    x: Tensor,
    blocks: Sequence[Tensor],
    weight: Tensor | None,
    plan: str,
    how: tuple[bool, bool, bool],
) -> list[Tensor]:
    adjoint, of_x, of_blocks = how
    flat, grads = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    sums: list[Tensor] | None = None
    if weight is not None and _rotates_weight(program, flat, blocks, weight):
        tape, merged = _merged(program, weight, blocks, plan)
        rotated_weight = tape.apply(merged, weight, adjoint=not adjoint)
        grad_x = grads @ rotated_weight if of_x else None
        if of_blocks:
            sums = tiled.zeros_like(merged)
            of_weight = torch.mm(grads.T, flat, out=rotated_weight)
            tape.gradients(merged, weight, of_weight, adjoint=not adjoint, grad_x=None, sums=sums)
    else:
        tape, merged = _merged(program, flat, blocks, plan)
        grad_x = x.new_empty(flat.shape) if of_x else None
        sums = tiled.zeros_like(merged) if of_blocks else None
        for rows, between in _chunks(flat) if weight is not None else [(slice(None), grads)]:
            if weight is not None:
                torch.mm(grads[rows], weight, out=between)
            part = None if grad_x is None else grad_x[rows]
            tape.gradients(merged, flat[rows], between, adjoint=adjoint, grad_x=part, sums=sums)
    made = [x.new_empty(0) if grad_x is None else grad_x.view(x.shape)]
    return made if sums is None else made + tape.unmerge(blocks, sums)


@_gradients.register_fake
def _(
    grad: Tensor,  # noqa: ARG001
    x: Tensor,
    blocks: list[Tensor],
    weight: Tensor | None,  # noqa: ARG001
    key: str,  # noqa: ARG001
    plan: str,  # noqa: ARG001
    adjoint: bool,  # noqa: ARG001, FBT001
    of_x: bool,  # noqa: FBT001
    of_blocks: bool,  # noqa: FBT001
) -> list[Tensor]:
    made = [x.new_empty(x.shape if of_x else 0)]
    return made + [b.new_empty(b.shape) for b in blocks if of_blocks]


def _chunks(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of vectors (tokens, width), each with a buffer of its size in shared memory."""
    tokens, width = x.shape
    most = max(1, min(tokens, _BETWEEN // (width * x.dtype.itemsize)))
    between = x.new_empty(most, width)
    for start in range(0, tokens, most):
        yield slice(start, start + most), between[: tokens - start]


def _rotates_weight(
    program: execution_plan.Program, x: Tensor, blocks: Sequence[Tensor], weight: Tensor
) -> bool:
    """Return whether to rotate the weight instead of x; never if that rounds to a lower dtype."""
    dtype = blocks[0].dtype
    return weight.dtype == x.dtype == dtype and turns_weight(
        program.network,
        len(x),
        len(weight),
        itemsize=dtype.itemsize,
        device=x.device.type,
    )


def _merged(
    program: execution_plan.Program, x: Tensor, blocks: Sequence[Tensor], plan: str
) -> tuple[execution_plan.Tape, list[Tensor]]:
    """Return the tape of the selected plan for vectors (tokens, width), and its fused blocks."""
    ends = autotune.chosen(program, len(x), blocks[0].dtype, x.device, measure=plan == "measure")
    tape = program.tape(ends, x.device)
    return tape, tape.merge(blocks)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    x, blocks, weight, _, key, plan, adjoint = inputs
    ctx.save_for_backward(x, weight, *blocks)
    ctx.program = execution_plan.found(key)  # keeps the program alive as long as the graph
    ctx.how = plan, adjoint


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, *blocks = ctx.saved_tensors
    of_x, of_blocks = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1])
    if modes.transformed():
        grads = _plain_gradients(
            ctx.program,
            grad,
            x,
            blocks,
            weight,
            adjoint=ctx.how[1],
            of_x=of_x,
            of_blocks=of_blocks,
        )
    else:
        grads = _gradients(grad, x, blocks, weight, ctx.program.key, *ctx.how, of_x, of_blocks)
    of_each = grads[1:] if of_blocks else [None] * len(blocks)
    return grads[0] if of_x else None, of_each, None, None, None, None, None


_rotate.register_autograd(_backward, setup_context=_keep)


def _keep_all(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    grad, x, blocks, weight, key, _, adjoint, of_x, of_blocks = inputs
    ctx.save_for_backward(grad, x, weight, *blocks)
    ctx.program = execution_plan.found(key)
    ctx.how = adjoint, of_x, of_blocks


def _backward_again(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    """Return second derivatives, by differentiating the reference implementation twice."""
    grad, x, weight, *blocks = ctx.saved_tensors
    adjoint, of_x, of_blocks = ctx.how

    def first(grad: Tensor, x: Tensor, *blocks: Tensor) -> tuple[Tensor, ...]:
        made = _plain_gradients(
            ctx.program, grad, x, blocks, weight, adjoint=adjoint, of_x=of_x, of_blocks=of_blocks
        )
        return tuple(made if of_x else made[1:])

    pull = torch.func.vjp(first, grad, x, *blocks)[1]
    of_grad, of_vectors, *of_each = pull(tuple(grads if of_x else grads[1:]))
    return of_grad, of_vectors, of_each, None, None, None, None, None, None


_gradients.register_autograd(_backward_again, setup_context=_keep_all)


# Batching rules for callers that bypass `rotated`: the elements of the batch are computed one by
# one.


def _one_by_one(
    op: Callable[..., Any], info: Any, in_dims: tuple[Any, ...], *given: Any
) -> tuple[Any, Any]:
    """Apply an operator to each element of a batch and stack the results, as a rule for vmap."""
    flat, spec = tree_flatten(given)
    dims = tree_leaves(in_dims, is_leaf=lambda dim: dim is None)
    made = [
        op(*tree_unflatten([_of_batch(t, d, k) for t, d in zip(flat, dims, strict=True)], spec))
        for k in range(info.batch_size)
    ]
    if isinstance(made[0], Tensor):
        return torch.stack(made), 0
    return [torch.stack(parts) for parts in zip(*made, strict=True)], [0] * len(made[0])


def _of_batch(value: Any, dim: int | None, k: int) -> Any:
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
    adjoint: bool,  # noqa: FBT001
    of_x: bool,  # noqa: FBT001
    of_blocks: bool,  # noqa: FBT001
) -> list[Tensor]:
    """Use the reference implementation in torch's older vmap, that of `is_grads_batched`."""
    return _plain_gradients(
        execution_plan.found(key),
        grad,
        x,
        blocks,
        weight,
        adjoint=adjoint,
        of_x=of_x,
        of_blocks=of_blocks,
    )
