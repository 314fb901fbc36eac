"""Conversion between generators and skew matrices, and the dtypes used in computations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.errors import BlockError
from structmat.linalg.blocks import generators_per_block
from structmat.nn import torch_internals
from structmat.nn.precision import conjugate_transposed

_FLOATING = (
    torch.bfloat16,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.complex32,
    torch.complex64,
    torch.complex128,
)
_PROMOTED = {(a, b): torch.promote_types(a, b) for a in _FLOATING for b in _FLOATING}


def promoted(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    """Return `torch.promote_types(a, b)`, which an exporter would record as an operation.

    Examples
    --------
    >>> promoted(torch.bfloat16, torch.float16)
    torch.float32
    """
    found = _PROMOTED.get((a, b))
    return torch.promote_types(a, b) if found is None else found


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which to compute with values of this dtype.

    Raises
    ------
    BlockError
        If the dtype is a floating dtype of 8 bits or fewer, for which torch has no arithmetic.

    Examples
    --------
    >>> at_least_float32(torch.bfloat16), at_least_float32(torch.float64)
    (torch.float32, torch.float64)
    """
    if dtype.is_floating_point and dtype.itemsize < 2:
        raise BlockError(
            f"dtype={dtype}: generators and activations need at least 16 bits; keep adapters in"
            " float32, and cast activations to bfloat16 or wider"
        )
    return promoted(dtype, torch.float32)


_REAL = {
    torch.complex32: torch.float16,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the real and imaginary parts; a real dtype is returned unchanged.

    This is `dtype.to_real()`, which torch.compile does not support.

    Examples
    --------
    >>> real_dtype(torch.complex64), real_dtype(torch.float64)
    (torch.float32, torch.float64)
    """
    return _REAL.get(dtype, dtype)


def widened(values: Tensor) -> Tensor:
    """Return values in float64 (or complex128), if the device supports it.

    float32 blocks are computed in this precision: for small blocks this takes no longer, every
    entry is exact to rounding, and settings that reduce the precision of float32 matrix products
    (`torch.set_float32_matmul_precision`) have no effect.

    Examples
    --------
    >>> widened(torch.ones(1)).dtype
    torch.float64
    """
    if values.device.type == "mps":
        return values
    return values.to(torch.complex128 if values.is_complex() else torch.float64)


def known_below(values: Tensor, largest: float) -> bool:
    """Return whether all magnitudes are known, without synchronisation, to be at most `largest`.

    Examples
    --------
    >>> known_below(torch.tensor([1.0, -3.0]), 3), known_below(torch.tensor([torch.nan]), 3)
    (True, False)
    """
    if values.device.type != "cpu" or not torch_internals.has_numbers(values):
        return False
    if not values.numel():
        return True
    low, high = values.aminmax()  # NaN if any value is, for which both comparisons are false
    return low.item() >= -largest and high.item() <= largest


def all_or_none(generators: Tensor) -> Tensor:
    """Replace all generators of a block with NaN if any of them is NaN or infinite.

    Otherwise a division by an infinite generator could give 0, and the block could look valid.

    Examples
    --------
    >>> all_or_none(torch.tensor([[1.0, 2.0], [3.0, torch.inf]]))
    tensor([[1., 2.],
            [nan, nan]])
    """
    return generators + (generators * 0).sum(dim=-1, keepdim=True)


def narrowed(blocks: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert real or complex blocks to the precision of a dtype, at least float32.

    Examples
    --------
    >>> narrowed(torch.eye(2, dtype=torch.complex128), torch.float32).dtype
    torch.complex64
    """
    dtype = at_least_float32(dtype)
    dtype = promoted(dtype, torch.complex64) if blocks.is_complex() else dtype
    return blocks.to(dtype, memory_format=torch.contiguous_format)


def is_unitary(generators: Tensor, radix: int) -> bool:
    """Return whether the number of generators fits unitary rather than real blocks.

    Raises
    ------
    BlockError
        If the number fits neither real nor unitary blocks.

    Examples
    --------
    >>> is_unitary(torch.zeros(5, 6), 4), is_unitary(torch.zeros(5, 16), 4)
    (False, True)
    """
    pairs = generators_per_block(radix)
    size = torch_internals.sizes(generators)[-1]
    if size not in (pairs, radix * radix):
        raise BlockError(
            f"generators of shape {tuple(generators.shape)}: a block of radix {radix} needs"
            f" {pairs} numbers, or {radix * radix} when unitary"
        )
    return size != pairs


def skew(generators: Tensor, radix: int) -> Tensor:
    """Return the skew-symmetric (or skew-Hermitian) matrices defined by generators.

    Parameters
    ----------
    generators : (..., r(r−1)/2) real, or (..., r²) real for skew-Hermitian matrices
    radix : int

    Returns
    -------
    (..., r, r) real or complex

    Raises
    ------
    BlockError
        If the number of generators fits neither real nor unitary blocks.

    Examples
    --------
    >>> skew(torch.tensor([1.0, 2.0, 3.0]), 3)
    tensor([[ 0.,  1.,  2.],
            [-1.,  0.,  3.],
            [-2., -3.,  0.]])
    """
    unitary = is_unitary(generators, radix)
    upper, _ = _places(radix, generators.device)
    batch = generators.shape[:-1]
    if not unitary:
        q = generators.new_zeros(*batch, radix * radix).index_copy(-1, upper, generators)
        q = q.view(*batch, radix, radix)  # torch's older vmap does not support unflatten
        return q - q.mT
    pairs = len(upper)
    real, imaginary, diagonal = generators.split([pairs, pairs, radix], dim=-1)
    values = torch.complex(real, imaginary)
    q = values.new_zeros(*batch, radix * radix).index_copy(-1, upper, values)
    q = q.view(*batch, radix, radix)
    q = q - conjugate_transposed(q)
    return q + torch.diag_embed(torch.complex(torch.zeros_like(diagonal), diagonal))


def to_generators(slopes: Tensor) -> Tensor:
    """Return the gradient for generators, given that for the entries of their skew matrices.

    This is the adjoint of `skew`: Re⟨S, skew(h)⟩ = ⟨to_generators(S), h⟩, where the inner products
    are sums of products of entries.

    Parameters
    ----------
    slopes : (..., r, r), real for real blocks and complex for unitary ones

    Returns
    -------
    (..., r(r−1)/2) or (..., r²), real

    Examples
    --------
    >>> to_generators(torch.tensor([[0.0, 3.0], [1.0, 0.0]]))
    tensor([2.])
    """
    radix = slopes.shape[-1]
    upper, lower = _places(radix, slopes.device)
    flat = slopes.reshape(*slopes.shape[:-2], radix * radix)  # not flatten: torch's older vmap
    above, below = flat.index_select(-1, upper), flat.index_select(-1, lower)
    if not slopes.is_complex():
        return above - below
    diagonal = slopes.diagonal(dim1=-2, dim2=-1).imag
    return torch.cat([above.real - below.real, above.imag + below.imag, diagonal], dim=-1)


def _places(radix: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return indices into a flat matrix: entries above the diagonal, and their mirror images."""
    # Recomputed in each call, in a few microseconds: a cached tensor could be a fake or inference
    # tensor, which later calls could not use.
    above = torch.triu_indices(radix, radix, 1, device=device)
    upper, lower = torch.add(above.flip(0), above, alpha=radix).unbind()
    return upper, lower


def columns(generators: Tensor, radix: int) -> tuple[Tensor, Tensor | None]:
    """Return the entries above the diagonal (r(r−1)/2, n) and, for unitary blocks, the diagonal."""
    unitary = is_unitary(generators, radix)
    flat = generators.reshape(math.prod(generators.shape[:-1]), generators.shape[-1])
    columns = all_or_none(widened(flat)).mT
    if not unitary:
        return columns, None
    pairs = radix * (radix - 1) // 2
    real, imaginary, diagonal = columns.split([pairs, pairs, radix])
    return torch.complex(real, imaginary), diagonal


def with_batch_first(blocks: Tensor, generators: Tensor) -> Tensor:
    """Return blocks (r, r, n) as (..., r, r), with the dtype and batch shape of the generators."""
    made = narrowed(blocks.permute(2, 0, 1), generators.dtype)
    return made.view(*generators.shape[:-1], *made.shape[1:])
