"""A backend for CPUs: kernels that LLVM compiles, which take a tile of vectors through all stages.

It needs the package llvmlite, of the extra `compiled`; without it, the backend `tiled` computes the
same results. It supports switches of at most 64 wires, and vectors of the dtype of the blocks,
or half-precision vectors with float32 blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CFUNCTYPE, c_int64
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.linalg.schedule import Schedule
from structmat.networks import permutation
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.nn.ops.backends.compiled import workers
from structmat.nn.ops.backends.compiled.cells import Cell, Segment, passes

LARGEST = 64  # largest radix
_TILE = 1 << 18  # bytes of a tile
_MOST = 8  # largest number of vectors in a row of a tile
_BYTES = 64  # of a vector
_CHUNK = 128  # smallest number of vectors whose gradients for blocks are added up separately
_CHUNKS = 32
_ALONE = 1 << 16  # numbers (times stages) that one thread takes alone
_FEW = 4  # vectors that are not worth a tile

_REAL = {
    torch.float32: "float",
    torch.complex64: "float",
    torch.float64: "double",
    torch.complex128: "double",
}
_STORED = {torch.float16: "half", torch.bfloat16: "bfloat"}


@lru_cache(maxsize=1)
def _installed() -> bool:
    return find_spec("llvmlite") is not None


def available(device: torch.device) -> bool:
    """Return whether this is a CPU and llvmlite is installed."""
    return device.type == "cpu" and _installed()


def supports(net: Network, dtype: torch.dtype, blocks: torch.dtype) -> bool:
    """Return whether no switch is too large, and there is code for the dtypes."""
    if blocks not in _REAL or not (
        dtype == blocks or (dtype in _STORED and blocks == torch.float32)
    ):
        return False
    return all(bank.radix <= LARGEST for bank in net.banks)


@dataclass(frozen=True, eq=False)
class Cells:
    """The segments of a network, and the memory that compiled functions read.

    Attributes
    ----------
    width : int
    passes : tuple of tuple of Segment
    outputs : (width,) integers
        The wire of each result.
    """

    width: int
    passes: tuple[tuple[Segment, ...], ...]
    outputs: Index
    _plans: dict[Any, _Plan] = field(default_factory=dict)

    def plan(self, kind: _Kind) -> _Plan:
        """Return the arguments of compiled functions."""
        found = self._plans.get(kind)
        if found is None:
            found = self._plans[kind] = _Plan(self, kind)
        return found


@dataclass(frozen=True)
class _Kind:
    dtype: torch.dtype
    blocks: torch.dtype
    lanes: int
    vectors: int
    adjoint: bool
    gradients: bool


def prepared(plan: Schedule, device: torch.device) -> Cells:  # noqa: ARG001 (as for other backends)
    """Return the segments of a schedule's network."""
    straight, _, outputs = plan.network.straightened()
    return Cells(straight.width, passes(straight), outputs)


class _Plan:
    """Functions, and the array of integers that tells them what to do."""

    def __init__(self, cells: Cells, kind: _Kind) -> None:
        from structmat.nn.ops.backends.compiled import functions

        real, parts = _REAL[kind.blocks], 1 + kind.blocks.is_complex
        stored = _STORED.get(kind.dtype, real)
        self.size = kind.blocks.to_real().itemsize
        self.columns = cells.width * parts
        self.row = kind.vectors * kind.lanes * self.size
        every = np.arange(parts)
        outputs = np.ascontiguousarray(
            (cells.outputs[:, None] * parts + every).ravel(), dtype=np.int32
        )
        inputs = np.arange(self.columns, dtype=np.int32)
        if kind.adjoint:
            inputs, outputs = outputs, inputs
        self.kept: list[Any] = [inputs, outputs]
        found = cells.passes[::-1] if kind.adjoint else cells.passes
        rows = []
        saved = 0
        numbers = real, parts == 2, kind.lanes
        for k, segments in enumerate(found):
            last = k == len(found) - 1
            for s in segments:
                forward, backward = functions.of_cell(
                    numbers, s.cell, kind.adjoint, kind.gradients, last
                )
                rows.append(
                    [forward, backward, len(s.wires), *map(_at, (s.wires, s.banks, s.offsets)), saved]
                )
                self.kept.append(s)
                if not last:
                    saved += s.wires.size * parts
        self.saved = saved if kind.gradients else 0
        header = [self.columns, kind.vectors, len(rows), _at(inputs), _at(outputs)]
        self.array = np.array(header + [n for row in rows for n in row], dtype=np.int64)
        self.address = _at(self.array)
        self.driver = functions.driver(numbers, stored, kind.gradients)


def _at(array: Any) -> int:
    return int(array.ctypes.data)


def _kind(steps: Cells, dtype: torch.dtype, blocks: torch.dtype, tokens: int, *, adjoint: bool, gradients: bool) -> _Kind:
    if tokens <= _FEW and not gradients:
        return _Kind(dtype, blocks, 1, 1, adjoint, gradients)
    lanes = _BYTES // blocks.to_real().itemsize
    row = steps.width * (1 + blocks.is_complex) * _BYTES
    vectors = max(1, min(_MOST, _TILE // row, -(-tokens // lanes)))
    return _Kind(dtype, blocks, lanes, 1 << (vectors.bit_length() - 1), adjoint, gradients)


def apply(
    steps: Cells,
    blocks: Sequence[Tensor],
    x: Tensor,
    out: Tensor | None = None,
    *,
    adjoint: bool = False,
) -> Tensor:
    """Return R x, or Rᴴ x; see `structmat.nn.ops.backends.tiled.apply`."""
    tokens = len(x)
    if out is None:
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
    if not tokens:
        return out
    x = _rows(x)
    made = out if out.stride(1) == 1 else torch.empty_like(x)
    blocks = [_plain(b) for b in blocks]
    plan = steps.plan(_kind(steps, x.dtype, blocks[0].dtype, tokens, adjoint=adjoint, gradients=False))
    bases = np.array([b.data_ptr() for b in blocks])
    counter = np.zeros(1, dtype=np.int64)
    spare = plan.columns * plan.size
    given = (
        x.data_ptr(), x.stride(0) * x.itemsize, made.data_ptr(), made.stride(0) * made.itemsize,
        tokens, _at(bases), _at(counter),
    )
    zeros = workers.zeros(spare)

    def job() -> None:
        plan.driver(*given, workers.scratch(plan.columns * plan.row + spare), zeros, plan.address)

    workers.run(job, _threads(tokens, plan))
    if made is not out:
        out.copy_(made)
    return out


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
    """Write and accumulate gradients; see `structmat.nn.ops.backends.tiled.gradients`."""
    tokens = len(x)
    if sums is None:
        if grad_x is not None:
            apply(steps, blocks, grad.to(x.dtype), grad_x, adjoint=not adjoint)
        return
    if not tokens:
        return
    x, grad = _rows(x), _rows(grad.to(x.dtype))
    blocks = [_plain(b) for b in blocks]
    plan = steps.plan(_kind(steps, x.dtype, blocks[0].dtype, tokens, adjoint=adjoint, gradients=True))
    made = grad_x
    if made is not None and made.stride(1) != 1:
        made = torch.empty_like(x)
    entries = sum(b.numel() for b in blocks)
    # The division into chunks must not depend on the number of threads, unlike the sum's rounding.
    tile = plan.row // plan.size
    chunks = max(1, min(_CHUNKS, tokens // _CHUNK, tokens * steps.width // (4 * entries)))
    chunk = -(-tokens // (chunks * tile))
    chunks = -(-tokens // (chunk * tile))
    parts = torch.zeros(chunks, entries, dtype=blocks[0].dtype)
    sizes = np.array([b.numel() * b.itemsize for b in blocks])
    offsets = np.cumsum(sizes) - sizes
    bases = np.array([b.data_ptr() for b in blocks])
    counter = np.zeros(1, dtype=np.int64)
    spare = plan.columns * plan.size
    given = (
        x.data_ptr(), x.stride(0) * x.itemsize, grad.data_ptr(), grad.stride(0) * grad.itemsize,
        0 if made is None else made.data_ptr(), 0 if made is None else made.stride(0) * made.itemsize,
        tokens, chunk, _at(bases), parts.data_ptr(), entries * parts.itemsize, _at(offsets), len(blocks), _at(counter),
    )
    zeros = workers.zeros(spare)
    size = (2 * plan.columns + plan.saved) * plan.row + 8 * len(blocks) + spare

    def job() -> None:
        plan.driver(*given, workers.scratch(size), zeros, plan.address, plan.saved)

    workers.run(job, min(chunks, _threads(tokens, plan)))
    total = parts[0] if chunks == 1 else parts.sum(0)
    for own, part in zip(sums, total.split([b.numel() for b in blocks]), strict=True):
        own += part.view(own.shape)
    if made is not None and made is not grad_x:
        grad_x.copy_(made)


def _threads(tokens: int, plan: _Plan) -> int:
    if tokens * plan.columns * len(plan.kept) < _ALONE:
        return 1
    return torch.get_num_threads()


def _rows(x: Tensor) -> Tensor:
    x = x.resolve_conj().resolve_neg()
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()


def _plain(block: Tensor) -> Tensor:
    return block.resolve_conj().resolve_neg().contiguous()
