"""A backend for CPUs: compiled kernels that move a tile of vectors through all stages in one call.

It requires llvmlite, which the extra `cpu` installs; without it, the backend `tiled` computes the
same results up to rounding. Switches may have at most 256 wires. The vectors must have the same
dtype as the blocks, or be half-precision vectors with float32 blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from ctypes import addressof, c_int64
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from structmat._util.text_table import counted
from structmat.linalg.schedule import Schedule
from structmat.networks import permutation
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.nn.ops import huge_pages
from structmat.nn.ops.backends.compiled import workers
from structmat.nn.ops.backends.compiled.cells import VECTORS, Segment, passes

FUSES_STAGES = True
_OLDEST = "0.46"  # oldest llvmlite, as in the extra `cpu`; numba may have installed an older one
LARGEST = 256  # largest radix
_VECTOR = 64  # bytes in a SIMD vector
_TILE = 1 << 19  # target size of a tile in bytes: a good part of a core's L2 cache
_TILES = 4  # smallest number of tiles if there are enough vectors, so that four threads have work
FEW = 4  # up to this many vectors are processed one by one, without tiles
_CHUNK, _CHUNKS = 128, 32  # smallest size and largest number of chunks of vectors
_ALONE = 1 << 17  # work (numbers × passes) that one thread finishes before another could start

_REAL = {
    torch.float32: "float",
    torch.complex64: "float",
    torch.float64: "double",
    torch.complex128: "double",
}
_HALF = {torch.float16: "half", torch.bfloat16: "bfloat"}


@cache
def _has_halves() -> bool:
    """Return whether the processor converts half-precision numbers."""
    with workers.LLVM:
        from structmat.nn.ops.backends.compiled import compiler

        return any(feature in compiler.features() for feature in ("+f16c", "+neon", "+fullfp16"))


@cache
def available(device: torch.device) -> bool:
    """Return whether the device is a CPU and a supported version of llvmlite is installed."""
    if device.type != "cpu" or find_spec("llvmlite") is None:
        return False
    try:
        return TorchVersion(metadata.version("llvmlite")) >= _OLDEST
    except metadata.PackageNotFoundError:
        return False


def supports(net: Network, dtype: torch.dtype, blocks: torch.dtype) -> bool:
    """Return whether the dtypes are supported and no switch is too large."""
    if dtype in _HALF:
        known = blocks == torch.float32 and (dtype == torch.bfloat16 or _has_halves())
    else:
        known = dtype == blocks and dtype in _REAL
    return known and all(bank.radix <= LARGEST for bank in net.banks)


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a network, in passes.

    Attributes
    ----------
    width : int
    passes : tuple of tuple of Segment
    outputs : (width,) integers
        The wire of the straightened network on which each output ends.
    """

    width: int
    passes: tuple[tuple[Segment, ...], ...]
    outputs: Index
    _calls: dict[_Kind, _Call] = field(default_factory=dict, init=False)

    def __str__(self) -> str:
        lines = [
            f"{k:3d}  {counted(len(s.wires), 'cell')} of {counted(s.cell.size, 'wire')}: {sizes}"
            for k, segments in enumerate(self.passes, 1)
            for s in segments
            for sizes in [_switches(s)]
        ]
        return "\n".join([f"compiled, {counted(len(self.passes), 'pass', 'passes')}", *lines])

    def call(self, kind: _Kind) -> _Call:
        """Return the driver for a kind of call, compiled when it is first needed."""
        if kind not in self._calls:
            with workers.LLVM:
                if kind not in self._calls:
                    self._calls[kind] = _Call(self, kind)
        return self._calls[kind]


def _switches(segment: Segment) -> str:
    """Describe the switches of a cell by their numbers and sizes."""
    radices = Counter(len(wires) for wires in segment.cell.switches)
    return " and ".join(f"{counted(n, 'block')} {r}×{r}" for r, n in sorted(radices.items()))


@dataclass(frozen=True)
class _Kind:
    """The properties of a call for which code is generated.

    Attributes
    ----------
    dtype, blocks : torch dtype
    lanes : int
        The number of lanes of a register, one for each vector.
    row : int
        The number of registers that a row of a tile fills.
    adjoint, gradients : bool
    shared : tuple of bool
        For each bank, whether all its switches use one block.
    """

    dtype: torch.dtype
    blocks: torch.dtype
    lanes: int
    row: int
    adjoint: bool
    gradients: bool
    shared: tuple[bool, ...]


def prepared(plan: Schedule, device: torch.device) -> Cells:  # noqa: ARG001 (as for other backends)
    """Return the cells of the network of a schedule."""
    straight, _, outputs = plan.network.straightened()
    return Cells(straight.width, passes(straight), outputs)


class _Call:
    """The driver for a kind of call, and the tables that it reads.

    Attributes
    ----------
    driver : callable
    plan : int
        The address of the array described in `structmat.nn.ops.backends.compiled.driver_code`.
    size, tile, spare : int
        The size in bytes of a row of a tile, of a tile, and of a spare vector.
    saved : int
        The number of rows of saved inputs.
    work : int
        The work for each vector: numbers × passes.
    """

    def __init__(self, cells: Cells, kind: _Kind) -> None:
        from structmat.nn.ops.backends.compiled import compiler  # loads llvmlite
        from structmat.nn.ops.backends.compiled.writer import Numbers

        real, parts = _REAL[kind.blocks], 1 + kind.blocks.is_complex
        numbers = Numbers(real, parts == 2, kind.lanes)
        columns = cells.width * parts
        ends = [
            (wires[:, None] * parts + np.arange(parts)).ravel().astype(np.int32)
            for wires in (permutation.identity(cells.width), cells.outputs)
        ]
        inputs, outputs = ends[::-1] if kind.adjoint else ends
        self.size = numbers.size * kind.lanes * kind.row
        self.saved = 0
        self._read: list[npt.NDArray[Any]] = [inputs, outputs]  # keeps the driver's tables alive
        segments: list[int] = []
        order = cells.passes[::-1] if kind.adjoint else cells.passes
        for k, each in enumerate(order):
            last = k == len(order) - 1
            for s in each:
                functions = compiler.cell_functions(
                    numbers,
                    s.cell,
                    adjoint=kind.adjoint,
                    gradients=kind.gradients,
                    last=last and kind.gradients,
                )
                offsets = s.offsets
                if any(kind.shared):
                    offsets = np.where(np.take(kind.shared, s.banks), 0, offsets)
                tables: list[npt.NDArray[Any]] = [s.wires, s.banks, offsets]
                segments += [*functions, len(s.wires), *map(_address, tables), self.saved]
                self._read += tables
                if kind.gradients and not last:
                    self.saved += s.wires.size * parts
        count = sum(map(len, order))
        header = [columns, kind.row, count, _address(inputs), _address(outputs)]
        self._plan = np.array(header + segments, dtype=np.int64)
        self.plan = _address(self._plan)
        self.driver = compiler.driver(
            numbers, _HALF.get(kind.dtype, real), gradients=kind.gradients
        )
        self.tile, self.spare = columns * self.size, columns * numbers.size
        self.work = columns * len(order)


def apply(
    steps: Cells,
    blocks: Sequence[Tensor],
    x: Tensor,
    out: Tensor | None = None,
    *,
    adjoint: bool = False,
) -> Tensor:
    """Return R x, or Rᴴ x; see `structmat.nn.ops.backends.tiled.apply`."""
    if out is None:
        out = huge_pages.empty(tuple(x.shape), x)
    if not x.numel():
        return out
    x, shared = _rows(x), tuple(map(_is_shared, blocks))
    blocks = [_dense(b) for b in blocks]
    made = out if _is_rows(out) else _like(x)
    call = steps.call(_kind(steps, x, blocks[0], shared, adjoint=adjoint))
    bases = _array([b.data_ptr() for b in blocks])
    counter = c_int64(0)
    given = (*_place(x), *_place(made), len(x), _address(bases), addressof(counter))
    zeros = workers.zeros(call.spare)

    # The job keeps its tensors alive: a worker continues if the calling thread is interrupted.
    def job(_kept: object = (x, made, blocks, bases, counter)) -> None:
        memory = workers.scratch(call.tile + call.spare)
        call.driver(*given, workers.aligned(memory), zeros, call.plan)

    workers.run(job, _threads(call, len(x)))
    return out if made is out else out.copy_(made)


def fixed(
    steps: Cells, blocks: Sequence[Tensor], dtype: torch.dtype, *, adjoint: bool
) -> Callable[[Tensor], Tensor]:
    """Prepare a function that applies fixed blocks to vectors (tokens, width).

    For a single vector, preparing a call takes longer than the call itself, so it is prepared once.
    """
    kept, shared = [_dense(b) for b in blocks], tuple(map(_is_shared, blocks))
    call = steps.call(_Kind(dtype, kept[0].dtype, 1, 1, adjoint, gradients=False, shared=shared))
    bases = _array([b.data_ptr() for b in kept])
    address, size, driver, plan = _address(bases), call.tile + call.spare, call.driver, call.plan

    def applied(x: Tensor) -> Tensor:
        if len(x) > FEW:
            return apply(steps, blocks, x, adjoint=adjoint)
        x = _rows(x)
        out = _like(x)
        counter = c_int64(0)
        ends = *_place(x), *_place(out), len(x)
        memory = workers.scratch(size)
        driver(*ends, address, addressof(counter), workers.aligned(memory), 0, plan)
        return out

    applied.kept = kept, bases, call  # type: ignore[attr-defined]
    return applied


def comparison(kept: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], bool]:
    """Prepare a function that checks whether tensors equal those in `kept`, byte for byte.

    Dtypes and shapes must be equal, too. All tensors must be on the CPU, and those in `kept`
    contiguous.
    """
    with workers.LLVM:
        from structmat.nn.ops.backends.compiled import compiler, driver_code  # loads llvmlite

        compare = compiler.function(driver_code.compare, 0, arguments=5)
    kinds = [(a.dtype, a.shape) for a in kept]
    addresses = _array([a.data_ptr() for a in kept])
    sizes = _array([a.numel() * a.itemsize for a in kept])
    given, count, row = (_address(addresses), _address(sizes)), len(kept), c_int64 * len(kept)

    def same(others: Sequence[Tensor]) -> bool:
        if [(b.dtype, b.shape) for b in others] != kinds:
            return False
        if not all(b.is_contiguous() and not b.is_neg() for b in others):
            return False
        places, differ = row(*[b.data_ptr() for b in others]), c_int64(0)
        compare(*given, addressof(places), count, addressof(differ))
        return not differ.value

    same.kept = kept, addresses, sizes  # type: ignore[attr-defined]
    return same


def gradients(
    steps: Cells,
    blocks: Sequence[Tensor],
    x: Tensor,
    grad: Tensor,
    *,
    adjoint: bool = False,
    grad_x: Tensor | None,
    sums: Sequence[Tensor] | None,
) -> None:
    """Write `grad_x` and add to `sums`; see `structmat.nn.ops.backends.tiled.gradients`."""
    grad = grad.to(x.dtype)
    if sums is None:
        if grad_x is not None:
            apply(steps, blocks, grad, grad_x, adjoint=not adjoint)
        return
    if not x.numel():
        return
    x, grad, blocks = _rows(x), _rows(grad), [b.contiguous() for b in map(_plain, blocks)]
    made = grad_x if grad_x is None or _is_rows(grad_x) else _like(x)
    shared = (False,) * len(blocks)  # each block has its own gradient
    kind = _kind(steps, x, blocks[0], shared, adjoint=adjoint, gradients=True)
    call = steps.call(kind)
    sizes = [b.numel() for b in blocks]
    chunks, tiles = _chunks(steps, len(x), kind.lanes * kind.row, sum(sizes))
    parts = torch.zeros(chunks, sum(sizes), dtype=blocks[0].dtype)
    offsets = _array([0, *sizes]).cumsum() * parts.itemsize
    bases = _array([b.data_ptr() for b in blocks])
    counter = c_int64(0)
    places = *_place(x), *_place(grad), *((0, 0) if made is None else _place(made)), len(x), tiles
    tables = _address(bases), parts.data_ptr(), int(offsets[-1]), _address(offsets), len(blocks)
    zeros = workers.zeros(call.spare)
    size = 2 * call.tile + call.saved * call.size + 8 * len(blocks) + call.spare

    def job(_kept: object = (x, grad, made, blocks, parts, offsets, bases, counter)) -> None:
        memory = workers.scratch(size)
        call.driver(
            *places,
            *tables,
            addressof(counter),
            workers.aligned(memory),
            zeros,
            call.plan,
            call.saved,
        )

    workers.run(job, min(chunks, _threads(call, len(x))))
    total = parts[0] if chunks == 1 else parts.sum(0)
    for own, part in zip(sums, total.split(sizes), strict=True):
        own += part.view(own.shape)
    if grad_x is not None and made is not None and made is not grad_x:
        grad_x.copy_(made)


def _kind(
    steps: Cells,
    x: Tensor,
    block: Tensor,
    shared: tuple[bool, ...],
    *,
    adjoint: bool,
    gradients: bool = False,
) -> _Kind:
    if len(x) <= FEW and not gradients:
        return _Kind(x.dtype, block.dtype, 1, 1, adjoint, gradients, shared)
    lanes = _VECTOR // block.dtype.to_real().itemsize
    fit = _TILE // (steps.width * (1 + block.is_complex()) * _VECTOR)
    row = max(1, min(VECTORS, fit, len(x) // (_TILES * lanes)))
    power = 1 << (row.bit_length() - 1)  # a power of two, so that few kinds of calls are compiled
    return _Kind(x.dtype, block.dtype, lanes, power, adjoint, gradients, shared)


def _chunks(steps: Cells, tokens: int, tile: int, entries: int) -> tuple[int, int]:
    """Return the number of chunks and the number of tiles in each.

    The gradients for blocks are summed within each chunk, then over the chunks. The division into
    chunks affects the rounding, so it must not depend on the number of threads. If there are
    several chunks, their sums contain at most a quarter as many numbers as the vectors.
    """
    most = max(1, min(_CHUNKS, tokens // _CHUNK, tokens * steps.width // (4 * max(1, entries))))
    tiles = -(-tokens // tile)
    each = -(-tiles // most)
    return -(-tiles // each), each


def _threads(call: _Call, tokens: int) -> int:
    return 1 if tokens * call.work < _ALONE else torch.get_num_threads()


def _is_rows(x: Tensor) -> bool:
    return x.stride(1) == 1 and not x.is_conj() and not x.is_neg()


def _rows(x: Tensor) -> Tensor:
    return x if _is_rows(x) else x.resolve_conj().resolve_neg().contiguous()


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _is_shared(bank: Tensor) -> bool:
    """Return whether the blocks of a bank are views of one block."""
    return len(bank) > 1 and bank.stride(0) == 0


def _dense(bank: Tensor) -> Tensor:
    """Return the blocks of a bank, or the one block that they share, in contiguous memory."""
    return _plain(bank[:1] if _is_shared(bank) else bank).contiguous()


def _plain(block: Tensor) -> Tensor:
    return block.resolve_conj().resolve_neg()


def _place(x: Tensor) -> tuple[int, int]:
    """Return the address of the first vector and the stride in bytes."""
    return x.data_ptr(), x.stride(0) * x.itemsize


def _array(values: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.ctypes.data)
