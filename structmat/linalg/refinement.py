"""Refinement: replacing blocks that are Kronecker products with networks of smaller switches.

A block A ⊗ B of order a·b is the product of A ⊗ I, which is b switches of radix a, and I ⊗ B, which
is a switches of radix b: these take a + b multiplications per wire instead of a·b. A
Sylvester–Hadamard block of order 16 becomes four stages of radix 2. This is the opposite of fusing
stages (`structmat.linalg.fused_stages`).
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.families.number_theory import prime_factors
from structmat.linalg.blocks import by_stage
from structmat.linalg.rotation import Rotation
from structmat.linalg.shared_blocks import distinct, repeated
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage

Array = npt.NDArray[Any]

_ULPS = 32  # machine epsilons by which a block may differ from a Kronecker product


def refined(rotation: Rotation) -> Rotation:
    """Return the same matrix, up to rounding, with blocks split into Kronecker factors.

    The blocks of a bank are split if, up to the signs (or phases) of their rows and columns, they
    all equal the same Kronecker product. The smaller blocks absorb the signs.

    Parameters
    ----------
    rotation : Rotation
        With numpy blocks. If its network is not straight, it is returned unchanged.

    Examples
    --------
    >>> from structmat.linalg.rotators import rotator
    >>> r = rotator(96, rng=0)
    >>> fine = refined(r)
    >>> [[stage.banks[0].radix for stage in each.network.stages] for each in (r, fine)]
    [[12, 8], [12, 2, 2, 2]]
    >>> bool(np.allclose(fine.matrix(), r.matrix(), rtol=0, atol=1e-14))
    True
    """
    net = rotation.network
    if not net.is_straight:
        return rotation
    stages: list[Stage] = []
    blocks: list[Array] = []
    for stage, own in zip(net.stages, by_stage(net, rotation.blocks), strict=True):
        parts = [_split(bank, block) for bank, block in zip(stage.banks, own, strict=True)]
        for k in range(max(map(len, parts), default=1)):
            here = [part[k] for part in parts if k < len(part)]
            stages.append(Stage(net.width, [bank for bank, _ in here]))
            blocks += [block for _, block in here]
    return Rotation(Network(net.width, stages, labels=net.labels), blocks)


def _split(bank: Bank, blocks: Array) -> list[tuple[Bank, Array]]:
    """Return banks and blocks that replace a bank, in the order in which they act."""
    found = _normal_form(distinct(blocks))
    if found is None or len(factors := _kronecker_factors(found[0])) < 2:
        return [(bank, blocks)]
    _, rows, columns = found
    shape = [len(factor) for factor in factors]
    in_rows, in_columns = _kronecker_vectors(rows, shape), _kronecker_vectors(columns, shape)
    made = []
    for axis, factor in enumerate(factors):
        block = factor[None]
        if in_rows:
            block = block * in_rows[axis][:, None]
        elif axis == len(factors) - 1:
            block = block * _in_switches(rows, shape, axis)[:, :, None]
        if in_columns:
            block = block * in_columns[axis]
        elif axis == 0:
            block = block * _in_switches(columns, shape, axis)[:, None, :]
        wires = _in_switches(bank.reads, shape, axis)
        if 1 < len(block) < len(wires):  # all switches of the bank have the same signs
            block = np.tile(block, (len(wires) // len(block), 1, 1))
        made.append((Bank(wires), repeated(block, len(wires))))
    return made


def _in_switches(values: Array, shape: list[int], axis: int) -> Array:
    """Rearrange values (n, r) of larger switches for the smaller switches along one axis."""
    split = np.moveaxis(values.reshape(-1, *shape), 1 + axis, -1)
    return split.reshape(-1, shape[axis])


def _kronecker_vectors(values: Array, shape: list[int]) -> list[Array]:
    """Return s_1, s_2, … whose Kronecker product is each row of `values`, or [] if none exist."""
    first = values[0].reshape(shape)
    corner = first.flat[0]
    vectors = [
        first[tuple(slice(None) if k == axis else 0 for k in range(len(shape)))] / corner
        for axis in range(len(shape))
    ]
    vectors[0] = vectors[0] * corner
    same = np.abs(values - reduce(np.kron, vectors)).max() <= _ULPS * np.finfo(values.dtype).eps
    return vectors if same else []


def _normal_form(blocks: Array) -> tuple[Array, Array, Array] | None:
    """Return C, s and t such that block k is diag(s_k) C diag(t_k), if all have this form.

    The first row and the first column of C are positive; s and t are (n, r) or (1, r).
    """
    head = blocks[:, :1, :]
    if not head.all() or not blocks[:, :, 0].all():
        return None
    columns = head / np.abs(head)
    made = blocks / columns
    rows = made[:, :, :1] / np.abs(made[:, :, :1])
    made = made / rows
    tolerance = _ULPS * np.finfo(blocks.dtype).eps
    if np.abs(made - made[:1]).max() > tolerance:
        return None
    return made[0], rows[:, :, 0], columns[:, 0, :]


def _kronecker_factors(block: Array) -> tuple[Array, ...]:
    """Return factors whose Kronecker product is an orthogonal block, split as far as possible.

    All factors but the last are of prime order. The first row and the first column of the block
    must be positive.
    """
    order = len(block)
    tolerance = _ULPS * np.finfo(block.dtype).eps
    for size in sorted({*prime_factors(order)} - {order}):
        inner = order // size
        rest = block[:inner, :inner] / np.linalg.norm(block[0, :inner])
        first = block[::inner, ::inner] / rest[0, 0]
        if np.abs(np.kron(first, rest) - block).max() <= tolerance:
            return first, *_kronecker_factors(rest)
    return (block,)
