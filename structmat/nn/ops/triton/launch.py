"""Launching of the Triton kernels, with a configuration that depends on the device and x."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from structmat.errors import BlockError, require
from structmat.nn.ops.triton.device_tables import Program, Way

_CACHED = 0.75  # fraction of the L2 cache that strips may occupy
_KEPT = 2**29  # bytes of strips that the backward pass keeps at a time
_AT_ONCE = 64  # wires loaded or stored at once: at least 128 bytes of each vector
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


def configured(program: Program, x: Tensor) -> Config:
    """Return the default configuration.

    It has one program per multiprocessor, and as many vectors in a tile, from 16 to 64, as let all
    strips together fit in three quarters of the L2 cache: then x is read from memory once and y is
    written once, whatever the depth. With more vectors in a tile, the blocks, which every tile
    reads, are read less often; more programs have the opposite effect.
    """
    if x.device.type != "cuda":
        return Config(16, 2, 4, 1)
    properties = torch.cuda.get_device_properties(x.device)
    programs = properties.multi_processor_count
    row = program.width * x.element_size()
    vectors = 64
    while vectors > 16 and vectors * row * programs > _CACHED * properties.L2_cache_size:
        vectors //= 2
    while vectors > 16 and len(x) < vectors * programs:
        vectors //= 2  # for few vectors, using all multiprocessors is better than large tiles
    return Config(vectors, programs, 8 if program.size >= 32 else 4)


def forward(
    program: Program,
    blocks: Sequence[Tensor],
    x: Tensor,
    *,
    adjoint: bool = False,
    config: Config | None = None,
) -> Tensor:
    """Return R x, or Rᵀ x, for each row of x, in one launch.

    Parameters
    ----------
    program : Program
    blocks : one (n, r, r) float32 tensor for each bank
    x : (tokens, width) float32, bfloat16 or float16
    adjoint : bool
        Apply the transposed matrix.
    config : Config, optional
        By default `configured(program, x)`.

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
    Autograd does not differentiate this function; see `backward`.
    """
    x = _checked(program, blocks, x)
    y = torch.empty_like(x)
    if x.numel() == 0:
        return y
    config = config or configured(program, x)
    programs = min(config.programs, -(-len(x) // config.vectors))
    way = program.ways[adjoint]
    strips = x.new_empty(programs * way.height * config.vectors)
    _rotate(program, way, _flat(blocks, x), x, y, strips, config, adjoint=adjoint, leave=True)
    return y


def backward(
    program: Program,
    blocks: Sequence[Tensor],
    x: Tensor,
    grad: Tensor,
    *,
    adjoint: bool = False,
    config: Config | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Return the gradients of `forward` for x and for the blocks.

    Parameters
    ----------
    program, blocks, x, adjoint, config
        As for `forward`.
    grad : (tokens, width)
        The gradient for the result of `forward`, in the dtype of x.

    Returns
    -------
    grad_x : (tokens, width), in the dtype of x
    grad_blocks : list of (n, r, r) float32 tensors

    Raises
    ------
    BlockError
        As for `forward`.

    Notes
    -----
    The forward pass saves nothing. There are three launches: R is applied to x and Rᵀ to `grad`,
    both keeping the inputs of each unit; then each unit's program multiplies the two and sums over
    vectors in registers. A single launch would have to sum in memory: every tile of 16 to 64
    vectors would add to an array as large as all blocks. That is more traffic than the inputs kept
    here, or needs atomic additions, whose rounding differs between runs. These sums are
    deterministic.
    """
    x = _checked(program, blocks, x)
    grad = _checked(program, blocks, grad)
    if grad.dtype != x.dtype or grad.shape != x.shape:
        raise BlockError(
            f"a gradient {tuple(grad.shape)} of {grad.dtype} for x {tuple(x.shape)} of {x.dtype}:"
            " shapes and dtypes must be equal"
        )
    config = config or configured(program, x)
    ways = program.kept
    flat = _flat(blocks, x)
    grad_x = torch.empty_like(x)
    total = torch.zeros(program.entries, dtype=torch.float32, device=x.device)
    # Strips of all vectors at once would take several times the memory of x.
    tile = sum(way.height for way in ways) * config.vectors * x.element_size()
    tiles_at_once = max(1, _KEPT // tile)
    if tiles_at_once > config.programs:  # so that no program idles during the last tiles
        tiles_at_once -= tiles_at_once % config.programs
    at_once = tiles_at_once * config.vectors
    for start in range(0, len(x), at_once):
        part = slice(start, min(start + at_once, len(x)))
        tiles = -(-(part.stop - start) // config.vectors)
        # The vectors that R is applied to, and those that Rᵀ is applied to.
        through = (grad[part], x[part]) if adjoint else (x[part], grad[part])
        strips = []
        for back, (way, values) in enumerate(zip(ways, through, strict=True)):
            strips.append(x.new_empty(tiles * way.height * config.vectors))
            leave = bool(back) is not adjoint  # for x, only the inputs of the units are needed
            _rotate(
                program,
                way,
                flat,
                values,
                grad_x[part] if leave else values,
                strips[back],
                config,
                adjoint=bool(back),
                leave=leave,
                keep=True,
            )
        if program.units:
            total += _summed(program, strips, tiles, config)
    split = total.split([n * r * r for n, r, _ in program.shapes])
    return grad_x, [part.view(shape) for part, shape in zip(split, program.shapes, strict=True)]


def _rotate(
    program: Program,
    way: Way,
    flat: Tensor,
    x: Tensor,
    y: Tensor,
    strips: Tensor,
    config: Config,
    *,
    adjoint: bool,
    leave: bool,
    keep: bool = False,
) -> None:
    runs = way.runs
    tiles = -(-len(x) // config.vectors)
    _launch(
        "rotate",
        (min(config.programs, tiles),),
        x,
        y,
        strips,
        flat,
        program.labels,
        program.rows,
        program.columns,
        way.sources,
        way.targets,
        way.spans,
        way.entry,
        way.leave,
        len(x),
        program.width,
        way.height,
        program.depth if leave else max(program.depth - 1, 0),
        SIZE=program.size,
        VECTORS=config.vectors,
        AT_ONCE=_AT_ONCE,
        RUN_FIRST=runs.first,
        RUN_LAST=runs.last,
        RUN_BETWEEN=runs.between,
        READS=runs.reads,
        WRITES=runs.writes,
        SINGLE=program.depth == 1,
        KEEP=keep,
        LEAVE=leave,
        ADJOINT=adjoint,
        PRECISION=_precision(x),
        WIDEN=_interpreted(x),
        num_warps=config.warps,
        num_stages=config.stages,
    )


def _summed(program: Program, strips: Sequence[Tensor], tiles: int, config: Config) -> Tensor:
    """Return the gradients of all blocks as one flat tensor."""
    fore, back = program.kept
    # The tiles are divided into as many parts as needed to keep the device busy.
    parts = max(1, min(tiles, _SPLITS * config.programs // program.units))
    partial = torch.empty(parts, program.entries, dtype=torch.float32, device=strips[0].device)
    _launch(
        "outer",
        (program.units, parts),
        partial,
        strips[0],
        strips[1],
        program.labels,
        program.rows,
        program.columns,
        fore.sources,
        back.sources,
        tiles,
        fore.height,
        back.height,
        program.entries,
        SIZE=program.size,
        VECTORS=config.vectors,
        PRECISION=_precision(strips[0]),
        WIDEN=_interpreted(strips[0]),
        num_warps=4,
        num_stages=config.stages,
    )
    return partial.sum(0)


def _precision(x: Tensor) -> str:
    """Return the precision of products: float32 ones as three TF32 products, nearly as exact."""
    return "tf32x3" if x.dtype == torch.float32 else "ieee"


def _interpreted(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _flat(blocks: Sequence[Tensor], x: Tensor) -> Tensor:
    """Return the entries of all blocks as one flat tensor, in the dtype of x."""
    if not blocks:
        return x.new_empty(0)
    return torch.cat([block.detach().reshape(-1) for block in blocks]).to(x.dtype)


def _checked(program: Program, blocks: Sequence[Tensor], x: Tensor) -> Tensor:
    if x.ndim != 2 or x.shape[1] != program.width or x.dtype not in DTYPES:
        raise BlockError(
            f"vectors of shape {tuple(x.shape)} and dtype {x.dtype}: the Triton kernels take"
            f" (tokens, {program.width}) of float32, bfloat16 or float16"
        )
    found = tuple(tuple(block.shape) for block in blocks)
    if found != program.shapes or any(block.dtype != torch.float32 for block in blocks):
        raise BlockError(
            f"blocks of shapes {found} and dtypes {[block.dtype for block in blocks]}:"
            f" this network needs float32 blocks of shapes {program.shapes}"
        )
    places = {program.labels.device, x.device, *(block.device for block in blocks)}
    if len(places) > 1:
        raise BlockError(f"tensors on {sorted(map(str, places))}: all must be on one device")
    return x.detach().contiguous()


def _launch(
    name: str, grid: tuple[int, ...], x: Tensor, *arguments: object, **options: Any
) -> None:
    """Launch a kernel on the device of its first argument; Triton would use the current device."""
    require("triton", "gpu")
    from structmat.nn.ops.triton import kernels

    place = torch.cuda.device(x.device) if x.is_cuda else nullcontext()
    with place:
        # FP fusion is set explicitly because Triton's default is about to change.
        getattr(kernels, name)[grid](x, *arguments, **options, enable_fp_fusion=True)
