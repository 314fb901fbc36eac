"""The Triton kernels: apply a network to a tile of vectors, and compute gradients of its blocks.

A strip is the scratch buffer that holds one tile of vectors as columns, one row per wire. Any
permutation therefore copies whole rows, and applying a unit (several switches packed together) is a
single product (size, size)·(size, vectors).

PRECISION is the precision of float32 products. With WIDEN, the operands of each product are first
converted to float32, because Triton's interpreter does not support bfloat16; the results are the
same, since accumulation is in float32 anyway.

Pointer and scalar arguments are left unannotated, because Triton interprets annotations.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _matrix(
    blocks,
    labels,
    rows,
    columns,
    unit,
    SIZE: tl.constexpr,
    RUN: tl.constexpr,
    ADJOINT: tl.constexpr,
):
    """Return the block-diagonal matrix of a unit; rows and columns of unused places are zero."""
    place = unit * SIZE + tl.arange(0, SIZE)
    label = tl.load(labels + place)
    offset = tl.load(rows + place)[:, None] + tl.load(columns + place)[None, :]
    inside = (label[:, None] == label[None, :]) & (label[:, None] >= 0)
    offset = tl.max_contiguous(tl.multiple_of(offset, [1, RUN]), [1, RUN])
    inside = tl.max_constancy(inside, [1, RUN])
    matrix = tl.load(blocks + offset, mask=inside, other=0.0)
    if ADJOINT:
        matrix = tl.trans(matrix)
    return matrix


@triton.jit
def _stage(
    span,
    x,
    y,
    strip,
    blocks,
    labels,
    rows,
    columns,
    sources,
    targets,
    vector,
    inside,
    width,
    SIZE: tl.constexpr,
    VECTORS: tl.constexpr,
    RUN: tl.constexpr,
    READS: tl.constexpr,
    WRITES: tl.constexpr,
    ADJOINT: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Apply the units of a span.

    Reads from x if READS and writes to y if WRITES; otherwise reads from and writes to the strip.
    """
    for unit in range(tl.load(span), tl.load(span + 1)):
        place = unit * SIZE + tl.arange(0, SIZE)
        matrix = _matrix(blocks, labels, rows, columns, unit, SIZE, RUN, ADJOINT)
        source = tl.load(sources + place)
        if READS:
            source = tl.max_contiguous(tl.multiple_of(source, READS), READS)
            at = x + vector[:, None] * width + source[None, :]
            values = tl.trans(tl.load(at, mask=inside[:, None], other=0.0))
        else:
            at = strip + source[:, None] * VECTORS + tl.arange(0, VECTORS)[None, :]
            values = tl.load(at, mask=source[:, None] >= 0, other=0.0)
        if WIDEN:
            matrix = matrix.to(tl.float32)
            values = values.to(tl.float32)
        product = tl.dot(matrix, values, input_precision=PRECISION)
        result = product.to(y.dtype.element_ty)
        target = tl.load(targets + place)
        if WRITES:
            target = tl.max_contiguous(tl.multiple_of(target, WRITES), WRITES)
            at = y + vector[:, None] * width + target[None, :]
            tl.store(at, tl.trans(result), mask=inside[:, None])
        else:
            at = strip + target[:, None] * VECTORS + tl.arange(0, VECTORS)[None, :]
            tl.store(at, result, mask=target[:, None] >= 0)


@triton.jit
def rotate(
    x,
    y,
    strips,
    blocks,
    labels,
    rows,
    columns,
    sources,
    targets,
    spans,
    entry,
    leave,
    tokens,
    width,
    height,
    depth,
    SIZE: tl.constexpr,
    VECTORS: tl.constexpr,
    AT_ONCE: tl.constexpr,
    RUN_FIRST: tl.constexpr,
    RUN_LAST: tl.constexpr,
    RUN_BETWEEN: tl.constexpr,
    READS: tl.constexpr,
    WRITES: tl.constexpr,
    SINGLE: tl.constexpr,
    KEEP: tl.constexpr,
    LEAVE: tl.constexpr,
    ADJOINT: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Apply a network to tiles of vectors, distributed cyclically over the programs.

    Barriers make all threads of a program finish a stage before the next one begins, since each
    stage reads what other threads wrote in the previous one. With KEEP, each tile has its own
    strip; otherwise each program has one. Without LEAVE, nothing is written to y: the call only
    fills the strips with the inputs of the units.
    """
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    for tile in range(program, (tokens + VECTORS - 1) // VECTORS, programs):
        vector = (tile * VECTORS + tl.arange(0, VECTORS)).to(tl.int64)
        inside = vector < tokens
        if KEEP:
            strip = strips + tl.cast(tile, tl.int64) * height * VECTORS
        else:
            strip = strips + program.to(tl.int64) * height * VECTORS
        within = tl.arange(0, VECTORS)
        if not READS:
            for start in range(0, width, AT_ONCE):
                wire = start + tl.arange(0, AT_ONCE)
                at = x + vector[:, None] * width + wire[None, :]
                here = wire < width
                values = tl.load(at, mask=inside[:, None] & here[None, :], other=0.0)
                row = tl.load(entry + wire, mask=here, other=0)
                at = strip + row[:, None] * VECTORS + within[None, :]
                tl.store(at, tl.trans(values), mask=here[:, None])
            tl.debug_barrier()
        common = x, y, strip, blocks, labels, rows, columns, sources, targets, vector, inside, width
        first = 0
        if READS:
            first = 1
            _stage(
                spans,
                *common,
                SIZE,
                VECTORS,
                RUN_FIRST,
                READS,
                WRITES if SINGLE else 0,
                ADJOINT,
                PRECISION,
                WIDEN,
            )
            tl.debug_barrier()
        for stage in range(first, depth - 1 if WRITES else depth):
            _stage(
                spans + 2 * stage,
                *common,
                SIZE,
                VECTORS,
                RUN_BETWEEN,
                0,
                0,
                ADJOINT,
                PRECISION,
                WIDEN,
            )
            tl.debug_barrier()
        if WRITES and not (READS and SINGLE):
            _stage(
                spans + 2 * depth - 2,
                *common,
                SIZE,
                VECTORS,
                RUN_LAST,
                0,
                WRITES,
                ADJOINT,
                PRECISION,
                WIDEN,
            )
            tl.debug_barrier()
        if LEAVE and not WRITES:
            for start in range(0, width, AT_ONCE):
                wire = start + tl.arange(0, AT_ONCE)
                here = wire < width
                row = tl.load(leave + wire, mask=here, other=0)
                at = strip + row[:, None] * VECTORS + within[None, :]
                values = tl.load(at, mask=here[:, None], other=0.0)
                at = y + vector[:, None] * width + wire[None, :]
                tl.store(at, tl.trans(values), mask=inside[:, None] & here[None, :])
            tl.debug_barrier()


@triton.jit
def outer(
    partial,
    fore,
    back,
    labels,
    rows,
    columns,
    fore_sources,
    back_sources,
    tiles,
    fore_height,
    back_height,
    entries,
    SIZE: tl.constexpr,
    VECTORS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Sum over vectors the gradients of a unit's blocks.

    The gradient is (unit's input in the backward pass)·(its input in the forward pass)ᵀ. One
    program handles a unit and a fixed subset of the tiles, in order, so the sums are deterministic.
    """
    unit = tl.program_id(0)
    part = tl.program_id(1)
    parts = tl.num_programs(1)
    place = unit * SIZE + tl.arange(0, SIZE)
    fore_row = tl.load(fore_sources + place)
    back_row = tl.load(back_sources + place)
    within = tl.arange(0, VECTORS)
    total = tl.full((SIZE, SIZE), 0.0, tl.float32)
    for tile in range(part, tiles, parts):
        strip = fore + tl.cast(tile, tl.int64) * fore_height * VECTORS
        at = strip + fore_row[:, None] * VECTORS + within[None, :]
        a = tl.load(at, mask=fore_row[:, None] >= 0, other=0.0)
        strip = back + tl.cast(tile, tl.int64) * back_height * VECTORS
        at = strip + back_row[:, None] * VECTORS + within[None, :]
        g = tl.load(at, mask=back_row[:, None] >= 0, other=0.0)
        if WIDEN:
            a = a.to(tl.float32)
            g = g.to(tl.float32)
        total = tl.dot(g, tl.trans(a), total, input_precision=PRECISION)
    label = tl.load(labels + place)
    offset = tl.load(rows + place)[:, None] + tl.load(columns + place)[None, :]
    inside = (label[:, None] == label[None, :]) & (label[:, None] >= 0)
    tl.store(partial + part.to(tl.int64) * entries + offset, total, mask=inside)
