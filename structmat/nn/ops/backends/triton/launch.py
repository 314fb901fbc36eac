"""Launching the Triton kernels, with a configuration for the device and the vectors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from structmat.errors import BlockError, require
from structmat.nn.ops.backends.triton.index_tables import Route, Tables

_CACHED = 0.75  # fraction of the L2 cache that strips may occupy
_KEPT = 2**29  # bytes of strips that the backward pass keeps at a time
_AT_ONCE = 64  # wires loaded or stored at once, at least 128 bytes of each vector
_SPLITS = 4  # programs per multiprocessor that sum the gradients of blocks
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Config:
    """The launch configuration of a kernel, which affects only time and the order of summation.

    Attributes
    ----------
    vectors : int
        The number of vectors in a tile: a power of two, at least 16.
    programs : int
        The number of concurrent programs.
    warps : int
        The number of warps of a program.
    stages : int
        The number of units whose loads are pipelined.
    """

    vectors: int
    programs: int
    warps: int
    stages: int = 2


def configured(tables: Tables, x: Tensor) -> Config:
    """Return the default configuration.

    It has one program per multiprocessor. A tile has 16, 32 or 64 vectors: as many as possible such
    that all strips together fit in three quarters of the L2 cache and every program has a tile. If
    the strips fit, x is read from memory once and y is written once, whatever the depth. Larger
    tiles reduce how often the blocks are read, since every tile reads them; more programs leave
    less room for tiles.
    """
    if x.device.type != "cuda":
        return Config(16, 2, 4, 1)
    properties = torch.cuda.get_device_properties(x.device)
    programs = properties.multi_processor_count
    row = x.shape[1] * x.element_size()
    vectors = 64
    while vectors > 16 and vectors * row * programs > _CACHED * properties.L2_cache_size:
        vectors //= 2
    while vectors > 16 and len(x) < vectors * programs:
        vectors //= 2  # for few vectors, using all multiprocessors matters more than large tiles
    return Config(vectors, programs, 8 if tables.units.size >= 32 else 4)


def apply(
    tables: Tables,
    blocks: Sequence[Tensor],
    x: Tensor,
    out: Tensor | None = None,
    *,
    adjoint: bool = False,
    config: Config | None = None,
) -> Tensor:
    """Return R x, or Rᵀ x, for each row of x, in one launch.

    Parameters
    ----------
    tables : Tables
    blocks : one (n, r, r) float32 tensor for each bank
    x : (tokens, width) float32, bfloat16 or float16
    out : (tokens, width) in the dtype of x, optional
        The tensor to write the result to.
    adjoint : bool
        Apply the transposed matrix.
    config : Config, optional
        By default `configured(tables, x)`.

    Returns
    -------
    (tokens, width), in the dtype of x
        Products are summed in float32 and rounded to the dtype of x after each stage; the blocks
        are rounded before the first.

    Raises
    ------
    BlockError
        If blocks or vectors have the wrong shape or dtype, or are on different devices.

    Notes
    -----
    Autograd does not differentiate this function; see `gradients`.
    """
    x = _checked(tables, blocks, x)
    y = torch.empty_like(x) if out is None else out
    if x.numel() == 0:
        return y
    config = config or configured(tables, x)
    programs = min(config.programs, -(-len(x) // config.vectors))
    route = tables.routes[adjoint]
    strips = x.new_empty(programs * route.height * config.vectors)
    _rotate(tables, route, _flat(blocks, x), x, y, strips, config, adjoint=adjoint)
    return y


def gradients(
    tables: Tables,
    blocks: Sequence[Tensor],
    x: Tensor,
    grad: Tensor,
    *,
    adjoint: bool = False,
    grad_x: Tensor | None,
    sums: Sequence[Tensor] | None,
    config: Config | None = None,
) -> None:
    """Write the gradient for the vectors, and accumulate the gradients for the blocks.

    Parameters
    ----------
    tables, blocks, x, adjoint, config : as for `apply`
    grad : (tokens, width), the gradient for the result
    grad_x : (tokens, width) in the dtype of x, or None if not required
    sums : list of (n, r, r) float32 tensors, or None if not required

    Raises
    ------
    BlockError
        As for `apply`.

    Notes
    -----
    The forward pass saves no intermediate results. There are three launches for each group of
    tiles whose inputs fit in half a gigabyte: the first two apply R to x and Rᵀ to `grad`, keeping
    the inputs of each unit; in the third, each unit's program multiplies the two inputs and sums
    over vectors in registers. A single launch would have to sum in memory: every tile of 16 to 64
    vectors would add to an array as large as all blocks. That would cause more traffic than keeping
    the inputs, or require atomic additions, whose rounding differs between runs. These sums are
    deterministic.
    """
    x, grad = _checked(tables, blocks, x), _checked(tables, blocks, grad.to(x.dtype))
    if grad.shape != x.shape:
        raise BlockError(
            f"a gradient {tuple(grad.shape)} for x {tuple(x.shape)}: their shapes must be equal"
        )
    if sums is None:
        if grad_x is not None:
            apply(tables, blocks, grad, grad_x, adjoint=not adjoint, config=config)
        return
    config = config or configured(tables, x)
    flat = _flat(blocks, x)
    total = torch.zeros(tables.units.entries, dtype=torch.float32, device=x.device)
    # Keeping the strips of all vectors at once would take several times the memory of x.
    tile = sum(route.height for route in tables.kept) * config.vectors * x.element_size()
    tiles_at_once = max(1, _KEPT // tile)
    if tiles_at_once > config.programs:  # so that no program is idle during the last tiles
        tiles_at_once -= tiles_at_once % config.programs
    at_once = tiles_at_once * config.vectors
    for start in range(0, len(x), at_once):
        part = slice(start, min(start + at_once, len(x)))
        tiles = -(-(part.stop - start) // config.vectors)
        # The vectors to which R is applied, and those to which Rᵀ is applied.
        through = (grad[part], x[part]) if adjoint else (x[part], grad[part])
        strips = []
        for back, (route, values) in enumerate(zip(tables.kept, through, strict=True)):
            strips.append(x.new_empty(tiles * route.height * config.vectors))
            # For x, only the inputs of the units are needed.
            y = grad_x[part] if grad_x is not None and bool(back) is not adjoint else None
            _rotate(
                tables, route, flat, values, y, strips[back], config, adjoint=bool(back), keep=True
            )
        if len(tables.units.wires):
            total += _summed(tables, strips, tiles, config)
    split = total.split([n * r * r for n, r, _ in tables.units.shapes])
    for add, own in zip(sums, split, strict=True):
        add += own.view(add.shape)


def _rotate(
    tables: Tables,
    route: Route,
    flat: Tensor,
    x: Tensor,
    y: Tensor | None,
    strips: Tensor,
    config: Config,
    *,
    adjoint: bool,
    keep: bool = False,
) -> None:
    units, runs, depth = tables.units, route.runs, len(route.spans)
    tiles = -(-len(x) // config.vectors)
    made = x if y is None else y.contiguous()
    _launch(
        "rotate",
        (min(config.programs, tiles),),
        x,
        made,
        strips,
        flat,
        *(units.labels, units.rows, units.columns),
        *(route.sources, route.targets, route.spans, route.entry, route.leave),
        *(len(x), x.shape[1], route.height, max(depth - 1, 0) if y is None else depth),
        SIZE=units.size,
        VECTORS=config.vectors,
        AT_ONCE=_AT_ONCE,
        RUN_FIRST=runs.first,
        RUN_LAST=runs.last,
        RUN_BETWEEN=runs.between,
        READS=runs.reads,
        WRITES=runs.writes,
        SINGLE=depth == 1,
        KEEP=keep,
        LEAVE=y is not None,
        ADJOINT=adjoint,
        PRECISION=_precision(x),
        WIDEN=_interpreted(x),
        num_warps=config.warps,
        num_stages=config.stages,
    )
    if y is not None and made is not y:
        y.copy_(made)


def _summed(tables: Tables, strips: Sequence[Tensor], tiles: int, config: Config) -> Tensor:
    """Return the gradients of all blocks as one flat tensor."""
    units, (fore, back) = tables.units, tables.kept
    # The tiles are divided into as many parts as needed to keep the device busy.
    parts = max(1, min(tiles, _SPLITS * config.programs // len(units.wires)))
    partial = strips[0].new_empty(parts, units.entries, dtype=torch.float32)
    _launch(
        "outer",
        (len(units.wires), parts),
        partial,
        *strips,
        *(units.labels, units.rows, units.columns, fore.sources, back.sources),
        *(tiles, fore.height, back.height, units.entries),
        SIZE=units.size,
        VECTORS=config.vectors,
        PRECISION=_precision(strips[0]),
        WIDEN=_interpreted(strips[0]),
        num_warps=4,
        num_stages=config.stages,
    )
    return partial.sum(0)


def _precision(x: Tensor) -> str:
    """Return the precision of products: for float32, three TF32 products, nearly as accurate."""
    return "tf32x3" if x.dtype == torch.float32 else "ieee"


def _interpreted(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _flat(blocks: Sequence[Tensor], x: Tensor) -> Tensor:
    """Return the entries of all blocks as one flat tensor, in the dtype of x."""
    if not blocks:
        return x.new_empty(0)
    return torch.cat([block.detach().reshape(-1) for block in blocks]).to(x.dtype)


def _checked(tables: Tables, blocks: Sequence[Tensor], x: Tensor) -> Tensor:
    width, shapes = len(tables.units.outputs), tables.units.shapes
    if x.ndim != 2 or x.shape[1] != width or x.dtype not in DTYPES:
        raise BlockError(
            f"vectors of shape {tuple(x.shape)} and dtype {x.dtype}: the Triton kernels take"
            f" (tokens, {width}) of float32, bfloat16 or float16"
        )
    found = tuple(tuple(block.shape) for block in blocks)
    if found != shapes or any(block.dtype != torch.float32 for block in blocks):
        raise BlockError(
            f"blocks of shapes {found} and dtypes {[block.dtype for block in blocks]}:"
            f" this network needs float32 blocks of shapes {shapes}"
        )
    places = {tables.units.labels.device, x.device, *(block.device for block in blocks)}
    if len(places) > 1:
        raise BlockError(f"tensors on {sorted(map(str, places))}: all must be on one device")
    return x.detach().contiguous()


def _launch(
    name: str, grid: tuple[int, ...], x: Tensor, *arguments: object, **options: Any
) -> None:
    """Launch a kernel on the device of its first argument; Triton would use the current device."""
    require("triton", "gpu")
    from structmat.nn.ops.backends.triton import kernels

    place = torch.cuda.device(x.device) if x.is_cuda else nullcontext()
    with place:
        # Set explicitly, because Triton's default for FP fusion is about to change.
        getattr(kernels, name)[grid](x, *arguments, **options, enable_fp_fusion=True)
