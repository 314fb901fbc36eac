"""Networks with blocks, as building blocks of transforms: sums, products, permutations, signs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from structmat.linalg.blocks import adjoint_blocks, by_stage
from structmat.networks.network import Network
from structmat.networks.permutation import Index, identity, inverse
from structmat.networks.stage import Bank, Stage

Array = npt.NDArray[Any]


class Factored(NamedTuple):
    """A network and one (n, r, r) array of blocks for each of its banks."""

    network: Network
    blocks: list[Array]


class Part(NamedTuple):
    """Some switches of a straight stage: their wires (n, r), and their blocks (n, r, r)."""

    wires: Index
    blocks: Array


def staged(width: int, stages: Iterable[Sequence[Part]]) -> Factored:
    """Return the straight network of these stages; parts without switches of ≥ 2 wires are omitted.

    Examples
    --------
    >>> swap = Part(np.array([[0, 1]]), np.array([[[0.0, 1.0], [1.0, 0.0]]]))
    >>> staged(2, [[swap]]).network
    Network(width=2, depth=1, parameters=1)
    """
    made: list[Stage] = []
    blocks: list[Array] = []
    for parts in stages:
        kept = [part for part in parts if part.wires.size and part.wires.shape[1] > 1]
        made.append(Stage(width, [Bank(part.wires) for part in kept]))
        blocks += [part.blocks for part in kept]
    return Factored(Network(width, made), blocks)


def single(matrix: Array) -> Factored:
    """Return a single switch on all wires, or none for a 1×1 matrix, whose entry must be 1.

    Examples
    --------
    >>> single(np.eye(3)).network, single(np.eye(1)).network
    (Network(width=3, depth=1, parameters=3), Network(width=1, depth=0, parameters=0))
    """
    width = len(matrix)
    if width == 1:
        return Factored(Network(1), [])
    return staged(width, [[Part(identity(width)[None], matrix[None])]])


def chained(*parts: Factored) -> Factored:
    """Return the product of matrices of one width, the first of which acts first."""
    stages = [stage for part in parts for stage in part.network.stages]
    blocks = [block for part in parts for block in part.blocks]
    return Factored(Network(parts[0].network.width, stages), blocks)


def beside(*parts: Factored) -> Factored:
    """Return the direct sum of matrices, with one bank for each radix in each stage.

    Examples
    --------
    >>> both = beside(single(np.eye(2)), single(np.eye(2)), single(np.eye(1)))
    >>> both.network.stages, both.blocks[0].shape
    ((Stage(width=5, 2×2),), (2, 2, 2))
    """
    width = sum(part.network.width for part in parts)
    depth = max(part.network.depth for part in parts)
    stages: list[Stage] = []
    blocks: list[Array] = []
    grouped = [by_stage(part.network, part.blocks) for part in parts]
    for t in range(depth):
        found: dict[int, list[tuple[Index, Index, Array]]] = {}
        moves = [np.zeros((0, 2), dtype=np.int64)]
        start = 0
        for part, held in zip(parts, grouped, strict=True):
            if t < part.network.depth:
                stage = part.network.stages[t]
                for bank, block in zip(stage.banks, held[t], strict=True):
                    found.setdefault(bank.radix, []).append(
                        (bank.reads + start, bank.writes + start, block)
                    )
                moves.append(stage.moves + start)
            start += part.network.width
        banks = []
        for radix in sorted(found, reverse=True):
            reads, writes, values = zip(*found[radix], strict=True)
            banks.append(Bank(np.concatenate(reads), np.concatenate(writes)))
            blocks.append(values[0] if len(values) == 1 else np.concatenate(values))
        stages.append(Stage(width, banks, np.concatenate(moves)))
    return Factored(Network(width, stages), blocks)


def placed(part: Factored, wires: Index) -> Factored:
    """Return the matrix with wire i renamed to `wires[i]`, at both ends and in between."""
    return Factored(part.network.relabel(wires), part.blocks)


def permuted(
    part: Factored, *, inputs: Index | None = None, outputs: Index | None = None
) -> Factored:
    """Return the matrix R' with R' x = (R x[inputs])[outputs] by rewiring the end stages.

    Examples
    --------
    >>> from structmat.linalg.factors import matrix_of
    >>> r = permuted(single(np.diag([1.0, 2.0])), inputs=np.array([1, 0]))
    >>> matrix_of(*r).tolist()
    [[0.0, 1.0], [2.0, 0.0]]
    """
    width, stages = part.network.width, list(part.network.stages)
    wires = identity(width)
    if not stages:
        stages = [Stage(width)] if width > 1 else []
    if inputs is not None and stages:
        stages[0] = stages[0].rewired(inputs, wires)
    if outputs is not None and stages:
        stages[-1] = stages[-1].rewired(wires, inverse(outputs))
    return Factored(Network(width, stages), part.blocks)


def signed(
    part: Factored, *, inputs: Array | None = None, outputs: Array | None = None
) -> Factored:
    """Return diag(outputs) · R · diag(inputs), with the factors absorbed by blocks of end stages.

    Every wire whose factor is not 1 must be in a switch of the first or last stage, respectively.

    Examples
    --------
    >>> from structmat.linalg.factors import matrix_of
    >>> matrix_of(*signed(single(np.eye(2)), outputs=np.array([1, -1]))).tolist()
    [[1.0, 0.0], [0.0, -1.0]]
    """
    network, blocks = part.network, list(part.blocks)
    count = len(network.banks)
    for factors, stage in ((inputs, 0), (outputs, -1)):
        if factors is None or (factors == 1).all():
            continue
        left = factors.copy()
        banks = network.stages[stage].banks
        first = 0 if stage == 0 else count - len(banks)
        for k, bank in enumerate(banks, start=first):
            wires = bank.reads if stage == 0 else bank.writes
            scale = factors[wires]
            blocks[k] = blocks[k] * (scale[:, None, :] if stage == 0 else scale[:, :, None])
            left[wires] = 1
        assert (left == 1).all()
    return Factored(network, blocks)


def transposed(part: Factored) -> Factored:
    """Return the adjoint matrix: the stages in reverse order, with adjoint blocks."""
    return Factored(part.network.inverse(), adjoint_blocks(part.network, part.blocks))
